//! Writes text on a line of the screen. All text comes here, so nothing that comes from elsewhere can change the terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use super::super::printable::one_line;

#[derive(Debug)]
pub struct Pen<'a> {
    buffer: &'a mut Buffer,
    line: Rect,
}

impl<'a> Pen<'a> {
    /// Begins at the left of the line, which counts from the top of `area`. Writes nothing below the area.
    pub fn on_line(buffer: &'a mut Buffer, area: Rect, line: u16) -> Self {
        let rest = Rect {
            y: area.y.saturating_add(line),
            height: area.height.saturating_sub(line).min(1),
            ..area
        };
        let line = rest.intersection(buffer.area);
        Self { buffer, line }
    }

    /// Writes as much as there is room for. A text that was cut ends with `…`.
    pub fn write(&mut self, text: &str, style: Style) -> &mut Self {
        self.write_within(self.room(), text, style)
    }

    /// Writes in at most this many columns.
    pub fn write_within(&mut self, room: u16, text: &str, style: Style) -> &mut Self {
        let room = room.min(self.room());
        if room == 0 {
            return self;
        }
        let (start, y) = (self.line.x, self.line.y);
        let is_cut = columns(text) > room;
        let for_text = if is_cut { room - 1 } else { room };
        let (mut end, _) = self
            .buffer
            .set_stringn(start, y, one_line(text), for_text.into(), style);
        if is_cut {
            (end, _) = self.buffer.set_stringn(end, y, "…", 1, style);
        }
        self.skip(end - start)
    }

    /// Writes a cell of a table, and goes to its end.
    pub fn cell(&mut self, text: &str, width: u16, is_right: bool, style: Style) -> &mut Self {
        let width = width.min(self.room());
        let end = self.line.x + width;
        if is_right {
            self.skip(width.saturating_sub(columns(text)));
        }
        self.write_within(end - self.line.x, text, style);
        self.skip(end - self.line.x)
    }

    /// Leaves this many columns empty.
    pub fn skip(&mut self, columns: u16) -> &mut Self {
        let columns = columns.min(self.room());
        self.line.x += columns;
        self.line.width -= columns;
        self
    }

    /// Returns how many columns are left.
    pub fn room(&self) -> u16 {
        if self.line.height == 0 { 0 } else { self.line.width }
    }
}

/// Returns how many columns a text takes when it is written.
pub fn columns(text: &str) -> u16 {
    u16::try_from(Span::raw(one_line(text)).width()).unwrap_or(u16::MAX)
}

/// Breaks a text into lines of this width, between words. The last line has the rest.
pub fn wrap(text: &str, width: u16, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_last = wrapped.len() == lines;
        match wrapped.last_mut() {
            Some(line) if is_last || columns(line).saturating_add(columns(word)) < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    wrapped
}

/// Breaks a text into lines of at most this width, wherever they end. Each line but the first begins with what the text
/// begins with: its spaces.
pub fn fold(text: &str, width: u16) -> Vec<String> {
    let text = one_line(text);
    if columns(&text) <= width {
        return vec![text];
    }
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let indent = " ".repeat(indent.min(usize::from(width / 2)));
    let mut lines = vec![String::new()];
    let mut room = width;
    for c in text.chars() {
        let takes = columns(c.encode_utf8(&mut [0; 4]));
        if takes > room {
            lines.push(indent.clone());
            room = width.saturating_sub(columns(&indent));
        }
        room = room.saturating_sub(takes);
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: u16, write: impl FnOnce(&mut Pen<'_>)) -> String {
        let area = Rect::new(0, 0, width, 2);
        let mut buffer = Buffer::empty(area);
        write(&mut Pen::on_line(&mut buffer, area, 1));
        let symbols = (0..width).map(|x| buffer[(x, 1)].symbol());
        symbols.collect()
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut_visibly() {
        let plain = Style::new();
        let write = |width, text: &str| {
            written(width, |pen| {
                pen.write(text, plain);
            })
        };
        assert_eq!(write(5, "abcde"), "abcde");
        assert_eq!(write(5, "abcdef"), "abcd…");
        assert_eq!(write(0, "abc"), "");
        // Each takes two columns, the second of which is empty.
        assert_eq!(write(5, "字字"), "字 字  ");
        assert_eq!(write(4, "字字字"), "字 … ");
        assert_eq!(write(20, "a\u{1b}[2J\tb\nc"), "a\\u{1b}[2J b c      ");
    }

    #[test]
    fn a_cell_takes_its_width() {
        let plain = Style::new();
        let write = |text: &str, is_right| {
            written(9, |pen| {
                pen.cell(text, 4, is_right, plain).write("|", plain);
            })
        };
        assert_eq!(write("ab", false), "ab  |    ");
        assert_eq!(write("ab", true), "  ab|    ");
        assert_eq!(write("abcdef", true), "abc…|    ");
        assert_eq!(write("字字字", false), "字 … |    ");
    }

    #[test]
    fn nothing_is_written_outside() {
        let area = Rect::new(0, 0, 5, 1);
        let mut buffer = Buffer::empty(area);
        Pen::on_line(&mut buffer, area, 1).write("below", Style::new());
        Pen::on_line(&mut buffer, Rect::new(0, 0, 50, 50), 7).write("below", Style::new());
        Pen::on_line(&mut buffer, Rect::new(0, 0, 50, 50), 0).write("too long", Style::new());
        assert_eq!(buffer, Buffer::with_lines(["too …"]));
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 8, 9), ["one two", "three"]);
        assert_eq!(wrap("one two three", 3, 2), ["one", "two three"]);
        assert_eq!(wrap("one\ntwo", 7, 1), ["one two"]);
        assert!(wrap("", 7, 1).is_empty());
    }

    #[test]
    fn long_lines_are_folded_below_their_beginning() {
        assert_eq!(fold("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(fold("  abcdefg", 5), ["  abc", "  def", "  g"]);
        assert_eq!(fold("字字字", 4), ["字字", "字"]);
        assert_eq!(fold("", 4), [""]);
    }
}
