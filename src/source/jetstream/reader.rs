//! Opens an epoch when told to, passes on what comes in it, and takes the acks.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;

use slipring_core::read::{Newest, Position, Room};
use tokio_util::task::TaskTracker;

use super::super::standing_by::{self, Hearer};
use super::super::{Ack, Lease, News, Over};
use super::epoch::{Epoch, EpochEnd};
use super::memory::Memory;
use super::{SourceError, StandingBy, acks, begin_epoch, pin};
use crate::config::{ModuleConfig, Standby};
use crate::nats::Lazy;
use crate::nats::wire::Outgoing;

pub struct Reader {
    nats: Lazy,
    config: Arc<ModuleConfig>,
    standby: Option<Standby>,
    /// Hears of the relay that reads while this one waits.
    standing_by: Hearer,
    /// The right to read and to publish, with standby.
    pin: Option<Arc<pin::Pin>>,
    state: State,
    /// The connection of the last epoch, which still takes acks. `None` while an epoch is open.
    last: Option<Outgoing>,
    /// The connections of earlier epochs, while their last acks go out.
    flushes: TaskTracker,
    memory: Arc<Memory>,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Epoch, SourceError>> + Send>>),
    Open(Box<Epoch>),
    /// No epoch is open, and none is to be opened yet.
    Closed,
}

impl Reader {
    /// `before` is the newest message that earlier runs of the pipeline have read.
    pub fn new(nats: Lazy, config: Arc<ModuleConfig>, standby: Option<Standby>, before: Newest) -> Self {
        let flushes = TaskTracker::new();
        flushes.close();
        Self {
            nats,
            config,
            standby,
            standing_by: standing_by::channel().1,
            pin: None,
            state: State::Closed,
            last: None,
            flushes,
            memory: Arc::new(Memory::after(before)),
        }
    }

    /// Opens an epoch. If the consumer is gone, reading resumes at `position`.
    pub fn open(&mut self, position: Option<Position>) {
        let (nats, config, memory) = (self.nats.clone(), Arc::clone(&self.config), Arc::clone(&self.memory));
        let pin = self.pin.clone();
        let (waiting, standing_by) = standing_by::channel();
        self.standing_by = standing_by;
        let standby = self.standby.clone().map(|standby| StandingBy { standby, pin, waiting });
        self.close();
        if let Some(last) = self.last.take() {
            self.flushes.spawn(acks::flush_epoch(last));
        }
        let flushes = self.flushes.clone();
        self.state = State::Opening(Box::pin(async move {
            // What the server knows of need not come again.
            flushes.wait().await;
            begin_epoch(nats.get().await, config, position, standby, memory).await
        }));
    }

    /// Returns the next event. Cancel-safe. While the intake is closed there are no events. Without `room` it takes in
    /// no messages, but still notices a lost connection.
    pub async fn next(&mut self, room: Option<Room>) -> News {
        match &mut self.state {
            State::Closed => std::future::pending().await,
            State::Opening(opening) => {
                let opened = tokio::select! {
                    biased;
                    opened = opening => opened,
                    active = self.standing_by.next() => return News::StandingBy(active),
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
                        News::Trouble(error.into())
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
                            self.memory.handed_on(epoch.stream, last.message.place);
                        }
                        News::Delivered(deliveries, epoch.take_missed())
                    }
                    Err(end) => {
                        self.close();
                        News::Over(Over {
                            lost: matches!(end, EpochEnd::Unpinned),
                            reason: end.into(),
                        })
                    }
                }
            }
        }
    }

    /// Returns the bytes that have come and were not taken in.
    pub fn waiting(&self) -> usize {
        match &self.state {
            State::Open(epoch) => epoch.waiting(),
            State::Opening(_) | State::Closed => 0,
        }
    }

    /// Returns the lease on publishing, with standby.
    pub fn lease(&self) -> Option<&Lease> {
        self.pin.as_ref().map(|pin| pin.lease())
    }

    /// Stops reading. Messages that were delivered and not taken in are redelivered in another epoch.
    pub fn close(&mut self) {
        if let State::Open(epoch) = mem::replace(&mut self.state, State::Closed) {
            self.last = Some(epoch.close());
        }
    }

    pub fn acknowledge(&mut self, acks: Vec<Ack>) {
        // While an epoch is being opened, no message has a receipt that is valid.
        let connection = match &self.state {
            State::Open(epoch) => Some(epoch.outgoing()),
            State::Opening(_) | State::Closed => self.last.as_ref(),
        };
        if let Some(connection) = connection {
            acks::send(connection, acks, self.config.window);
        }
    }

    pub async fn end(mut self, release: bool) {
        self.close();
        if let Some(last) = self.last {
            acks::flush(last).await;
        }
        self.flushes.wait().await;
        if release && let Some(pin) = self.pin {
            pin.release().await;
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Opening(_) => "opening",
            State::Open(_) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("Reader").field("state", &state).finish_non_exhaustive()
    }
}
