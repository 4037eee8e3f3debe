//! How many messages a second come out of a full list or stream in Redis: the relay, beside what reads JetStream in the
//! same run, Bento and Centrifugo's own consumer.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipring_support::guests;
use slipring_support::process::Process;
use slipring_support::relay::Home;
use slipring_support::servers::{Redis, tool};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::arrived::{Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::delay::Link;
use crate::event::{self, Event};
use crate::home::{self, MODULE};
use crate::meter::{self, Meter, Used};
use crate::options::Options;
use crate::statistics::{Spread, distinct, in_turn, ratios_in_words, thousands};
use crate::table::table;
use crate::throughput::{self, World};

const SIZE: usize = 200;
const CHANNELS: u32 = 1_000;
const KEY: &str = "bench";
const GROUP: &str = "bench";

/// The default of Redis. With `always`, whoever pops or acknowledges one by one waits for the disk each time.
const FSYNC: &str = "everysec";

/// The pause between two looks at Redis.
const PACE: Duration = Duration::from_millis(10);

/// How long a way may take to start and get its first message.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List(Api),
    Stream(Api),
    /// The relay on JetStream, for the ratio.
    JetStream(Api),
    BentoList {
        in_flight: usize,
    },
    BentoStream,
    OwnConsumer,
}

const WAYS: [(&str, &str, Kind); 11] = [
    ("list-http", "slipring, list, HTTP", Kind::List(Api::Http)),
    ("list-grpc", "slipring, list, GRPC", Kind::List(Api::Grpc)),
    ("stream-http", "slipring, stream, HTTP", Kind::Stream(Api::Http)),
    ("stream-grpc", "slipring, stream, GRPC", Kind::Stream(Api::Grpc)),
    (
        "jetstream-http",
        "slipring, JetStream, HTTP",
        Kind::JetStream(Api::Http),
    ),
    // The same once more. Its ratio shows how far two equal things differ.
    (
        "jetstream-http-again",
        "slipring, JetStream, HTTP, again",
        Kind::JetStream(Api::Http),
    ),
    (
        "jetstream-grpc",
        "slipring, JetStream, GRPC",
        Kind::JetStream(Api::Grpc),
    ),
    ("bento-1", "Bento, list, one by one", Kind::BentoList { in_flight: 1 }),
    (
        "bento-20",
        "Bento, list, 20 in flight (order lost)",
        Kind::BentoList { in_flight: 20 },
    ),
    ("bento-stream", "Bento, stream, one by one", Kind::BentoStream),
    ("centrifugo", "Centrifugo's own stream consumer", Kind::OwnConsumer),
];

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub runs: Vec<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub way: String,
    /// Added to a round trip.
    pub delay_ms: u64,
    /// From 1.
    pub round: usize,
    pub messages: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// By process, while the clock ran.
    pub used: BTreeMap<String, Used>,
}

pub async fn run(options: &Options) -> Result<Results> {
    let is_there = |kind: Kind| match kind {
        Kind::BentoList { .. } | Kind::BentoStream => tool("bento").is_ok() && !options.smoke,
        _ => true,
    };
    let ways: Vec<_> = WAYS
        .into_iter()
        .filter(|(name, _, kind)| options.wants(name) && is_there(*kind))
        .collect();
    ensure!(
        !ways.is_empty(),
        "there is no such way; there are {}",
        WAYS.map(|(name, ..)| name).join(", ")
    );
    let messages = options.messages(200_000, 2_000);
    let events = event::shuffled(messages, CHANNELS);
    let world = World::start(options, messages).await?;
    let mut results = Results {
        messages,
        runs: Vec::new(),
    };
    let rounds = options.rounds(5, 1);
    for round in 1..=rounds {
        for &delay_ms in &options.delays {
            for &(name, title, kind) in in_turn(round, &ways) {
                let told = format!("round {round} of {rounds}, {title}, {delay_ms} ms");
                let delay = Duration::from_millis(delay_ms);
                let run = one(&world, &events, kind, delay).await.with_context(|| told.clone())?;
                let run = Run {
                    way: name.to_owned(),
                    delay_ms,
                    round,
                    ..run
                };
                println!(
                    "{told}: {} in {:.2} s, {}/s",
                    thousands(run.messages as f64),
                    run.seconds,
                    thousands(run.messages_per_second)
                );
                results.runs.push(run);
            }
        }
    }
    Ok(results)
}

async fn one(world: &World, events: &[Event], kind: Kind, delay: Duration) -> Result<Run> {
    if let Kind::JetStream(api) = kind {
        let way = throughput::relay_over(api);
        let measured = throughput::one(world, way, delay).await?;
        return Ok(Run::of(measured.messages, measured.elapsed, measured.used));
    }
    let redis = Redis::start_with(&["--appendfsync", FSYNC]).await?;
    if kind == Kind::OwnConsumer {
        return own_consumer(world, &redis, events, delay).await;
    }
    fill(&redis, kind, events).await?;
    let mut client = redis.client().await?;
    let target = Target::start(events.len(), |_| ()).await?;
    let api = match kind {
        Kind::List(api) | Kind::Stream(api) => api,
        _ => Api::Http,
    };
    let link = Link::unless_zero(&target.endpoint(api, None), delay)?;
    let endpoint = target.endpoint(api, link.as_ref());
    if let Kind::List(_) | Kind::Stream(_) = kind {
        let home = relay(world, &redis, &endpoint, target.centrifugo.api_key(), kind)?;
        let mut relay = home.run().await?;
        let meter = Meter::default()
            .watch("redis", || redis.usage())
            .watch("slipring", || relay.usage())
            .watch("centrifugo", || target.centrifugo.usage());
        let run = drain(&redis, kind, events.len(), world.limit, &meter)
            .await
            .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
        drop(meter);
        relay.kill();
        return judge(run, &target, events, Shape::Reshaped, true).await;
    }
    let (config, in_order) = bento(&redis, &endpoint, target.centrifugo.api_key(), kind);
    let dir = TempDir::with_prefix("slipring-bench-bento-")?;
    let file = dir.path().join("bento.yaml");
    std::fs::write(&file, config)?;
    let program = tool("bento")?;
    let start = async || Process::spawn("Bento", Command::new(&program).arg("-c").arg(&file));
    let mut bento = hold(&mut client, start).await?;
    let meter = Meter::default()
        .watch("redis", || redis.usage())
        .watch("bento", || bento.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let run = drain(&redis, kind, events.len(), world.limit, &meter)
        .await
        .with_context(|| bento.tail())?;
    drop(meter);
    // It pops before it publishes.
    sleep(Duration::from_millis(500)).await;
    bento.kill();
    judge(run, &target, events, Shape::AsPublished, in_order).await
}

/// Centrifugo reads as soon as it is up, so the stream is filled after that, all at once.
async fn own_consumer(world: &World, redis: &Redis, events: &[Event], delay: Duration) -> Result<Run> {
    let link = Link::unless_zero(&format!("http://{}", redis.address()), delay)?;
    let address = link.as_ref().map_or_else(|| redis.address(), Link::address).to_string();
    let target = Target::start(events.len(), |config| config["consumers"] = consumers(&address)).await?;
    let mut client = redis.client().await?;
    let waiting_since = Instant::now();
    while redis::cmd("EXISTS").arg(KEY).query_async::<u8>(&mut client).await? == 0 {
        ensure!(
            waiting_since.elapsed() < PATIENCE,
            "Centrifugo created no consumer group within {PATIENCE:?}"
        );
        sleep(PACE).await;
    }
    fill(redis, Kind::OwnConsumer, events).await?;
    let meter = Meter::default()
        .watch("redis", || redis.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let run = drain(redis, Kind::OwnConsumer, events.len(), world.limit, &meter).await?;
    judge(run, &target, events, Shape::AsPublished, true).await
}

/// Starts something that reads while Redis takes no changes.
async fn hold<T>(client: &mut MultiplexedConnection, start: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(60_000).arg("WRITE").exec_async(client).await?;
    let started = start().await?;
    sleep(Duration::from_secs(1)).await;
    let mut resume = redis::cmd("CLIENT");
    resume.arg("UNPAUSE").exec_async(client).await?;
    Ok(started)
}

/// A process that ended too early has lost or inverted something, so its figure does not count.
async fn judge(run: Drained, target: &Target, events: &[Event], shape: Shape, in_order: bool) -> Result<Run> {
    let arrived = arrived(&target.centrifugo, events, SIZE, shape).await?;
    let all = run.all.then_some(events.len() as u64);
    match in_order {
        true => arrived.ensure_in_order(all, run.settled)?,
        false => arrived.ensure_complete(all, 0)?,
    }
    Ok(Run::of(run.messages, run.elapsed, run.used))
}

impl Run {
    fn of(messages: u64, elapsed: Duration, used: BTreeMap<String, Used>) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            way: String::new(),
            delay_ms: 0,
            round: 0,
            messages,
            seconds,
            messages_per_second: messages as f64 / seconds,
            used,
        }
    }
}

async fn fill(redis: &Redis, kind: Kind, events: &[Event]) -> Result<()> {
    let mut client = redis.client().await?;
    let at_once = match kind {
        Kind::OwnConsumer => events.len(),
        _ => 1_000,
    };
    for chunk in events.chunks(at_once) {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for event in chunk {
            let payload = event.payload(SIZE);
            match kind {
                Kind::List(_) => pipe.cmd("RPUSH").arg(KEY).arg(payload).ignore(),
                // Nothing transforms these.
                Kind::BentoList { .. } => pipe.cmd("RPUSH").arg(KEY).arg(command(event)).ignore(),
                Kind::BentoStream => pipe
                    .cmd("XADD")
                    .arg(KEY)
                    .arg("*")
                    .arg("body")
                    .arg(command(event))
                    .ignore(),
                _ => pipe
                    .cmd("XADD")
                    .arg(KEY)
                    .arg("*")
                    .arg("payload")
                    .arg(payload)
                    .arg("centrifugo-channels")
                    .arg(event.channel())
                    .arg("centrifugo-version")
                    .arg(event.revision)
                    .ignore(),
            };
        }
        pipe.exec_async(&mut client).await.context("filling Redis")?;
    }
    if kind == Kind::BentoStream {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(KEY).arg(GROUP).arg(0);
        create.exec_async(&mut client).await?;
    }
    Ok(())
}

/// The body of a publish, as a team with Benthos has it in its list.
fn command(event: &Event) -> String {
    format!(
        r#"{{"channel":"{}","version":{},"data":{}}}"#,
        event.channel(),
        event.revision,
        event.payload(SIZE)
    )
}

fn relay(world: &World, redis: &Redis, endpoint: &str, key: &str, kind: Kind) -> Result<Home> {
    let home = home::bare(
        &world.slipring,
        "nats://127.0.0.1:1",
        endpoint,
        key,
        "idempotency = false",
    )?;
    home.configure_more(&format!(
        "[redis]\nurl = \"{}\"\n[dead_letters]\nstore = \"redis\"",
        redis.url()
    ))?;
    let source = match kind {
        Kind::List(_) => format!("[source]\nkind = \"redis-list\"\nkey = \"{KEY}\"\n"),
        _ => format!("[source]\nkind = \"redis-stream\"\nkey = \"{KEY}\"\ndeliver = \"all\"\n"),
    };
    home.add_module(MODULE, &guests::component("bench-guest")?, &source)?;
    Ok(home)
}

fn bento(redis: &Redis, endpoint: &str, key: &str, kind: Kind) -> (String, bool) {
    let url = redis.url();
    let (input, in_flight) = match kind {
        Kind::BentoList { in_flight } => (format!("  redis_list:\n    url: {url}\n    key: {KEY}\n"), in_flight),
        _ => (
            format!(
                "  redis_streams:\n    url: {url}\n    streams: [ {KEY} ]\n    body_key: body\n    consumer_group: {GROUP}\n    \
                 client_id: bench\n    limit: 1000\n"
            ),
            1,
        ),
    };
    let config = format!(
        "http:\n  enabled: false\nlogger:\n  level: WARN\ninput:\n{input}pipeline:\n  threads: 1\noutput:\n  http_client:\n    \
         url: {endpoint}/api/publish\n    verb: POST\n    headers:\n      X-API-Key: {key}\n      Content-Type: \
         application/json\n    max_in_flight: {in_flight}\n"
    );
    (config, in_flight == 1)
}

fn consumers(address: &str) -> Value {
    json!([{
        "name": "bench",
        "enabled": true,
        "type": "redis_stream",
        "redis_stream": {
            "address": address,
            "streams": [KEY],
            "consumer_group": GROUP,
            "num_workers": 1,
            "publication_data_mode": {
                "enabled": true,
                "channels_value": "centrifugo-channels",
                "version_value": "centrifugo-version",
            },
        },
    }])
}

struct Drained {
    /// Messages while the clock ran.
    messages: u64,
    elapsed: Duration,
    settled: u64,
    all: bool,
    used: BTreeMap<String, Used>,
}

/// Watches Redis until everything is settled, or the way has run for `limit`. The clock starts at the last look that found
/// nothing delivered.
async fn drain(redis: &Redis, kind: Kind, count: usize, limit: Duration, meter: &Meter<'_>) -> Result<Drained> {
    let mut client = redis.client().await?;
    let waiting_since = Instant::now();
    let (mut start, mut before) = (Instant::now(), meter.read()?);
    let mut settled_before = 0;
    loop {
        sleep(PACE).await;
        let (delivered, settled) = look(&mut client, kind, count).await?;
        let (now, usage) = (Instant::now(), meter.read()?);
        let all = settled == count as u64;
        if delivered == 0 {
            ensure!(
                waiting_since.elapsed() < PATIENCE,
                "it got no message within {PATIENCE:?}"
            );
            (start, before, settled_before) = (now, usage, settled);
        } else if all || start.elapsed() >= limit {
            return Ok(Drained {
                messages: settled - settled_before,
                elapsed: now - start,
                settled,
                all,
                used: meter::between(&before, &usage),
            });
        }
    }
}

/// Returns how many messages were delivered, and how many are settled.
async fn look(client: &mut MultiplexedConnection, kind: Kind, count: usize) -> Result<(u64, u64)> {
    match kind {
        Kind::List(_) => {
            let mut command = redis::cmd("HMGET");
            command.arg(format!("{{{KEY}}}:slipring:state")).arg(&["taken", "done"]);
            let (taken, done): (Option<u64>, Option<u64>) = command.query_async(client).await?;
            Ok((taken.unwrap_or(0), done.unwrap_or(0)))
        }
        Kind::BentoList { .. } => {
            let left: u64 = redis::cmd("LLEN").arg(KEY).query_async(client).await?;
            let popped = count as u64 - left;
            Ok((popped, popped))
        }
        _ => {
            let mut command = redis::cmd("XINFO");
            command.arg("GROUPS").arg(KEY);
            let groups: Vec<BTreeMap<String, redis::Value>> = command.query_async(client).await?;
            let number = |name: &str| match groups.first().and_then(|group| group.get(name)) {
                Some(redis::Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
                _ => 0,
            };
            let read = number("entries-read");
            Ok((read, read - number("pending").min(read)))
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## Redis\n\n{} messages of {SIZE} bytes on {CHANNELS} channels. `appendfsync {FSYNC}`.",
            thousands(self.messages as f64)
        )?;
        for delay_ms in distinct(self.runs.iter().map(|run| run.delay_ms)) {
            match delay_ms {
                0 => writeln!(f, "\n### No added delay\n")?,
                _ => writeln!(f, "\n### A round trip of {delay_ms} ms more\n")?,
            }
            let of = |way: &str| -> Vec<(usize, f64)> {
                let runs = self
                    .runs
                    .iter()
                    .filter(|run| run.way == way && run.delay_ms == delay_ms);
                runs.map(|run| (run.round, run.messages_per_second)).collect()
            };
            let rows = WAYS.iter().filter_map(|(name, title, kind)| {
                let rates = of(name);
                let rate = Spread::of(rates.iter().map(|(_, rate)| *rate))?;
                let reference = match kind {
                    Kind::List(Api::Grpc) | Kind::Stream(Api::Grpc) => of("jetstream-grpc"),
                    Kind::List(_) | Kind::Stream(_) => of("jetstream-http"),
                    _ if *name == "jetstream-http-again" => of("jetstream-http"),
                    _ => Vec::new(),
                };
                let to = |reference: &[(usize, f64)]| ratios_in_words(&rates, reference);
                Some([
                    (*title).to_owned(),
                    thousands(rate.median),
                    rate.to_string(),
                    to(&reference),
                    to(&of("centrifugo")),
                    to(&of("bento-1")),
                ])
            });
            let head = [
                "way",
                "messages/s",
                "spread",
                "to JetStream",
                "to Centrifugo's own",
                "to Bento one by one",
            ];
            writeln!(f, "{}", table(head, &rows.collect::<Vec<_>>()))?;
        }
        Ok(())
    }
}
