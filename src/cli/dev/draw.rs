//! Draws the screen.

mod panes;

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use self::panes::{Line, Pane};
use super::super::terminal::{Look, Pen, columns, wrap};
use super::super::test_cases::cases;
use super::cases::{Shown, Verdict, signs};
use super::model::{Arrived, Build, Entry, Model, Panel, Prompt, Stream, Units};

/// With fewer lines or columns, nothing makes sense.
const LEAST_WIDTH: u16 = 40;
const LEAST_HEIGHT: u16 = 10;

/// With as many columns, the message and its outcome are side by side.
const WIDE: u16 = 100;

/// The two lines at the top, the rule above the list, the notes, and the keys.
const FIXED: u16 = 5;

/// The most bytes of a message that are drawn.
const MOST_OF_A_MESSAGE: usize = 64 << 10;

/// The most lines of a note.
const NOTE: usize = 3;

/// The most columns of a name in the list.
const NAME: u16 = 24;

/// Where each part begins, and how many lines it has.
#[derive(Debug, Clone, Copy)]
struct Parts {
    list: u16,
    /// The first line of the panes: their rules.
    panes: Rect,
}

impl Model {
    fn parts(&self, area: Rect) -> Parts {
        let room = area.height.saturating_sub(FIXED);
        let count = match self.stream.as_ref().filter(|_| self.view.is_live) {
            Some(stream) => stream.kept.len(),
            None => self.entries.len(),
        };
        let least = (room / 4).max(3);
        let list = u16::try_from(count.max(1)).unwrap_or(u16::MAX).min(least);
        Parts {
            list,
            panes: Rect {
                y: area.y + 3 + list,
                height: room.saturating_sub(list),
                ..area
            },
        }
    }

    /// Returns how many lines of a pane a screen of this size shows.
    pub fn page(&self, area: Rect) -> usize {
        let panes = self.parts(area).panes;
        let height = if area.width >= WIDE {
            panes.height
        } else {
            panes.height / 2
        };
        usize::from(height.saturating_sub(1).max(1))
    }

    pub fn draw(&self, buffer: &mut Buffer, area: Rect, look: &Look, now: Instant) {
        if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
            Pen::on_line(buffer, area, 0).write("this terminal is too small", Style::new());
            return;
        }
        self.draw_title(&mut Pen::on_line(buffer, area, 0), look, now);
        self.draw_counts(&mut Pen::on_line(buffer, area, 1), look);
        let last = area.height - 1;
        if self.view.is_help {
            for (line, text) in (3..last).zip(HELP) {
                Pen::on_line(buffer, area, line).write(text, Style::new());
            }
            return;
        }
        let parts = self.parts(area);
        self.draw_list(buffer, area, parts.list, look);
        self.draw_panes(buffer, parts.panes, look);
        let mut pen = Pen::on_line(buffer, area, last - 1);
        match (self.notes.back(), &self.address) {
            (Some(note), _) => {
                let style = if note.is_trouble { look.note } else { look.good };
                draw_note(buffer, area, &note.text, style);
            }
            (None, Some(address)) => {
                pen.write(address, look.faint);
            }
            (None, None) => {}
        }
        self.draw_keys(&mut Pen::on_line(buffer, area, last), look);
    }

    /// The module, and what is done with it at the moment.
    fn draw_title(&self, pen: &mut Pen<'_>, look: &Look, now: Instant) {
        let name = self
            .loaded
            .as_ref()
            .map_or("slipring dev", |loaded| loaded.name.as_str());
        pen.write(name, look.strong).skip(2);
        match &self.build {
            Build::Watching => {
                pen.write("watching", look.good).skip(2);
                if let Some(loaded) = &self.loaded {
                    let how = match loaded.built_in {
                        Some(took) => format!("built at {} in {:.1} s", loaded.at, took.as_secs_f64()),
                        None => format!("loaded at {}", loaded.at),
                    };
                    pen.write(&format!("{how}, {} KiB", loaded.kib), look.faint);
                }
            }
            Build::Running { since } => {
                let seconds = now.saturating_duration_since(*since).as_secs();
                pen.write(&format!("building, {seconds} s"), look.note).skip(2);
                if let Some(loaded) = &self.loaded {
                    pen.write(&format!("the module of {} is in use", loaded.at), look.faint);
                }
            }
            Build::Failed { at, .. } => {
                pen.write(&format!("build failed {at}"), look.bad).skip(2);
                if let Some(loaded) = &self.loaded {
                    pen.write(&format!("that of {} stays in use", loaded.at), look.faint);
                }
            }
        }
    }

    /// The cases, and the unit tests.
    fn draw_counts(&self, pen: &mut Pen<'_>, look: &Look) {
        let (passed, failed) = self.counts();
        if passed + failed > 0 {
            let style = if failed > 0 { look.bad } else { look.good };
            let text = format!("{}: {passed} passed, {failed} failed", cases(passed + failed));
            pen.write(&text, style).skip(2);
        }
        match &self.units {
            Units::Off => pen.write("unit tests: off", look.faint),
            Units::Unknown => pen,
            Units::Running(_) => pen.write("unit tests: running", look.note),
            Units::Done(tested) => {
                let style = if tested.is_good() { look.good } else { look.bad };
                pen.write(&tested.line(), style)
            }
        };
    }

    fn draw_list(&self, buffer: &mut Buffer, area: Rect, height: u16, look: &Look) {
        let live = self.stream.as_ref().filter(|_| self.view.is_live);
        let label = match (live, &self.stream) {
            (Some(stream), _) => of_stream(stream),
            (None, Some(stream)) => format!("cases   Tab: {}", of_stream(stream)),
            (None, None) => "cases".to_owned(),
        };
        let rule = Rect { y: area.y + 2, ..area };
        panes::rule(buffer, rule, &label, look.faint);
        let list = Rect {
            y: area.y + 3,
            height,
            ..area
        };
        match live {
            Some(stream) => {
                let first = first(stream.place(), stream.kept.len(), height);
                let shown = stream.kept.iter().enumerate().skip(first).zip(0..height);
                for ((at, arrived), line) in shown {
                    let mut pen = Pen::on_line(buffer, list, line);
                    mark(&mut pen, at == stream.place(), look);
                    draw_arrived(&mut pen, arrived, look);
                }
                if stream.kept.is_empty() {
                    Pen::on_line(buffer, list, 0).skip(2).write("nothing yet", look.faint);
                }
            }
            None => {
                let widest = self.entries.iter().map(|entry| columns(&entry.name)).max();
                let width = widest.unwrap_or(0).min(NAME);
                let first = first(self.place(), self.entries.len(), height);
                let shown = self.entries.iter().enumerate().skip(first).zip(0..height);
                for ((at, entry), line) in shown {
                    let mut pen = Pen::on_line(buffer, list, line);
                    mark(&mut pen, at == self.place(), look);
                    draw_entry(&mut pen, entry, width, look);
                }
                if self.entries.is_empty() {
                    let text = if self.advice.is_some() {
                        "no cases"
                    } else {
                        "no outcomes yet"
                    };
                    Pen::on_line(buffer, list, 0).skip(2).write(text, look.faint);
                }
            }
        }
    }

    fn draw_panes(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let scroll = self.view.scroll;
        match self.view.panel {
            Panel::Outcome => {}
            Panel::Build => return self.build_pane(look, area.width).draw(buffer, area, scroll, look),
            Panel::Units => return self.units_pane(area.width).draw(buffer, area, scroll, look),
        }
        if area.width >= WIDE {
            let left = Rect {
                width: (area.width - 1) / 2,
                ..area
            };
            let right = Rect {
                x: left.right() + 1,
                width: area.width - left.width - 1,
                ..area
            };
            self.message_pane(look, left.width).draw(buffer, left, scroll, look);
            let outcome = self.outcome_pane(look, right.width - 1).indented();
            outcome.draw(buffer, right, scroll, look);
            let middle = Rect {
                x: left.right(),
                width: 1,
                ..area
            };
            for line in 0..area.height {
                let sign = if line == 0 { "┬" } else { "│" };
                Pen::on_line(buffer, middle, line).write(sign, look.faint);
            }
            return;
        }
        let (message, outcome) = (self.message_pane(look, area.width), self.outcome_pane(look, area.width));
        // The message gets what it needs, but at most half, and also what the outcome does not need.
        let wanted = message.height();
        let spare = area.height.saturating_sub(outcome.height());
        let above = Rect {
            height: wanted.min(spare.max(area.height / 2)),
            ..area
        };
        let below = Rect {
            y: above.bottom(),
            height: area.height - above.height,
            ..area
        };
        message.draw(buffer, above, scroll, look);
        outcome.draw(buffer, below, scroll, look);
    }

    fn message_pane(&self, look: &Look, width: u16) -> Pane {
        let text = match (self.selected(), &self.advice) {
            (Some(shown), _) => shown.message(),
            (None, Some(advice)) if !self.is_live() => advice,
            (None, _) => "",
        };
        let shown = &text[..text.floor_char_boundary(MOST_OF_A_MESSAGE)];
        let lines = shown.lines().flat_map(|line| panes::json(line, width, look));
        let mut lines: Vec<Line> = lines.collect();
        let more = text.len() - shown.len();
        if more > 0 {
            lines.extend(panes::plain(&format!("… ({more} more bytes)"), width, look.faint));
        }
        Pane::new("message", lines)
    }

    fn outcome_pane(&self, look: &Look, width: u16) -> Pane {
        let before = self.entry().and_then(|entry| entry.before.as_ref());
        let (title, mut lines) = match self.selected() {
            None => ("outcome".to_owned(), Vec::new()),
            Some(Shown::Broken { error, .. }) => ("outcome".to_owned(), panes::plain(error, width, look.bad)),
            Some(Shown::Made(made)) => {
                let (title, mut lines) = match (&made.verdict, before) {
                    (Verdict::Failed(wrong), _) if !self.view.is_plain => (
                        format!("outcome: {}", signs(wrong)),
                        panes::difference(&wrong.expected, &wrong.actual, width, look),
                    ),
                    (_, Some(Shown::Made(before))) if !self.view.is_plain => (
                        "outcome: - before, + now".to_owned(),
                        panes::difference(&before.made.pretty(), &made.made.pretty(), width, look),
                    ),
                    _ => ("outcome".to_owned(), panes::told(&made.told, width, look)),
                };
                let output = made.output.iter().map(|line| format!("log: {line}"));
                lines.extend(output.flat_map(|line| panes::plain(&line, width, look.faint)));
                (title, lines)
            }
        };
        lines.truncate(panes::MOST);
        Pane::new(&title, lines)
    }

    fn build_pane(&self, look: &Look, width: u16) -> Pane {
        let words = |line: &String| panes::plain(line, width, Style::new());
        let mut lines: Vec<Line> = self.words.iter().flat_map(words).collect();
        let title = match &self.build {
            Build::Failed { error, .. } => {
                lines.extend(panes::plain(error, width, look.bad));
                match &self.loaded {
                    Some(loaded) => format!("build failed: {}", loaded.stays()),
                    None => "build failed".to_owned(),
                }
            }
            Build::Running { .. } => "building".to_owned(),
            Build::Watching => "what the build printed".to_owned(),
        };
        Pane::new(&title, lines)
    }

    fn units_pane(&self, width: u16) -> Pane {
        let tested = match &self.units {
            Units::Done(tested) | Units::Running(Some(tested)) => tested,
            _ => return Pane::new("unit tests", Vec::new()),
        };
        let output = tested.output().unwrap_or_default();
        Pane::new(&tested.line(), panes::plain(output, width, Style::new()))
    }

    fn draw_keys(&self, pen: &mut Pen<'_>, look: &Look) {
        match &self.view.prompt {
            Some(Prompt::Save { name, .. }) => {
                pen.write(&format!("save as cases/{name}_.json"), look.strong);
                pen.write("  Enter saves it, Esc does not", look.faint);
            }
            Some(Prompt::Publish { subject, .. }) => {
                pen.write(&format!("publish {subject} to NATS?"), look.strong);
                pen.write("  y or Enter publishes it, n does not", look.faint);
            }
            None => {
                let is_wide = pen.room() >= WIDE;
                let keys = match (self.is_live(), is_wide) {
                    (false, false) => "a accept  e edit  p publish  s save  r run  ? help  q quit",
                    (false, true) => {
                        "up, down select  a accept  e edit  p publish  s save  r run  o output  u unit tests  ? help  q quit"
                    }
                    (true, false) => "space pause  e edit  p publish  s save  ? help  q quit",
                    (true, true) => {
                        "up, down select  space pause  Tab cases  e edit  p publish  s save  ? help  q quit"
                    }
                };
                pen.write(keys, look.faint);
            }
        }
    }
}

/// Writes a note above the keys. A long one takes the last lines of the panes.
fn draw_note(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    let lines = wrap(text, area.width, NOTE);
    let blank = " ".repeat(area.width.into());
    for (up, line) in (2..).zip(lines.iter().rev()) {
        let at = area.height.saturating_sub(up);
        Pen::on_line(buffer, area, at).write(&blank, Style::new());
        Pen::on_line(buffer, area, at).write(line, style);
    }
}

fn of_stream(stream: &Stream) -> String {
    let what = stream.what.as_deref().unwrap_or("connecting");
    let waiting = match (stream.is_paused, stream.waiting.len()) {
        (false, _) => String::new(),
        (true, 0) => ", paused".to_owned(),
        (true, more) => format!(", paused, {more} waiting"),
    };
    format!("live {what}  {}{waiting}", stream.tally)
}

/// Returns the first place that is shown. The selected one is in the middle, as far as there are others on both sides.
fn first(selected: usize, count: usize, height: u16) -> usize {
    let height = usize::from(height);
    selected.saturating_sub(height / 2).min(count.saturating_sub(height))
}

fn mark(pen: &mut Pen<'_>, is_selected: bool, look: &Look) {
    pen.write(if is_selected { "> " } else { "  " }, look.strong);
}

fn draw_entry(pen: &mut Pen<'_>, entry: &Entry, width: u16, look: &Look) {
    let (state, style) = match &entry.shown {
        Shown::Broken { .. } => ("FAILED", look.bad),
        Shown::Made(made) => match made.verdict {
            Verdict::Failed(_) => ("FAILED", look.bad),
            Verdict::Passed => ("ok", look.good),
            Verdict::Sample if entry.is_case => ("sample", look.note),
            Verdict::Sample => ("", look.note),
        },
    };
    pen.cell(state, 6, false, style).skip(2);
    pen.cell(&entry.name, width, false, Style::new()).skip(2);
    draw_brief(pen, &entry.shown, look);
    if entry.before.is_some() {
        pen.write("  (changed)", look.note);
    }
}

fn draw_arrived(pen: &mut Pen<'_>, arrived: &Arrived, look: &Look) {
    pen.write(&arrived.time, look.faint).skip(2);
    if pen.room() >= WIDE - 20 {
        pen.write(&arrived.place, look.faint).skip(2);
    }
    draw_brief(pen, &arrived.shown, look);
}

fn draw_brief(pen: &mut Pen<'_>, shown: &Shown, look: &Look) {
    match shown {
        Shown::Broken { error, .. } => pen.write(error, look.bad),
        Shown::Made(made) => {
            pen.write_within(pen.room() / 2, &made.subject, Style::new());
            pen.write("  ->  ", look.faint);
            pen.write(&made.told.brief(), panes::style(&made.told, look))
        }
    };
}

/// At most 60 columns.
const HELP: [&str; 18] = [
    "Any key closes this help.",
    "",
    "up, down, j, k   select a case",
    "PgUp, PgDn       scroll",
    "a                let the case expect what it shows",
    "e                edit the message in $EDITOR, and run it",
    "s                save the message as a case",
    "p                publish the message to its stream in NATS",
    "r                build and run again",
    "d                difference, or the outcome as it is",
    "o                output of the build or of unit tests",
    "u                unit tests on or off",
    "Tab              with --live: messages, or cases",
    "space            pause the messages, or go on",
    "q, Ctrl-C        quit",
    "",
    "A message that is pasted into this screen is run, too.",
    "Esc closes what the build or a test has printed.",
];
