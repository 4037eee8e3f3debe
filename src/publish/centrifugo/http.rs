//! One endpoint of Centrifugo's HTTP API.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url, redirect};
use rustls::ClientConfig;

use super::super::{body, replies};
use super::class::{Class, of_http};
use super::key::Key;
use super::{Answer, CONNECT_TIMEOUT, ClientError, MAX_EXCERPT, Request, builder, tls};
use crate::{cause, config};

/// Centrifugo closes an idle connection after 30 s. A request sent at that moment would fail.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest reply in bytes, without the part per channel. A channel's reply is an offset and an epoch, or an error
/// with its message.
const ANSWER: usize = 1 << 20;
const ANSWER_PER_CHANNEL: usize = 512;

#[derive(Debug)]
pub(super) struct Endpoint {
    client: reqwest::Client,
    url: Url,
    key: Arc<Key>,
}

impl Endpoint {
    pub(super) fn new(client: reqwest::Client, endpoint: &Url, key: Arc<Key>) -> Self {
        let url = batch_url(endpoint);
        Self { client, url, key }
    }

    /// Returns the same endpoint over the connections of this client.
    pub(super) fn over(&self, client: reqwest::Client) -> Self {
        Self {
            client,
            url: self.url.clone(),
            key: Arc::clone(&self.key),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// `Err` says why the answer is ambiguous.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, String> {
        let response = self.post(body::write(request)).await?;
        judge(response, &self.url, request).await
    }

    /// Sends a batch of other commands than publications, and returns the body of the reply.
    pub(super) async fn ask(&self, batch: String) -> Result<Vec<u8>, String> {
        let response = self.post(batch).await?;
        let status = response.status();
        let body = read(response, ANSWER).await?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(excerpt(status, &body)),
        }
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> Result<Response, String> {
        let mut call = self.client.post(self.url.clone()).body(body);
        if let Some(key) = self.key.header("") {
            call = call.header("X-API-Key", key);
        }
        call.send().await.map_err(|error| cause::of(&error.without_url()))
    }
}

/// What every client is made with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    tls: Option<ClientConfig>,
    timeout: Duration,
}

impl Settings {
    pub(super) fn new(config: &config::Centrifugo) -> Result<Self, ClientError> {
        Ok(Self {
            tls: tls(config)?,
            timeout: config.timeout,
        })
    }

    /// Creates a client with connections of its own. One is enough for all endpoints.
    pub(super) fn client(&self) -> Result<reqwest::Client, ClientError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        builder(self.tls.clone())
            .default_headers(headers)
            .http1_only()
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .timeout(self.timeout)
            // The key must not travel to the target of a proxy or redirect.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .map_err(ClientError::Http)
    }
}

/// `Err` says why the answer is ambiguous.
async fn judge(response: Response, url: &Url, request: &Request) -> Result<Answer, String> {
    let status = response.status();
    let body = read(
        response,
        ANSWER + ANSWER_PER_CHANNEL * request.channels().sum::<usize>(),
    )
    .await?;
    let excerpt = || excerpt(status, &body);
    match of_http(status.as_u16()) {
        Class::Read => match replies::read(&body, request.channels()) {
            Ok(replies) => Ok(Answer::Replies(replies)),
            Err(error) => Err(format!("{}; {}", cause::of(&error), excerpt())),
        },
        Class::Refused(status) => Ok(Answer::Refused {
            status,
            reason: excerpt(),
        }),
        Class::Denied => {
            let hint = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    "does `centrifugo.api_key_file` name a file that holds the value of Centrifugo's `http_api.key`?"
                }
                StatusCode::NOT_FOUND => {
                    "is this the address, port and path of its HTTP API, and is `http_api` enabled?"
                }
                _ => "is this the address of its HTTP API, and not of a proxy in front of it?",
            };
            Ok(Answer::Denied {
                reason: format!("Centrifugo at {url} refuses every request ({}): {hint}", excerpt()),
            })
        }
        Class::Lost => Err(excerpt()),
    }
}

/// Reads the body up to `limit`. A body that does not end would otherwise fill the memory until the timeout.
async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| cause::of(&error.without_url()))?
    {
        if body.len() + part.len() > limit {
            return Err(format!(
                "HTTP {}: the reply is larger than {limit} bytes, so it is not from Centrifugo",
                response.status()
            ));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// An endpoint may be given as `http://host`, with a path before the API, and with or without `/api` at the end.
fn batch_url(endpoint: &Url) -> Url {
    let base = endpoint.path().trim_end_matches('/');
    let base = base.strip_suffix("/api").unwrap_or(base);
    let mut url = endpoint.clone();
    url.set_path(&format!("{base}/api/batch"));
    url
}

fn excerpt(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).trim().chars().take(MAX_EXCERPT).collect();
    // "HTTP 400 Bad Request: Bad Request" would say nothing more.
    if text.is_empty() || status.canonical_reason() == Some(&text) {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_be_written_in_several_ways() {
        let check = |endpoint: &str, expected: &str| {
            assert_eq!(batch_url(&Url::parse(endpoint).unwrap()).as_str(), expected);
        };
        check("http://c:8000", "http://c:8000/api/batch");
        check("http://c:8000/", "http://c:8000/api/batch");
        check("http://c:8000/api", "http://c:8000/api/batch");
        check("https://c/centrifugo/api/", "https://c/centrifugo/api/batch");
    }
}
