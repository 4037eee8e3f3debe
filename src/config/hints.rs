//! Guesses what somebody meant who wrote something else.

use toml::de::DeValue;

use super::value::{Wrong, quote};

/// Keys that other programs, or other sections here, use for the same thing.
const SYNONYMS: [&[&str]; 6] = [
    &[
        "url",
        "urls",
        "uri",
        "server",
        "servers",
        "endpoint",
        "endpoints",
        "address",
        "addresses",
        "addr",
        "host",
    ],
    &["user", "username", "login"],
    &["listen", "bind", "port", "address", "addr", "host"],
    &["api_key_file", "api_key", "apikey", "key", "token", "secret"],
    &["sequence", "seq", "start_sequence", "from"],
    &["since", "start_time", "time", "date"],
];

/// Returns the most similar name, if one is similar, or else one for the same thing.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // In a short name, one slip is much.
    let slip = |each: &&&str| name.len() > 2 && strsim::osa_distance(name, each) == 1;
    if let Some(one) = known.iter().find(slip) {
        return Some(one);
    }
    let likeness = known.iter().map(|each| (strsim::jaro_winkler(name, each), *each));
    let (likeness, nearest) = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    if likeness > 0.8 {
        return Some(nearest);
    }
    let of_the_same = |each: &&&str| {
        SYNONYMS
            .iter()
            .any(|names| names.contains(&name) && names.contains(*each))
    };
    let mut meant = known.iter().filter(of_the_same);
    match (meant.next(), meant.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Explains a value that is a bare word.
pub fn unquoted(text: &str, offset: usize, message: &str) -> Option<String> {
    if !message.contains("string values must be quoted") {
        return None;
    }
    let (before, rest) = text.split_at_checked(offset)?;
    if !before.rsplit('\n').next().unwrap_or_default().contains('=') {
        return Some("this is not TOML: a text has to be in quotes, or a bracket above is not closed".to_owned());
    }
    let word: String = rest
        .chars()
        .take_while(|c| !c.is_whitespace() && !",]}#".contains(*c))
        .collect();
    Some(match word.to_lowercase().as_str() {
        "" => return None,
        "yes" | "on" | "true" => format!("`{word}` is no value; write `true`"),
        "no" | "off" | "false" => format!("`{word}` is no value; write `false`"),
        // It may be a secret.
        _ => "this is not TOML: a text has to be in quotes".to_owned(),
    })
}

/// A single value may be a URL with a password in it, so it is shown only if it holds nothing of that kind.
pub fn no_list(value: &DeValue<'_>) -> Wrong {
    let wrong = Wrong::new("a list, in brackets");
    match value.as_str() {
        Some(text) if text.is_empty() || text.contains(['@', '?', '#']) => wrong.found("a string"),
        Some(text) => wrong.found("a string").meant(Some(format!("[{}]", quote(text)))),
        None => wrong.found_value(value),
    }
}
