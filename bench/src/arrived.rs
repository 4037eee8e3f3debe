//! Reads from Centrifugo's histories what its subscribers would have received, after the clock has stopped. A way that
//! loses messages or their order is not fast but wrong.

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use slipring_support::Publication;
use slipring_support::servers::Centrifugo;

use crate::event::{self, Event};

/// How many histories are read at once.
const READING: usize = 4;

/// What a way makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The content of the stream's message.
    AsPublished,
    /// The output of the bench's guest, or of an equivalent mapping.
    Reshaped,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    pub publications: u64,
    /// Missing revisions below the newest of their channel. With versions, Centrifugo suppresses a late revision, so a
    /// lost order shows here.
    pub missing: u64,
    /// Publications that came after a newer one of their channel.
    pub inversions: u64,
}

/// Reads the histories of the channels of `events`. Fails if they contain something that was never published, or that
/// does not have the given shape.
pub async fn arrived(centrifugo: &Centrifugo, events: &[Event], size: usize, shape: Shape) -> Result<Arrived> {
    let channels = (0..).zip(published(events)).filter(|(_, published)| *published > 0);
    let reading = channels.map(async |(key, published)| {
        let channel = event::channel(key);
        let history = centrifugo.history(&channel).await?;
        let revisions = history
            .iter()
            .map(|publication| revision(key, publication, size, shape));
        let revisions: Vec<u32> = revisions.collect::<Result<_>>()?;
        judge(&revisions, published)
    });
    let channels = stream::iter(reading).buffer_unordered(READING).map(|judged| {
        let context = "checking what arrived";
        judged.context(context)
    });
    channels
        .try_fold(Arrived::default(), async |sum, channel| {
            Ok(Arrived {
                publications: sum.publications + channel.publications,
                missing: sum.missing + channel.missing,
                inversions: sum.inversions + channel.inversions,
            })
        })
        .await
}

impl Arrived {
    /// Checks that each channel has its revisions from the first on without a gap: all of them if `all` was drained,
    /// and at least as many as were acknowledged.
    pub fn ensure_in_order(self, all: Option<u64>, acknowledged: u64) -> Result<()> {
        ensure!(self.inversions == 0, "the order was lost: {self:?}");
        ensure!(self.missing == 0, "there are gaps: {self:?}");
        self.ensure_complete(all, acknowledged)
    }

    /// Checks that as many as were acknowledged have arrived, in any order. Those that were suppressed for coming
    /// too late count.
    pub fn ensure_complete(self, all: Option<u64>, acknowledged: u64) -> Result<()> {
        let accounted = self.publications + self.missing;
        ensure!(
            accounted >= acknowledged,
            "{acknowledged} messages were acknowledged, but {accounted} arrived: {self:?}"
        );
        ensure!(
            all.is_none_or(|all| accounted == all),
            "of {} messages {accounted} arrived: {self:?}",
            all.unwrap_or_default()
        );
        Ok(())
    }
}

/// Returns how many revisions each key has.
fn published(events: &[Event]) -> Vec<u32> {
    let keys = events.iter().map(|event| event.key + 1).max().unwrap_or(0);
    let mut published = vec![0; keys as usize];
    events.iter().for_each(|event| published[event.key as usize] += 1);
    published
}

/// Judges the revisions in a channel's history, in order. `published` is how many there were.
fn judge(revisions: &[u32], published: u32) -> Result<Arrived> {
    let mut seen = vec![false; published as usize + 1];
    let mut newest = 0;
    let mut inversions = 0;
    for &revision in revisions {
        let seen = seen
            .get_mut(revision as usize)
            .filter(|_| revision > 0)
            .with_context(|| format!("revision {revision} was never published, only {published} are"))?;
        ensure!(!*seen, "revision {revision} is there twice");
        *seen = true;
        inversions += u64::from(revision < newest);
        newest = newest.max(revision);
    }
    Ok(Arrived {
        publications: revisions.len() as u64,
        missing: u64::from(newest) - revisions.len() as u64,
        inversions,
    })
}

fn revision(key: u32, publication: &Publication, size: usize, shape: Shape) -> Result<u32> {
    #[derive(Deserialize)]
    struct Order {
        id: u32,
        revision: u32,
    }
    #[derive(Deserialize)]
    struct View {
        revision: u32,
        total_cents: u64,
    }
    let right = match shape {
        Shape::AsPublished => {
            let Order { id, revision } = publication.json()?;
            (id == key).then_some(revision)
        }
        Shape::Reshaped => {
            let View { revision, total_cents } = publication.json()?;
            (total_cents == Event { key, revision }.total_cents(size)).then_some(revision)
        }
    };
    right.with_context(|| {
        format!(
            "{} is not what should be on {}",
            publication.text(),
            event::channel(key)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_judged_by_its_revisions() {
        let judged = |revisions: &[u32]| judge(revisions, 5).map_err(|error| error.to_string());
        let arrived = |publications, missing, inversions| {
            Ok(Arrived {
                publications,
                missing,
                inversions,
            })
        };
        assert_eq!(judged(&[]), arrived(0, 0, 0));
        assert_eq!(judged(&[1, 2, 3]), arrived(3, 0, 0));
        assert_eq!(judged(&[1, 3, 5]), arrived(3, 2, 0));
        assert_eq!(judged(&[1, 3, 2, 5, 4]), arrived(5, 0, 2));
        assert_eq!(judged(&[1, 2, 2]), Err("revision 2 is there twice".to_owned()));
        for wrong in [0, 6] {
            let error = judged(&[1, wrong]).unwrap_err();
            assert!(
                error.starts_with(&format!("revision {wrong} was never published")),
                "{error}"
            );
        }
    }

    #[test]
    fn loss_and_disorder_fail() {
        let good = Arrived {
            publications: 10,
            missing: 0,
            inversions: 0,
        };
        good.ensure_in_order(Some(10), 10).unwrap();
        good.ensure_in_order(None, 9).unwrap();
        good.ensure_in_order(None, 11).unwrap_err();
        good.ensure_in_order(Some(11), 9).unwrap_err();
        let suppressed = Arrived { missing: 1, ..good };
        suppressed.ensure_complete(Some(11), 11).unwrap();
        suppressed.ensure_in_order(Some(11), 11).unwrap_err();
        let inverted = Arrived { inversions: 1, ..good };
        inverted.ensure_in_order(Some(10), 10).unwrap_err();
    }
}
