//! The witnesses, who see what Centrifugo shows over its lives.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use slipring_support::proxy::Tape;
use slipring_support::servers::Centrifugo;
use slipring_support::subscriber::{Received, Subscriber};

use super::checker::Record;
use super::{messages, tape};

/// How many histories are read at once.
const READING: usize = 16;

/// How long a connection may take to notice that its server is gone.
const END: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Witness {
    pub record: Record,
    /// The number of Centrifugo's current life.
    pub life: u64,
    subscriber: Option<Subscriber>,
    /// The versions of the module that were seen.
    marks: BTreeSet<String>,
    subscribed: usize,
    received: usize,
    read: usize,
    confirmed: usize,
}

impl Witness {
    /// Subscribes to all channels of a running Centrifugo, unless that was done.
    pub async fn subscribe(&mut self, centrifugo: &Centrifugo) -> Result<()> {
        if self.subscriber.is_none() {
            self.subscriber = Some(Subscriber::connect(&centrifugo.websocket_url(), messages::channels()).await?);
            self.subscribed += 1;
        }
        Ok(())
    }

    /// Takes in what the subscriber was sent so far. Its connection may have ended: Centrifugo closes one whose pings
    /// were not answered in time, and after a SIGSTOP of its own it believes that this happened.
    pub fn listen(&mut self) -> Result<()> {
        let Some(mut subscriber) = self.subscriber.take() else {
            return Ok(());
        };
        loop {
            match subscriber.try_next() {
                Some(Ok(received)) => self.hear(&received)?,
                Some(Err(_)) => return Ok(()),
                None => {
                    self.subscriber = Some(subscriber);
                    return Ok(());
                }
            }
        }
    }

    /// Centrifugo is dead: takes in everything that it had sent, and waits for its next life.
    pub async fn life_ends(&mut self) -> Result<()> {
        if let Some(mut subscriber) = self.subscriber.take() {
            while let Ok(received) = subscriber.next(END).await {
                self.hear(&received)?;
            }
        }
        self.life += 1;
        Ok(())
    }

    /// Reads what Centrifugo holds of this life.
    pub async fn read_histories(&mut self, centrifugo: &Centrifugo) -> Result<()> {
        let histories: Vec<_> = stream::iter(messages::channels())
            .map(async |channel| {
                let history = centrifugo.history(&channel).await;
                history.map(|history| (channel, history))
            })
            .buffer_unordered(READING)
            .try_collect()
            .await
            .context("reading the histories")?;
        for (channel, history) in histories {
            for publication in history {
                let place = (self.life, publication.offset);
                self.record.saw(place, &channel, publication.json()?, None);
                self.read += 1;
            }
        }
        Ok(())
    }

    pub fn play(&mut self, tapes: &[Tape]) -> Result<()> {
        for tape in tapes {
            for confirmed in tape::confirmed(tape)? {
                let place = (tape.label, confirmed.offset);
                self.record.saw(place, &confirmed.channel, confirmed.number, None);
                self.confirmed += 1;
            }
        }
        Ok(())
    }

    fn hear(&mut self, received: &Received) -> Result<()> {
        let publication = &received.publication;
        ensure!(publication.offset > 0, "a publication without an offset: {received:?}");
        let place = (self.life, publication.offset);
        self.record
            .saw(place, &received.channel, publication.json()?, Some(received.at));
        if let Some(mark) = publication.tags.get("mark")
            && !self.marks.contains(mark)
        {
            self.marks.insert(mark.clone());
        }
        self.received += 1;
        Ok(())
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives of Centrifugo; {} publications confirmed on the tapes, {} read in histories, {} received by the subscriber in \
             {} connections, from {} versions of the module",
            self.life + 1,
            self.confirmed,
            self.read,
            self.received,
            self.subscribed,
            self.marks.len()
        )
    }
}
