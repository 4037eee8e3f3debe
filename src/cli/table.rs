//! Tables for people. On a terminal no row is wider than it; anywhere else a table is whole.

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::palette::Palette;
use super::printable::one_line;
use super::terminal;

/// What stands between two columns.
const GAP: &str = "  ";

/// How wide a table may be, and its colours.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// In columns of the terminal. `None` means as wide as it is.
    pub width: Option<usize>,
    pub palette: Palette,
}

/// A column, and what becomes of it where there is not enough room.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// It may shrink to this width.
    least: Option<usize>,
    /// A cell that is too long goes on in the next line instead of being cut.
    wraps: bool,
    /// The column with the lowest number is left out first.
    left_out: Option<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Lines below a row, which are in no column.
    below: Vec<(usize, String)>,
}

impl View {
    /// Standard output: the width and the colours of a terminal, or neither.
    pub fn of_stdout() -> Self {
        let size = io::stdout().is_terminal().then(terminal::size).flatten();
        let width = size.map(|(width, _)| usize::from(width));
        Self {
            width: width.filter(|width| *width > 0),
            palette: Palette::of_stdout(),
        }
    }

    /// Breaks a text for people into lines that fit. What goes on in another line is indented by so many spaces.
    pub fn wrap(&self, text: &str, indent: usize) -> String {
        let mut broken = String::new();
        for line in text.lines() {
            match self.width {
                Some(width) if line.width() > width => {
                    let own = line.len() - line.trim_start().len();
                    let lines = wrapped(line.trim_start(), width.saturating_sub(own.max(indent)).max(1));
                    for (index, part) in lines.iter().enumerate() {
                        let indent = if index == 0 { own } else { indent };
                        broken.push_str(&format!("{}{part}\n", " ".repeat(indent)));
                    }
                }
                _ => broken.push_str(&format!("{line}\n")),
            }
        }
        broken
    }
}

impl Column {
    /// A column with an empty title has no head.
    pub const fn new(title: &'static str) -> Self {
        Self {
            title,
            least: None,
            wraps: false,
            left_out: None,
        }
    }

    pub const fn shrinks_to(self, least: usize) -> Self {
        Self {
            least: Some(least),
            ..self
        }
    }

    /// The last column only.
    pub const fn wraps_from(self, least: usize) -> Self {
        Self {
            least: Some(least),
            wraps: true,
            ..self
        }
    }

    pub const fn left_out(self, order: u8) -> Self {
        Self {
            left_out: Some(order),
            ..self
        }
    }
}

impl Cell {
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn style(&self) -> Style {
        self.style
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl Table {
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
            below: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let printable = |cell: Cell| Cell {
            text: one_line(&cell.text),
            ..cell
        };
        self.rows.push(cells.into_iter().map(printable).collect());
    }

    /// Adds an indented line below the last row.
    pub fn below(&mut self, line: &str) {
        self.below.push((self.rows.len(), one_line(line)));
    }

    /// Returns the head and the rows, and a note about columns that the terminal has no room for.
    pub fn render(&self, view: &View) -> String {
        let natural = self.natural();
        let widths = match view.width {
            Some(width) => self.fit(&natural, width),
            None => natural.iter().copied().map(Some).collect(),
        };
        let mut text = String::new();
        if self.columns.iter().any(|column| !column.title.is_empty()) {
            let titles = self
                .columns
                .iter()
                .map(|column| Cell::styled(column.title, view.palette.faint));
            self.put(&titles.collect::<Vec<_>>(), &widths, view, &mut text);
        }
        for (index, row) in self.rows.iter().enumerate() {
            self.put(row, &widths, view, &mut text);
            for (_, line) in self.below.iter().filter(|(above, _)| *above == index + 1) {
                text.push_str(&view.wrap(&format!("    {line}"), 4));
            }
        }
        if let (Some(width), Some(note)) = (view.width, self.note(&natural, &widths)) {
            let faint = view.palette.faint;
            for line in wrapped(&note, width) {
                text.push_str(&format!("{faint}{line}{faint:#}\n"));
            }
        }
        text
    }

    /// Returns the width of each column that shows all of it.
    fn natural(&self) -> Vec<usize> {
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| cell.text.width()).max().unwrap_or(0);
            widest.max(column.title.width())
        };
        self.columns.iter().enumerate().map(widest).collect()
    }

    /// Returns the width of each column, or `None` for one that is left out. Columns shrink first, then some are left out,
    /// and what becomes free by that goes to those that have shrunk.
    fn fit(&self, natural: &[usize], width: usize) -> Vec<Option<usize>> {
        let least =
            |(column, natural): (&Column, &usize)| Some(column.least.map_or(*natural, |least| least.min(*natural)));
        let mut widths: Vec<Option<usize>> = self.columns.iter().zip(natural).map(least).collect();
        let total = |widths: &[Option<usize>]| {
            let shown = widths.iter().flatten();
            shown
                .map(|width| width + GAP.len())
                .sum::<usize>()
                .saturating_sub(GAP.len())
        };
        let mut dispensable: Vec<usize> = (0..self.columns.len()).collect();
        dispensable.retain(|&index| self.columns[index].left_out.is_some());
        dispensable.sort_by_key(|&index| self.columns[index].left_out);
        for index in dispensable {
            if total(&widths) <= width {
                break;
            }
            widths[index] = None;
        }
        let mut free = width.saturating_sub(total(&widths));
        for (shown, natural) in widths.iter_mut().zip(natural).rev() {
            if let Some(shown) = shown {
                let more = (natural - *shown).min(free);
                *shown += more;
                free -= more;
            }
        }
        widths
    }

    /// Adds a row, which may take several lines if its last cell wraps.
    fn put(&self, cells: &[Cell], widths: &[Option<usize>], view: &View, text: &mut String) {
        let shown: Vec<(usize, usize)> = widths
            .iter()
            .enumerate()
            .filter_map(|(index, width)| Some((index, (*width)?)))
            .collect();
        let mut line = Line::new(view.width);
        let mut more = Vec::new();
        for (position, &(index, width)) in shown.iter().enumerate() {
            let Some(cell) = cells.get(index) else { break };
            if position > 0 {
                line.push(GAP, Style::new());
            }
            let mut first = cell.text.clone();
            if first.width() > width {
                if self.columns[index].wraps {
                    let mut lines = wrapped(&first, width).into_iter();
                    first = lines.next().unwrap_or_default();
                    more.extend(lines.map(|rest| (line.used, cell.style, rest)));
                } else {
                    first = cut(&first, width);
                }
            }
            let is_last = cells.len() <= index + 1 || position + 1 == shown.len();
            let padding = if is_last {
                0
            } else {
                width.saturating_sub(first.width())
            };
            line.push(&first, cell.style);
            line.push(&" ".repeat(padding), Style::new());
        }
        text.push_str(line.text.trim_end());
        text.push('\n');
        for (indent, style, rest) in more {
            text.push_str(&format!("{}{style}{rest}{style:#}\n", " ".repeat(indent)));
        }
    }

    fn note(&self, natural: &[usize], widths: &[Option<usize>]) -> Option<String> {
        let of = |is: &dyn Fn(&Column, usize, Option<usize>) -> bool| {
            let columns = self.columns.iter().zip(natural).zip(widths);
            let titles = columns.filter(|((column, natural), width)| is(column, **natural, **width));
            titles
                .map(|((column, _), _)| column.title)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let missing = of(&|_, _, width| width.is_none());
        let cut = of(&|column, natural, width| !column.wraps && width.is_some_and(|width| width < natural));
        let what = match (missing.as_str(), cut.as_str()) {
            ("", "") => return None,
            ("", cut) => format!("shortened: {cut}"),
            (missing, "") => format!("left out: {missing}"),
            (missing, cut) => format!("left out: {missing}; shortened: {cut}"),
        };
        Some(format!("({what}; a wider terminal or a pipe shows all)"))
    }
}

/// A line that never becomes wider than the terminal.
struct Line {
    text: String,
    used: usize,
    width: Option<usize>,
}

impl Line {
    fn new(width: Option<usize>) -> Self {
        Self {
            text: String::new(),
            used: 0,
            width,
        }
    }

    fn push(&mut self, text: &str, style: Style) {
        let left = self.width.map_or(usize::MAX, |width| width - self.used.min(width));
        let text = cut(text, left);
        if !text.is_empty() {
            self.used += text.width();
            self.text.push_str(&format!("{style}{text}{style:#}"));
        }
    }
}

/// Returns lines whose columns are as wide as their widest cell, separated by two spaces.
pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut table = Table::new(vec![Column::new(""); columns]);
    for row in rows {
        table.row(row.iter().cloned().map(Cell::from));
    }
    table.render(&View::default())
}

/// Returns the text, or as much of it as fits before an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        left = rest;
        shown.push(c);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// Breaks a line between words. A word that is too long for a line is broken, too.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let (mut lines, mut current) = (Vec::new(), String::new());
    for word in line.split(' ') {
        if !current.is_empty() && current.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut current));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        for c in word.chars() {
            if !current.is_empty() && current.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut current));
            }
            current.push(c);
        }
    }
    lines.push(current);
    lines
}
