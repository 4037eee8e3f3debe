//! The panes of the screen: a rule with a title, and lines below that may be scrolled.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::super::difference;
use super::super::super::terminal::{Look, Pen, columns, fold};
use super::super::told::Told;

/// The most lines of a pane.
pub const MOST: usize = 5_000;

/// Text in one or two styles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Vec<(String, Style)>);

#[derive(Debug)]
pub struct Pane {
    title: String,
    lines: Vec<Line>,
    /// Columns that are left free before each line.
    indent: u16,
}

impl Line {
    fn of(text: String, style: Style) -> Self {
        Self(vec![(text, style)])
    }
}

impl Pane {
    pub fn new(title: &str, lines: Vec<Line>) -> Self {
        Self {
            title: title.to_owned(),
            lines,
            indent: 0,
        }
    }

    /// Leaves a column free at the left.
    pub fn indented(self) -> Self {
        Self { indent: 1, ..self }
    }

    /// Returns the lines that it needs, with its rule.
    pub fn height(&self) -> u16 {
        u16::try_from(self.lines.len() + 1).unwrap_or(u16::MAX)
    }

    /// Draws it from line `scroll` on, or as far down as it goes.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, scroll: usize, look: &Look) {
        let height = usize::from(area.height.saturating_sub(1));
        let first = scroll.min(self.lines.len().saturating_sub(height));
        let last = self.lines.len().min(first + height);
        let title = match self.lines.len() > height {
            true => format!("{}  {}-{last} of {}", self.title, first + 1, self.lines.len()),
            false => self.title.clone(),
        };
        rule(buffer, area, &title, look.faint);
        for (at, line) in (1..).zip(&self.lines[first..last]) {
            let mut pen = Pen::on_line(buffer, area, at);
            pen.skip(self.indent);
            for (text, style) in &line.0 {
                pen.write(text, *style);
            }
        }
    }
}

/// Draws a line across the first line of the area, with a label.
pub fn rule(buffer: &mut Buffer, area: Rect, label: &str, style: Style) {
    let mut pen = Pen::on_line(buffer, area, 0);
    pen.write("── ", style).write(label, Style::new()).write(" ", style);
    let rest = "─".repeat(pen.room().into());
    pen.write(&rest, style);
}

pub fn plain(text: &str, width: u16, style: Style) -> Vec<Line> {
    let lines = text
        .trim_end_matches('\n')
        .split('\n')
        .flat_map(|line| fold(line, width));
    lines.map(|line| Line::of(line, style)).collect()
}

/// A line of JSON, whose key is less visible than its value.
pub fn json(line: &str, width: u16, look: &Look) -> Vec<Line> {
    let mut lines: Vec<Line> = plain(line, width, Style::new());
    if let Some(Line(parts)) = lines.first_mut()
        && let Some((text, _)) = parts.first()
        && let Some(end) = end_of_key(text)
    {
        let (key, value) = text.split_at(end);
        *parts = vec![(key.to_owned(), look.faint), (value.to_owned(), Style::new())];
    }
    lines
}

/// Returns where the value begins on a line such as `"id": 7`.
fn end_of_key(line: &str) -> Option<usize> {
    let key = line.trim_start();
    let mut is_escaped = false;
    let quote = key.strip_prefix('"')?.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })?;
    let end = line.len() - key.len() + quote + 2;
    line.get(end..)?.starts_with(": ").then_some(end + 2)
}

pub fn told(told: &Told, width: u16, look: &Look) -> Vec<Line> {
    if !matches!(told, Told::Published(_)) {
        let text = told.lines(width);
        return text
            .iter()
            .flat_map(|line| plain(line, width, style(told, look)))
            .collect();
    }
    let line = |line: String| match (line.starts_with(' '), line.find("  {").or_else(|| line.find("  ["))) {
        (true, _) => json(&line, width, look),
        (false, Some(end)) if columns(&line) <= width => {
            let (head, data) = line.split_at(end);
            vec![Line(vec![
                (head.to_owned(), look.strong),
                (data.to_owned(), Style::new()),
            ])]
        }
        (false, _) => plain(&line, width, look.strong),
    };
    told.lines(width).into_iter().flat_map(line).collect()
}

/// Returns the style of a short text about an outcome.
pub fn style(told: &Told, look: &Look) -> Style {
    match told {
        Told::Published(_) => Style::new(),
        Told::Dropped => look.faint,
        Told::Rejected { .. } => look.note,
    }
}

pub fn difference(old: &str, new: &str, width: u16, look: &Look) -> Vec<Line> {
    let line = |line| {
        let (sign, style, text) = match line {
            difference::Line::Removed(text) => ('-', look.removed, text),
            difference::Line::Added(text) => ('+', look.added, text),
            difference::Line::Same(text) => (' ', look.faint, text),
            difference::Line::Gap => return vec![Line::of("  …".to_owned(), look.faint)],
        };
        let folded = fold(text, width.saturating_sub(2));
        let signed = folded.into_iter().map(|text| Line::of(format!("{sign} {text}"), style));
        signed.collect()
    };
    difference::lines(old, new).into_iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_line_is_found() {
        for (line, value) in [
            ("  \"id\": 7", Some("7")),
            ("\"a\\\"b: \": {", Some("{")),
            ("  \"text\"", None),
            ("  7", None),
            ("\"", None),
        ] {
            assert_eq!(end_of_key(line).map(|end| &line[end..]), value, "{line}");
        }
    }
}
