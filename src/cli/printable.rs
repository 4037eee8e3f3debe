//! Text from messages, files and servers, as it may be shown on a terminal.

/// Escapes what can change a terminal or hide other text: control characters, except line breaks and tabs, and those
/// that change the direction of writing.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_unprintable(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// JSON with the same characters escaped. Its value stays the same, because they can only be inside its strings.
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if is_unprintable(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// The same in one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

fn is_unprintable(c: char) -> bool {
    let is_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_direction || c.is_control() && !matches!(c, '\n' | '\t')
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

    #[test]
    fn json_keeps_its_value() {
        let every: String = ('\0'..='\u{ffff}').collect();
        for json in [
            serde_json::to_string(&every).unwrap(),
            serde_json::to_string_pretty(&[&every]).unwrap(),
        ] {
            let shown = printable_json(&json);
            assert_eq!(printable(&shown), shown);
            let values: [serde_json::Value; 2] = [&json, &shown].map(|json| serde_json::from_str(json).unwrap());
            assert_eq!(values[0], values[1]);
        }
        assert_eq!(
            printable_json("{\n  \"ä\": \"\u{9b}\"\n}"),
            "{\n  \"ä\": \"\\u009b\"\n}"
        );
    }
}
