//! What a status other than OK means, in the words and numbers of HTTP where the scheduler knows those.

use reqwest::Url;
use tonic::{Code, Status};

use super::super::{Answer, MAX_EXCERPT, chain};

/// `Err` says why the answer is ambiguous.
pub(super) fn judge(status: &Status, url: &Url) -> Result<Answer, String> {
    let said = describe(status);
    let refused = |status| Answer::Refused {
        status,
        reason: said.clone(),
    };
    let denied = |hint| Answer::Denied {
        reason: format!("Centrifugo at {url} lets nothing in ({said}): {hint}"),
    };
    match status.code() {
        Code::InvalidArgument => Ok(refused(400)),
        // The words of Centrifugo's library (grpc-go 1.82), which tries to read a request before it executes anything.
        Code::Internal if status.message().starts_with("grpc: error unmarshalling request") => Ok(refused(400)),
        Code::ResourceExhausted if is_too_large(status.message()) => Ok(refused(413)),
        // A proxy that knows nothing of GRPC, in tonic's words.
        Code::Unknown if status.message().ends_with("HTTP status code 413") => Ok(refused(413)),
        Code::Unauthenticated | Code::PermissionDenied => Ok(denied(
            "does `centrifugo.api_key_file` name a file that holds the value of Centrifugo's `grpc_api.key`?",
        )),
        Code::Unimplemented | Code::NotFound => Ok(denied(
            "is this the address and port of its GRPC API (`grpc_api.port`, 10000 by default)?",
        )),
        _ if speaks_http_1(&said) => Err(format!(
            "{said}; is this the port of its HTTP API? Its GRPC API has another one (`grpc_api.port`, 10000 by default)"
        )),
        _ => Err(said),
    }
}

/// Centrifugo's library says "received message larger than max (5000000 vs. 4194304)". Others use the same code for limits on
/// rates, which pass.
fn is_too_large(message: &str) -> bool {
    message.contains("larger than max") || message.contains("message too large")
}

/// What comes of the first words of HTTP/1 when they are taken for a frame of HTTP/2.
fn speaks_http_1(said: &str) -> bool {
    said.contains("frame with invalid size")
}

/// The code and the message. A status that was made here, because nothing came, has causes instead.
fn describe(status: &Status) -> String {
    let text = match std::error::Error::source(status) {
        Some(cause) => chain(cause),
        None => format!("GRPC {:?}: {}", status.code(), status.message()),
    };
    text.chars().take(MAX_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: Code, message: &str) -> Result<Answer, String> {
        judge(&Status::new(code, message), &Url::parse("grpc://c:10000").unwrap())
    }

    #[test]
    fn refusals_have_the_numbers_of_http() {
        let check = |code, message: &str, expected: u16| match judged(code, message) {
            Ok(Answer::Refused { status, reason }) => {
                assert_eq!((status, reason), (expected, format!("GRPC {code:?}: {message}")));
            }
            other => panic!("{code:?} {message}: {other:?}"),
        };
        check(Code::InvalidArgument, "no", 400);
        check(
            Code::Internal,
            "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
            400,
        );
        check(
            Code::ResourceExhausted,
            "grpc: received message larger than max (5000000 vs. 4194304)",
            413,
        );
        check(
            Code::Unknown,
            "grpc-status header missing, mapped from HTTP status code 413",
            413,
        );
    }

    #[test]
    fn denials_carry_a_hint() {
        let check = |code, hint: &str| match judged(code, "no") {
            Ok(Answer::Denied { reason }) => assert!(reason.contains(hint), "{reason}"),
            other => panic!("{code:?}: {other:?}"),
        };
        check(Code::Unauthenticated, "api_key_file");
        check(Code::PermissionDenied, "grpc_api.key");
        check(Code::Unimplemented, "grpc_api.port");
        check(Code::NotFound, "grpc://c:10000");
    }

    #[test]
    fn everything_else_is_ambiguous() {
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
            assert_eq!(judged(code, "why"), Err(format!("GRPC {code:?}: why")));
        }
    }
}
