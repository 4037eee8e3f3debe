//! Draws the screen.

use std::time::Instant;

use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::terminal::{Look, Pen, columns, wrap};
use super::super::time_of_day::time_of_day;
use super::columns::{Column, fitting};
use super::look;
use super::relay::{Relay, Row};
use super::units;
use super::view::View;
use crate::status::{Finding, Mark, State, version_name};

/// All that the screen depends on, except its size and the time.
#[derive(Debug)]
pub struct Top {
    pub relay: Relay,
    pub view: View,
    pub look: Look,
    pub zone: TimeZone,
    /// Where the relay is.
    pub address: String,
}

/// With fewer lines or columns, no table makes sense.
const LEAST_WIDTH: u16 = 30;
const LEAST_HEIGHT: u16 = 8;

/// With as many lines, the reasons get more of them.
const TALL: u16 = 20;

/// How many lines each part has. They are in this order, and the line of the keys is the last.
#[derive(Debug, Clone, Copy)]
struct Parts {
    /// What is wrong, under the line that says whether the relay is ready.
    findings: u16,
    modules: u16,
    /// What there is to say about the selected module.
    details: u16,
    marks: u16,
}

/// The two lines at the top, the head of the table, and the line of the keys.
const FIXED: u16 = 4;

impl Top {
    /// Returns how many modules a screen of this size shows.
    pub fn page(&self, area: Rect) -> usize {
        self.parts(area, self.view.rows(&self.relay).len()).modules.into()
    }

    fn parts(&self, area: Rect, modules: usize) -> Parts {
        let at_most = |count: usize, most: u16| u16::try_from(count).unwrap_or(u16::MAX).min(most);
        let is_tall = area.height >= TALL;
        let details = if is_tall { 4 } else { 2 };
        let room = area.height.saturating_sub(FIXED + details);
        let marks = self.relay.marks.len();
        let least_marks = at_most(marks, if is_tall { area.height / 5 } else { 3 });
        let room_above = room.saturating_sub(least_marks);
        // Without a module, a line says so.
        let modules = modules.max(1);
        let least_findings = if is_tall { (area.height - TALL) / 3 + 1 } else { 0 };
        let spare = room_above.saturating_sub(at_most(modules, u16::MAX));
        let findings = at_most(self.finding_lines(area.width).len(), spare.max(least_findings));
        let modules = at_most(modules, room_above.saturating_sub(findings).max(1));
        Parts {
            findings,
            modules,
            details,
            marks: at_most(marks, room.saturating_sub(findings + modules)),
        }
    }

    /// Returns what keeps the relay from being ready, and then the warnings.
    fn findings(&self) -> Vec<(bool, &Finding)> {
        let status = &self.relay.status;
        let obstacles = status.obstacles.iter().map(|finding| (true, finding));
        let warnings = status.warnings.iter().map(|finding| (false, finding));
        obstacles.chain(warnings).collect()
    }

    /// Returns the lines for what has no room on the first line of the screen.
    fn finding_lines(&self, width: u16) -> Vec<(bool, String)> {
        let findings = self.findings();
        let is_cut = columns(&self.title()) > width;
        let mut lines = Vec::new();
        for (is_obstacle, finding) in findings.into_iter().skip(if is_cut { 0 } else { 1 }) {
            let head = if is_obstacle { "not ready" } else { "warning" };
            let wrapped = wrap(&format!("{head}: {finding}"), width, 2);
            lines.extend(wrapped.into_iter().map(|line| (is_obstacle, line)));
        }
        lines
    }

    pub fn draw(&self, buffer: &mut Buffer, area: Rect, now: Instant) {
        if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
            Pen::on_line(buffer, area, 0).write("this terminal is too small", Style::new());
            return;
        }
        if self.draw_title(buffer, area, now) < 2 {
            self.draw_servers(buffer, area);
        }
        if self.view.is_help {
            self.draw_help(buffer, area);
            return;
        }
        let rows = self.view.rows(&self.relay);
        let parts = self.parts(area, rows.len());
        let mut line = 2;
        for (is_obstacle, text) in self.finding_lines(area.width).iter().take(parts.findings.into()) {
            let style = if *is_obstacle { self.look.bad } else { self.look.note };
            Pen::on_line(buffer, area, line).write(text, style);
            line += 1;
        }
        self.draw_table(buffer, area, line, &rows, parts.modules);
        line += 1 + parts.modules;
        if let Some(row) = rows.get(self.view.place(&rows)) {
            self.draw_details(buffer, area, line, row, parts.details);
        }
        let last = area.height - 1;
        self.draw_marks(buffer, area, last - parts.marks, parts.marks);
        self.draw_keys(&mut Pen::on_line(buffer, area, last), rows.len());
    }

    /// The version, and whether the relay is ready. Returns how many lines it takes.
    fn draw_title(&self, buffer: &mut Buffer, area: Rect, now: Instant) -> usize {
        let Self { relay, look, .. } = self;
        let version = format!("slipring {}  ", relay.status.version);
        if let Some((silence, trouble)) = relay.silence(now) {
            let seconds = silence.as_secs();
            let text = format!("{version}no answer for {seconds}s: {trouble}");
            // The state of the servers is old, so its line may be used.
            let lines = wrap(&text, area.width, 2);
            for (line, text) in (0..).zip(&lines) {
                Pen::on_line(buffer, area, line).write(text, look.bad);
            }
            return lines.len();
        }
        let is_ready = relay.status.ready;
        let mut pen = Pen::on_line(buffer, area, 0);
        pen.write(&version, look.strong);
        pen.write(readiness(is_ready), if is_ready { look.good } else { look.bad });
        let findings = self.findings();
        if let Some((is_obstacle, finding)) = findings.first() {
            let more = more(findings.len());
            let room = pen.room().saturating_sub(columns(&more));
            let style = if *is_obstacle { look.bad } else { look.note };
            pen.write_within(room, &told(*is_obstacle, finding), style);
            pen.write(&more, Style::new());
        }
        1
    }

    /// Returns all that should be on the first line while the relay answers.
    fn title(&self) -> String {
        let status = &self.relay.status;
        let findings = self.findings();
        let first = findings.first();
        let told = first.map_or_else(String::new, |(is_obstacle, finding)| told(*is_obstacle, finding));
        let (version, readiness) = (&status.version, readiness(status.ready));
        format!("slipring {version}  {readiness}{told}{}", more(findings.len()))
    }

    /// The servers, the memory, and the sum of the publications.
    fn draw_servers(&self, buffer: &mut Buffer, area: Rect) {
        let Self { relay, look, .. } = self;
        let status = &relay.status;
        let mut pen = Pen::on_line(buffer, area, 1);
        let plain = Style::new();
        if let Some(nats) = &status.nats {
            let server = nats.server.as_deref().unwrap_or("connected");
            match nats.connected {
                true => pen.write(&format!("NATS {server}"), plain),
                false => pen.write("NATS not connected", look.bad),
            };
            pen.skip(2);
        }
        match status.centrifugo.trouble {
            None => pen.write("Centrifugo ok", plain),
            Some(_) => pen.write("Centrifugo in trouble", look.bad),
        };
        pen.skip(2);
        if let Some(memory) = &status.memory {
            let (used, limit) = (memory.used.div_ceil(1 << 20), memory.limit >> 20);
            pen.write(&format!("memory {used}/{limit} MiB"), plain).skip(2);
        }
        pen.write(&format!("{} pub/s", units::rate(Some(relay.published()))), plain);
        pen.skip(2);
        let width = columns(&self.address);
        if width <= pen.room() {
            let room = pen.room();
            pen.cell(&self.address, room, true, look.faint);
        }
    }

    fn draw_table(&self, buffer: &mut Buffer, area: Rect, line: u16, rows: &[Row<'_>], height: u16) {
        let Self { relay, view, look, .. } = self;
        // The first two are for the mark of the selected module.
        let longest = rows.iter().map(|row| columns(&row.status.name)).max();
        let fitting = fitting(area.width - 2, longest.unwrap_or(0));
        let mut pen = Pen::on_line(buffer, area, line);
        pen.skip(2);
        for (column, width) in &fitting {
            let mut title = column.title().to_owned();
            if view.sorted_by() == *column {
                title.push(if view.is_descending() { '▼' } else { '▲' });
            }
            pen.cell(&title, *width, column.is_number(), look.faint).skip(1);
        }
        if rows.is_empty() {
            let text = match relay.status.modules.is_empty() {
                true => "no modules",
                false => "no module has a name with these letters",
            };
            Pen::on_line(buffer, area, line + 1).skip(2).write(text, look.faint);
        }
        let selected = view.place(rows);
        let height = usize::from(height);
        // The selected module is in the middle, as far as there are modules on both sides.
        let first = selected
            .saturating_sub(height / 2)
            .min(rows.len().saturating_sub(height));
        for (at, row) in rows.iter().enumerate().skip(first).take(height) {
            let line = line + 1 + (at - first) as u16;
            let mut pen = Pen::on_line(buffer, area, line);
            let (mark, style) = match at == selected {
                true => ("> ", look.strong),
                false => ("  ", Style::new()),
            };
            pen.write(mark, style);
            for (column, width) in &fitting {
                let style = match column {
                    Column::State => style.patch(look::of_state(look, row.status.state)),
                    _ => style,
                };
                let text = column.text(row, relay, *width);
                pen.cell(&text, *width, column.is_number(), style).skip(1);
            }
        }
    }

    /// What the table has no room for. The first line says what runs, the others what is wrong.
    fn draw_details(&self, buffer: &mut Buffer, area: Rect, line: u16, row: &Row<'_>, height: u16) {
        let module = row.status;
        let mut facts = vec![module.name.clone()];
        if let (Some(sha256), Some(toml_sha256)) = (&module.sha256, &module.toml_sha256) {
            let since = module.running_since.as_deref().and_then(|time| self.relay.since(time));
            let age = since.map_or_else(String::new, |since| format!(" for {}", units::seconds(Some(since))));
            facts.push(format!("version {}{age}", version_name(sha256, toml_sha256)));
        }
        for (count, one, many) in [
            (module.swaps, "swap", "swaps"),
            (module.rollbacks, "rollback", "rollbacks"),
            (module.refused_swaps, "refusal", "refusals"),
            (module.missed, "message missed", "messages missed"),
            (module.expired, "message expired", "messages expired"),
        ] {
            if count > 0 {
                facts.push(format!("{count} {}", if count == 1 { one } else { many }));
            }
        }
        // A line of its own tells the facts from the last row.
        let above = if height > 2 { 1 } else { 0 };
        let facts = facts.join(", ");
        Pen::on_line(buffer, area, line + above).write(&facts, self.look.strong);
        let style = match module.state {
            State::Running => self.look.note,
            state => look::of_state(&self.look, state),
        };
        let left = height - above - 1;
        let wrong = self.wrong(row);
        for (at, text) in wrap(&wrong, area.width, left.into()).iter().enumerate() {
            Pen::on_line(buffer, area, line + above + 1 + at as u16).write(text, style);
        }
    }

    /// Returns why the module is not running, and what else is wrong with it.
    fn wrong(&self, row: &Row<'_>) -> String {
        let module = row.status;
        let reason = module.reason.as_deref().filter(|_| module.state != State::Running);
        let mut told: Vec<String> = Vec::new();
        told.extend(reason.map(|reason| format!("{}: {reason}", module.state)));
        // Some findings only repeat the reason.
        let is_new = |finding: &Finding| !reason.is_some_and(|reason| finding.text.ends_with(reason));
        let findings = self.findings().into_iter().map(|(_, finding)| finding);
        let findings = findings.filter(|finding| finding.module.as_ref() == Some(&module.name) && is_new(finding));
        told.extend(findings.map(|finding| finding.text.clone()));
        // If nothing runs, the refusal is the reason.
        let refusal = module.last_refusal.as_ref();
        let refusal = refusal.filter(|refusal| Some(*refusal) != module.reason.as_ref());
        told.extend(refusal.map(|refusal| format!("the last new version was refused: {refusal}")));
        let back = module.rolled_back.as_ref();
        told.extend(back.map(|back| format!("the version in the directory was rolled back: {}", back.reason)));
        told.join("; ")
    }

    /// What happened last, the newest at the bottom.
    fn draw_marks(&self, buffer: &mut Buffer, area: Rect, line: u16, count: u16) {
        let Self { relay, look, zone, .. } = self;
        let first = relay.marks.len() - usize::from(count);
        let marks = &relay.marks[first..];
        let name = |mark: &Mark| mark.module.clone().unwrap_or_else(|| "relay".to_owned());
        let widest = marks.iter().map(|mark| columns(&name(mark))).max();
        let width = widest.unwrap_or(0).min(area.width / 4);
        for (at, mark) in marks.iter().enumerate() {
            let mut pen = Pen::on_line(buffer, area, line + at as u16);
            pen.write(&time_of_day(mark.time, zone, "%H:%M:%S"), look.faint).skip(2);
            pen.cell(&name(mark), width, false, Style::new()).skip(2);
            pen.write(&mark.text, look::of_mark(look, mark.kind));
        }
    }

    fn draw_keys(&self, pen: &mut Pen<'_>, shown: usize) {
        let Self { view, look, relay, .. } = self;
        let all = relay.status.modules.len();
        let count = match view.filter.as_str() {
            "" if all == 1 => "1 module".to_owned(),
            "" => format!("{all} modules"),
            _ => format!("{shown} of {all}"),
        };
        if view.is_typing {
            pen.write(&format!("/{}_", view.filter), look.strong);
            pen.write(&format!("  {count}  Enter keeps it, Esc clears it"), look.faint);
            return;
        }
        let order = view.sorted_by().title().to_lowercase();
        let filter = match view.filter.as_str() {
            "" => String::new(),
            filter => format!(": {filter}"),
        };
        let keys = format!("q quit  ? help  s order: {order}  / filter{filter}  {count}");
        pen.write(&keys, look.faint);
    }

    fn draw_help(&self, buffer: &mut Buffer, area: Rect) {
        for (line, text) in (2..).zip(HELP) {
            let style = if line == 2 { self.look.strong } else { Style::new() };
            Pen::on_line(buffer, area, line).write(text, style);
        }
    }
}

fn readiness(is_ready: bool) -> &'static str {
    if is_ready { "ready" } else { "not ready" }
}

/// Completes the line that says whether the relay is ready.
fn told(is_obstacle: bool, finding: &Finding) -> String {
    let head = if is_obstacle { ": " } else { ", warning: " };
    format!("{head}{finding}")
}

/// Returns how many findings there are beside the first.
fn more(findings: usize) -> String {
    match findings.saturating_sub(1) {
        0 => String::new(),
        more => format!(" (+{more})"),
    }
}

/// At most 60 columns, and 13 lines.
const HELP: [&str; 13] = [
    "Any key closes this help.",
    "q, Esc, Ctrl-C     quit",
    "up, down, j, k     select a module; its reasons are below",
    "PgUp PgDn Home End the table",
    "s                  order by the next of six columns",
    "/                  only modules whose names have these",
    "                   letters; Esc shows all again",
    "IN/S, PUB/S        messages and publications in a second",
    "LAST 60 S          publications, on a scale of each module",
    "BACKLOG, AGE       messages not settled, and how old",
    "P50, P99           time from stored to settled",
    "REJECTED           messages since the relay started",
    "FOR, VERSION       time in this state; SHA-256 of the .wasm",
];
