//! The pipeline's side of the source: opens one epoch after the other, and backs off while there is none to be had.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_core::read::{Again, Missed, Position, Room, StreamIdentity};
use tokio::sync::watch;

use crate::config::{ModuleConfig, Standby};
use crate::nats::Nats;
use crate::source::{self, Delivery, Epoch, EpochEnd, Lease, SourceError, StandingBy};

/// The longest pause between two attempts to open an epoch.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// An epoch that lasted this long did not fail at once, so the next one may begin without a pause.
const LASTING: Duration = Duration::from_secs(10);

pub(super) struct Intake {
    nats: Nats,
    config: Arc<ModuleConfig>,
    standby: Option<Standby>,
    /// Whether another relay reads.
    standing_by: watch::Receiver<bool>,
    /// The right to read and to publish, where there is standby.
    pin: Option<Arc<source::Pin>>,
    state: State,
    memory: Arc<source::Memory>,
    /// Epochs that were over at once, or never began, in a row.
    failures: u32,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Epoch, SourceError>> + Send>>),
    Open(Box<Epoch>, Instant),
    Closed,
}

/// What the source has to say.
#[derive(Debug)]
pub(super) enum News {
    /// Another relay reads; this one waits until it may.
    StandingBy,
    /// A new epoch has begun, on this stream, and begins with this.
    Began(StreamIdentity, Again),
    /// And what the stream removed before it could be read.
    Delivered(Vec<Delivery>, Vec<Missed>),
    /// The epoch is over; another one is being opened.
    Over(EpochEnd),
    /// No epoch could be opened; it is tried again.
    Trouble(SourceError),
}

impl Intake {
    pub(super) fn open(nats: Nats, config: Arc<ModuleConfig>, standby: Option<Standby>) -> Self {
        let mut intake = Self {
            nats,
            config,
            standby,
            standing_by: watch::channel(false).1,
            pin: None,
            state: State::Closed,
            memory: Arc::default(),
            failures: 0,
        };
        intake.reopen(None);
        intake
    }

    /// The next piece of news. May be dropped at any time. Once closed there is none. Without `room` nothing is taken in; that the
    /// connection was lost is noticed all the same. `position` is where reading goes on if the consumer is gone.
    pub(super) async fn next(&mut self, room: Option<Room>, position: Option<Position>) -> News {
        match &mut self.state {
            State::Closed => std::future::pending().await,
            State::Opening(opening) => {
                let opened = tokio::select! {
                    biased;
                    opened = opening => Some(opened),
                    Ok(_) = self.standing_by.wait_for(|standing_by| *standing_by) => None,
                };
                let Some(opened) = opened else {
                    // Said once.
                    self.standing_by = watch::channel(false).1;
                    return News::StandingBy;
                };
                match opened {
                    Ok(epoch) => {
                        let (stream, again) = (epoch.stream, epoch.again);
                        self.pin = epoch.pin().cloned();
                        self.state = State::Open(Box::new(epoch), Instant::now());
                        News::Began(stream, again)
                    }
                    Err(error) => {
                        self.failures += 1;
                        self.reopen(position);
                        News::Trouble(error)
                    }
                }
            }
            State::Open(epoch, since) => {
                let next = match room {
                    Some(room) => epoch.next(room).await,
                    None => Err(epoch.lost().await),
                };
                match next {
                    Ok(deliveries) => {
                        if let Some(last) = deliveries.last() {
                            self.memory.handed_on(epoch.stream, last.message.sequence);
                        }
                        News::Delivered(deliveries, epoch.take_missed())
                    }
                    Err(end) => {
                        self.failures = if since.elapsed() >= LASTING {
                            0
                        } else {
                            self.failures + 1
                        };
                        self.reopen(position);
                        News::Over(end)
                    }
                }
            }
        }
    }

    /// What has come and was not taken in, in bytes.
    pub(super) fn waiting(&self) -> usize {
        match &self.state {
            State::Open(epoch, _) => epoch.waiting(),
            State::Opening(_) | State::Closed => 0,
        }
    }

    /// Until when nobody else publishes, where there is standby.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.pin.as_ref().map(|pin| pin.lease())
    }

    /// Nothing comes any more. What was delivered and not taken in is delivered again in another epoch.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Lets another relay take over at once.
    pub(super) async fn release(self) {
        if let Some(pin) = self.pin {
            pin.release().await;
        }
    }

    fn reopen(&mut self, position: Option<Position>) {
        let delay = match self.failures {
            0 => Duration::ZERO,
            failures => (Duration::from_millis(100) * (1 << failures.min(10))).min(MAX_DELAY),
        };
        let (nats, config, memory) = (self.nats.clone(), Arc::clone(&self.config), Arc::clone(&self.memory));
        let pin = self.pin.clone();
        let (waiting, standing_by) = watch::channel(false);
        self.standing_by = standing_by;
        let standby = self.standby.map(|standby| StandingBy { standby, pin, waiting });
        self.state = State::Opening(Box::pin(async move {
            tokio::time::sleep(delay).await;
            source::begin_epoch(nats, config, position, standby, memory).await
        }));
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Opening(_) => "opening",
            State::Open(..) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("Intake")
            .field("state", &state)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
