//! Connects as the client does: to one of the same servers, with the same TLS settings and credentials.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;
use url::Url;

use super::frame::{Decoder, Malformed, Operation};
use crate::config::{self, NatsAuth, NatsTls};
use crate::nats::Nats;

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
    #[error("setting up TLS for NATS failed: {0}")]
    Tls(String),
    #[error("signing in to NATS failed: {0}")]
    Credentials(String),
}

/// Connects to the first server that accepts, starting with those that have given the client no trouble.
pub(super) async fn connect(nats: &Nats) -> Result<Ready, ConnectError> {
    let config = &nats.config;
    let mut last = None;
    for server in servers(nats).await {
        match connect_to(&server, config).await {
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
async fn connect_to(server: &str, config: &config::Nats) -> Result<Ready, ConnectError> {
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
            shake_hands(tcp, target, config).await
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

#[derive(Default, Serialize)]
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

async fn shake_hands(tcp: TcpStream, target: Target<'_>, config: &config::Nats) -> Result<Ready, ConnectError> {
    tcp.set_nodelay(true).map_err(|error| target.io(error))?;
    let mut plain = Shaking::new(Socket::Plain(tcp), target);
    let info = match plain.next().await? {
        Operation::Info(info) => serde_json::from_slice::<Info>(&info).map_err(|error| target.foreign(&error))?,
        Operation::Error(error) => return Err(ConnectError::Refused(target.name.to_owned(), error)),
        other => return Err(target.foreign(&format!("it sent {other:?} first"))),
    };
    let tls_required = info.tls_required || target.tls_required;
    let mut shaking = match plain.socket {
        Socket::Plain(tcp) if tls_required => {
            let name =
                ServerName::try_from(target.host.to_owned()).map_err(|error| ConnectError::Tls(error.to_string()))?;
            let tls = TlsConnector::from(Arc::new(tls(&config.tls)?));
            let stream = tls.connect(name, tcp).await.map_err(|error| target.io(error))?;
            Shaking::new(Socket::Tls(Box::new(stream)), target)
        }
        _ => plain,
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
        auth: sign_in(&config.auth, &info.nonce)?,
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

fn sign_in(auth: &NatsAuth, nonce: &str) -> Result<Auth, ConnectError> {
    let sign = |seed: &str| -> Result<(String, String), ConnectError> {
        let failed = |error: nkeys::error::Error| ConnectError::Credentials(error.to_string());
        let pair = nkeys::KeyPair::from_seed(seed).map_err(failed)?;
        let signature = pair.sign(nonce.as_bytes()).map_err(failed)?;
        Ok((pair.public_key(), URL_SAFE_NO_PAD.encode(signature)))
    };
    Ok(match auth {
        NatsAuth::None => Auth::default(),
        NatsAuth::User { user, password } => Auth {
            user: Some(user.clone()),
            pass: Some(password.expose().to_owned()),
            ..Auth::default()
        },
        NatsAuth::Token(token) => Auth {
            auth_token: Some(token.expose().to_owned()),
            ..Auth::default()
        },
        NatsAuth::NKey(seed) => {
            let (public, signature) = sign(seed.expose())?;
            Auth {
                nkey: Some(public),
                sig: Some(signature),
                ..Auth::default()
            }
        }
        NatsAuth::Credentials(text) => {
            let (jwt, seed) = in_credentials(text.expose()).ok_or_else(|| {
                ConnectError::Credentials("the credentials do not contain a user's JWT and its seed".to_owned())
            })?;
            let (_, signature) = sign(seed)?;
            Auth {
                jwt: Some(jwt.to_owned()),
                sig: Some(signature),
                ..Auth::default()
            }
        }
    })
}

/// Returns the JWT and the seed of a `.creds` file. Each is between two lines with dashes at both ends.
fn in_credentials(text: &str) -> Option<(&str, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_border = |line: &str| line.len() > 6 && line.starts_with("---") && line.ends_with("---");
    let mut held = lines.windows(3).filter_map(|lines| match lines {
        [before, held, after] if is_border(before) && is_border(after) && !held.is_empty() => Some(*held),
        _ => None,
    });
    Some((held.next()?, held.next()?))
}

fn tls(config: &NatsTls) -> Result<ClientConfig, ConnectError> {
    let failed = |error: &dyn std::fmt::Display| ConnectError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
        }
        // The default is only used if no file was given: a user who names one wants no other.
        None => {
            let native = rustls_native_certs::load_native_certs();
            if let (true, Some(error)) = (native.certs.is_empty(), native.errors.first()) {
                return Err(failed(error));
            }
            roots.add_parsable_certificates(native.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots);
    match (&config.cert_file, &config.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(&error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed(&error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let failed = |error: rustls::pki_types::pem::Error| ConnectError::Tls(format!("{}: {error}", file.display()));
    CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn credentials_are_what_nsc_writes() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0.a-b_c.d\n------END NATS USER JWT------\n\n************************* IMPORTANT \
                    *************************\nNKEYs are sensitive.\n\n-----BEGIN USER NKEY SEED-----\r\nSUAIO3\r\n------END USER NKEY \
                    SEED------\n\n*************************************************************\n";
        assert_eq!(in_credentials(text), Some(("eyJ0.a-b_c.d", "SUAIO3")));
        assert_eq!(
            in_credentials("-----BEGIN NATS USER JWT-----\na\n------END NATS USER JWT------\n"),
            None
        );
    }

    #[test]
    fn a_nonce_is_signed_with_the_seed() {
        let pair = nkeys::KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let auth = sign_in(&NatsAuth::NKey(Secret::new(seed)), "nonce").unwrap();
        assert_eq!(auth.nkey, Some(pair.public_key()));
        let signature = URL_SAFE_NO_PAD.decode(auth.sig.unwrap()).unwrap();
        pair.verify(b"nonce", &signature).unwrap();
    }
}
