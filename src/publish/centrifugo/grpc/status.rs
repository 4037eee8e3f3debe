//! Translates a status other than OK for the scheduler and for people.

use reqwest::Url;
use tonic::{Code, Status};

use super::super::class::{Class, of_grpc};
use super::super::{Answer, MAX_EXCERPT};
use crate::cause;

/// `Err` says why the answer is ambiguous.
pub(super) fn judge(status: &Status, url: &Url) -> Result<Answer, String> {
    let said = describe(status);
    match of_grpc(status.code(), status.message()) {
        Class::Refused(status) => Ok(Answer::Refused { status, reason: said }),
        Class::Denied => Ok(Answer::Denied {
            reason: format!(
                "Centrifugo at {url} refuses every request ({said}): {}",
                hint(status.code())
            ),
        }),
        Class::Lost | Class::Read if speaks_http_1(&said) => Err(format!(
            "{said}; is this the port of its HTTP API? Its GRPC API has another one (`grpc_api.port`, 10000 by default)"
        )),
        Class::Lost | Class::Read if said.contains("connection refused") => Err(format!(
            "{said}; is `grpc_api.enabled` true in Centrifugo's configuration, and is this `grpc_api.port`?"
        )),
        Class::Lost | Class::Read => Err(said),
    }
}

fn hint(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => {
            "does `centrifugo.api_key_file` name a file that holds the value of Centrifugo's `grpc_api.key`?"
        }
        _ => "is this the address and port of its GRPC API (`grpc_api.port`, 10000 by default)?",
    }
}

/// Returns true if the first words of HTTP/1 were taken for an HTTP/2 frame.
fn speaks_http_1(said: &str) -> bool {
    said.contains("frame with invalid size")
}

/// Returns the code and the message. A status that was made here, because no reply came, has causes instead.
pub(super) fn describe(status: &Status) -> String {
    let text = match std::error::Error::source(status) {
        Some(cause) => cause::of(cause),
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
    fn refusals_carry_what_was_said() {
        let refused = Answer::Refused {
            status: 400,
            reason: "GRPC InvalidArgument: no".to_owned(),
        };
        assert_eq!(judged(Code::InvalidArgument, "no"), Ok(refused));
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
    fn an_ambiguous_answer_says_why() {
        assert_eq!(
            judged(Code::Unavailable, "why"),
            Err("GRPC Unavailable: why".to_owned())
        );
    }
}
