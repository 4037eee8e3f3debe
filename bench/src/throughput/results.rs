//! The results, in the form that is written to a file and the form that is printed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::way::{REFERENCE, WAYS};
use super::world::{KEYS, SIZE, World};
use crate::arrived::Arrived;
use crate::meter::Used;
use crate::statistics::{Spread, ratios, thousands};
use crate::table::table;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub message_bytes: usize,
    pub channels: u32,
    pub limit_seconds: f64,
    pub runs: Vec<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub way: String,
    /// Added to a round trip.
    pub delay_ms: u64,
    /// From 1.
    pub round: usize,
    /// Messages while the clock ran.
    pub messages: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// False if the time was over before the stream was drained.
    pub drained: bool,
    pub arrived: Arrived,
    /// By process, while the clock ran.
    pub used: BTreeMap<String, Used>,
}

impl Results {
    pub fn new(world: &World) -> Self {
        Self {
            messages: world.events.len(),
            message_bytes: SIZE,
            channels: KEYS,
            limit_seconds: world.limit.as_secs_f64(),
            runs: Vec::new(),
        }
    }

    /// Returns the delays in ascending order.
    pub fn delays(&self) -> Vec<u64> {
        let mut delays: Vec<u64> = self.runs.iter().map(|run| run.delay_ms).collect();
        delays.sort_unstable();
        delays.dedup();
        delays
    }

    /// Returns the measured ways, by name and title, in the order in which they are shown.
    pub fn ways(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        WAYS.iter()
            .filter(|way| self.runs.iter().any(|run| run.way == way.name))
            .map(|way| (way.name, way.title))
    }

    pub fn rate(&self, way: &str, delay_ms: u64) -> Option<Spread> {
        Spread::of(self.of(way, delay_ms).map(|run| run.messages_per_second))
    }

    fn of<'a>(&'a self, way: &'a str, delay_ms: u64) -> impl Iterator<Item = &'a Run> {
        self.runs
            .iter()
            .filter(move |run| run.way == way && run.delay_ms == delay_ms)
    }

    fn by_round(&self, way: &str, delay_ms: u64) -> Vec<(usize, f64)> {
        let runs = self.of(way, delay_ms);
        runs.map(|run| (run.round, run.messages_per_second)).collect()
    }

    fn rates(&self, delay_ms: u64) -> String {
        let reference = self.by_round(REFERENCE, delay_ms);
        let without_delay = |way| match delay_ms {
            0 => Vec::new(),
            _ => self.by_round(way, 0),
        };
        let rows = WAYS.iter().filter_map(|way| {
            let rate = self.rate(way.name, delay_ms)?;
            let ratio = |to: &[(usize, f64)]| {
                let spread = ratios(&self.by_round(way.name, delay_ms), to);
                spread.map_or_else(|| "–".to_owned(), |spread| ratio(spread.median))
            };
            let missing = Spread::of(self.of(way.name, delay_ms).map(|run| run.arrived.missing as f64));
            Some([
                way.title.to_owned(),
                thousands(rate.median),
                rate.to_string(),
                ratio(&reference),
                ratio(&without_delay(way.name)),
                missing.map_or_else(String::new, |missing| thousands(missing.median)),
            ])
        });
        let head = [
            "way",
            "messages/s",
            "spread",
            "to Centrifugo's own",
            "to no delay",
            "lost to order",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }

    /// Returns CPU seconds per million messages, and the peak of memory, of each process.
    fn usage(&self, delay_ms: u64) -> String {
        let rows = WAYS.iter().filter_map(|way| {
            self.rate(way.name, delay_ms)?;
            let cell = |is: &dyn Fn(&str) -> bool, number: &dyn Fn(&Run, &Used) -> f64, digits: usize| {
                let used = self.of(way.name, delay_ms).filter_map(|run| {
                    let (_, used) = run.used.iter().find(|(process, _)| is(process))?;
                    Some(number(run, used))
                });
                Spread::of(used).map_or_else(|| "–".to_owned(), |used| format!("{:.digits$}", used.median))
            };
            let cpu = |run: &Run, used: &Used| used.cpu_seconds * 1e6 / run.messages.max(1) as f64;
            let memory = |_: &Run, used: &Used| used.peak_memory as f64 / f64::from(1 << 20);
            let nats = |process: &str| process == "nats-server";
            let centrifugo = |process: &str| process == "centrifugo";
            let between = |process: &str| !nats(process) && !centrifugo(process);
            Some([
                way.title.to_owned(),
                cell(&nats, &cpu, 2),
                cell(&between, &cpu, 2),
                cell(&centrifugo, &cpu, 2),
                cell(&nats, &memory, 0),
                cell(&between, &memory, 0),
                cell(&centrifugo, &memory, 0),
            ])
        });
        let head = [
            "way",
            "CPU s/million: NATS",
            "between",
            "Centrifugo",
            "peak MiB: NATS",
            "between",
            "Centrifugo",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## Throughput\n\n{} messages of {} bytes on {} channels.",
            thousands(self.messages as f64),
            self.message_bytes,
            self.channels
        )?;
        for delay_ms in self.delays() {
            match delay_ms {
                0 => writeln!(f, "\n### No added delay\n")?,
                _ => writeln!(f, "\n### A round trip of {delay_ms} ms more\n")?,
            }
            writeln!(f, "{}\n{}", self.rates(delay_ms), self.usage(delay_ms))?;
        }
        Ok(())
    }
}

impl Run {
    pub fn new(way: &str, delay_ms: u64, round: usize, measured: Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        Self {
            way: way.to_owned(),
            delay_ms,
            round,
            messages: measured.messages,
            seconds,
            messages_per_second: measured.messages as f64 / seconds,
            drained: measured.all,
            arrived: measured.arrived,
            used: measured.used,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, rate) = (thousands(self.messages as f64), thousands(self.messages_per_second));
        write!(f, "{messages} in {:.2} s, {rate}/s", self.seconds)
    }
}

/// Formats the ratio with enough digits to tell it from others.
fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 1.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    }
}
