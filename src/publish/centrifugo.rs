//! Centrifugo over HTTP: carries a request to the endpoint that is current and says what became of it. It retries nothing and
//! waits for nothing; that is for the scheduler.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue};
use reqwest::{Response, StatusCode, Url, redirect};

use super::answer::Answer;
use super::body;
use super::replies;
use super::request::Request;
use crate::config;

/// Centrifugo closes an idle connection after 30 s; a request sent at that moment would fail.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// So that an endpoint whose machine is gone costs less than the time-out of a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Of an error's body, in characters, for the log.
const MAX_EXCERPT: usize = 200;

/// Shared by all pipelines.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    current: AtomicUsize,
    /// Endpoints in a row that failed, since the last success of any.
    failed_endpoints: AtomicUsize,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the API key cannot be sent in an HTTP header: only visible ASCII characters can")]
    Key(#[source] InvalidHeaderValue),
    #[error("no HTTP client can be made for Centrifugo's API")]
    Http(#[source] reqwest::Error),
    #[error("`{0}` is not an endpoint of Centrifugo's HTTP API: `http://host:8000` would be one")]
    Endpoint(Url),
    #[error("Centrifugo needs at least one endpoint")]
    NoEndpoint,
}

impl Client {
    pub fn new(config: &config::Centrifugo) -> Result<Self, ClientError> {
        // An error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(key) = &config.api_key {
            let mut key = HeaderValue::from_str(key.expose()).map_err(ClientError::Key)?;
            key.set_sensitive(true);
            headers.insert("X-API-Key", key);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .http1_only()
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            // A key must not travel to where a proxy or a redirect points.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .map_err(ClientError::Http)?;
        let endpoints = config.endpoints.iter().map(batch_url).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        Ok(Self {
            http,
            endpoints,
            current: AtomicUsize::new(0),
            failed_endpoints: AtomicUsize::new(0),
        })
    }

    /// Sends the request once and waits for its answer or for the time-out.
    pub async fn send(&self, request: &Request) -> Answer {
        let current = self.current.load(Ordering::Relaxed);
        let url = &self.endpoints[current];
        let lost = match self.http.post(url.clone()).body(body::write(request)).send().await {
            Err(error) => chain(&error.without_url()),
            Ok(response) => match judge(response, url, request).await {
                Ok(answer) => {
                    self.failed_endpoints.store(0, Ordering::Relaxed);
                    return answer;
                }
                Err(reason) => reason,
            },
        };
        Answer::Lost {
            reason: format!("no usable answer from Centrifugo at {url}: {lost}"),
            elsewhere: self.turn_from(current),
        }
    }

    /// Whether publications would be taken: a request without any is sent. `Err` says why not.
    pub async fn probe(&self) -> Result<(), String> {
        match self.send(&Request::empty()).await {
            Answer::Replies(_) => Ok(()),
            Answer::Refused { reason, .. } | Answer::Denied { reason } | Answer::Lost { reason, .. } => Err(reason),
        }
    }

    /// The endpoint failed: the next request goes to the next one. Returns whether that has not failed, too.
    fn turn_from(&self, endpoint: usize) -> bool {
        let next = (endpoint + 1) % self.endpoints.len();
        // Only one of several requests that fail together turns.
        let turned = self
            .current
            .compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        let failed = self.failed_endpoints.fetch_add(usize::from(turned), Ordering::Relaxed) + usize::from(turned);
        failed < self.endpoints.len()
    }
}

/// `Err` says why the answer is ambiguous.
async fn judge(response: Response, url: &Url, request: &Request) -> Result<Answer, String> {
    let status = response.status();
    let body = response.bytes().await.map_err(|error| chain(&error.without_url()))?;
    let excerpt = || excerpt(status, &body);
    match status {
        StatusCode::OK => match replies::read(&body, request.channels()) {
            Ok(replies) => Ok(Answer::Replies(replies)),
            Err(error) => Err(format!("{}; {}", chain(&error), excerpt())),
        },
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Ok(Answer::Refused {
            status: status.as_u16(),
            reason: excerpt(),
        }),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Err(excerpt()),
        _ if status.is_redirection() || status.is_client_error() => {
            let hint = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    "does `centrifugo.api_key_file` hold the value of Centrifugo's `http_api.key`?"
                }
                StatusCode::NOT_FOUND => {
                    "is this the address, port and path of its HTTP API, and is `http_api` not disabled?"
                }
                _ => "is this the address of its HTTP API, and not of something before it?",
            };
            Ok(Answer::Denied {
                reason: format!("Centrifugo at {url} lets nothing in ({}): {hint}", excerpt()),
            })
        }
        _ => Err(excerpt()),
    }
}

/// An endpoint may be given as `http://host`, with a path before the API, and with or without `/api` at the end.
fn batch_url(endpoint: &Url) -> Result<Url, ClientError> {
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(ClientError::Endpoint(endpoint.clone()));
    }
    let base = endpoint.path().trim_end_matches('/');
    let base = base.strip_suffix("/api").unwrap_or(base);
    let mut url = endpoint.clone();
    url.set_path(&format!("{base}/api/batch"));
    Ok(url)
}

fn excerpt(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).trim().chars().take(MAX_EXCERPT).collect();
    // "HTTP 400 Bad Request: Bad Request" says nothing more.
    if text.is_empty() || status.canonical_reason() == Some(&text) {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {text}")
    }
}

/// The error and its causes: reqwest itself says no more than "error sending request".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
