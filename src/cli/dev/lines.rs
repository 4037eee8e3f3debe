//! Shows a session as lines, for a terminal that has no full screen and for files.

use std::io::{self, Write};

use super::super::difference;
use super::super::palette::Palette;
use super::super::printable::printable;
use super::super::terminal::{columns, fold};
use super::super::test_cases;
use super::Work;
use super::cases::{self, Cases, Made, Shown, Verdict};
use super::news::{Front, Live, News};
use super::tally::Tally;

pub struct Lines<'a> {
    output: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    palette: Palette,
    /// The columns of the terminal. `u16::MAX` if there is none.
    width: u16,
    has_begun: bool,
    /// The last outcome of each case, or why there was none. `None` until something was shown.
    last: Option<Cases>,
    /// Says which module stays in use if the next one fails.
    stays: Option<String>,
    /// The messages of the source. `None` until there are any.
    live: Option<Tally>,
}

/// Lines below a case or a message begin with these spaces.
const INDENT: &str = "    ";

/// Separates the rounds.
const RULE: &str = "────────────────────────────────────────";

impl<'a> Lines<'a> {
    pub fn new(output: &'a mut dyn Write, notes: &'a mut dyn Write, palette: Palette, width: u16) -> Self {
        Self {
            output,
            notes,
            palette,
            width,
            has_begun: false,
            last: None,
            stays: None,
            live: None,
        }
    }

    /// Shows the cases. Those that pass and have not changed are only counted.
    fn show(&mut self, now: Cases) -> io::Result<()> {
        let mut text = String::new();
        for (name, shown) in &now {
            let before = self.last.as_ref().and_then(|last| last.get(name));
            text.push_str(&self.one(name, shown, before));
        }
        text.push_str(&summary(&now, self.last.as_ref()));
        self.last = Some(now);
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    /// `before` is `None` if the case is new.
    fn one(&self, name: &str, shown: &Shown, before: Option<&Shown>) -> String {
        let Palette { good, bad, note, .. } = &self.palette;
        let made = match shown {
            Shown::Broken { error, .. } => return format!("{bad}FAILED{bad:#}  {name}: {}\n", printable(error)),
            Shown::Made(made) => made,
        };
        let state = match made.verdict {
            Verdict::Sample => format!("{note}sample{note:#}"),
            Verdict::Passed => format!("{good}ok{good:#}    "),
            Verdict::Failed(_) => format!("{bad}FAILED{bad:#}"),
        };
        let difference = |old: &str, new: &str| difference::render(old, new, &self.palette);
        let shown_as = match (before, &made.verdict) {
            (Some(Shown::Made(before)), _) if before.made != made.made => {
                let difference = difference(&before.made.pretty(), &made.made.pretty());
                format!("{state}  {name}: - before, + now\n{difference}")
            }
            (Some(same), _) if same == shown && shown.passed() => return String::new(),
            (Some(same), _) if same == shown => return format!("{state}  {name}: unchanged\n"),
            (_, Verdict::Failed(wrong)) => {
                let lines = difference(&wrong.expected, &wrong.actual);
                format!("{state}  {name}: {}\n{lines}", cases::signs(wrong))
            }
            _ => format!("{state}  {name}\n{}", self.outcome(made)),
        };
        shown_as + &output(made)
    }

    fn outcome(&self, made: &Made) -> String {
        let width = self.width.saturating_sub(INDENT.len() as u16);
        indented(&made.told.lines(width), INDENT)
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        let tally = self.live.get_or_insert_default();
        tally.count(&live.made.told);
        if live.skipped > 0 {
            tally.skipped += live.skipped;
            writeln!(self.notes, "messages that came too fast to be shown: {}", live.skipped)?;
        }
        let faint = self.palette.faint;
        let (time, place) = (&live.time, printable(&live.place));
        // Subjects may contain characters that move a terminal's cursor.
        let subject = live.made.subject.replace(char::is_control, "?");
        let room = self
            .width
            .saturating_sub(columns(&format!("{time}  {place}  {subject}  ")));
        let payload = fold(&live.payload, room);
        let more = if payload.len() > 1 { "…" } else { "" };
        let payload = payload.first().map_or("", String::as_str);
        let text = format!(
            "{faint}{time}{faint:#}  {place}  {subject}  {faint}{payload}{more}{faint:#}\n{}{}",
            self.outcome(&live.made),
            output(&live.made)
        );
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn stays(&mut self) -> io::Result<()> {
        match &self.stays {
            Some(stays) => writeln!(self.notes, "{stays}"),
            None => Ok(()),
        }
    }
}

impl Front for Lines<'_> {
    fn tell(&mut self, news: News) -> io::Result<()> {
        match news {
            News::Begun { at, work } => {
                if self.has_begun {
                    writeln!(self.notes, "{RULE}")?;
                }
                self.has_begun = true;
                match work {
                    Work::Build => writeln!(self.notes, "{at} building"),
                    Work::Load => Ok(()),
                    Work::Run => writeln!(self.notes, "{at} running the cases"),
                }
            }
            News::Words(line) => writeln!(self.notes, "{line}"),
            News::Failed { at: _, error } => {
                writeln!(self.notes, "{error}")?;
                self.stays()
            }
            News::Loaded(loaded) => {
                self.stays = Some(loaded.stays());
                writeln!(
                    self.notes,
                    "{} {}: {}, {} KiB",
                    loaded.at,
                    loaded.wasm,
                    loaded.how(),
                    loaded.kib
                )
            }
            News::Cases(cases) => self.show(cases),
            News::NoCases(text) | News::Trouble(text) | News::Done(text) => writeln!(self.notes, "{text}"),
            News::Watching => writeln!(self.notes, "watching for changes"),
            News::Testing => Ok(()),
            News::Tested(tested) => {
                writeln!(self.notes, "{}", tested.line())?;
                match tested.output() {
                    Some(output) => writeln!(self.notes, "{output}"),
                    None => Ok(()),
                }
            }
            News::Tapped(what) => writeln!(self.notes, "showing messages of {what} as they arrive"),
            News::Live(live) => self.live(&live),
            // Only a screen asks for it.
            News::Tried { .. } => Ok(()),
            News::Stopped => {
                if let Some(tally) = &self.live {
                    writeln!(self.notes, "{tally}")?;
                }
                writeln!(self.notes, "stopped")
            }
        }
    }
}

fn summary(now: &Cases, last: Option<&Cases>) -> String {
    let failed = now.values().filter(|shown| !shown.passed()).count();
    let mut text = format!(
        "{}: {} passed, {failed} failed",
        test_cases::cases(now.len()),
        now.len() - failed
    );
    if let Some(last) = last {
        let as_before = now
            .iter()
            .filter(|(name, shown)| last.get(*name).is_some_and(|before| before.is_same(shown)));
        text.push_str(&format!(", {} changed", now.len() - as_before.count()));
    }
    text.push('\n');
    text
}

/// What the module printed.
fn output(made: &Made) -> String {
    let begin = format!("{INDENT}log: ");
    indented(&made.output, &begin)
}

fn indented(lines: &[String], begin: &str) -> String {
    lines
        .iter()
        .map(|line| format!("{begin}{}\n", printable(line)))
        .collect()
}
