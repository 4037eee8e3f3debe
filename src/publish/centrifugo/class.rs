//! The one table of answers: what each status means, over HTTP and over GRPC.
//!
//! [`of_http`] and [`of_grpc`] classify the answer to a whole request. The scheduler decides what to do about it.
//! `TABLE` says the same in words, and RELIABILITY.md contains the same text.

/// What an answer says about the request as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// There is a reply to each command, or should be.
    Read,
    /// As [`Answer::Refused`](slipring_core::publish::Answer::Refused), with the HTTP status.
    Refused(u16),
    Denied,
    Lost,
}

/// Classifies an HTTP status.
pub(super) fn of_http(status: u16) -> Class {
    match status {
        200 => Class::Read,
        400 | 413 => Class::Refused(status),
        // These say themselves that they are temporary.
        408 | 425 | 429 => Class::Lost,
        300..=499 => Class::Denied,
        _ => Class::Lost,
    }
}

/// Classifies a GRPC status other than OK.
pub(super) fn of_grpc(code: tonic::Code, message: &str) -> Class {
    use tonic::Code;
    // Something that does not know GRPC has answered. The words are tonic's.
    if let Some((_, status)) = message.rsplit_once("mapped from HTTP status code ") {
        let class = status.parse().map_or(Class::Lost, of_http);
        return if class == Class::Read { Class::Lost } else { class };
    }
    match code {
        Code::InvalidArgument => Class::Refused(400),
        // The words of Centrifugo's library (grpc-go 1.82), which parses a request before it executes anything.
        Code::Internal if message.starts_with("grpc: error unmarshalling request") => Class::Refused(400),
        Code::ResourceExhausted if is_too_large(message) => Class::Refused(413),
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::NotFound => Class::Denied,
        _ => Class::Lost,
    }
}

/// Centrifugo's library says "received message larger than max (5000000 vs. 4194304)". Others use the same code for
/// rate limits, which are temporary.
fn is_too_large(message: &str) -> bool {
    message.contains("larger than max") || message.contains("message too large")
}

/// A row of the table of answers, for people.
#[cfg(test)]
struct Row {
    http: &'static str,
    grpc: &'static str,
    at_fault: &'static str,
    follows: &'static str,
    /// Each test covers both APIs if it has a server.
    tests: &'static [&'static str],
}

#[cfg(test)]
const TABLE: [Row; 8] = [
    Row {
        http: "200, a result for the publication",
        grpc: "OK, the same",
        at_fault: "nobody",
        follows: "it is confirmed",
        tests: &["publish::strict", "publish::batched"],
    },
    Row {
        http: "200, error 100 for the publication",
        grpc: "OK, the same",
        at_fault: "Centrifugo",
        follows: "its channel retries after 0.1 to 30 s with the same key; other channels continue",
        tests: &["faults::whatever_fails_all_is_shown_once_and_in_order"],
    },
    Row {
        http: "200, another error (102, 107, 108, …)",
        grpc: "OK, the same",
        at_fault: "the publication",
        follows: "it is refused: `on_reject` applies",
        tests: &["publish::strict"],
    },
    Row {
        http: "400 or 413; the same endpoint accepts an empty request",
        grpc: "InvalidArgument, Internal (\"error unmarshalling\") or ResourceExhausted (\"larger than max\"); the same",
        at_fault: "a publication, or the size of the batch",
        follows: "smaller requests; a publication refused alone twice in a row: `on_reject` applies",
        tests: &[
            "faults::a_publication_that_makes_a_batch_unreadable_is_found_and_dead_lettered",
            "faults::batches_that_are_too_large_become_smaller_and_nothing_is_refused",
        ],
    },
    Row {
        http: "400 or 413; the same endpoint refuses an empty request too",
        grpc: "the same",
        at_fault: "the endpoint",
        follows: "the next endpoint at once; if none is left, an empty request after 1 to 30 s",
        tests: &[
            "blame::an_endpoint_that_refuses_whatever_it_gets_costs_no_publication",
            "blame::the_next_endpoint_is_asked_when_one_lets_nothing_in",
        ],
    },
    Row {
        http: "401, 403, 404, any other 3xx or 4xx",
        grpc: "Unauthenticated, PermissionDenied, Unimplemented, NotFound",
        at_fault: "the endpoint or the key",
        follows: "the next endpoint at once; if none is left, an empty request after 1 to 30 s",
        tests: &[
            "blame::the_next_endpoint_is_asked_when_one_lets_nothing_in",
            "faults::while_centrifugo_lets_nobody_in_the_relay_waits_and_says_so",
        ],
    },
    Row {
        http: "408, 425, 429, 5xx, any other 1xx or 2xx, a body that is not a batch reply, a timeout, no connection, a cut connection",
        grpc: "any other status; the same",
        at_fault: "the endpoint, while nothing goes through",
        follows: "the next endpoint at once; if none is left, an empty request after 0.1 to 5 s",
        tests: &[
            "faults::when_an_endpoint_dies_the_other_one_takes_over_at_once",
            "faults::whatever_fails_all_is_shown_once_and_in_order",
        ],
    },
    Row {
        http: "either of the two rows above, always with the same publication, while others go through",
        grpc: "the same",
        at_fault: "the publication, or something in between",
        follows: "it is sent alone and never given up; its channels retry after 0.1 to 30 s, others continue at once",
        tests: &["blame::a_publication_that_is_never_answered_holds_up_nobody_else"],
    },
];

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    /// Returns the table exactly as RELIABILITY.md contains it.
    fn table() -> String {
        let mut text =
            "| over HTTP | over GRPC | at fault | what follows | tests |\n|---|---|---|---|---|\n".to_owned();
        for Row {
            http,
            grpc,
            at_fault,
            follows,
            tests,
        } in TABLE
        {
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            let tests = tests.join(", ");
            text.push_str(&format!("| {http} | {grpc} | {at_fault} | {follows} | {tests} |\n"));
        }
        text
    }

    #[test]
    fn the_manual_has_the_same_table() {
        let reliability = include_str!("../../../RELIABILITY.md");
        assert!(
            reliability.contains(&table()),
            "RELIABILITY.md should have:\n{}",
            table()
        );
    }

    #[test]
    fn the_table_names_tests_that_exist() {
        let files = [
            ("publish", include_str!("../../../tests/it/publish.rs")),
            ("faults", include_str!("../../../tests/it/faults.rs")),
            ("blame", include_str!("../../../tests/it/blame.rs")),
        ];
        for test in TABLE.iter().flat_map(|row| row.tests) {
            let (file, name) = test.split_once("::").unwrap();
            let (_, text) = files.iter().find(|(of, _)| *of == file).unwrap();
            assert!(text.contains(&format!("async fn {name}(")), "{test} does not exist");
            let both = &text[text.find("over_both!(").unwrap()..];
            let both = &both[..both.find(");").unwrap()];
            assert!(both.contains(&format!("    {name},")), "{test} is not over both APIs");
        }
    }

    #[test]
    fn each_status_of_http_has_a_meaning() {
        let with = |class: Class| -> Vec<u16> { (100..600).filter(|status| of_http(*status) == class).collect() };
        assert_eq!(with(Class::Read), [200]);
        assert_eq!(with(Class::Refused(400)), [400]);
        assert_eq!(with(Class::Refused(413)), [413]);
        let passes = |status: &u16| [408, 425, 429].contains(status);
        let lost: Vec<u16> = (100..300)
            .filter(|status| *status != 200)
            .chain([408, 425, 429])
            .chain(500..600)
            .collect();
        assert_eq!(with(Class::Lost), lost);
        let denied: Vec<u16> = (300..500)
            .filter(|status| ![400, 413].contains(status) && !passes(status))
            .collect();
        assert_eq!(with(Class::Denied), denied);
    }

    #[test]
    fn each_status_of_grpc_has_a_meaning() {
        let unreadable = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
        let too_large = "grpc: received message larger than max (5000000 vs. 4194304)";
        assert_eq!(of_grpc(Code::InvalidArgument, "no"), Class::Refused(400));
        assert_eq!(of_grpc(Code::Internal, unreadable), Class::Refused(400));
        assert_eq!(of_grpc(Code::ResourceExhausted, too_large), Class::Refused(413));
        for code in [
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Unimplemented,
            Code::NotFound,
        ] {
            assert_eq!(of_grpc(code, "no"), Class::Denied, "{code:?}");
        }
        for code in [
            Code::Cancelled,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::AlreadyExists,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ] {
            assert_eq!(of_grpc(code, "why"), Class::Lost, "{code:?}");
        }
    }

    /// A proxy or another server that answers there does not know GRPC.
    #[test]
    fn a_status_of_http_over_grpc_means_what_it_means_over_http() {
        let mapped = |code, status| {
            let message = format!("grpc-status header missing, mapped from HTTP status code {status}");
            of_grpc(code, &message)
        };
        assert_eq!(mapped(Code::Unknown, 413), Class::Refused(413));
        assert_eq!(mapped(Code::Internal, 400), Class::Refused(400));
        assert_eq!(mapped(Code::Unauthenticated, 401), Class::Denied);
        assert_eq!(mapped(Code::Unknown, 405), Class::Denied);
        assert_eq!(mapped(Code::Unavailable, 429), Class::Lost);
        assert_eq!(mapped(Code::Unavailable, 503), Class::Lost);
        assert_eq!(mapped(Code::Unknown, 200), Class::Lost);
    }
}
