//! The results, in the form that is written to a file and the form that is printed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::way::{REFERENCE, WAYS};
use super::world::{KEYS, SIZE, World};
use crate::arrived::Arrived;
use crate::meter::Used;
use crate::statistics::{Spread, distinct, ratios_in_words, thousands};
use crate::table::table;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub message_bytes: usize,
    pub channels: u32,
    pub limit_seconds: f64,
    /// How many NATS servers hold the stream.
    #[serde(default = "one")]
    pub nodes: usize,
    /// The relay had a processor core of its own, and everything else shared another one.
    #[serde(default)]
    pub own_core: bool,
    pub runs: Vec<Run>,
}

/// Earlier reports do not say it.
const fn one() -> usize {
    1
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
    /// Publications in a request of the relay, on average.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub per_request: Option<f64>,
}

impl Results {
    pub fn new(world: &World) -> Self {
        Self {
            messages: world.events.len(),
            message_bytes: SIZE,
            channels: KEYS,
            limit_seconds: world.limit.as_secs_f64(),
            nodes: world.nodes(),
            own_core: world.own_core,
            runs: Vec::new(),
        }
    }

    /// Returns the delays in ascending order.
    pub fn delays(&self) -> Vec<u64> {
        distinct(self.runs.iter().map(|run| run.delay_ms))
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

    /// Returns a number of each round that has it.
    fn by_round(&self, way: &str, delay_ms: u64, number: impl Fn(&Run) -> Option<f64>) -> Vec<(usize, f64)> {
        let runs = self.of(way, delay_ms);
        runs.filter_map(|run| Some((run.round, number(run)?))).collect()
    }

    fn rates(&self, delay_ms: u64) -> String {
        let rate_of = |run: &Run| Some(run.messages_per_second);
        let reference = self.by_round(REFERENCE, delay_ms, rate_of);
        let without_delay = |way| match delay_ms {
            0 => Vec::new(),
            _ => self.by_round(way, 0, rate_of),
        };
        let rows = WAYS.iter().filter_map(|way| {
            let rate = self.rate(way.name, delay_ms)?;
            let ratio = |to: &[(usize, f64)]| ratios_in_words(&self.by_round(way.name, delay_ms, rate_of), to);
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

    /// Returns the processor time per million messages of each process, and what follows from it.
    fn processor_time(&self, delay_ms: u64) -> String {
        let servers = self.by_round(REFERENCE, delay_ms, Run::servers);
        let rows = WAYS.iter().filter_map(|way| {
            self.rate(way.name, delay_ms)?;
            let median = |number: &dyn Fn(&Run) -> Option<f64>| {
                Spread::of(self.of(way.name, delay_ms).filter_map(number)).map(|spread| spread.median)
            };
            let seconds = |number: &dyn Fn(&Run) -> Option<f64>| {
                median(number).map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2}"))
            };
            let a_second = median(&|run| Some(1e6 / run.between()?));
            Some([
                way.title.to_owned(),
                seconds(&|run| run.cpu_per_million("nats-server")),
                seconds(&Run::between),
                seconds(&|run| run.cpu_per_million("centrifugo")),
                seconds(&Run::servers),
                ratios_in_words(&self.by_round(way.name, delay_ms, Run::servers), &servers),
                a_second.map_or_else(|| "–".to_owned(), thousands),
            ])
        });
        let head = [
            "way",
            "CPU s/million: NATS",
            "between",
            "Centrifugo",
            "what the servers pay",
            "to Centrifugo's own",
            "messages per CPU s between",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }

    /// Returns the peak of memory of each process.
    fn memory(&self, delay_ms: u64) -> String {
        let rows = WAYS.iter().filter_map(|way| {
            self.rate(way.name, delay_ms)?;
            let cell = |is: &dyn Fn(&str) -> bool| {
                let used = self.of(way.name, delay_ms).filter_map(|run| {
                    let (_, used) = run.used.iter().find(|(process, _)| is(process))?;
                    Some(used.peak_memory as f64 / f64::from(1 << 20))
                });
                Spread::of(used).map_or_else(|| "–".to_owned(), |used| format!("{:.0}", used.median))
            };
            Some([
                way.title.to_owned(),
                cell(&|process| process == "nats-server"),
                cell(&|process| !is_server(process)),
                cell(&|process| process == "centrifugo"),
            ])
        });
        let head = ["way", "peak MiB: NATS", "between", "Centrifugo"];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match self.nodes {
            1 => "Throughput".to_owned(),
            nodes => format!("Throughput out of a stream with {nodes} replicas on {nodes} servers"),
        };
        let cores = match self.own_core {
            true => " The relay has a processor core of its own, and everything else shares another one.",
            false => "",
        };
        writeln!(
            f,
            "\n## {title}\n\n{} messages of {} bytes on {} channels.{cores}",
            thousands(self.messages as f64),
            self.message_bytes,
            self.channels
        )?;
        for delay_ms in self.delays() {
            match delay_ms {
                0 => writeln!(f, "\n### No added delay\n")?,
                _ => writeln!(f, "\n### A round trip of {delay_ms} ms more\n")?,
            }
            let tables = [
                self.rates(delay_ms),
                self.processor_time(delay_ms),
                self.memory(delay_ms),
            ];
            writeln!(f, "{}", tables.join("\n"))?;
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
            per_request: measured.per_request,
        }
    }

    /// Returns the processor seconds that a process took for a million messages.
    pub fn cpu_per_million(&self, process: &str) -> Option<f64> {
        let used = self.used.get(process)?;
        Some(used.cpu_seconds * 1e6 / self.messages.max(1) as f64)
    }

    /// Returns what NATS and Centrifugo took together.
    fn servers(&self) -> Option<f64> {
        Some(self.cpu_per_million("nats-server")? + self.cpu_per_million("centrifugo")?)
    }

    /// Returns what the process between the two took.
    pub fn between(&self) -> Option<f64> {
        let process = self.used.keys().find(|process| !is_server(process))?;
        self.cpu_per_million(process)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, rate) = (thousands(self.messages as f64), thousands(self.messages_per_second));
        write!(f, "{messages} in {:.2} s, {rate}/s", self.seconds)
    }
}

fn is_server(process: &str) -> bool {
    matches!(process, "nats-server" | "centrifugo")
}
