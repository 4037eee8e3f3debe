//! Text from messages, files and servers, as it may be shown on a terminal.

/// Escapes what can change a terminal or hide other text: control characters, except line breaks and tabs, and those
/// that change the direction of writing.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() || is_direction(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// The same in one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_a_terminal_is_escaped() {
        assert_eq!(printable("ä 字\t1\n"), "ä 字\t1\n");
        assert_eq!(printable("\u{1b}[2J\r\0\u{7f}"), "\\u{1b}[2J\\r\\u{0}\\u{7f}");
        assert_eq!(
            printable("\u{9b}2J \u{202e}dekcah\u{2069}"),
            "\\u{9b}2J \\u{202e}dekcah\\u{2069}"
        );
        assert_eq!(one_line("a\nb\tc"), "a b c");
    }
}
