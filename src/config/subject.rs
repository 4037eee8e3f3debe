//! Checks names of streams and consumers, and subjects, by the rules of NATS.

use toml::de::DeValue;

use super::value::{Parsed, Wrong, text};

/// nats-server's `JSMaxNameLen`.
const LONGEST_NAME: usize = 255;

/// The name of a stream or consumer. It is one token in the subjects of JetStream's API, hence no dot and no wildcard.
pub fn name(value: &DeValue<'_>) -> Parsed<String> {
    let name = text(value)?;
    if is_name(&name) {
        Ok(name)
    } else {
        Err(Wrong::new(NAME_RULE).found_value(value))
    }
}

pub const NAME_RULE: &str = "a name of at most 255 characters without spaces, `.`, `*`, `>`, `/` or `\\`";

pub fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(forbidden)
}

/// A subject that a consumer may filter by: tokens separated by dots. `*` matches one token, `>` at the end matches all
/// that follow.
pub fn filter(value: &DeValue<'_>) -> Parsed<String> {
    let subject = text(value)?;
    let tokens: Vec<&str> = subject.split('.').collect();
    let is_bad = |token: &&str| token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control());
    let right = if tokens.iter().any(is_bad) {
        "a subject whose tokens are not empty and contain no spaces, such as \"orders.*.created\""
    } else if tokens[..tokens.len() - 1].contains(&">") {
        "a subject with `>` as its last token only, such as \"orders.>\""
    } else {
        return Ok(subject);
    };
    Err(Wrong::new(right).found_value(value))
}

/// Returns true if `outer` matches every subject that `inner` matches. nats-server refuses a consumer with two such
/// filters (`subjectIsSubsetMatch` in its `server/consumer.go`, 2.15.2).
pub fn covers(outer: &str, inner: &str) -> bool {
    let mut outer = outer.split('.');
    let mut inner = inner.split('.');
    loop {
        match (outer.next(), inner.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The beginning of subjects: whole tokens without wildcards.
pub fn prefix(value: &DeValue<'_>) -> Parsed<String> {
    let prefix = filter(value).ok();
    let prefix = prefix.filter(|prefix| prefix.split('.').all(|token| !matches!(token, "*" | ">")));
    prefix.ok_or_else(|| {
        Wrong::new("the beginning of a subject without wildcards and without a dot at its end").found_value(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_filter(subject: &str) -> bool {
        filter(&DeValue::String(subject.into())).is_ok()
    }

    #[test]
    fn names_are_one_token_of_a_subject() {
        for good in ["ORDERS", "slipring-orders", "größe", "a_b:c"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a.b", "a b", "a*", ">", "a/b", "a\\b", "a\nb", &"a".repeat(256)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn filters_follow_the_rules_of_subjects() {
        for good in ["orders", "orders.>", "orders.*.created", ">", "*", "a.b*c", "a.>b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", "a b", "a.\t"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn a_filter_covers_what_it_matches() {
        for (outer, inner) in [
            (">", "a"),
            ("a.>", "a.b.c"),
            ("a.*", "a.b"),
            ("a.*.c", "a.b.c"),
            ("a.>", "a.>"),
            ("a", "a"),
        ] {
            assert!(covers(outer, inner), "{outer} covers {inner}");
        }
        for (outer, inner) in [
            ("a", "b"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("a.>", "a"),
            ("a.*", "a.>"),
            ("a.b", "a.*"),
        ] {
            assert!(!covers(outer, inner), "{outer} does not cover {inner}");
        }
    }
}
