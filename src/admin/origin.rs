//! Decides whether a request is meant for this relay, and whether another site's page sent it.
//!
//! A page can have its own name resolve to the relay's address (DNS rebinding). The browser then takes the relay for a
//! part of that site, and lets the page read every answer. But it still sends the page's name as the host.

use axum::extract::Request;
use axum::http::{HeaderName, StatusCode, header};

use super::authority::{Authority, Host};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// A sentence for the client.
    pub reason: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

/// Returns the host for which the request is meant, if the relay answers for it. An address cannot be made to mean
/// another machine, so every address is allowed.
pub(super) fn host(request: &Request, hosts: &[String]) -> Result<Authority, Refusal> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "The request must have one `Host` header.",
        ));
    };
    let named = allowed(header.as_bytes(), hosts)?;
    // A request line with a whole URL has a host, too, which counts more than the header.
    match request.uri().authority() {
        Some(authority) => allowed(authority.as_str().as_bytes(), hosts),
        None => Ok(named),
    }
}

fn allowed(text: &[u8], hosts: &[String]) -> Result<Authority, Refusal> {
    let authority = str::from_utf8(text).ok().and_then(Authority::parse).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "The host of the request is not a host name or an IP address; it must be like `127.0.0.1:8787` or `relay.example`.",
        )
    })?;
    match &authority.host {
        Host::Name(name) if name != "localhost" && !hosts.contains(name) => Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "The relay does not answer to the name `{name}`. Use its IP address, or add the name to `admin.hosts`."
            ),
        )),
        _ => Ok(authority),
    }
}

/// Refuses what a page of another site sends. `host` is the host of the request, if the relay answers for it.
pub(super) fn same_origin(request: &Request, host: Option<&Authority>) -> Result<(), Refusal> {
    let headers = request.headers();
    let is_same = |origin: &[u8]| {
        let (scheme, authority) = str::from_utf8(origin).ok()?.split_once("://")?;
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let (origin, host) = (Authority::parse(authority)?, host?);
        // A proxy in front may add TLS, so the scheme is not compared.
        let ports = [&origin, host].map(|authority| authority.port.unwrap_or(default));
        (origin.host == host.host && ports[0] == ports[1]).then_some(())
    };
    let own_origin = headers
        .get_all(header::ORIGIN)
        .iter()
        .all(|origin| is_same(origin.as_bytes()).is_some());
    let own_site = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    if own_origin && own_site {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "A page of another site sent this request. The relay accepts requests from programs, and from pages of its own origin.",
    ))
}
