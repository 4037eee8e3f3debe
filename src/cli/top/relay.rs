//! What is known about the relay, from what it has sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sparkline::Course;
use crate::status::{HistoryReport, LiveSample, Mark, ModuleSample, ModuleStatus, Status};

/// A few more than a screen can show.
const MARKS: usize = 200;

/// The relay sends a sample each second, so it is missed after this time.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Relay {
    pub status: Status,
    /// When it was so, by the relay's clock, in seconds since 1970.
    pub time: f64,
    /// The oldest first.
    pub marks: Vec<Mark>,
    samples: BTreeMap<String, ModuleSample>,
    /// The publications of each module.
    courses: BTreeMap<String, Course>,
    heard: Instant,
    /// Why the connection was lost.
    trouble: Option<String>,
}

/// A module and its figures.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub status: &'a ModuleStatus,
    pub sample: ModuleSample,
    pub course: Option<&'a Course>,
}

/// What comes over the connection to the relay.
#[derive(Debug)]
pub enum News {
    /// Comes first on each connection.
    History(HistoryReport),
    Sample(Box<LiveSample>),
    Lost(String),
}

impl Relay {
    pub fn new(now: Instant) -> Self {
        Self {
            status: Status::default(),
            time: 0.0,
            marks: Vec::new(),
            samples: BTreeMap::new(),
            courses: BTreeMap::new(),
            heard: now,
            trouble: None,
        }
    }

    pub fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::History(history) => self.begin(history),
            News::Sample(sample) => {
                self.take(*sample);
                self.heard = now;
                self.trouble = None;
            }
            News::Lost(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Forgets what was before. The relay at the address may be another one.
    fn begin(&mut self, history: HistoryReport) {
        self.courses.clear();
        for module in history.modules {
            let course = self.courses.entry(module.name).or_default();
            for (second, published) in history.times.iter().zip(module.published) {
                course.set(*second, published);
            }
        }
        self.marks.clear();
        self.note(history.marks);
    }

    fn take(&mut self, sample: LiveSample) {
        for (name, figures) in &sample.samples {
            let course = self.courses.entry(name.clone()).or_default();
            course.set(sample.time as u64, figures.published);
        }
        self.courses.retain(|name, _| sample.samples.contains_key(name));
        self.note(sample.marks);
        self.time = sample.time;
        self.status = sample.status;
        self.samples = sample.samples;
    }

    /// The first sample of a connection repeats the marks of the history.
    fn note(&mut self, marks: Vec<Mark>) {
        let newest = self.marks.last().map_or(0, |mark| mark.id);
        self.marks.extend(marks.into_iter().filter(|mark| mark.id > newest));
        self.marks.drain(..self.marks.len().saturating_sub(MARKS));
    }

    /// Returns the modules in the order of their names.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.status.modules.iter().map(|status| Row {
            status,
            sample: self.samples.get(&status.name).copied().unwrap_or_default(),
            course: self.courses.get(&status.name),
        })
    }

    /// Returns how many publications all modules make in a second.
    pub fn published(&self) -> f32 {
        self.samples.values().filter_map(|sample| sample.published).sum()
    }

    /// Returns for how long the relay has said nothing, and why, if it should have.
    pub fn silence(&self, now: Instant) -> Option<(Duration, &str)> {
        let silent = now.saturating_duration_since(self.heard);
        match &self.trouble {
            Some(trouble) => Some((silent, trouble)),
            None => (silent > PATIENCE).then_some((silent, "the connection is silent")),
        }
    }

    /// Returns how many seconds before the sample this time was.
    pub fn since(&self, time: &str) -> Option<f64> {
        let time: jiff::Timestamp = time.parse().ok()?;
        Some((self.time - time.as_second() as f64).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ModuleHistory;

    fn mark(id: u64) -> Mark {
        Mark { id, ..Mark::default() }
    }

    fn sample(second: u64, marks: Vec<Mark>) -> News {
        let text = format!(
            r#"{{"time":{second}.25,"status":{{"modules":[{{"name":"a"}},{{"name":"b"}}]}},
            "samples":{{"a":{{"published":2.0}},"b":{{"published":0.5}}}}}}"#
        );
        let mut sample: LiveSample = serde_json::from_str(&text).unwrap();
        sample.marks = marks;
        News::Sample(Box::new(sample))
    }

    #[test]
    fn samples_go_on_where_the_history_ends() {
        let now = Instant::now();
        let mut relay = Relay::new(now);
        let module = ModuleHistory {
            name: "a".to_owned(),
            published: vec![Some(1.0), None, Some(9.0)],
            ..ModuleHistory::default()
        };
        let history = || HistoryReport {
            times: vec![100, 101, 102],
            modules: vec![module.clone()],
            marks: vec![mark(1), mark(2)],
            ..HistoryReport::default()
        };
        relay.hear(News::History(history()), now);
        relay.hear(sample(102, vec![mark(1), mark(2), mark(3)]), now);
        relay.hear(sample(103, vec![mark(4)]), now);
        let course = |relay: &Relay| {
            relay
                .rows()
                .next()
                .unwrap()
                .course
                .unwrap()
                .draw(60)
                .trim_start()
                .to_owned()
        };
        assert_eq!(course(&relay), "▅ ██");
        assert_eq!(relay.marks, [1, 2, 3, 4].map(mark));
        assert!((relay.published() - 2.5).abs() < 1e-6);

        relay.hear(News::History(history()), now);
        relay.hear(sample(104, vec![]), now);
        assert_eq!(relay.marks, [1, 2].map(mark));
        assert_eq!(course(&relay), "▂ █ ▃");
    }

    #[test]
    fn silence_is_noticed_and_ends_with_the_next_sample() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut relay = Relay::new(start);
        relay.hear(sample(100, vec![]), start);
        assert_eq!(relay.silence(after(2)), None);
        let silent = "the connection is silent";
        assert_eq!(relay.silence(after(4)), Some((Duration::from_secs(4), silent)));
        relay.hear(News::Lost("refused".to_owned()), after(5));
        assert_eq!(relay.silence(after(6)), Some((Duration::from_secs(6), "refused")));
        relay.hear(sample(107, vec![]), after(7));
        assert_eq!(relay.silence(after(7)), None);
    }

    #[test]
    fn times_are_those_of_the_relay() {
        let mut relay = Relay::new(Instant::now());
        relay.time = 1_796_083_261.5;
        assert_eq!(relay.since("2026-12-01T00:00:01Z"), Some(60.5));
        assert_eq!(relay.since("2027-12-01T00:00:01Z"), Some(0.0));
        assert_eq!(relay.since("yesterday"), None);
    }
}
