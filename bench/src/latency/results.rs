//! The results, in the form that is written to a file and the form that is printed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::way::{Measured, REFERENCE, WAYS};
use crate::meter::Used;
use crate::paced::{Delivery, KEYS, SIZE, at_most};
use crate::statistics::{Spread, milliseconds, ratios_in_words, thousands};
use crate::table::table;

/// If one message in a hundred is later than this, the publisher did not keep the pace.
const LATE: u32 = 5_000;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub message_bytes: usize,
    pub channels: u32,
    /// The length of each run, after the warm-up.
    pub seconds: f64,
    pub runs: Vec<Run>,
}

/// Times in microseconds, from just before the publish to the receipt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub way: String,
    /// Messages a second.
    pub rate: u32,
    /// From 1.
    pub round: usize,
    /// Messages after the warm-up.
    pub messages: usize,
    pub p50: u32,
    pub p99: u32,
    pub p999: u32,
    pub max: u32,
    /// How late the publisher was for 99 messages in 100.
    pub publisher_late_p99: u32,
    /// By process, including the warm-up.
    pub used: BTreeMap<String, Used>,
    /// Processor time of the relay, in microseconds per message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relay_micros: Option<f64>,
}

impl Results {
    pub fn new(time: Duration) -> Self {
        Self {
            message_bytes: SIZE,
            channels: KEYS,
            seconds: time.as_secs_f64(),
            runs: Vec::new(),
        }
    }

    fn of(&self, way: &str, rate: u32, number: impl Fn(&Run) -> f64) -> Option<Spread> {
        let runs = self.runs.iter().filter(|run| run.way == way && run.rate == rate);
        Spread::of(runs.map(number))
    }

    /// Returns the rates in ascending order.
    fn rates(&self) -> Vec<u32> {
        let mut rates: Vec<u32> = self.runs.iter().map(|run| run.rate).collect();
        rates.sort_unstable();
        rates.dedup();
        rates
    }

    fn at(&self, rate: u32) -> String {
        let p99 = |way| self.of(way, rate, |run| run.p99.into());
        let runs_of = |way: &'static str| self.runs.iter().filter(move |run| run.way == way && run.rate == rate);
        let by_round = |way| -> Vec<(usize, f64)> { runs_of(way).map(|run| (run.round, run.p99.into())).collect() };
        let rows = WAYS.iter().filter_map(|way| {
            let own = p99(way.name)?;
            let median = |number: fn(&Run) -> u32| {
                let spread = self.of(way.name, rate, |run| number(run).into());
                spread.map_or_else(String::new, |spread| milliseconds(spread.median))
            };
            Some([
                way.title.to_owned(),
                median(|run| run.p50),
                median(|run| run.p99),
                format!("{}–{}", milliseconds(own.min), milliseconds(own.max)),
                median(|run| run.p999),
                median(|run| run.max),
                ratios_in_words(&by_round(way.name), &by_round(REFERENCE)),
                Spread::of(runs_of(way.name).filter_map(|run| run.relay_micros))
                    .map_or_else(|| "–".to_owned(), |spread| format!("{:.0}", spread.median)),
                median(|run| run.publisher_late_p99),
            ])
        });
        let head = [
            "way",
            "p50, ms",
            "p99",
            "spread of p99",
            "p99.9",
            "longest",
            "p99 to Centrifugo's own",
            "relay, CPU µs/message",
            "publisher late, p99",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## Latency\n\nFrom the publish of a message of {} bytes in NATS to its receipt at one subscriber of {} channels; medians of \
             runs of {} s.\n",
            self.message_bytes,
            thousands(self.channels.into()),
            self.seconds
        )?;
        for rate in self.rates() {
            writeln!(f, "### {} messages/s\n\n{}", thousands(rate.into()), self.at(rate))?;
        }
        let late = self.runs.iter().filter(|run| !run.kept_pace()).count();
        if late > 0 {
            writeln!(
                f,
                "In {late} of {} runs the publisher did not keep the pace: the machine was too busy for them to mean much.",
                self.runs.len()
            )?;
        }
        Ok(())
    }
}

impl Run {
    pub fn new(way: &str, rate: u32, round: usize, measured: Measured, warm_up: Duration) -> Self {
        let relay = measured.used.get("slipring");
        let published = measured.observed.0.len().max(1) as f64;
        let relay_micros = relay.map(|used| used.cpu_seconds * 1e6 / published);
        let deliveries = measured.observed.after(warm_up).0;
        let latency = |share| at_most(&deliveries, share, Delivery::latency);
        Self {
            way: way.to_owned(),
            rate,
            round,
            messages: deliveries.len(),
            p50: latency(0.5),
            p99: latency(0.99),
            p999: latency(0.999),
            max: latency(1.0),
            publisher_late_p99: at_most(&deliveries, 0.99, Delivery::late),
            used: measured.used,
            relay_micros,
        }
    }

    fn kept_pace(&self) -> bool {
        self.publisher_late_p99 <= LATE
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u32| milliseconds(micros.into());
        let (p50, p99, p999) = (ms(self.p50), ms(self.p99), ms(self.p999));
        write!(
            f,
            "p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, longest {} ms",
            ms(self.max)
        )?;
        if !self.kept_pace() {
            write!(
                f,
                "; the publisher was late by {} ms (p99)",
                ms(self.publisher_late_p99)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(way: &str, round: usize, p99: u32, late: u32) -> Run {
        Run {
            way: way.to_owned(),
            rate: 1_000,
            round,
            messages: 10_000,
            p50: p99 / 2,
            p99,
            p999: p99 * 2,
            max: p99 * 3,
            publisher_late_p99: late,
            used: BTreeMap::new(),
            relay_micros: way.starts_with("slipring").then_some(f64::from(p99) / 10.0),
        }
    }

    #[test]
    fn a_table_has_medians_and_the_ratio_of_a_round() {
        let mut results = Results::new(Duration::from_secs(10));
        results.runs = vec![
            run("slipring-http", 1, 2_000, 80),
            run("centrifugo", 1, 1_000, 80),
            run("slipring-http", 2, 1_500, 80),
            run("centrifugo", 2, 1_000, 9_000),
            run("slipring-http", 3, 1_000, 80),
        ];
        let text = results.to_string();
        let line = "| slipring, HTTP            |    0.75 | 1.50 |     1.00–2.00 |  3.00 |    4.50 |        1.75 (1.50–2.00) |                   150 |                0.08 |";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("In 1 of 5 runs the publisher did not keep the pace"),
            "{text}"
        );
    }
}
