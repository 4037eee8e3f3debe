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
    for part in text.split(": ") {
        let part = without_number(part);
        let part = match part {
            NOT_TLS => "the server does not speak TLS on this port; write `http://` or `grpc://` in its address",
            part => part,
        };
        if !LAYERS.contains(&part) && !parts.contains(&part) {
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [] => text.to_owned(),
        parts => lower(&parts.join(": ")),
    }
}

/// Removes the system's number of an error, such as ` (os error 111)`.
fn without_number(part: &str) -> &str {
    let is_number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    let stripped = part
        .strip_suffix(')')
        .and_then(|part| part.rsplit_once(" (os error "))
        .filter(|(_, number)| is_number(number));
    stripped.map_or(part, |(words, _)| words)
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
    fn the_causes_of_an_error_are_in_it() {
        let inner = std::io::Error::from_raw_os_error(111);
        let error = std::io::Error::other(inner);
        assert_eq!(of(&error), "connection refused");
    }
}
