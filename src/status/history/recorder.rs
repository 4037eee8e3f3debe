//! Turns statuses into samples and marks, and keeps those of the last 15 minutes. No clock: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::super::metrics::Latency;
use super::super::report::Status;
use super::changes::Changes;
use super::report::{HistoryReport, LiveSample, Mark, ModuleSample};
use super::series::{KEPT, Series};

/// How many marks are kept.
const MOST_MARKS: usize = 1_000;

/// How many modules are kept after they were removed, so that a directory that changes all the time needs no more memory.
const MOST_REMOVED: usize = 20;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds since 1970. Someone may set this clock.
    pub unix: f64,
    pub instant: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// The seconds of the first and the newest sample, if there are any.
    seconds: Option<(u64, u64)>,
    modules: BTreeMap<String, Series>,
    changes: Changes,
    /// The oldest is first.
    marks: VecDeque<Mark>,
    next_id: u64,
}

impl Recorder {
    /// Adds a status, and the latencies since the last one. Returns the sample of this second.
    pub fn add(&mut self, now: Moment, status: Status, latencies: &BTreeMap<String, Latency>) -> LiveSample {
        let second = now.unix as u64;
        self.move_to(second);
        let mut samples = BTreeMap::new();
        for module in &status.modules {
            let series = self.modules.entry(module.name.clone()).or_insert_with(Series::new);
            let latency = latencies.get(&module.name).copied();
            let sample = series.add(second, now.instant, module, latency);
            samples.insert(module.name.clone(), sample);
        }
        self.forget(second, &samples);
        for mark in self.changes.find(now.unix, &status) {
            self.marks.push_back(Mark {
                id: self.next_id,
                ..mark
            });
            self.next_id += 1;
        }
        self.marks.retain(|mark| mark.time > now.unix - KEPT as f64);
        let surplus = self.marks.len().saturating_sub(MOST_MARKS);
        self.marks.drain(..surplus);
        LiveSample::new(now.unix, status, samples)
    }

    /// Makes room for a sample of this second. The seconds between the newest sample and this one remain unknown.
    fn move_to(&mut self, second: u64) {
        let Some((first, newest)) = self.seconds else {
            self.seconds = Some((second, second));
            // So that a client that knows marks of an earlier process does not take new ones for old.
            self.next_id = second * 1_000;
            return;
        };
        // If the clock was set back, what is in the future now is forgotten.
        let (from, through) = (second.min(newest + 1), second.max(newest));
        for cleared in from.max((through + 1).saturating_sub(KEPT))..=through {
            for series in self.modules.values_mut() {
                series.clear(cleared);
            }
        }
        if second < newest {
            for mark in &mut self.marks {
                mark.time = mark.time.min(second as f64);
            }
        }
        self.seconds = Some((first.min(second), second));
    }

    /// Forgets modules that are not among these once their newest sample is too old.
    fn forget(&mut self, second: u64, present: &BTreeMap<String, ModuleSample>) {
        let mut removed = Vec::new();
        self.modules.retain(|name, series| {
            if present.contains_key(name) {
                return true;
            }
            series.absent();
            let is_kept = series.newest + KEPT > second;
            if is_kept {
                removed.push((series.newest, name.clone()));
            }
            is_kept
        });
        removed.sort_unstable();
        let surplus = removed.len().saturating_sub(MOST_REMOVED);
        for (_, name) in &removed[..surplus] {
            self.modules.remove(name);
        }
    }

    /// Returns the marks with higher IDs than this one.
    pub fn marks_after(&self, id: u64) -> Vec<Mark> {
        self.marks.iter().filter(|mark| mark.id > id).cloned().collect()
    }

    /// Returns what is known, in steps of so many seconds: of all modules, or of this one.
    pub fn report(&self, step: u32, module: Option<&str>) -> HistoryReport {
        let is_meant = |name: &str| module.is_none_or(|module| module == name);
        let marks = self.marks.iter();
        let marks = marks.filter(|mark| mark.module.as_deref().is_none_or(is_meant));
        let mut report = HistoryReport {
            step_seconds: step,
            marks: marks.cloned().collect(),
            ..HistoryReport::default()
        };
        let Some((first, newest)) = self.seconds else {
            return report;
        };
        let step = u64::from(step.max(1));
        let from = first.max((newest + 1).saturating_sub(KEPT));
        // The oldest step may have begun before that.
        let (oldest, last) = (from / step, newest / step);
        let oldest = oldest.max((last + 1).saturating_sub(KEPT / step));
        report.times = (oldest..=last).map(|number| number * step).collect();
        let modules = self.modules.iter().filter(|(name, _)| is_meant(name));
        report.modules = modules
            .map(|(name, series)| series.report(name, &report.times, step, from..=newest))
            .collect();
        report
    }
}
