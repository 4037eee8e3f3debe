//! What a request to the page of a command must have.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::super::authority::{Authority, Host};
use super::super::guard::{BODY_TIMEOUT, COMMAND_HEADER, Demand, receive, refused};
use super::super::origin::{self, Refusal};
use super::super::tokens::{Access, Given, Tokens};

/// The messages of a person may be long.
const LONGEST_BODY: usize = 16 << 20;

/// Refuses a request for another host, which a page with a name of its own may send (DNS rebinding), and a request of
/// another site's page.
pub(super) async fn place(request: Request, next: Next) -> Response {
    let host = origin::host(&request, &[]).ok().filter(is_here);
    if host.is_none() {
        return refused(Refusal {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason: "This server answers only to 127.0.0.1 and localhost.".to_owned(),
        });
    }
    if origin::same_origin(&request, host.as_ref()).is_err() {
        return refused(Refusal {
            status: StatusCode::FORBIDDEN,
            reason: "A page of another site sent this request.".to_owned(),
        });
    }
    next.run(request).await
}

/// Refuses a request without the token, and a command that a page of another site may have caused.
pub(super) async fn token(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    if !matches!(tokens.given(request.headers()), Given::Right(..)) {
        return refused(Refusal {
            status: StatusCode::UNAUTHORIZED,
            reason: "The header `Authorization: Bearer TOKEN` is missing or has a wrong token; the token is in the \
                     address that `slipring dev --web` shows."
                .to_owned(),
        });
    }
    if request.method() != Method::GET && !request.headers().contains_key(COMMAND_HEADER) {
        return refused(Refusal {
            status: StatusCode::FORBIDDEN,
            reason: format!("The header `{COMMAND_HEADER}: 1` is missing."),
        });
    }
    let demand = Demand {
        access: Access::Full,
        any_host: false,
        command: true,
        body: LONGEST_BODY,
        patience: BODY_TIMEOUT,
        place: None,
        off: None,
    };
    let (parts, body) = request.into_parts();
    match receive(body, demand).await {
        Ok(body) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refused(refusal),
    }
}

/// Returns true for a name of this machine that no other site can have.
fn is_here(authority: &Authority) -> bool {
    match &authority.host {
        Host::V4(address) => address.is_loopback(),
        Host::V6(address) => address.is_loopback(),
        Host::Name(name) => name == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        let is_here = |text: &str| is_here(&Authority::parse(text).unwrap());
        for good in ["127.0.0.1:8080", "localhost", "localhost.:1", "[::1]:8080", "127.0.0.7"] {
            assert!(is_here(good), "{good}");
        }
        for foreign in [
            "10.0.0.7",
            "evil.example:8080",
            "localhost.evil.example",
            "[2001:db8::1]",
            "0.0.0.0",
        ] {
            assert!(!is_here(foreign), "{foreign}");
        }
    }
}
