//! What fails, when and for how long: four concurrent loops (processes, networks, modules, and bad input), each with
//! random numbers of its own, and the publisher.

mod hostile;
mod network;
mod processes;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use slipring_support::guests;
use slipring_support::relay::Home;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::arena::{Arena, Link};
use super::messages;
use crate::world::unruly_toml;

#[derive(Debug)]
pub struct Plan {
    length: Duration,
    /// The longest time that one thing stays broken.
    longest: Duration,
    random: Rng,
}

impl Plan {
    pub fn new(length: Duration, seed: u64) -> Self {
        Self {
            length,
            longest: (length / 5).clamp(Duration::from_secs(2), Duration::from_secs(60)),
            random: Rng::with_seed(seed),
        }
    }

    /// Runs the faults and counts them. When this returns, everything runs and the proxies pass everything on again.
    pub async fn carry_out(mut self, arena: &mut Arena) -> Result<Counts> {
        let end = Instant::now() + self.length;
        let mut dice = || Dice {
            random: self.random.fork(),
            longest: self.longest,
            end,
        };
        let (homes, links, jetstream) = (arena.homes.clone(), arena.links.clone(), arena.jetstream.clone());
        let over = CancellationToken::new();
        let publisher = messages::publish(&jetstream, dice().random.u64(..), over.clone());
        let nats = arena.nats.address();
        let processes = processes::strike(arena, dice());
        let networks = network::disturb(&links, dice());
        let modules = exchange_modules(&homes, dice());
        let hostile = hostile::intrude(&homes, nats, dice());
        let faults = async {
            let counts = tokio::try_join!(processes, networks, modules, hostile)?;
            links.iter().for_each(Link::heal);
            // Whatever is published from now on could only wait.
            over.cancel();
            Ok(counts)
        };
        let ((), (mut counts, networks, modules, hostile)) = tokio::try_join!(publisher, faults)?;
        for others in [networks, modules, hostile] {
            counts.merge(others);
        }
        Ok(counts)
    }
}

/// How often each fault happened to each target.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<(&'static str, &'static str), u64>);

/// The source of a loop's decisions.
#[derive(Debug)]
struct Dice {
    random: Rng,
    longest: Duration,
    end: Instant,
}

impl Dice {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn time(&mut self, milliseconds: Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(milliseconds))
    }

    /// Mostly short, sometimes as long as allowed.
    fn outage(&mut self) -> Duration {
        match self.random.u8(..4) {
            0 => self.longest.mul_f64(self.random.f64()),
            _ => self.time(20..1_000),
        }
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(..many) == 0
    }

    async fn pause(&mut self, milliseconds: Range<u64>) {
        sleep(self.time(milliseconds)).await;
    }
}

impl Counts {
    fn add(&mut self, what: (&'static str, &'static str)) {
        *self.0.entry(what).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    /// Prints a line for each target.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whose: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((whom, what), count) in &self.0 {
            whose.entry(whom).or_default().push(format!("{what} {count}"));
        }
        whose
            .into_iter()
            .try_for_each(|(whom, whats)| writeln!(f, "{whom}: {}", whats.join(", ")))
    }
}

/// Gives all relays other settings, another file of the same module, or both.
async fn exchange_modules(homes: &[Home], mut dice: Dice) -> Result<Counts> {
    let files = [guests::component("unruly")?, guests::core_module("unruly")?];
    let mut counts = Counts::default();
    for swap in 0_usize.. {
        dice.pause(300..2_000).await;
        if dice.is_over() {
            break;
        }
        let (settings, file) = (dice.one_in(2), dice.one_in(2));
        for home in homes {
            if settings || !file {
                home.configure_module("unruly", &unruly_toml(&format!("settings.mark = \"{swap}\"")))?;
            }
            if file {
                home.replace_wasm("unruly", &files[swap % 2])?;
            }
        }
        counts.add(("modules", "exchanged"));
    }
    Ok(counts)
}
