//! Reports the progress of a replay and its end.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::super::printable::{printable, printable_json};
use crate::message::Rejection;
use crate::pipeline::replay::{Counts, Fate, News};

/// How often a long replay reports its progress.
const INTERVAL: Duration = Duration::from_secs(5);

pub struct Progress<'a> {
    json: bool,
    output: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    total: usize,
    counts: Counts,
    said: Instant,
    /// A printing error. It must not end a replay in the middle.
    broken: Option<io::Error>,
}

/// The output of `--json` for a letter.
#[derive(Serialize)]
struct Line<'a> {
    dead_letter: u64,
    module: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Progress<'a> {
    pub fn new(json: bool, output: &'a mut dyn Write, notes: &'a mut dyn Write) -> Self {
        Self {
            json,
            output,
            notes,
            total: 0,
            counts: Counts::default(),
            said: Instant::now(),
            broken: None,
        }
    }

    /// Sets the number of letters to replay.
    pub fn expect(&mut self, letters: usize) {
        self.total = letters;
    }

    pub fn note(&mut self, module: &str, news: &News<'_>) {
        let written = match news {
            News::Ended(number, fate) => self.ended(*number, module, fate),
            News::Paused(trouble) => writeln!(self.notes, "publishing is paused and will resume by itself: {trouble}"),
            News::Resumed => writeln!(self.notes, "publishing resumed"),
        };
        if let Err(error) = written {
            self.broken.get_or_insert(error);
        }
    }

    fn ended(&mut self, number: u64, module: &str, fate: &Fate) -> io::Result<()> {
        self.counts.add(fate);
        let (outcome, rejection): (_, Option<&Rejection>) = match fate {
            Fate::Published | Fate::NothingLeft => ("published", None),
            Fate::Dropped => ("dropped", None),
            Fate::Rejected(rejection) => ("rejected", Some(rejection)),
            Fate::Remains | Fate::Gone => ("gone", None),
        };
        if self.json {
            let line = Line {
                dead_letter: number,
                module,
                outcome,
                stage: rejection.map(|rejection| rejection.stage.to_string()),
                code: rejection.map(|rejection| &*rejection.code),
                channel: rejection.and_then(|rejection| rejection.channel.as_deref()),
                reason: rejection.map(|rejection| rejection.reason.as_str()),
            };
            writeln!(self.output, "{}", printable_json(&serde_json::to_string(&line)?))?;
        } else if let Some(rejection) = rejection {
            let Rejection { code, reason, .. } = rejection;
            let reason = printable(reason);
            writeln!(self.output, "{number}: rejected again by {module} ({code}): {reason}")?;
        } else if *fate == Fate::Dropped {
            writeln!(self.output, "{number}: dropped by {module}")?;
        } else if *fate == Fate::NothingLeft {
            let why = "all publications of the message were confirmed before";
            writeln!(self.output, "{number}: {module} has nothing left to publish: {why}")?;
        }
        if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            writeln!(self.notes, "{} of {} are done", self.counts.done(), self.total)?;
        }
        Ok(())
    }

    /// Reports the end. Returns how many were rejected again and how many are left.
    pub fn finish(self) -> io::Result<(usize, usize)> {
        let left = self.counts.left(self.total);
        writeln!(self.notes, "{}", self.counts.summary(self.total))?;
        self.output.flush()?;
        match self.broken {
            Some(error) => Err(error),
            None => Ok((self.counts.rejected, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::message::Stage;

    fn said(json: bool) -> String {
        let rejected = Fate::Rejected(Rejection {
            stage: Stage::Publish,
            code: "102".into(),
            channel: Some("orders:7".into()),
            reason: "no such\u{1b} namespace".into(),
        });
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let mut progress = Progress::new(json, &mut output, &mut notes);
        progress.expect(7);
        progress.note("orders", &News::Paused("no Centrifugo"));
        progress.note("orders", &News::Resumed);
        for (number, fate) in [Fate::Published, Fate::Dropped, rejected, Fate::Gone, Fate::NothingLeft]
            .iter()
            .enumerate()
        {
            progress.note("orders", &News::Ended(number as u64 + 1, fate));
        }
        assert_eq!(progress.finish().unwrap(), (1, 2));
        [output, notes]
            .map(|text| String::from_utf8(text).unwrap())
            .join("---\n")
    }

    #[test]
    fn people_are_told_what_they_did_not_expect_and_programs_all() {
        assert_snapshot!(said(false), @r#"
        2: dropped by orders
        3: rejected again by orders (102): no such\u{1b} namespace
        5: orders has nothing left to publish: all publications of the message were confirmed before
        ---
        publishing is paused and will resume by itself: no Centrifugo
        publishing resumed
        2 published, 1 dropped by the module, 1 rejected again, 1 removed in the meantime, 2 not tried
        "#);
        assert_snapshot!(said(true), @r#"
        {"dead_letter":1,"module":"orders","outcome":"published"}
        {"dead_letter":2,"module":"orders","outcome":"dropped"}
        {"dead_letter":3,"module":"orders","outcome":"rejected","stage":"publish","code":"102","channel":"orders:7","reason":"no such\u001b namespace"}
        {"dead_letter":4,"module":"orders","outcome":"gone"}
        {"dead_letter":5,"module":"orders","outcome":"published"}
        ---
        publishing is paused and will resume by itself: no Centrifugo
        publishing resumed
        2 published, 1 dropped by the module, 1 rejected again, 1 removed in the meantime, 2 not tried
        "#);
    }
}
