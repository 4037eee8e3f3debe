//! Measures how long a consumer takes, from its first delivery to the ack of the last message or to a time limit. What
//! comes before, such as starting and compiling, does not count. The clock starts at the last look that found nothing
//! delivered, so a run is at most one pace too long, and never empty.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt;
use tokio::time::{sleep, timeout};

use crate::meter::{self, Meter, Used};

/// The pause between two looks at the consumer.
const PACE: Duration = Duration::from_millis(10);

/// How long a way may take to start and get its first message.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a look may take: the first time, and the last time after it was repeated.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
const MAX_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub struct Drained {
    /// Messages while the clock ran.
    pub messages: u64,
    pub elapsed: Duration,
    /// Messages since the beginning.
    pub acknowledged: u64,
    /// Nothing was left when the clock stopped.
    pub all: bool,
    pub used: BTreeMap<String, Used>,
}

/// Watches `consumer`, which may not exist yet, until it has drained `stream` or has run for `limit`.
pub async fn drain(stream: &Stream, consumer: &str, limit: Duration, meter: &Meter<'_>) -> Result<Drained> {
    drain_all(&[(stream, consumer)], limit, meter, async { Ok(()) }).await
}

/// Does the same as [`drain`] for several consumers, from the first delivery to any of them until the last one has
/// drained its stream. `begin` is awaited once the clock runs, to start a reader that would otherwise begin too early.
pub async fn drain_all(
    consumers: &[(&Stream, &str)],
    limit: Duration,
    meter: &Meter<'_>,
    begin: impl Future<Output = Result<()>>,
) -> Result<Drained> {
    let names = || consumers.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    // Each look costs the server something.
    let pace = PACE * u32::try_from(consumers.len())?;
    let waiting_since = Instant::now();
    let mut start = Seen::now(&look_at_all(consumers).await?, consumers.len(), meter)?;
    ensure!(!start.drained, "{} was done before the clock started", names());
    begin.await?;
    let end = loop {
        sleep(pace).await;
        let infos = look_at_all(consumers).await?;
        let seen = Seen::now(&infos, consumers.len(), meter)?;
        if !seen.delivered {
            ensure!(
                waiting_since.elapsed() < PATIENCE,
                "{} got no message within {PATIENCE:?}",
                names()
            );
            start = seen;
        } else if seen.drained || start.at.elapsed() >= limit {
            break seen;
        }
    };
    Ok(Drained {
        messages: end.acknowledged - start.acknowledged,
        elapsed: end.at - start.at,
        acknowledged: end.acknowledged,
        all: end.drained,
        used: meter::between(&start.usage, &end.usage),
    })
}

struct Seen {
    at: Instant,
    /// Something was delivered to one of them.
    delivered: bool,
    acknowledged: u64,
    drained: bool,
    usage: meter::Reading,
}

impl Seen {
    /// `consumers` is how many there will be.
    fn now(infos: &[Info], consumers: usize, meter: &Meter<'_>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            delivered: infos.iter().any(|info| info.delivered.consumer_sequence > 0),
            // The streams here begin at sequence 1, and nothing is deleted from them.
            acknowledged: infos.iter().map(|info| info.ack_floor.stream_sequence).sum(),
            drained: infos.len() == consumers && infos.iter().all(is_drained),
            usage: meter.read()?,
        })
    }
}

fn is_drained(info: &Info) -> bool {
    info.num_pending == 0 && info.num_ack_pending == 0 && info.delivered.consumer_sequence > 0
}

/// Returns those that exist.
async fn look_at_all(consumers: &[(&Stream, &str)]) -> Result<Vec<Info>> {
    let mut infos = Vec::with_capacity(consumers.len());
    for (stream, consumer) in consumers {
        infos.extend(look(stream, consumer).await?);
    }
    Ok(infos)
}

/// Returns `None` if the consumer does not exist. A consumer of several nodes answers nothing until it has a leader, so
/// the question is repeated, soon at first, so that the clock does not miss the first delivery by much.
pub async fn look(stream: &Stream, consumer: &str) -> Result<Option<Info>> {
    let mut patience = MIN_PATIENCE;
    while patience <= MAX_PATIENCE {
        match timeout(patience, stream.consumer_info(consumer)).await {
            Ok(Ok(info)) => return Ok(Some(info)),
            Ok(Err(error)) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(None),
            Ok(Err(error)) if error.kind() != ConsumerInfoErrorKind::TimedOut => {
                bail!("looking at the consumer {consumer}: {error}")
            }
            Ok(Err(_)) | Err(_) => patience *= 2,
        }
    }
    bail!("looking at the consumer {consumer}: no answer within {MAX_PATIENCE:?}")
}

/// Removes all consumers of `stream`, because a leftover one would keep costing the server something.
pub async fn forget_consumers(stream: &Stream) -> Result<()> {
    let names: Vec<String> = stream
        .consumer_names()
        .try_collect()
        .await
        .context("listing consumers")?;
    for name in names {
        stream
            .delete_consumer(&name)
            .await
            .with_context(|| format!("removing the consumer {name}"))?;
    }
    Ok(())
}
