//! The client of Centrifugo's API: sends a request to its endpoint and returns what became of it. It neither chooses an
//! endpoint nor retries nor waits. The scheduler does that.

mod class;
mod grpc;
mod http;
mod key;
mod namespaces;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::ClientConfig;

#[cfg(any(test, fuzzing))]
pub(super) use self::grpc::read_batch;
use self::key::Key;
use crate::config::{self, TlsError};
use slipring_core::publish::{Answer, Request, RequestId};

/// Short, so that an endpoint on a dead machine costs less than the timeout of a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How many characters of an error go into the log.
const MAX_EXCERPT: usize = 200;

#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    http: http::Settings,
    key: Arc<Key>,
}

#[derive(Debug)]
enum Endpoint {
    Http(http::Endpoint),
    Grpc(Box<grpc::Endpoint>),
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the API key cannot be sent in a header: it must consist of visible ASCII characters")]
    Key,
    #[error("cannot set up TLS for Centrifugo's API (`centrifugo.tls`)")]
    Tls(#[source] TlsError),
    #[error("cannot read a file of `centrifugo.tls`")]
    File(#[source] std::io::Error),
    #[error("cannot create an HTTP client for Centrifugo's API")]
    Http(#[source] reqwest::Error),
    #[error("cannot create a GRPC client for Centrifugo's API")]
    Grpc(#[source] tonic::transport::Error),
    #[error(
        "`{0}` is not an endpoint of Centrifugo's API: it must be a URL such as `http://host:8000` or `grpc://host:10000`"
    )]
    Endpoint(Url),
    #[error("Centrifugo needs at least one endpoint")]
    NoEndpoint,
}

impl Client {
    /// Must be called within a tokio runtime.
    pub fn new(config: &config::Centrifugo) -> Result<Self, ClientError> {
        // An error means that a provider is already installed, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = Arc::new(Key::new(config.api_key.clone())?);
        let http = http::Settings::new(config)?;
        let client = http.client()?;
        let endpoint = |url: &Url| match url.scheme() {
            "http" | "https" => Ok(Endpoint::Http(http::Endpoint::new(
                client.clone(),
                url,
                Arc::clone(&key),
            ))),
            "grpc" | "grpcs" => {
                let endpoint = grpc::Endpoint::new(config, url, Arc::clone(&key))?;
                Ok(Endpoint::Grpc(Box::new(endpoint)))
            }
            _ => Err(ClientError::Endpoint(url.clone())),
        };
        let endpoints = config.endpoints.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        Ok(Self { endpoints, http, key })
    }

    /// Reads the file of the API key again, for all clients of these endpoints.
    pub async fn read_key_again(&self) {
        self.key.read_again().await;
    }

    /// Returns a client of the same endpoints over connections of its own, which live in the current tokio runtime. If a
    /// request breaks one of these connections, or if the runtime ends, nobody else is affected.
    pub fn apart(&self) -> Result<Self, ClientError> {
        let client = self.http.client()?;
        let endpoint = |endpoint: &Endpoint| match endpoint {
            Endpoint::Http(http) => Endpoint::Http(http.over(client.clone())),
            Endpoint::Grpc(grpc) => Endpoint::Grpc(Box::new(grpc.apart())),
        };
        Ok(Self {
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            http: self.http.clone(),
            key: Arc::clone(&self.key),
        })
    }

    /// Returns the number of endpoints.
    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Sends the request once, to its endpoint, and waits for the reply or the timeout.
    pub async fn send(&self, request: &Request) -> Answer {
        // The constructor checks that there is at least one.
        let endpoint = &self.endpoints[request.endpoint() % self.endpoints.len()];
        let url = endpoint.url();
        let sent_with = self.key.generation();
        let mut answer = endpoint.send(request).await;
        if matches!(answer, Ok(Answer::Denied { .. })) {
            self.key.read_again().await;
            // Somebody has replaced the key, maybe before this request was denied. Nothing was executed.
            if self.key.generation() != sent_with {
                answer = endpoint.send(request).await;
            }
        }
        match answer {
            Ok(Answer::Refused { reason, .. }) if request.is_empty() => Answer::Denied {
                reason: format!(
                    "Centrifugo at {url} refuses even an empty request ({reason}): is this the address of its API, \
                     with `https` or `grpcs` if it requires TLS?"
                ),
            },
            Ok(answer) => answer,
            Err(reason) => Answer::Lost {
                reason: format!("no usable reply from Centrifugo at {url}: {reason}"),
            },
        }
    }

    /// Checks with an empty request whether at least one endpoint would accept publications. `Err` says why the first
    /// one does not.
    pub async fn probe(&self) -> Result<(), String> {
        let mut why = None;
        for endpoint in 0..self.endpoints.len() {
            match self.send(&Request::empty(RequestId::NONE).to(endpoint)).await {
                Answer::Replies(_) => return Ok(()),
                Answer::Refused { reason, .. } | Answer::Denied { reason } | Answer::Lost { reason } => {
                    why.get_or_insert(reason);
                }
            }
        }
        Err(why.unwrap_or_default())
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

/// Returns a builder that trusts whom `centrifugo.tls` says. Without an endpoint that needs TLS, nothing is read from the
/// platform, which may have no certificates at all.
pub fn http_builder(config: &config::Centrifugo) -> Result<reqwest::ClientBuilder, ClientError> {
    Ok(builder(tls(config)?))
}

fn tls(config: &config::Centrifugo) -> Result<Option<ClientConfig>, ClientError> {
    let needs_tls = config.endpoints.iter().any(|url| url.scheme() == "https");
    let tls = needs_tls.then(|| config.tls.client_config());
    tls.transpose().map_err(ClientError::Tls)
}

fn builder(tls: Option<ClientConfig>) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    match tls {
        Some(tls) => builder.tls_backend_preconfigured(tls),
        None => builder.tls_certs_only([]),
    }
}

#[cfg(test)]
mod tests;
