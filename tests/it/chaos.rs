//! The real system under random faults: nats-server, Centrifugo and relays, with faulty proxies between them. Faults
//! happen at once and at random: kill -9, SIGTERM, SIGSTOP, cuts, stalls, swallowed answers, refused connections,
//! delays, a stranger that answers on Centrifugo's port, unreadable messages, and files that are no modules. Modules
//! are swapped meanwhile. The faults come from a seed, but their timing does not, so a seed names a plan and not a run.
//!
//! Subscribers must see the stream's content in order. Three witnesses say what was shown. Their reports are merged by
//! channel, life of Centrifugo (its memory ends with its process) and offset (Centrifugo's own order on a channel):
//!
//! - the **tapes** of the proxies in front of Centrifugo: each publication that it confirmed, with its offset, even if
//!   the answer never reached the relay. So this includes everything that the relay can know to be confirmed.
//! - the **histories**, read before each announced end of Centrifugo, and at the end.
//! - a **subscriber** of all channels, which adds the times.
//!
//! So losses and inversions are seen, whatever died. One case cannot be seen: a publication that Centrifugo executed
//! just before an unannounced death and neither confirmed nor sent to the subscriber. The relay sends it again, as it
//! must, and the repeat is not counted. Other subscribers' clocks, or a Centrifugo that keeps its memory elsewhere,
//! are not tested.

pub mod arena;
mod checker;
pub mod crafted;
mod faults;
pub mod messages;
mod tape;
mod witness;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use arena::Arena;
use faults::Plan;

/// How long everything may take to recover by itself once the faults are over.
const HEALING: Duration = Duration::from_secs(180);

/// How long the faults last by default.
const SECONDS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_and_dies_nothing_is_lost_and_nothing_is_out_of_order() -> Result<()> {
    survives(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_second_relay_that_stands_by_it_is_the_same() -> Result<()> {
    survives(2).await
}

/// The length and the seed come from the environment: `make chaos SECONDS=120 SEED=7`. If `CHAOS_LOGS` names a
/// directory, the relays' logs and the tapes are kept there.
async fn survives(relays: usize) -> Result<()> {
    let seconds = number("CHAOS_SECONDS")?.unwrap_or(SECONDS);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = number("CHAOS_SEED")?.unwrap_or(u64::from(clock.subsec_nanos()));
    println!("chaos for {seconds} s with {relays} relay(s), CHAOS_SEED={seed}");
    run(relays, Duration::from_secs(seconds), seed)
        .await
        .with_context(|| format!("CHAOS_SECONDS={seconds} CHAOS_SEED={seed}, {relays} relay(s)"))
}

/// Parses an environment variable, if it is set.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let number = text
        .parse()
        .with_context(|| format!("{variable}={text} is not a number"))?;
    Ok(Some(number))
}

async fn run(relays: usize, length: Duration, seed: u64) -> Result<()> {
    let mut arena = Arena::start(relays).await?;
    let plan = Plan::new(length, seed);
    let faults = plan.carry_out(&mut arena).await?;

    let healing = Instant::now();
    arena.all_acked(HEALING).await?;
    let healed = healing.elapsed();
    let (messages, unreadable, judgement) = arena.judge().await?;
    println!(
        "{faults}healed in {healed:.1?}\n{messages} messages, of which {unreadable} unreadable; {} swaps; {}\n{judgement}",
        arena.swaps, arena.witness
    );
    ensure!(judgement.is_good(), "{judgement}");
    Ok(())
}
