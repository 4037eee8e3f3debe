//! The pipeline's side of the source: opens an epoch when it is told to, and hands on what comes of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use slipring_core::read::{Again, Missed, Newest, Position, Room, StreamIdentity};
use tokio::sync::watch;

use crate::config::{ModuleConfig, Standby};
use crate::nats::Nats;
use crate::source::{self, Delivery, Epoch, EpochEnd, Lease, SourceError, StandingBy};

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
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Epoch, SourceError>> + Send>>),
    Open(Box<Epoch>),
    /// Until it is told to open an epoch.
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
    /// The epoch is over.
    Over(EpochEnd),
    /// No epoch could be opened.
    Trouble(SourceError),
}

impl Intake {
    /// `before`: what earlier runs of the pipeline have read.
    pub(super) fn new(nats: Nats, config: Arc<ModuleConfig>, standby: Option<Standby>, before: Newest) -> Self {
        Self {
            nats,
            config,
            standby,
            standing_by: watch::channel(false).1,
            pin: None,
            state: State::Closed,
            memory: Arc::new(source::Memory::after(before)),
        }
    }

    /// Opens an epoch. `position` is where reading goes on if the consumer is gone.
    pub(super) fn open(&mut self, position: Option<Position>) {
        let (nats, config, memory) = (self.nats.clone(), Arc::clone(&self.config), Arc::clone(&self.memory));
        let pin = self.pin.clone();
        let (waiting, standing_by) = watch::channel(false);
        self.standing_by = standing_by;
        let standby = self.standby.map(|standby| StandingBy { standby, pin, waiting });
        self.state = State::Opening(Box::pin(source::begin_epoch(nats, config, position, standby, memory)));
    }

    /// The next piece of news. May be dropped at any time. While it is closed there is none. Without `room` nothing is taken in; that the
    /// connection was lost is noticed all the same.
    pub(super) async fn next(&mut self, room: Option<Room>) -> News {
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
                        self.state = State::Open(Box::new(epoch));
                        News::Began(stream, again)
                    }
                    Err(error) => {
                        self.state = State::Closed;
                        News::Trouble(error)
                    }
                }
            }
            State::Open(epoch) => {
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
                        self.state = State::Closed;
                        News::Over(end)
                    }
                }
            }
        }
    }

    /// What has come and was not taken in, in bytes.
    pub(super) fn waiting(&self) -> usize {
        match &self.state {
            State::Open(epoch) => epoch.waiting(),
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
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Opening(_) => "opening",
            State::Open(_) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("Intake").field("state", &state).finish_non_exhaustive()
    }
}
