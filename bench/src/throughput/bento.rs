//! Bento with its own means: the `nats_jetstream` input, a mapping that does what the guest does, and the `http_client`
//! output. It ignores Centrifugo's replies, which report errors with status 200.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use slipring_support::process::Process;
use slipring_support::servers::tool;
use tempfile::TempDir;

use super::measured::Measured;
use super::world::{PLAIN, SIZE, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::clock;
use crate::delay::Link;
use crate::meter::Meter;

const CONSUMER: &str = "bento";

/// What it sends, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One request per message, to `/api/publish`. With more than one in flight, the order is lost.
    Publish { in_flight: usize },
    /// Many messages in one request to `/api/batch`, one request after the other.
    Batch { size: usize },
}

pub async fn run(world: &World, delay: Duration, output: Output) -> Result<Measured> {
    let program =
        tool("bento").context("Bento is not there: run `bench/bento/install`, or `make bench`, which does")?;
    let target = Target::start(world.history(), |_| ()).await?;
    let link = Link::unless_zero(&target.centrifugo.url(), delay)?;
    let config = output.config(
        &world.url(),
        &target.endpoint(Api::Http, link.as_ref()),
        target.centrifugo.api_key(),
    );
    let dir = TempDir::with_prefix("slipring-bench-bento-").context("making a directory for Bento")?;
    let file = dir.path().join("bento.yaml");
    std::fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
    world.forget_peak_memory()?;
    let mut bento = Process::spawn("Bento", Command::new(program).arg("-c").arg(&file))?;
    let meter = Meter::default()
        .watch("nats-server", || world.usage())
        .watch("bento", || bento.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let drained = clock::drain(&world.plain, CONSUMER, world.limit, &meter)
        .await
        .with_context(|| bento.tail())?;
    drop(meter);
    bento.kill();
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::Reshaped).await?;
    let all = drained.all.then_some(world.events.len() as u64);
    match output {
        Output::Publish { in_flight: 2.. } => arrived.ensure_complete(all, drained.acknowledged)?,
        Output::Publish { .. } | Output::Batch { .. } => arrived.ensure_in_order(all, drained.acknowledged)?,
    }
    Ok(Measured::new(drained, arrived))
}

impl Output {
    fn config(self, nats: &str, centrifugo: &str, key: &str) -> String {
        let input = format!(
            r#"nats_jetstream:
    urls: [ "{nats}" ]
    stream: {PLAIN}
    subject: {PLAIN}.>
    durable: {CONSUMER}
    deliver: all
    max_ack_pending: 10000"#
        );
        // Batches are made at the input: the output would wait for a full batch of messages that its own limit in
        // flight never lets through.
        let input = match self {
            Self::Publish { .. } => format!("  {input}"),
            Self::Batch { size } => format!(
                r#"  broker:
    inputs:
      - {}
    batching:
      count: {size}
      period: 20ms"#,
                input.replace('\n', "\n      ")
            ),
        };
        let gather = match self {
            Self::Publish { .. } => "",
            Self::Batch { .. } => {
                r#"
    - archive:
        format: json_array
    - mapping: 'root.commands = this.map_each(publish -> {"publish": publish})'"#
            }
        };
        let (method, in_flight) = match self {
            Self::Publish { in_flight } => ("publish", in_flight),
            Self::Batch { .. } => ("batch", 1),
        };
        format!(
            r#"http:
  enabled: false
logger:
  level: WARN
input:
{input}
pipeline:
  # More than one would lose the order.
  threads: {threads}
  processors:
    - mapping: |
        let lines = this.lines.map_each(line -> {{
          "quantity": line.quantity,
          "total_cents": line.quantity * line.price_cents
        }})
        root.channel = "bench:" + this.id.string()
        root.version = this.revision
        root.data = {{
          "revision": this.revision,
          "status": this.status,
          "items": $lines.map_each(line -> line.quantity).sum(),
          "total_cents": $lines.map_each(line -> line.total_cents).sum(),
          "lines": $lines,
          "note": this.note
        }}{gather}
output:
  http_client:
    url: {centrifugo}/api/{method}
    verb: POST
    headers:
      X-API-Key: {key}
      Content-Type: application/json
    max_in_flight: {in_flight}
    batch_as_multipart: false
"#,
            threads = if in_flight > 1 { -1 } else { 1 },
        )
    }
}
