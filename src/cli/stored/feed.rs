//! Reads a stream with a separate consumer, and recreates the consumer when it is lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_nats::jetstream::consumer::{Consumer, pull};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Stored;
use crate::message::Message;
use crate::nats::wire::{Answer, Fetch, Frame, PullRequest, Wire, status};
use crate::source::jetstream::DeliveryReader;

/// Messages per request. They may be large.
const BATCH: usize = 128;

/// Messages that were read and not yet taken, in addition to those requested.
pub const HELD: usize = 64;

/// How long the server keeps an inactive consumer.
pub const INACTIVE: Duration = Duration::from_secs(30);

/// Once this many bytes wait to be taken, nothing more is read from the server.
const MAX_AHEAD: usize = 8 << 20;

/// How long a request for future messages waits.
const WAIT: Duration = Duration::from_secs(10);

/// How long the server may take to send existing messages, or to report that there are none.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a failed read is retried, and after which pause.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Feed {
    stored: Stored,
    subjects: Vec<String>,
    consumer: Consumer<pull::Config>,
    reader: DeliveryReader,
    /// Where the next consumer starts.
    next: u64,
    /// Messages to skip before the wanted ones.
    skip: u64,
    /// Wanted messages. `None` means all future ones.
    left: Option<u64>,
}

/// Whether there is more to read.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl Feed {
    /// Reads the last `count` of the messages that match from `begin` on now.
    pub async fn last(stored: Stored, subjects: Vec<String>, begin: u64, count: u64) -> anyhow::Result<Self> {
        let mut feed = Self::live(stored, subjects, begin).await?;
        let matching = feed.consumer.cached_info().num_pending;
        feed.skip = matching.saturating_sub(count);
        feed.left = Some(matching.min(count));
        Ok(feed)
    }

    /// Reads all messages that match from `begin` on, for ever.
    pub async fn live(stored: Stored, subjects: Vec<String>, begin: u64) -> anyhow::Result<Self> {
        Ok(Self {
            consumer: stored.consumer(begin, &subjects).await?,
            reader: DeliveryReader::new(&stored.name),
            stored,
            subjects,
            next: begin,
            skip: 0,
            left: None,
        })
    }

    /// Ends when everything is read or the receiver is gone, or after several failures in a row without reading
    /// anything.
    pub async fn run(mut self, sender: mpsc::Sender<Arc<Message>>) -> anyhow::Result<()> {
        let mut failures = 0;
        loop {
            let before = self.next;
            let error = match self.read(&sender).await {
                Ok(()) => {
                    self.stored.remove(&self.consumer).await;
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.next != before {
                failures = 0;
            }
            failures += 1;
            debug!(
                error = format!("{error:#}"),
                failures, "continuing with another consumer"
            );
            if let Err(error) = self.renew(&sender, error, &mut failures).await {
                return Err(error.context(format!("reading the stream `{}` failed", self.stored.name)));
            }
        }
    }

    /// Creates a consumer at the position of the old one. Retries if necessary.
    async fn renew(
        &mut self,
        sender: &mpsc::Sender<Arc<Message>>,
        mut error: anyhow::Error,
        failures: &mut u32,
    ) -> anyhow::Result<()> {
        while *failures < ATTEMPTS && !sender.is_closed() {
            sleep(PAUSE).await;
            // Without a connection nothing is tried. This may take any time, and the log reports it.
            let mut link = self.stored.nats.link.clone();
            tokio::select! {
                _ = link.wait_for(|link| link.connected) => {}
                () = sender.closed() => return Ok(()),
            }
            match self.stored.consumer(self.next, &self.subjects).await {
                Ok(consumer) => {
                    self.consumer = consumer;
                    return Ok(());
                }
                Err(again) => error = again,
            }
            *failures += 1;
        }
        Err(error)
    }

    /// Reads until everything is read or the receiver is gone.
    async fn read(&mut self, sender: &mpsc::Sender<Arc<Message>>) -> anyhow::Result<()> {
        let wire = Wire::open(&self.stored.nats, MAX_AHEAD).await?;
        let mut fetch = Fetch::new(
            wire,
            self.stored
                .nats
                .pull_subject(&self.stored.name, &self.consumer.cached_info().name),
        );
        let mut received = 0;
        while self.left != Some(0) {
            let wanted = self.left.map_or(BATCH as u64, |left| left.saturating_add(self.skip));
            let wanted = usize::try_from(wanted).unwrap_or(BATCH).min(BATCH);
            let (no_wait, patience) = match self.left {
                // The server replies at once, even if there is nothing.
                Some(_) => (true, PATIENCE),
                None => (false, WAIT + PATIENCE),
            };
            fetch.ask(&PullRequest {
                batch: wanted,
                no_wait,
                expires: (!no_wait).then_some(WAIT),
                ..PullRequest::default()
            })?;
            let before = received;
            let mut open = wanted;
            while open > 0 {
                let answer = tokio::select! {
                    answer = timeout(patience, fetch.next()) => answer.context("the server went silent")??,
                    () = sender.closed() => return Ok(()),
                };
                match answer {
                    Answer::Message(frame) => {
                        open -= 1;
                        received += 1;
                        if self.take(&frame, received, sender).await? == Progress::Done {
                            return Ok(());
                        }
                    }
                    Answer::Status(status::IDLE_HEARTBEAT, _) => {}
                    Answer::Status(status::NO_MESSAGES | status::TIMEOUT, _) => break,
                    Answer::Status(code, description) => bail!("the server returned {code} {description}"),
                }
            }
            // Messages that existed at the start may have been removed, and a consumer may have been deleted.
            if received == before {
                let info = self.consumer.info().await?;
                if self.left.is_some() && info.num_pending == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        frame: &Frame,
        expected: u64,
        sender: &mpsc::Sender<Arc<Message>>,
    ) -> anyhow::Result<Progress> {
        let (number, delivery) = self.reader.read(frame).map_err(|error| anyhow!(error))?;
        if number != expected {
            bail!("the consumer's deliveries have a gap: expected number {expected}, got {number}");
        }
        self.next = delivery.message.sequence() + 1;
        if self.skip > 0 {
            self.skip -= 1;
        } else if sender.send(delivery.message).await.is_err() {
            return Ok(Progress::Done);
        } else if let Some(left) = &mut self.left {
            *left -= 1;
        }
        match self.left {
            Some(left) if left == 0 || delivery.pending == 0 => Ok(Progress::Done),
            _ => Ok(Progress::More),
        }
    }
}
