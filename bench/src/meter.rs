//! Measures what the processes of a run use while the clock runs.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use slipring_support::Usage;

/// Keyed by the name of the process.
pub type Reading = BTreeMap<String, Usage>;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub cpu_seconds: f64,
    /// In bytes, over its whole life.
    pub peak_memory: u64,
}

/// Asks what a process has used.
type Ask<'a> = Box<dyn Fn() -> Result<Usage> + 'a>;

#[derive(Default)]
pub struct Meter<'a> {
    processes: Vec<(&'static str, Ask<'a>)>,
}

impl<'a> Meter<'a> {
    pub fn watch(mut self, process: &'static str, usage: impl Fn() -> Result<Usage> + 'a) -> Self {
        self.processes.push((process, Box::new(usage)));
        self
    }

    pub fn read(&self) -> Result<Reading> {
        let readings = self.processes.iter().map(|(process, usage)| {
            let usage = usage().with_context(|| format!("asking what {process} has used"))?;
            Ok(((*process).to_owned(), usage))
        });
        readings.collect()
    }
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.processes.iter().map(|(process, _)| process))
            .finish()
    }
}

/// Returns what was used between two readings.
pub fn between(before: &Reading, after: &Reading) -> BTreeMap<String, Used> {
    let used = after.iter().filter_map(|(process, after)| {
        let before = before.get(process)?;
        let used = Used {
            cpu_seconds: after.cpu_time.saturating_sub(before.cpu_time).as_secs_f64(),
            peak_memory: after.peak_memory,
        };
        Some((process.clone(), used))
    });
    used.collect()
}
