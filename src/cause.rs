//! Causes of failed connections, as people say them. Libraries wrap a cause several times, and each layer adds words that
//! help nobody.

use std::error::Error;

/// What a layer says of itself. The cause follows.
const LAYERS: [&str; 11] = [
    "error sending request",
    "error trying to connect",
    "client error (Connect)",
    "client error (SendRequest)",
    "tcp connect error",
    "tcp open error",
    "transport error",
    "connection error",
    "request or response body error",
    "IO error",
    "io error",
];

/// What rustls says when the first bytes are none of TLS.
const NOT_TLS: &str = "received corrupt message of type InvalidContentType";

/// Returns what an error and its causes say, without repetitions.
pub fn of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    plain(&text)
}

/// Returns the part of a text that says what happened, once.
pub fn plain(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let text = without_numbers(text);
    for part in text.split(": ") {
        let part = match part {
            NOT_TLS => "the server does not speak TLS on this port; write `http://` or `grpc://` in its address",
            part => part,
        };
        if !LAYERS.contains(&part) && !parts.contains(&part) {
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [] => text.clone(),
        parts => lower(&parts.join(": ")),
    }
}

/// Removes the error numbers of the operating system, such as ` (os error 111)`. The words before them say the same.
pub fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        match part[digits..].strip_prefix(')') {
            Some(rest) if digits > 0 => told.push_str(rest),
            _ => told = format!("{told} (os error {part}"),
        }
    }
    told
}

/// The system begins its texts with a capital letter. They stand in the middle of a sentence here.
fn lower(text: &str) -> String {
    const OF_THE_SYSTEM: [&str; 7] = [
        "Connection ",
        "Network ",
        "No route ",
        "No such ",
        "Broken pipe",
        "Permission denied",
        "Host ",
    ];
    match OF_THE_SYSTEM.iter().any(|start| text.starts_with(start)) {
        true => text[..1].to_lowercase() + &text[1..],
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_and_without_the_layers_around_it() {
        for (text, expected) in [
            (
                "error sending request: client error (Connect): tcp connect error: tcp connect error: Connection refused (os error \
                 111)",
                "connection refused",
            ),
            (
                "IO error: Connection refused (os error 111): Connection refused (os error 111)",
                "connection refused",
            ),
            (
                "error sending request: client error (Connect): received corrupt message of type InvalidContentType: received \
                 corrupt message of type InvalidContentType",
                "the server does not speak TLS on this port; write `http://` or `grpc://` in its address",
            ),
            (
                "error sending request: client error (Connect): dns error: failed to lookup address information: Name or service \
                 not known",
                "dns error: failed to lookup address information: Name or service not known",
            ),
            ("GRPC Unavailable: why", "GRPC Unavailable: why"),
            ("error sending request", "error sending request"),
            ("no (os error x)", "no (os error x)"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn numbers_of_errors_are_left_out_wherever_they_stand() {
        for (text, expected) in [
            (
                "cannot read a: No such file (os error 2)",
                "cannot read a: No such file",
            ),
            ("a (os error 2), b (os error 13): c", "a, b: c"),
            ("(os error 2)", "(os error 2)"),
            (" (os error ) (os error 2", " (os error ) (os error 2"),
            ("ä (os error ä)", "ä (os error ä)"),
        ] {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn the_causes_of_an_error_are_in_it() {
        let inner = std::io::Error::from_raw_os_error(111);
        let error = std::io::Error::other(inner);
        assert_eq!(of(&error), "connection refused");
    }
}
