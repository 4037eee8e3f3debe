//! The results, in the form that is written to a file and the form that is printed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run::Measured;
use super::{WAYS, Way};
use crate::statistics::{Spread, thousands};
use crate::table::table;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub channels: u32,
    pub runs: Vec<Run>,
}

/// Times are from the start of the relay's process, unless stated otherwise.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub way: String,
    /// From 1.
    pub round: usize,
    /// Until the median channel showed its newest state. `None` if not all channels do in the end.
    pub median_newest_seconds: Option<f64>,
    /// Until the last channel did.
    pub last_newest_seconds: Option<f64>,
    /// From publishing a message right after the start until its channel showed it, or a newer one.
    pub probe_seconds: Option<f64>,
    /// Until something new came through within a second.
    pub live_seconds: Option<f64>,
    /// Until the whole backlog was acknowledged.
    pub drained_seconds: f64,
    /// Messages of the backlog.
    pub acknowledged: u64,
    /// Publications from the backlog.
    pub publications: u64,
    /// New messages during the run.
    pub probes: usize,
    pub probes_seen: usize,
    /// The relay's memory in bytes.
    pub peak_memory: u64,
}

impl Results {
    pub fn new(messages: usize, channels: u32) -> Self {
        Self {
            messages,
            channels,
            runs: Vec::new(),
        }
    }

    fn table(&self) -> String {
        let rows = WAYS.iter().filter_map(|way| {
            let of = || self.runs.iter().filter(|run| run.way == way.name);
            of().next()?;
            let median =
                |number: &dyn Fn(&Run) -> Option<f64>| Spread::of(of().filter_map(number)).map(|spread| spread.median);
            let seconds = |number: &dyn Fn(&Run) -> Option<f64>| {
                median(number).map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.2}"))
            };
            let count = |number: &dyn Fn(&Run) -> u64| {
                median(&|run| Some(number(run) as f64)).map_or_else(String::new, thousands)
            };
            Some([
                way.title.to_owned(),
                seconds(&|run| run.median_newest_seconds),
                seconds(&|run| run.last_newest_seconds),
                seconds(&|run| run.probe_seconds),
                seconds(&|run| run.live_seconds),
                seconds(&|run| Some(run.drained_seconds)),
                count(&|run| run.publications),
                count(&|run| run.acknowledged),
                count(&|run| run.peak_memory >> 20),
            ])
        });
        let head = [
            "way",
            "newest state (s): median channel",
            "last channel",
            "first new message",
            "live again",
            "all acknowledged",
            "publications",
            "acknowledged",
            "peak MiB",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, channels) = (thousands(self.messages as f64), thousands(f64::from(self.channels)));
        writeln!(
            f,
            "\n## Falling behind\n\nA backlog of {messages} messages on {channels} channels when the relay starts.\n"
        )?;
        writeln!(f, "{}", self.table())?;
        Ok(())
    }
}

impl Run {
    pub(super) fn new(way: Way, round: usize, measured: &Measured) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        Self {
            way: way.name.to_owned(),
            round,
            median_newest_seconds: seconds(measured.newest.map(|(median, _)| median)),
            last_newest_seconds: seconds(measured.newest.map(|(_, last)| last)),
            probe_seconds: seconds(measured.probe),
            live_seconds: seconds(measured.live),
            drained_seconds: measured.drained.as_secs_f64(),
            acknowledged: measured.acknowledged,
            publications: measured.publications,
            probes: measured.probes,
            probes_seen: measured.probes_seen,
            peak_memory: measured.peak_memory,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} publications, all acknowledged after {:.2} s",
            thousands(self.publications as f64),
            self.drained_seconds
        )?;
        match self.last_newest_seconds {
            Some(last) => write!(f, ", the newest state on the last channel after {last:.2} s"),
            None => write!(f, ", old states left out"),
        }
    }
}
