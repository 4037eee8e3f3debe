//! Reads from the histories which channels show their newest state. A subscriber of all channels would have to be sent
//! every publication. On a machine of a few cores that is most of the work, and it is not what is measured.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_support::Publication;
use slipring_support::servers::Centrifugo;

use crate::event;

#[derive(Debug)]
pub struct Newest {
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    key: u32,
    /// The newest revision.
    revision: u32,
    /// When the newest revision was seen.
    reached: Option<Instant>,
    /// The publications so far.
    publications: u64,
}

/// `offset` counts all publications that the channel ever had.
#[derive(Deserialize)]
struct History {
    #[serde(default)]
    publications: Vec<Publication>,
    #[serde(default)]
    offset: u64,
}

impl Newest {
    /// `revisions` is how many each key has.
    pub fn new(revisions: &[u32]) -> Self {
        let channels = (0..).zip(revisions).map(|(key, &revision)| Channel {
            key,
            revision,
            reached: None,
            publications: 0,
        });
        Self {
            channels: channels.collect(),
        }
    }

    /// Looks at the channels that have not shown their newest revision yet.
    pub async fn look(&mut self, centrifugo: &Centrifugo) -> Result<()> {
        let mut behind: Vec<&mut Channel> = self.channels.iter_mut().filter(|c| c.reached.is_none()).collect();
        if behind.is_empty() {
            return Ok(());
        }
        let command = |channel: &&mut Channel| {
            let channel = event::channel(channel.key);
            json!({ "history": { "channel": channel, "limit": 1, "reverse": true } })
        };
        let replies = centrifugo
            .batch(&behind.iter().map(command).collect::<Vec<_>>())
            .await?;
        let now = Instant::now();
        ensure!(replies.len() == behind.len(), "not as many replies as commands");
        for (channel, reply) in behind.iter_mut().zip(replies) {
            channel.take_in(reply, now)?;
        }
        Ok(())
    }

    /// Returns when the median channel and the last one reached it, among those that did.
    pub fn reached(&self) -> Option<(Instant, Instant)> {
        let mut reached: Vec<Instant> = self.channels.iter().filter_map(|channel| channel.reached).collect();
        reached.sort_unstable();
        Some((*reached.get(reached.len() / 2)?, *reached.last()?))
    }

    pub fn behind(&self) -> usize {
        self.channels.iter().filter(|channel| channel.reached.is_none()).count()
    }

    pub fn publications(&self) -> u64 {
        self.channels.iter().map(|channel| channel.publications).sum()
    }
}

impl Channel {
    fn take_in(&mut self, mut reply: Value, now: Instant) -> Result<()> {
        #[derive(Deserialize)]
        struct View {
            revision: u32,
        }
        let history = reply["history"].take();
        let History { publications, offset } =
            serde_json::from_value(history).with_context(|| format!("reading the reply {reply}"))?;
        self.publications = offset;
        if let Some(newest) = publications.first() {
            let View { revision } = newest.json()?;
            ensure!(
                revision <= self.revision,
                "revision {revision} was never published on {}",
                event::channel(self.key)
            );
            if revision == self.revision {
                self.reached = Some(now);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_reached_its_newest_revision_when_that_is_shown() {
        let mut channel = Channel {
            key: 7,
            revision: 3,
            reached: None,
            publications: 0,
        };
        let shown = |revision: u32, offset: u64| {
            let publication = json!({ "offset": offset, "data": { "revision": revision } });
            json!({ "history": { "publications": [publication], "offset": offset, "epoch": "e" } })
        };
        let now = Instant::now();
        channel.take_in(json!({ "history": { "epoch": "e" } }), now).unwrap();
        channel.take_in(shown(1, 1), now).unwrap();
        assert_eq!((channel.reached, channel.publications), (None, 1));
        channel.take_in(shown(3, 2), now).unwrap();
        assert_eq!((channel.reached, channel.publications), (Some(now), 2));
        channel.take_in(shown(4, 3), now).unwrap_err();
        channel.take_in(json!({ "error": { "code": 108 } }), now).unwrap_err();
    }
}
