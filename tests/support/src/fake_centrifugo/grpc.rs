//! The GRPC API of the fake: the same behaviour and the same store as over HTTP.

#[rustfmt::skip]
#[expect(clippy::allow_attributes, reason = "generated code")]
mod api;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status};

use self::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use super::store::Command;
use super::{API_KEY, Shared, Worked, lock};

/// The path under which its requests are counted.
pub(super) const PATH: &str = "/centrifugal.centrifugo.api.CentrifugoApi/Batch";

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let connections = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await;
        let connection = accepted.map(|(stream, _)| Connection {
            stream,
            cut: Cut::default(),
        });
        Some((connection, listener))
    });
    let service = CentrifugoApiServer::new(Service { shared });
    // Boxed, because it has to be `Unpin`.
    let _ = Server::builder()
        .add_service(service)
        .serve_with_incoming(connections.boxed())
        .await;
}

struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl CentrifugoApi for Service {
    async fn batch(&self, request: Request<api::BatchRequest>) -> Result<Response<api::BatchResponse>, Status> {
        lock(&self.shared.store).count(PATH);
        let cut = request.extensions().get::<Cut>().cloned();
        if let Some(worked) = self.shared.closed() {
            return respond(worked, cut).await;
        }
        let key = request.metadata().get("authorization");
        if key.is_none_or(|key| key.as_bytes() != format!("apikey {API_KEY}").as_bytes()) {
            return Err(Status::unauthenticated("unauthenticated"));
        }
        let commands: Vec<Command> = request.into_inner().commands.into_iter().map(command).collect();
        if commands.is_empty() {
            return Ok(Response::new(api::BatchResponse::default()));
        }
        respond(super::work(&self.shared, commands).await, cut).await
    }
}

async fn respond(worked: Worked, cut: Option<Cut>) -> Result<Response<api::BatchResponse>, Status> {
    match worked {
        Worked::Replies(replies) => Ok(Response::new(response(&replies))),
        Worked::Status(status) => Err(as_status(status)),
        Worked::Silence => std::future::pending().await,
        Worked::Cut => {
            if let Some(cut) = cut {
                cut.now();
            }
            std::future::pending().await
        }
    }
}

fn command(command: api::Command) -> Command {
    match (command.publish, command.broadcast) {
        (Some(publish), _) => Command {
            broadcast: false,
            channels: vec![publish.channel],
            data: json_of(&publish.data),
            binary: Some(publish.data).filter(|data| json_of(data).is_none()),
            b64data: None,
            idempotency_key: given(publish.idempotency_key),
            version: Some(publish.version).filter(|version| *version > 0),
            version_epoch: given(publish.version_epoch),
            tags: publish.tags.into_iter().collect(),
            delta: publish.delta,
            skip_history: publish.skip_history,
        },
        (None, broadcast) => {
            let broadcast = broadcast.unwrap_or_default();
            Command {
                broadcast: true,
                channels: broadcast.channels,
                data: json_of(&broadcast.data),
                binary: Some(broadcast.data).filter(|data| json_of(data).is_none()),
                b64data: None,
                idempotency_key: given(broadcast.idempotency_key),
                version: Some(broadcast.version).filter(|version| *version > 0),
                version_epoch: given(broadcast.version_epoch),
                tags: broadcast.tags.into_iter().collect(),
                delta: broadcast.delta,
                skip_history: broadcast.skip_history,
            }
        }
    }
}

/// An empty string is the same as none.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn json_of(data: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(data).ok()
}

fn response(replies: &[Value]) -> api::BatchResponse {
    serde_json::from_value(json!({ "replies": replies }))
        .expect("replies in JSON have the names that they have in GRPC")
}

/// Returns the status of the real one, or of a proxy in front of it, where HTTP has this status.
fn as_status(status: u16) -> Status {
    let (code, message) = match status {
        400 => (Code::Internal, "grpc: error unmarshalling request: no"),
        401 => (Code::Unauthenticated, "unauthenticated"),
        403 => (Code::PermissionDenied, "not for you"),
        404 => (Code::Unimplemented, "unknown service"),
        413 => (
            Code::ResourceExhausted,
            "grpc: received message larger than max (5000000 vs. 4194304)",
        ),
        429 => (Code::ResourceExhausted, "slower"),
        503 => (Code::Unavailable, "down for maintenance"),
        300..=499 => {
            // tonic's words for an answer from something that does not know GRPC.
            let message = format!("grpc-status header missing, mapped from HTTP status code {status}");
            return Status::new(Code::Unknown, message);
        }
        _ => (Code::Internal, "an error"),
    };
    Status::new(code, message)
}

/// A connection that a request can break.
struct Connection {
    stream: TcpStream,
    cut: Cut,
}

#[derive(Clone, Default)]
struct Cut(Arc<Mutex<CutState>>);

#[derive(Default)]
struct CutState {
    cut: bool,
    reader: Option<Waker>,
}

impl Cut {
    fn now(&self) {
        let mut state = lock(&self.0);
        state.cut = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn is_cut(&self) -> bool {
        lock(&self.0).cut
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut on purpose")
}

impl Connected for Connection {
    type ConnectInfo = Cut;

    fn connect_info(&self) -> Cut {
        self.cut.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = lock(&self.cut.0);
            if state.cut {
                return Poll::Ready(Err(broken()));
            }
            state.reader = Some(cx.waker().clone());
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.is_cut() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
