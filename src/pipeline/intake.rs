//! The pipeline's side of the source. It opens an epoch when told to, and passes on what comes in it.

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
    /// True while another relay reads.
    standing_by: watch::Receiver<bool>,
    /// The right to read and to publish, with standby.
    pin: Option<Arc<source::Pin>>,
    state: State,
    memory: Arc<source::Memory>,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Epoch, SourceError>> + Send>>),
    Open(Box<Epoch>),
    /// No epoch is open, and none is to be opened yet.
    Closed,
}

/// The events of the source.
#[derive(Debug)]
pub(super) enum News {
    /// Another relay reads, and this one waits for its turn.
    StandingBy,
    /// An epoch has started on this stream. These messages come first.
    Began(StreamIdentity, Again),
    /// The deliveries, and messages that the stream removed before they could be read.
    Delivered(Vec<Delivery>, Vec<Missed>),
    /// The epoch has ended.
    Over(EpochEnd),
    /// The attempt to open an epoch failed.
    Trouble(SourceError),
}

impl Intake {
    /// `before` is the newest message that earlier runs of the pipeline have read.
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

    /// Opens an epoch. If the consumer is gone, reading resumes at `position`.
    pub(super) fn open(&mut self, position: Option<Position>) {
        let (nats, config, memory) = (self.nats.clone(), Arc::clone(&self.config), Arc::clone(&self.memory));
        let pin = self.pin.clone();
        let (waiting, standing_by) = watch::channel(false);
        self.standing_by = standing_by;
        let standby = self.standby.map(|standby| StandingBy { standby, pin, waiting });
        self.state = State::Opening(Box::pin(source::begin_epoch(nats, config, position, standby, memory)));
    }

    /// Returns the next event. Cancel-safe. While the intake is closed there are no events. Without `room` it takes in
    /// no messages, but still notices a lost connection.
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
                    // This is reported only once.
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

    /// Returns the bytes that have come and were not taken in.
    pub(super) fn waiting(&self) -> usize {
        match &self.state {
            State::Open(epoch) => epoch.waiting(),
            State::Opening(_) | State::Closed => 0,
        }
    }

    /// Returns the lease on publishing, with standby.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.pin.as_ref().map(|pin| pin.lease())
    }

    /// Stops reading. Messages that were delivered and not taken in are redelivered in another epoch.
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
