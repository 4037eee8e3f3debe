//! One epoch of a consumer: pulls, and hands on deliveries as long as they are contiguous.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use slipring_core::read::{
    self, Again, EXPIRES, Gap, HEARTBEAT, Incarnation, Misplaced, Missed, Returned, Room, SILENCE,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Delivery;
use super::delivery::Reader;
use super::memory::Memory;
use super::pin::{GROUP, Pin, WRONG_PIN};
use super::retention::{self, Lookout};
use super::{Reading, Start};
use crate::config::ModuleConfig;
use crate::nats::headers;
use crate::nats::wire::{Ended, Frame, Outgoing, PullRequest, Wire, status};
use crate::nats::{Link, Nats};

/// An open subscription whose deliveries so far were contiguous.
#[derive(Debug)]
pub struct Epoch {
    pub(super) stream: Incarnation,
    pub(super) again: Again,
    link: watch::Receiver<Link>,
    generation: u64,
    reader: Reader,
    wire: Wire,
    inbox: String,
    pull_subject: String,
    pulls: u64,
    epoch: read::Epoch,
    /// Messages that were delivered before the epoch began. They come first.
    held: VecDeque<Delivery>,
    pin: Option<Arc<Pin>>,
    lookout: Lookout,
    memory: Arc<Memory>,
}

/// Why an epoch is over and another one has to begin.
#[derive(Debug, thiserror::Error)]
pub enum EpochEnd {
    #[error("the connection to NATS was lost")]
    Disconnected,
    #[error("the connection for deliveries was lost: {0}")]
    Cut(Ended),
    #[error(
        "the consumer's deliveries have a gap: expected number {expected}, got {found}. Is another client reading from it?"
    )]
    Gap { expected: u64, found: u64 },
    #[error("this relay no longer holds the pin of the consumer")]
    Unpinned,
    #[error("the server was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the server ended the pull: {code} {description}")]
    Ended { code: u16, description: String },
    #[error("the consumer delivered something that is not a JetStream message: {0}")]
    Foreign(String),
}

impl From<Misplaced> for EpochEnd {
    fn from(Misplaced { expected, found }: Misplaced) -> Self {
        Self::Gap { expected, found }
    }
}

impl Epoch {
    /// Subscribes to a consumer that was just reset, or has nothing pending beyond the held messages.
    pub(super) fn subscribe(
        nats: Nats,
        generation: u64,
        mut wire: Wire,
        config: &ModuleConfig,
        reading: Reading,
        start: Start,
    ) -> Self {
        let Reading {
            stream,
            identity,
            again,
            retention,
            floor,
            memory,
            pin,
            max_batch,
        } = reading;
        let held = retention::held(&stream.cached_info().state);
        let mut lookout = Lookout::over(stream, config.subjects.clone(), &retention, Arc::clone(&memory));
        let now = Instant::now();
        let mut epoch = read::Epoch::begin(now.into_std(), max_batch, start.delivered, retention);
        for gap in epoch.find(floor, held).into_iter().flatten() {
            lookout.look_at(gap, now);
        }
        let inbox = wire.subscribe();
        Self {
            stream: identity,
            again,
            pull_subject: nats.pull_subject(&config.stream, &config.consumer),
            reader: Reader::new(&config.stream),
            link: nats.link,
            generation,
            wire,
            inbox,
            pulls: 0,
            epoch,
            held: start.held.into(),
            pin,
            lookout,
            memory,
        }
    }

    /// Returns the pin under which this relay reads, with standby. It stays from one epoch to the next.
    pub fn pin(&self) -> Option<&Arc<Pin>> {
        self.pin.as_ref()
    }

    /// Returns the losses found since the last call: messages that the stream removed before they could be read.
    pub fn take_missed(&self) -> Vec<Missed> {
        self.memory.take_missed()
    }

    /// Returns the next deliveries, at most a chunk. Returns none only if the stream was found to have removed
    /// something. Pulls as far as there is room. Cancel-safe.
    pub async fn next(&mut self, room: Room) -> Result<Vec<Delivery>, EpochEnd> {
        // The connection was lost or replaced. What is still buffered came over the old one.
        let link = *self.link.borrow_and_update();
        if !link.connected || link.generation != self.generation {
            return Err(EpochEnd::Disconnected);
        }
        if !self.held.is_empty() {
            return Ok(self.held.drain(..read::MAX_CHUNK.min(self.held.len())).collect());
        }
        self.pull(room)?;
        let mut deliveries: Vec<Delivery> = Vec::new();
        loop {
            let silent = self.epoch.silent_at();
            let frame = tokio::select! {
                biased;
                frame = self.wire.next() => frame.map_err(EpochEnd::Cut)?,
                _ = self.link.changed() => return Err(EpochEnd::Disconnected),
                () = self.memory.finds() => return Ok(deliveries),
                // Without an open pull, no reply is due.
                () = at(silent), if silent.is_some() => return Err(EpochEnd::Silent),
            };
            // One time for all that is there: reading the clock costs as much as taking a message.
            let now = Instant::now();
            self.epoch.heard(now.into_std());
            self.take(&frame, now, &mut deliveries)?;
            let last = |deliveries: &[Delivery]| deliveries.last().map_or(0, |last| last.message.size());
            let mut bytes = last(&deliveries);
            while read::Epoch::takes(deliveries.len(), bytes, room)
                && let Some(frame) = self.wire.try_next()
            {
                let before = deliveries.len();
                self.take(&frame, now, &mut deliveries)?;
                if deliveries.len() > before {
                    bytes += last(&deliveries);
                }
            }
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            self.pull(room)?;
        }
    }

    /// Waits until a connection is lost, and takes nothing in meanwhile.
    pub async fn lost(&mut self) -> EpochEnd {
        let generation = self.generation;
        let lost = |link: &Link| !link.connected || link.generation != generation;
        tokio::select! {
            // If the watch is closed, the connection is gone too.
            _ = self.link.wait_for(lost) => EpochEnd::Disconnected,
            ended = self.wire.ended() => EpochEnd::Cut(ended),
        }
    }

    /// Returns what sends acks. It lasts until the epoch is over.
    pub fn outgoing(&self) -> &Outgoing {
        self.wire.outgoing()
    }

    /// Ends the epoch. What is returned still sends the acks of its messages.
    pub fn close(self) -> Outgoing {
        self.wire.unsubscribe()
    }

    /// Returns the number of bytes that arrived but were not taken in.
    pub fn waiting(&self) -> usize {
        self.wire.waiting()
    }

    fn pull(&mut self, room: Room) -> Result<(), EpochEnd> {
        while let Some(ask) = self.epoch.ask(std::time::Instant::now(), room) {
            let pin = self.pin.as_ref();
            let pull = PullRequest {
                batch: ask.batch,
                max_bytes: ask.max_bytes,
                expires: Some(EXPIRES),
                idle_heartbeat: Some(HEARTBEAT),
                group: pin.map(|_| GROUP),
                id: pin.map(|pin| pin.id()),
                ..PullRequest::default()
            };
            let pull = serde_json::to_vec(&pull).map_err(|error| EpochEnd::Foreign(error.to_string()))?;
            let reply = format!("{}.{}", self.inbox, self.pulls);
            self.wire.publish(&self.pull_subject, &reply, &pull);
            self.pulls += 1;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame, now: Instant, deliveries: &mut Vec<Delivery>) -> Result<(), EpochEnd> {
        match frame.status() {
            None => deliveries.push(self.deliver(frame, now)?),
            Some((status, description)) => self.note(status, description, frame)?,
        }
        Ok(())
    }

    fn deliver(&mut self, frame: &Frame, now: Instant) -> Result<Delivery, EpochEnd> {
        let mut size = frame.size();
        let own = match &self.pin {
            None => Cow::Borrowed(frame.headers()),
            Some(pin) => {
                let own = pin.without_its_line(frame.headers()).ok_or(EpochEnd::Unpinned)?;
                size -= pin.header_size(own.is_empty());
                own
            }
        };
        let (consumer_sequence, delivery) = self.reader.read_with(frame, &own).map_err(EpochEnd::Foreign)?;
        let message = &delivery.message;
        let gap: Option<Gap> = self
            .epoch
            .delivered(consumer_sequence, size, message, delivery.pending)?;
        if let Some(gap) = gap {
            self.lookout.look_at(gap, now);
        }
        Ok(delivery)
    }

    /// Handles the server's reply to a pull.
    fn note(&mut self, status: u16, description: &str, frame: &Frame) -> Result<(), EpochEnd> {
        let headers = headers::parse(frame.headers()).unwrap_or_default();
        let left = |name: &str| -> usize {
            let value = headers.iter().find(|(known, _)| known == name);
            value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        let larger = description == "Message Size Exceeds MaxBytes";
        let returned = |larger| Returned {
            messages: left("Nats-Pending-Messages"),
            bytes: left("Nats-Pending-Bytes"),
            larger,
        };
        match status {
            status::IDLE_HEARTBEAT => Ok(()),
            WRONG_PIN => Err(EpochEnd::Unpinned),
            status::TIMEOUT => {
                self.epoch.returned(returned(false));
                Ok(())
            }
            status::ENDED if larger || description == "Batch Completed" => {
                self.epoch.returned(returned(larger));
                Ok(())
            }
            // The consumer was deleted or changed, its leader moved, or the server stops. Each of these requires a new
            // epoch.
            _ => Err(EpochEnd::Ended {
                code: status,
                description: description.to_owned(),
            }),
        }
    }
}

async fn at(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
