//! Each source under random faults: relays that are killed or frozen, a server that is killed, stopped, frozen, cut off or
//! replaced by an empty one, and a Centrifugo that hangs. Repeats are not hidden by idempotency keys, so that they can be
//! counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use slipring_support::relay::Relay;
use tokio::time::sleep;

use super::super::chaos::number;
use super::feed::{Feed, Kind};
use super::{STANDBY, TTL};

/// How long the faults last by default.
const SECONDS: u64 = 12;

/// How long everything may take to recover by itself.
const HEALING: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Freeze,
    KillServer,
    StopServer,
    FreezeServer,
    FailOver,
    Cut,
    Stall,
    FreezeCentrifugo,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::KillServer,
    Fault::StopServer,
    Fault::FreezeServer,
    Fault::FailOver,
    Fault::Cut,
    Fault::Stall,
    Fault::FreezeCentrifugo,
];

/// What was done, and what came of it.
#[derive(Default)]
struct Report {
    faults: BTreeMap<Fault, u64>,
    messages: u64,
    /// What Redis itself lost is not among them.
    lost: Vec<u64>,
    lost_by_redis: usize,
    inversions: Vec<(u64, u64)>,
    repeats: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(fault, count)| format!("{fault:?} {count}"))
            .collect();
        write!(
            f,
            "{} messages; faults: {}; lost {}, lost by Redis {}, inversions {}, shown again {}",
            self.messages,
            faults.join(", "),
            self.lost.len(),
            self.lost_by_redis,
            self.inversions.len(),
            self.repeats
        )
    }
}

macro_rules! of_each {
    ($($name:ident: $kind:ident, $relays:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                survives(Kind::$kind, $relays).await
            }
        )+
    };
}

of_each! {
    a_list_with_one_relay: RedisList, 1;
    a_list_with_two_relays: RedisList, 2;
    a_stream_with_one_relay: RedisStream, 1;
    a_stream_with_two_relays: RedisStream, 2;
}

/// `CHAOS_SECONDS` and `CHAOS_SEED` set length and seed, as for JetStream.
async fn survives(kind: Kind, relays: usize) -> Result<()> {
    let seconds = number("CHAOS_SECONDS")?.unwrap_or(SECONDS);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = number("CHAOS_SEED")?.unwrap_or(u64::from(clock.subsec_nanos()));
    let told = format!("{kind:?} with {relays} relay(s), CHAOS_SECONDS={seconds} CHAOS_SEED={seed}");
    let report = run(kind, relays, Duration::from_secs(seconds), seed)
        .await
        .with_context(|| told.clone())?;
    println!("{told}: {report}");
    ensure!(
        report.lost.is_empty() && report.inversions.is_empty(),
        "{told}: {report}; lost {:?}, inverted {:?}",
        report.lost,
        report.inversions
    );
    Ok(())
}

async fn run(kind: Kind, relays: usize, length: Duration, seed: u64) -> Result<Report> {
    let standby = if relays > 1 { STANDBY } else { "" };
    let config = format!("[publish]\nidempotency = false\n{standby}");
    let mut feed = Feed::start(kind, "window = 200\n", &config).await?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut running: Vec<Relay> = Vec::new();
    for _ in 0..relays {
        running.push(feed.home.run().await?);
    }
    let (mut report, mut next, begun) = (Report::default(), 1, Instant::now());
    // What Redis held when it was replaced.
    let mut gone = BTreeSet::new();
    while begun.elapsed() < length {
        let batch = random.u64(1..400);
        feed.numbers(next..=next + batch - 1).await?;
        next += batch;
        sleep(Duration::from_millis(random.u64(0..300))).await;
        let fault = FAULTS[random.usize(..FAULTS.len())];
        *report.faults.entry(fault).or_default() += 1;
        let relay = random.usize(..relays);
        let some = Duration::from_millis(random.u64(50..2_000));
        match fault {
            Fault::Kill => {
                running[relay].kill();
                running[relay] = feed.home.run().await?;
            }
            Fault::Freeze => {
                running[relay].pause()?;
                // Longer than its lease, every other time.
                sleep(if random.bool() { some } else { TTL + some }).await;
                running[relay].resume()?;
            }
            Fault::KillServer => {
                feed.kill_server();
                sleep(some).await;
                feed.start_server().await?;
            }
            Fault::StopServer => {
                feed.stop_server().await?;
                feed.start_server().await?;
            }
            Fault::FreezeServer => feed.freeze_server(some).await?,
            Fault::FailOver => gone.extend(feed.fail_over().await?),
            Fault::Cut => {
                feed.proxy.cut();
            }
            Fault::Stall => {
                feed.proxy.change(|faults| faults.stall = true);
                sleep(some).await;
                feed.proxy.heal();
            }
            Fault::FreezeCentrifugo => {
                feed.centrifugo.pause()?;
                sleep(some).await;
                feed.centrifugo.resume()?;
            }
        }
    }
    report.messages = next - 1;
    let healing = Instant::now();
    let mut before = None;
    loop {
        let (shown, repeats) = feed.shown().await?;
        let all: BTreeSet<u64> = shown.values().flatten().copied().collect();
        let missing = |number: &u64| !all.contains(number);
        let is_healed = (1..=report.messages)
            .filter(missing)
            .all(|number| gone.contains(&number));
        // What Redis has lost may still come, from the relay's memory.
        let is_still = before.replace((all.len(), repeats)) == Some((all.len(), repeats));
        if is_healed && is_still || healing.elapsed() > HEALING {
            for numbers in shown.values() {
                let inverted = numbers.windows(2).filter(|pair| pair[0] > pair[1]);
                report.inversions.extend(inverted.map(|pair| (pair[0], pair[1])));
            }
            let missing = (1..=report.messages).filter(missing);
            let (by_redis, lost) = missing.partition::<Vec<u64>, _>(|number| gone.contains(number));
            (report.lost_by_redis, report.lost, report.repeats) = (by_redis.len(), lost, repeats);
            return Ok(report);
        }
        sleep(Duration::from_secs(1)).await;
    }
}
