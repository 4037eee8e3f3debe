//! Connects as the client does: to one of the same servers, with the same TLS settings and credentials.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;
use url::Url;

use super::frame::{Decoder, Malformed, Operation};
use crate::config::TlsError;
use crate::nats::Nats;
use crate::nats::sign_in::{SignIn, SignInError};

/// The limit for connecting to one address, including TLS and the handshake. It is the same as in the client.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client may be about to reconnect and not reply. Then the configured servers are enough.
const POOL_PATIENCE: Duration = Duration::from_secs(1);

/// A connection after its handshake, with the bytes that were read beyond it.
pub(super) struct Ready {
    pub(super) socket: Socket,
    pub(super) buffer: BytesMut,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the address {0:?} of a NATS server is not a URL")]
    Address(String),
    #[error("looking up the address of {0} failed")]
    LookUp(String, #[source] io::Error),
    #[error("{0} did not accept the connection within {limit:?}", limit = PATIENCE)]
    Late(String),
    #[error("connecting to {0} failed")]
    Io(String, #[source] io::Error),
    #[error("{0} refused the connection: {1}")]
    Refused(String, String),
    #[error("{0} is not a NATS server: {1}")]
    Foreign(String, String),
    #[error("{0:?} is not a valid host name for TLS")]
    Name(String),
    #[error("setting up TLS for NATS failed (`nats.tls`)")]
    Tls(#[from] TlsError),
    #[error("signing in to NATS failed")]
    SignIn(#[from] SignInError),
}

/// Connects to the first server that accepts, starting with those that have given the client no trouble.
pub(super) async fn connect(nats: &Nats) -> Result<Ready, ConnectError> {
    let mut last = None;
    for server in servers(nats).await {
        match connect_to(&server, nats).await {
            Ok(ready) => return Ok(ready),
            Err(error) => {
                debug!(
                    server,
                    error = &error as &dyn std::error::Error,
                    "cannot connect to this server"
                );
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::Address(String::new())))
}

/// Returns the servers that the client knows, which may be more than are configured.
async fn servers(nats: &Nats) -> Vec<String> {
    let configured = || nats.config.servers.clone();
    let Ok(Ok(mut pool)) = timeout(POOL_PATIENCE, nats.client.server_pool()).await else {
        return configured();
    };
    fastrand::shuffle(&mut pool);
    pool.sort_by_key(|server| server.failed_attempts);
    let known: Vec<String> = pool.iter().map(|server| server.addr.as_url_str().to_owned()).collect();
    if known.is_empty() { configured() } else { known }
}

/// Connects to the first of the server's addresses that accepts.
async fn connect_to(server: &str, nats: &Nats) -> Result<Ready, ConnectError> {
    let url = Url::parse(server).map_err(|_| ConnectError::Address(server.to_owned()))?;
    let host = url.host_str().unwrap_or_default();
    // An IPv6 address is in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port().unwrap_or(4222);
    let name = format!("{host}:{port}");
    let looked_up = timeout(PATIENCE, lookup_host((host, port))).await;
    let addresses = looked_up
        .map_err(|_| ConnectError::Late(name.clone()))?
        .map_err(|error| ConnectError::LookUp(name.clone(), error))?;
    let mut last = None;
    for address in addresses {
        let connecting = async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|error| ConnectError::Io(name.clone(), error))?;
            let target = Target {
                name: &name,
                host,
                tls_required: url.scheme() == "tls",
            };
            shake_hands(tcp, target, nats).await
        };
        match timeout(PATIENCE, connecting).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(ConnectError::Late(name.clone())),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::LookUp(name, io::ErrorKind::NotFound.into())))
}

#[derive(Clone, Copy)]
struct Target<'a> {
    /// For errors.
    name: &'a str,
    host: &'a str,
    tls_required: bool,
}

impl Target<'_> {
    fn io(self, error: io::Error) -> ConnectError {
        ConnectError::Io(self.name.to_owned(), error)
    }

    fn foreign(self, what: &dyn fmt::Display) -> ConnectError {
        ConnectError::Foreign(self.name.to_owned(), what.to_string())
    }
}

/// The fields of a server's INFO that are needed here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    tls_required: bool,
    nonce: String,
}

/// The fields of a client's CONNECT.
#[derive(Serialize)]
struct Connect {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'static str,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(flatten)]
    auth: Auth,
}

#[derive(Serialize)]
struct Auth {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl From<SignIn> for Auth {
    fn from(sign_in: SignIn) -> Self {
        Self {
            user: sign_in.user,
            pass: sign_in.password,
            auth_token: sign_in.token,
            jwt: sign_in.jwt,
            nkey: sign_in.nkey,
            sig: sign_in.signature.map(|signature| URL_SAFE_NO_PAD.encode(signature)),
        }
    }
}

async fn encrypt(tcp: TcpStream, target: Target<'_>, nats: &Nats) -> Result<Socket, ConnectError> {
    let name = ServerName::try_from(target.host.to_owned()).map_err(|_| ConnectError::Name(target.host.to_owned()))?;
    let tls = TlsConnector::from(Arc::new(nats.config.tls.client_config()?));
    let stream = tls.connect(name, tcp).await.map_err(|error| target.io(error))?;
    Ok(Socket::Tls(Box::new(stream)))
}

async fn shake_hands(tcp: TcpStream, target: Target<'_>, nats: &Nats) -> Result<Ready, ConnectError> {
    tcp.set_nodelay(true).map_err(|error| target.io(error))?;
    let socket = match nats.config.tls_first {
        true => encrypt(tcp, target, nats).await?,
        false => Socket::Plain(tcp),
    };
    let mut first = Shaking::new(socket, target);
    let info = match first.next().await? {
        Operation::Info(info) => serde_json::from_slice::<Info>(&info).map_err(|error| target.foreign(&error))?,
        Operation::Error(error) => return Err(ConnectError::Refused(target.name.to_owned(), error)),
        other => return Err(target.foreign(&format!("it sent {other:?} first"))),
    };
    let tls_required = info.tls_required || target.tls_required;
    let mut shaking = match first.socket {
        Socket::Plain(tcp) if tls_required => Shaking::new(encrypt(tcp, target, nats).await?, target),
        _ => first,
    };
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required,
        name: "slipring deliveries",
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        auth: Arc::clone(&nats.credentials)
            .sign_in(info.nonce.clone().into_bytes())
            .await?
            .into(),
    };
    let connect = serde_json::to_string(&connect).map_err(|error| target.foreign(&error))?;
    let said = format!("CONNECT {connect}\r\nPING\r\n");
    shaking
        .socket
        .write_all(said.as_bytes())
        .await
        .map_err(|error| target.io(error))?;
    shaking.socket.flush().await.map_err(|error| target.io(error))?;
    loop {
        match shaking.next().await? {
            Operation::Pong => {
                let Shaking { socket, buffer, .. } = shaking;
                return Ok(Ready { socket, buffer });
            }
            Operation::Error(error) => return Err(ConnectError::Refused(target.name.to_owned(), error)),
            Operation::Ping => {
                shaking
                    .socket
                    .write_all(b"PONG\r\n")
                    .await
                    .map_err(|error| target.io(error))?;
            }
            Operation::Info(_) | Operation::Ok | Operation::Message(_) => {}
        }
    }
}

/// A connection during its handshake.
struct Shaking<'a> {
    socket: Socket,
    buffer: BytesMut,
    decoder: Decoder,
    target: Target<'a>,
}

impl<'a> Shaking<'a> {
    fn new(socket: Socket, target: Target<'a>) -> Self {
        Self {
            socket,
            buffer: BytesMut::with_capacity(4096),
            decoder: Decoder::default(),
            target,
        }
    }

    async fn next(&mut self) -> Result<Operation, ConnectError> {
        loop {
            let operation = self.decoder.next(&mut self.buffer);
            if let Some(operation) = operation.map_err(|error: Malformed| self.target.foreign(&error))? {
                return Ok(operation);
            }
            let read = self.socket.read_buf(&mut self.buffer).await;
            if read.map_err(|error| self.target.io(error))? == 0 {
                return Err(self.target.io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// TCP, with or without TLS.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
