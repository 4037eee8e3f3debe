//! Centrifugo's API: carries a request to the endpoint that is current and says what became of it. It retries nothing and
//! waits for nothing; that is for the scheduler.

mod grpc;
mod http;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Url;

use super::answer::Answer;
use super::request::Request;
use crate::config;

/// So that an endpoint whose machine is gone costs less than the time-out of a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Of what an error says, in characters, for the log.
const MAX_EXCERPT: usize = 200;

/// Shared by all pipelines.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    /// Endpoints in a row that failed, since the last success of any.
    failed_endpoints: AtomicUsize,
}

#[derive(Debug)]
enum Endpoint {
    Http(http::Endpoint),
    Grpc(Box<grpc::Endpoint>),
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the API key cannot be sent in a header: only visible ASCII characters can")]
    Key,
    #[error("no HTTP client can be made for Centrifugo's API")]
    Http(#[source] reqwest::Error),
    #[error("no GRPC client can be made for Centrifugo's API")]
    Grpc(#[source] tonic::transport::Error),
    #[error("`{0}` is not an endpoint of Centrifugo's API: `http://host:8000` or `grpc://host:10000` would be one")]
    Endpoint(Url),
    #[error("Centrifugo needs at least one endpoint")]
    NoEndpoint,
}

impl Client {
    pub fn new(config: &config::Centrifugo) -> Result<Self, ClientError> {
        // An error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = http::client(config)?;
        let endpoint = |url: &Url| match url.scheme() {
            "http" | "https" => Ok(Endpoint::Http(http::Endpoint::new(http.clone(), url))),
            "grpc" | "grpcs" => Ok(Endpoint::Grpc(Box::new(grpc::Endpoint::new(config, url)?))),
            _ => Err(ClientError::Endpoint(url.clone())),
        };
        let endpoints = config.endpoints.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        Ok(Self {
            endpoints,
            current: AtomicUsize::new(0),
            failed_endpoints: AtomicUsize::new(0),
        })
    }

    /// Sends the request once and waits for its answer or for the time-out.
    pub async fn send(&self, request: &Request) -> Answer {
        let current = self.current.load(Ordering::Relaxed);
        let endpoint = &self.endpoints[current];
        match endpoint.send(request).await {
            Ok(answer) => {
                self.failed_endpoints.store(0, Ordering::Relaxed);
                answer
            }
            Err(reason) => Answer::Lost {
                reason: format!("no usable answer from Centrifugo at {}: {reason}", endpoint.url()),
                elsewhere: self.turn_from(current),
            },
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

impl Endpoint {
    async fn send(&self, request: &Request) -> Result<Answer, String> {
        match self {
            Self::Http(endpoint) => endpoint.send(request).await,
            Self::Grpc(endpoint) => endpoint.send(request).await,
        }
    }

    fn url(&self) -> &Url {
        match self {
            Self::Http(endpoint) => endpoint.url(),
            Self::Grpc(endpoint) => endpoint.url(),
        }
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
