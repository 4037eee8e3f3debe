//! What every request passes before its route, and what every answer carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::origin::{self, Refusal};
use super::tokens::{Access, Given, Tokens};

/// A page can make a browser of another site's visitor send a request here, but not one with a custom header.
pub(super) const COMMAND_HEADER: &str = "slipring-command";

/// How long a client may take to send it.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The answers are secret to others than the client, they are no page's script or style, and no page may frame them.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// The address of the client, in every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub SocketAddr);

/// What the client of this request may have, and the name of its token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted {
    pub access: Access,
    pub token: &'static str,
}

#[derive(Debug)]
pub(super) struct Guard {
    pub hosts: Vec<String>,
    pub tokens: Tokens,
}

/// What a route demands of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub access: Access,
    /// The route answers whatever the host of the request is.
    pub any_host: bool,
    /// The request must have the header [`COMMAND_HEADER`].
    pub command: bool,
    /// The longest body, in bytes.
    pub body: usize,
    /// How long a client may take to send it.
    pub patience: Duration,
    /// Held while the request is received and answered. Nobody waits for it.
    pub place: Option<&'static Semaphore>,
    /// Set if the configuration does not allow it: the sentence that says so.
    pub off: Option<&'static str>,
}

pub(super) async fn check(
    State((guard, demand)): State<(Arc<Guard>, Demand)>,
    request: Request,
    next: Next,
) -> Response {
    match guard.admit(demand, &request) {
        Ok(granted) => {
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(granted);
            let _place = match demand.place.map(Semaphore::try_acquire).transpose() {
                Ok(place) => place,
                Err(_) => return refused(busy()),
            };
            match receive(body, demand).await {
                Ok(body) => next.run(Request::from_parts(parts, body)).await,
                Err(refusal) => refused(refusal),
            }
        }
        Err(refusal) => refused(refusal),
    }
}

/// Adds what every answer carries. The page has a policy of its own.
pub(super) fn seal(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
}

impl Guard {
    fn admit(&self, demand: Demand, request: &Request) -> Result<Granted, Refusal> {
        let host = match origin::host(request, &self.hosts) {
            Ok(host) => Some(host),
            Err(_) if demand.any_host => None,
            Err(refusal) => return Err(refusal),
        };
        origin::same_origin(request, host.as_ref())?;
        // Under a foreign name, a page of another site may be reading the answer.
        let without = host.map_or(Access::Open, |_| self.tokens.without());
        let nothing = Granted {
            access: without,
            token: "none",
        };
        let given = self.tokens.given(request.headers());
        let granted = match given {
            Given::Right(access, token) => Granted {
                access: access.max(without),
                token,
            },
            Given::Nothing => nothing,
            Given::Wrong => {
                if let Some(Client(address)) = request.extensions().get() {
                    self.tokens.note_wrong(*address);
                }
                // Where no token is needed, a client with an old one gets the same as one without.
                nothing
            }
        };
        if granted.access < demand.access {
            return Err(missing(given, demand.access));
        }
        if let Some(off) = demand.off {
            return Err(Refusal {
                status: StatusCode::FORBIDDEN,
                reason: off.to_owned(),
            });
        }
        if demand.command && !request.headers().contains_key(COMMAND_HEADER) {
            return Err(Refusal {
                status: StatusCode::FORBIDDEN,
                reason: format!(
                    "The header `{COMMAND_HEADER}: 1` is missing. It shows that the request does not come from a page of \
                     another site."
                ),
            });
        }
        Ok(granted)
    }
}

fn missing(given: Given, needed: Access) -> Refusal {
    let key = match needed {
        Access::Full => "`admin.token_file`",
        _ => "`admin.token_file` or `admin.read_token_file`",
    };
    let created = match needed {
        Access::Full => {
            " If that key is not set, the relay has created a token. Its log names the file, and `slipring` finds it by \
             itself for the user who runs the relay."
        }
        _ => "",
    };
    let (status, found) = match given {
        Given::Nothing => (StatusCode::UNAUTHORIZED, "is missing"),
        Given::Wrong => (StatusCode::UNAUTHORIZED, "has a wrong token"),
        Given::Right(..) => (
            StatusCode::FORBIDDEN,
            "has the token for reading, which does not allow this",
        ),
    };
    Refusal {
        status,
        reason: format!(
            "The header `Authorization: Bearer TOKEN` {found}; send the token from the file that {key} names.{created}"
        ),
    }
}

fn busy() -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "Another such request is being answered; try again when it is done.".to_owned(),
    }
}

pub(super) async fn receive(body: Body, demand: Demand) -> Result<Body, Refusal> {
    let longest = demand.body;
    let received = tokio::time::timeout(demand.patience, body::to_bytes(body, longest)).await;
    let (status, reason) = match received {
        Ok(Ok(bytes)) => return Ok(bytes.into()),
        Ok(Err(_)) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The body of the request is incomplete, or longer than {} KiB.",
                longest >> 10
            ),
        ),
        Err(_) => (
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "The body of the request did not arrive within {} s.",
                demand.patience.as_secs()
            ),
        ),
    };
    Err(Refusal { status, reason })
}

pub(super) fn refused(Refusal { status, reason }: Refusal) -> Response {
    let mut response = (status, format!("{reason}\n")).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}
