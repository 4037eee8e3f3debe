//! One endpoint of Centrifugo's GRPC API.

// Only tests read requests. Under `expect`, rustc takes generated code for used and then finds nothing to expect.
#[rustfmt::skip]
#[cfg_attr(not(test), allow(dead_code))]
#[cfg_attr(not(test), expect(clippy::allow_attributes))]
mod api;
mod status;
#[cfg(test)]
mod tests;
mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use tonic::Request as Call;
use tonic::client::Grpc;
use tonic::codec::Codec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Identity};

use super::key::Key;
use super::{Answer, CONNECT_TIMEOUT, ClientError, Request};
use crate::publish::replies;
use crate::{cause, config};

const METHOD: &str = "/centrifugal.centrifugo.api.CentrifugoApi/Batch";

/// Centrifugo's own default.
const DEFAULT_PORT: u16 = 10_000;

/// How often the kernel checks an idle peer, so that nothing on the way forgets the connection. HTTP/2 has pings for
/// that, but Centrifugo's library closes the connection of a client that sends more than one in five minutes (grpc-go's
/// `keepalive.EnforcementPolicy`).
const TCP_KEEPALIVE: Duration = Duration::from_secs(20);

/// The largest reply in bytes. The reply to a request of 1 MiB for very many channels may be ten times as large as the
/// request.
const MAX_REPLIES: usize = 64 << 20;

/// Enough for the replies of all requests in flight, so that none waits for flow control.
const WINDOW: u32 = 4 << 20;

#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    server: transport::Endpoint,
    timeout: Duration,
    key: Arc<Key>,
    connection: Mutex<Connection>,
    /// For requests that may break their connection.
    spare: Mutex<Connection>,
}

/// An HTTP/2 connection. It carries all requests at once and connects by itself when it is needed.
#[derive(Debug)]
struct Connection {
    channel: Channel,
    /// Counts the connections. If several requests time out together, only one of them opens a new connection.
    number: u64,
}

impl Endpoint {
    pub(super) fn new(config: &config::Centrifugo, url: &Url, key: Arc<Key>) -> Result<Self, ClientError> {
        let server = server(config, url)?;
        Ok(Self {
            url: url.clone(),
            connection: Connection::first(&server),
            spare: Connection::first(&server),
            server,
            timeout: config.timeout,
            key,
        })
    }

    /// Returns the same endpoint over connections of its own.
    pub(super) fn apart(&self) -> Self {
        Self {
            url: self.url.clone(),
            connection: Connection::first(&self.server),
            spare: Connection::first(&self.server),
            server: self.server.clone(),
            timeout: self.timeout,
            key: Arc::clone(&self.key),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// `Err` says why the answer is ambiguous.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, String> {
        let connection = if request.is_apart() {
            &self.spare
        } else {
            &self.connection
        };
        let (channel, number) = current(connection);
        match tokio::time::timeout(self.timeout, self.call(channel, request)).await {
            Ok(Ok(response)) => replies::gather(response.replies.into_iter().map(Into::into), request.channels())
                .map(Answer::Replies)
                .map_err(|error| cause::of(&error)),
            Ok(Err(status)) => status::judge(&status, &self.url),
            Err(_) => {
                self.abandon(connection, number);
                Err(format!("operation timed out after {:?}", self.timeout))
            }
        }
    }

    /// Calls another method than the one that publishes.
    pub(super) async fn ask<M, R, C>(&self, method: &'static str, message: M, codec: C) -> Result<R, String>
    where
        M: Send + Sync + 'static,
        R: Send + Sync + 'static,
        C: Codec<Encode = M, Decode = R>,
    {
        let (channel, _) = current(&self.connection);
        match tokio::time::timeout(self.timeout, self.unary(channel, method, message, codec)).await {
            Ok(response) => response.map_err(|status| status::describe(&status)),
            Err(_) => Err(format!("operation timed out after {:?}", self.timeout)),
        }
    }

    async fn call(&self, channel: Channel, request: &Request) -> Result<api::BatchResponse, tonic::Status> {
        let codec = wire::Batch::of(request);
        self.unary(channel, METHOD, request.clone(), codec).await
    }

    async fn unary<M, R, C>(
        &self,
        channel: Channel,
        method: &'static str,
        message: M,
        codec: C,
    ) -> Result<R, tonic::Status>
    where
        M: Send + Sync + 'static,
        R: Send + Sync + 'static,
        C: Codec<Encode = M, Decode = R>,
    {
        let mut client = Grpc::new(channel).max_decoding_message_size(MAX_REPLIES);
        client
            .ready()
            .await
            .map_err(|error| tonic::Status::from_error(error.into()))?;
        let mut call = Call::new(message);
        if let Some(authorization) = self.key.header("apikey ") {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
            *call.metadata_mut() = MetadataMap::from_headers(headers);
        }
        let method = PathAndQuery::from_static(method);
        let response = client.unary(call, method, codec).await?;
        Ok(response.into_inner())
    }

    /// Replaces a connection that may lead nowhere, which TCP notices only after a quarter of an hour. The next request
    /// uses the new connection. Requests in flight finish on the old one.
    fn abandon(&self, connection: &Mutex<Connection>, number: u64) {
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.number == number {
            *connection = Connection {
                channel: self.server.connect_lazy(),
                number: number + 1,
            };
        }
    }
}

impl Connection {
    fn first(server: &transport::Endpoint) -> Mutex<Self> {
        Mutex::new(Self {
            channel: server.connect_lazy(),
            number: 0,
        })
    }
}

fn current(connection: &Mutex<Connection>) -> (Channel, u64) {
    let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    (connection.channel.clone(), connection.number)
}

fn server(config: &config::Centrifugo, url: &Url) -> Result<transport::Endpoint, ClientError> {
    let host = url.host_str().filter(|_| matches!(url.path(), "" | "/"));
    let host = host.ok_or_else(|| ClientError::Endpoint(url.clone()))?;
    let port = url.port().unwrap_or(DEFAULT_PORT);
    let tls = url.scheme() == "grpcs";
    let scheme = if tls { "https" } else { "http" };
    let server = transport::Endpoint::from_shared(format!("{scheme}://{host}:{port}"))
        .map_err(ClientError::Grpc)?
        .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW);
    if tls {
        server.tls_config(tls_config(&config.tls)?).map_err(ClientError::Grpc)
    } else {
        Ok(server)
    }
}

fn tls_config(tls: &config::Tls) -> Result<ClientTlsConfig, ClientError> {
    let read = |file: &Path| std::fs::read(file).map_err(ClientError::File);
    let mut settings = match &tls.ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        settings = settings.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(settings)
}

/// Reads a reply as tonic does.
#[cfg(any(test, fuzzing))]
pub(in crate::publish) fn read_batch(
    body: &[u8],
    channels: impl ExactSizeIterator<Item = usize>,
) -> Option<Result<Vec<slipring_core::publish::Reply>, replies::Unreadable>> {
    let batch: api::BatchResponse = prost::Message::decode(body).ok()?;
    Some(replies::gather(batch.replies.into_iter().map(Into::into), channels))
}
