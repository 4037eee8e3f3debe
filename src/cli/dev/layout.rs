//! Lays JSON out for people, with its keys in their order and its numbers as they are written.

use std::iter::Peekable;
use std::str::Chars;

/// Returns JSON without the spaces between its parts.
pub fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => string(&mut text, &mut chars),
            c if c.is_ascii_whitespace() => {}
            c => text.push(c),
        }
    }
    text
}

/// Returns JSON with a line for each of its parts.
pub fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let json = compact(json);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => string(&mut text, &mut chars),
            '{' | '[' => {
                text.push(c);
                match chars.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c => text.push(c),
        }
    }
    text
}

/// JSON may be deeper than a screen is wide.
const MAX_INDENT: usize = 40;

fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
}

/// Copies a string whose first quote was read.
fn string(text: &mut String, chars: &mut Peekable<Chars<'_>>) {
    text.push('"');
    let mut is_escaped = false;
    for c in chars.by_ref() {
        text.push(c);
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_order_and_its_numbers() {
        let json = "{ \"b\" : [1, {\"c\":\"x, {\\\"y\\\"}: z\"}],\n\"a\":1.50,\"n\":[ ],\"o\":{}}";
        let short = r#"{"b":[1,{"c":"x, {\"y\"}: z"}],"a":1.50,"n":[],"o":{}}"#;
        assert_eq!(compact(json), short);
        let long = "{\n  \"b\": [\n    1,\n    {\n      \"c\": \"x, {\\\"y\\\"}: z\"\n    }\n  ],\n  \"a\": 1.50,\n  \"n\": [],\n  \"o\": {}\n}";
        assert_eq!(pretty(json), long);
        assert_eq!(pretty(long), long);
        assert_eq!(compact("7"), "7");
    }

    #[test]
    fn what_is_no_json_comes_out_somehow() {
        for text in ["", "\"", "}}}", "{\"a", "[\"\\"] {
            compact(text);
            pretty(text);
        }
    }
}
