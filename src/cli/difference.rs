//! Shows the differences between two texts line by line.

use similar::{ChangeTag, TextDiff};

use super::palette::Palette;
use super::printable::printable;

/// The number of unchanged lines around a change.
const CONTEXT: usize = 3;

/// A line of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    Removed(&'a str),
    Added(&'a str),
    Same(&'a str),
    /// Lines that are the same were left out.
    Gap,
}

/// Returns the lines that changed, with what is around them.
pub fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let diff = TextDiff::from_slices(&old, &new);
    let mut lines = Vec::new();
    for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if index > 0 {
            lines.push(Line::Gap);
        }
        let changes = group.iter().flat_map(|operation| diff.iter_changes(operation));
        lines.extend(changes.map(|change| match change.tag() {
            ChangeTag::Delete => Line::Removed(change.value()),
            ChangeTag::Insert => Line::Added(change.value()),
            ChangeTag::Equal => Line::Same(change.value()),
        }));
    }
    lines
}

/// Lines only in `old` start with `-`, lines only in `new` with `+`. Every line is indented by four spaces.
pub fn render(old: &str, new: &str, palette: &Palette) -> String {
    let line = |line| {
        let (sign, style, text) = match line {
            Line::Removed(text) => ('-', palette.removed, text),
            Line::Added(text) => ('+', palette.added, text),
            Line::Same(text) => (' ', palette.faint, text),
            Line::Gap => return "      …\n".to_owned(),
        };
        format!("    {style}{sign} {}{style:#}\n", printable(text))
    };
    lines(old, new).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn changes_are_marked_with_what_is_around_them() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk";
        let new = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        assert_snapshot!(render(old, new, &Palette::default()), @r"
          a
        - b
        + B
          c
          d
          e
          …
          i
          j
          k
        + l
        ");
        assert_eq!(render("a\n", "a", &Palette::default()), "");
    }

    #[test]
    fn colours_end_with_their_line() {
        let text = render("a", "b", &Palette::coloured());
        assert_eq!(text, "    \u{1b}[31m- a\u{1b}[0m\n    \u{1b}[32m+ b\u{1b}[0m\n");
    }
}
