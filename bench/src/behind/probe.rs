//! New messages while the relay works on old ones: a few each second on a channel of their own, and a subscriber that
//! waits for them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream;
use serde::Deserialize;
use slipring_support::servers::Centrifugo;
use slipring_support::subscriber::Subscriber;

use super::{SIZE, STREAM};
use crate::event::Event;

/// A message that takes longer than this is late.
const LIVE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Probe {
    key: u32,
    subscriber: Subscriber,
    log: Log,
}

/// Revision n is the n-th published message.
#[derive(Debug, Default)]
pub struct Log {
    published: Vec<Instant>,
    /// When the channel showed anything at all.
    first_seen: Option<Instant>,
    /// When a message first arrived in time.
    live: Option<Instant>,
    seen: usize,
}

impl Probe {
    pub async fn subscribe(centrifugo: &Centrifugo, key: u32) -> Result<Self> {
        let event = Event { key, revision: 1 };
        Ok(Self {
            key,
            subscriber: Subscriber::connect(&centrifugo.websocket_url(), [event.channel()]).await?,
            log: Log::default(),
        })
    }

    /// Publishes one more message.
    pub async fn publish(&mut self, jetstream: &jetstream::Context) -> Result<()> {
        self.log.published.push(Instant::now());
        let event = Event {
            key: self.key,
            revision: u32::try_from(self.log.published.len())?,
        };
        let payload = event.payload(SIZE).into();
        let ack = jetstream.publish(format!("{STREAM}.{}", self.key), payload).await?;
        ack.await.context("storing a probe").map(drop)
    }

    /// Takes in what has arrived.
    pub fn receive(&mut self) -> Result<()> {
        #[derive(Deserialize)]
        struct View {
            revision: usize,
        }
        for received in self.subscriber.drain()? {
            let View { revision } = received.publication.json()?;
            self.log.saw(revision, received.at)?;
        }
        Ok(())
    }

    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Log {
    fn saw(&mut self, revision: usize, at: Instant) -> Result<()> {
        let published = revision.checked_sub(1).and_then(|index| self.published.get(index));
        let published = published.with_context(|| format!("probe {revision} was never published"))?;
        self.seen += 1;
        self.first_seen.get_or_insert(at);
        if at - *published < LIVE {
            self.live.get_or_insert(at);
        }
        Ok(())
    }

    pub fn published(&self) -> usize {
        self.published.len()
    }

    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Returns the time from publishing the first message until that one, or a newer one, was seen.
    pub fn first(&self) -> Option<Duration> {
        Some(self.first_seen? - *self.published.first()?)
    }

    /// Returns when a message first arrived in time.
    pub fn live(&self) -> Option<Instant> {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_live_once_something_new_comes_in_time() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut log = Log {
            published: vec![at(0), at(20), at(40)],
            ..Log::default()
        };
        assert_eq!((log.first(), log.live()), (None, None));
        log.saw(1, at(31)).unwrap();
        assert_eq!((log.first(), log.live()), (Some(Duration::from_millis(3_100)), None));
        log.saw(3, at(42)).unwrap();
        assert_eq!((log.live(), log.seen()), (Some(at(42)), 2));
        log.saw(4, at(50)).unwrap_err();
        log.saw(0, at(50)).unwrap_err();
    }
}
