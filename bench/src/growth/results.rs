//! The results, in the form that is written to a file and the form that is printed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::idle::{Idle, mebibytes};
use super::run::Measured;
use super::series::{Case, Series};
use super::start::Start;
use crate::arrived::Arrived;
use crate::meter::Used;
use crate::statistics::{Spread, ratios, thousands};
use crate::table::table;

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub runs: Vec<Run>,
    pub idle: Vec<Idle>,
    pub start: Vec<Start>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub series: String,
    pub title: String,
    pub case: String,
    /// From 1.
    pub round: usize,
    /// Messages that were waiting.
    pub backlog: usize,
    pub message_bytes: usize,
    /// Messages while the clock ran.
    pub messages: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// False if the time was over before the streams were drained.
    pub drained: bool,
    /// On all channels, or on some if there are very many.
    pub arrived: Arrived,
    /// By process, while the clock ran.
    pub used: BTreeMap<String, Used>,
}

impl Run {
    pub fn new(series: &Series, case: &Case, round: usize, measured: Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        Self {
            series: series.name.to_owned(),
            title: series.title.to_owned(),
            case: case.label.clone(),
            round,
            backlog: case.load.messages,
            message_bytes: case.load.size,
            messages: measured.messages,
            seconds,
            messages_per_second: measured.messages as f64 / seconds,
            drained: measured.all,
            arrived: measured.arrived,
            used: measured.used,
        }
    }

    fn megabytes_per_second(&self) -> f64 {
        self.messages_per_second * self.message_bytes as f64 / 1e6
    }

    fn cpu_per_million(&self, process: &str) -> Option<f64> {
        Some(self.used.get(process)?.cpu_seconds * 1e6 / self.messages.max(1) as f64)
    }

    fn peak(&self) -> Option<f64> {
        Some(mebibytes(self.used.get("slipring")?.peak_memory))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {:.2} s, {}/s, at most {:.0} MiB",
            thousands(self.messages as f64),
            self.seconds,
            thousands(self.messages_per_second),
            self.peak().unwrap_or_default()
        )
    }
}

impl Results {
    fn series(&self, name: &str) -> String {
        let runs = || self.runs.iter().filter(|run| run.series == name);
        let first = runs().next().map_or("", |run| run.case.as_str());
        let median = |case: &str, number: &dyn Fn(&Run) -> Option<f64>| {
            Spread::of(runs().filter(|run| run.case == case).filter_map(number)).map(|spread| spread.median)
        };
        let cell = |number: Option<f64>, digits: usize| {
            number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
        };
        let ratio = |case: &str, number: &dyn Fn(&Run) -> Option<f64>| {
            let by_round = |case: &str| -> Vec<(usize, f64)> {
                let runs = runs().filter(|run| run.case == case);
                runs.filter_map(|run| Some((run.round, number(run)?))).collect()
            };
            cell(ratios(&by_round(case), &by_round(first)).map(|ratios| ratios.median), 2)
        };
        let rate = |run: &Run| Some(run.messages_per_second);
        let rows = distinct(runs().map(|run| run.case.as_str())).map(|case| {
            [
                case.to_owned(),
                median(case, &rate).map(thousands).unwrap_or_default(),
                ratio(case, &rate),
                cell(median(case, &|run| Some(run.megabytes_per_second())), 1),
                cell(median(case, &|run| run.cpu_per_million("slipring")), 2),
                cell(median(case, &|run| run.cpu_per_million("nats-server")), 2),
                cell(median(case, &|run| run.cpu_per_million("centrifugo")), 2),
                cell(median(case, &Run::peak), 0),
                ratio(case, &Run::peak),
            ]
        });
        let head = [
            runs().next().map_or("", |run| run.title.as_str()),
            "messages/s",
            "to the first",
            "MB/s",
            "CPU s/million",
            "NATS",
            "Centrifugo",
            "peak MiB",
            "to the first",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }

    fn idle(&self) -> String {
        let rows = distinct(self.idle.iter().map(|idle| idle.modules)).map(|modules| {
            let median = |number: &dyn Fn(&Idle) -> f64, digits: usize| {
                let spread = Spread::of(self.idle.iter().filter(|idle| idle.modules == modules).map(number));
                spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median))
            };
            [
                modules.to_string(),
                median(&|idle| idle.cpu_seconds * 10.0 / idle.seconds, 2),
                median(&|idle| idle.nats_cpu_seconds * 10.0 / idle.seconds, 2),
                median(&|idle| mebibytes(idle.memory), 1),
                median(&|idle| mebibytes(idle.peak_memory), 1),
            ]
        });
        let head = ["modules at rest", "CPU s in 10 s", "NATS", "MiB", "peak MiB"];
        table(head, &rows.collect::<Vec<_>>())
    }

    fn start(&self) -> String {
        let kinds = distinct(self.start.iter().map(|start| (start.modules, start.cached)));
        let rows = kinds.map(|kind| {
            let of = || {
                self.start
                    .iter()
                    .filter(move |start| (start.modules, start.cached) == kind)
            };
            let cell = |number: &dyn Fn(&Start) -> f64| Spread::of(of().map(|start| number(start) * 1e3));
            let first = cell(&|start| start.first_seconds);
            let all = cell(&|start| start.all_seconds);
            let median = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| thousands(spread.median));
            let spread = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.to_string());
            [
                format!("{}, {}", kind.0, if kind.1 { "cached" } else { "not cached" }),
                median(first),
                spread(first),
                median(all),
                spread(all),
            ]
        });
        let head = [
            "modules",
            "ms to the first message",
            "spread",
            "to those of all",
            "spread",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Growth\n")?;
        for name in distinct(self.runs.iter().map(|run| run.series.as_str())) {
            writeln!(f, "{}", self.series(name))?;
        }
        if !self.idle.is_empty() {
            writeln!(f, "{}", self.idle())?;
        }
        if !self.start.is_empty() {
            writeln!(f, "{}", self.start())?;
        }
        Ok(())
    }
}

/// Returns each value once, in order of first appearance.
fn distinct<T: PartialEq + Copy>(all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct.into_iter()
}
