//! How long a consumer takes: from the first delivery that is seen to the ack of the last message, or until a time is over. What
//! comes before, such as starting and compiling, does not count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use tokio::time::sleep;

use crate::meter::{self, Meter, Used};

/// Between two looks at the consumer.
const PACE: Duration = Duration::from_millis(10);

/// For a way to start and to get its first message.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Drained {
    /// While the clock ran.
    pub messages: u64,
    pub elapsed: Duration,
    /// Since the beginning.
    pub acknowledged: u64,
    /// Nothing was left when the clock stopped.
    pub all: bool,
    pub used: BTreeMap<String, Used>,
}

/// Watches `consumer`, which may not be there yet, until it has drained `stream` or has worked for `limit`.
pub async fn drain(stream: &Stream, consumer: &str, limit: Duration, meter: &Meter<'_>) -> Result<Drained> {
    let waiting_since = Instant::now();
    let start = loop {
        if let Some(info) = look(stream, consumer).await?
            && info.delivered.consumer_sequence > 0
        {
            break Seen::now(&info, meter)?;
        }
        ensure!(
            waiting_since.elapsed() < PATIENCE,
            "{consumer} got no message within {PATIENCE:?}"
        );
        sleep(PACE).await;
    };
    let end = loop {
        sleep(PACE).await;
        let info = look(stream, consumer).await?;
        let info = info.with_context(|| format!("the consumer {consumer} is gone"))?;
        if is_drained(&info) || start.at.elapsed() >= limit {
            break Seen::now(&info, meter)?;
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
    acknowledged: u64,
    drained: bool,
    usage: meter::Reading,
}

impl Seen {
    fn now(info: &Info, meter: &Meter<'_>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            // The streams here begin at sequence 1, and nothing is deleted from them.
            acknowledged: info.ack_floor.stream_sequence,
            drained: is_drained(info),
            usage: meter.read()?,
        })
    }
}

fn is_drained(info: &Info) -> bool {
    info.num_pending == 0 && info.num_ack_pending == 0 && info.delivered.consumer_sequence > 0
}

async fn look(stream: &Stream, consumer: &str) -> Result<Option<Info>> {
    match stream.consumer_info(consumer).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => bail!("looking at the consumer {consumer}: {error}"),
    }
}
