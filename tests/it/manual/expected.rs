//! Compares what a page shows with what was printed. `…` stands for any text in a line, and a line with nothing else
//! stands for any number of lines.

const ANY: &str = "…";

pub fn matches(expected: &str, printed: &str) -> bool {
    let [expected, printed] = [expected, printed].map(|text| text.lines().map(str::trim_end).collect::<Vec<_>>());
    lines_match(&expected, &printed)
}

/// Returns true if the text is printed somewhere.
pub fn contains(expected: &str, printed: &str) -> bool {
    matches(&format!("{ANY}\n{}\n{ANY}", expected.trim_end()), printed)
}

fn lines_match(expected: &[&str], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((&ANY, rest)) => (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..])),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
    }
}

fn line_matches(expected: &str, printed: &str) -> bool {
    let Some((begin, rest)) = expected.split_once(ANY) else {
        return expected == printed;
    };
    let Some(mut left) = printed.strip_prefix(begin) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split(ANY).collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[test]
fn only_what_varies_may_vary() {
    assert!(matches("ok  a\n", "ok  a\n"));
    assert!(!matches("ok  a\n", "ok  a\nFAILED  b\n"));
    assert!(!matches("ok  a\nok  b\n", "ok  a\n"));
    assert!(matches("built in … s, … KiB", "built in 1.3 s, 104 KiB"));
    assert!(!matches("built in … s, … KiB", "built in 1.3 s, 104 MiB"));
    assert!(!matches("a … b … c", "a b c"));
    assert!(matches("…\nok\n", "a\nb\nok"));
    assert!(matches("…\nok\n", "ok"));
    assert!(contains("b\n", "a\nb\nc"));
    assert!(!contains("b", "a\nbb\nc"));
}
