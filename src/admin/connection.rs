//! One connection of the admin server, with a bound on everything that a client can make it wait for.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use super::guard::{self, Client};
use super::lasting;
use super::seats::{Seat, Taken};
use crate::status::Metrics;

/// For a TLS handshake, and for the head of a request. A connection between two requests ends after this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For the longest answer over the slowest network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// For the request line and the headers together.
const LONGEST_HEAD: usize = 16 << 10;

/// The bound on what a connection keeps in memory for reading.
const BUFFER: usize = 32 << 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Service {
    pub router: Router,
    pub tls: Option<TlsAcceptor>,
    pub metrics: Metrics,
    pub cancel: CancellationToken,
}

impl Service {
    /// Serves a connection until it ends, or until another one needs its seat.
    pub async fn connection(self, stream: TcpStream, client: SocketAddr, taken: Taken) {
        let stream = Patient::new(stream);
        let seat = &taken.seat;
        let ended = match &self.tls {
            None => self.requests(stream, client, seat).await,
            Some(tls) => tokio::select! {
                greeted = timeout(HEAD_TIMEOUT, tls.accept(stream)) => match greeted {
                    Ok(Ok(stream)) => self.requests(stream, client, seat).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(elapsed) => Err(elapsed.into()),
                },
                () = seat.wanted() => Ok(()),
            },
        };
        if let Err(error) = ended {
            debug!(%client, error = &*error, "a connection to the admin server failed");
        }
    }

    /// After a cancellation it only finishes the request that it has begun. An answer that lasts ends then.
    async fn requests<S>(&self, stream: S, client: SocketAddr, seat: &Arc<Seat>) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| async {
            let _answering = seat.answering();
            let response = self.answer(request.map(Body::new), client).await;
            Ok::<_, Infallible>(lasting::bounded(response, seat, &self.cancel))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(LONGEST_HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => ended?,
            () = self.cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
            () = seat.wanted() => {
                if seat.is_answering() {
                    connection.as_mut().graceful_shutdown();
                    connection.await?;
                }
            }
        }
        Ok(())
    }

    async fn answer(&self, mut request: Request<Body>, client: SocketAddr) -> Response {
        request.extensions_mut().insert(Client(client));
        let Ok(mut response) = self.router.clone().oneshot(request).await;
        guard::seal(&mut response);
        self.metrics.admin_requests().count(response.status().as_u16());
        response
    }
}

/// A stream whose reader may take only so long for everything that waits to be written. Without this, a client that
/// sends requests and reads no answer would hold its connection for ever.
struct Patient<S> {
    stream: S,
    /// Runs while something waits to be written.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, patience: None }
    }

    /// Returns the result of a write, or an error if the reader has taken too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() {
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
            ready!(patience.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        // Whoever writes flushes when everything is written, so a reader that takes a byte now and then gains no time.
        if let Poll::Ready(Ok(())) = result {
            self.patience = None;
        }
        self.bounded(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, result)
    }
}

/// Requests on one connection. Nobody has a token, so nothing may be changed.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        static SERVICE: (Service, crate::modules::Controls) = super::server::without_tokens();
    }
    let (service, controls) = SERVICE.with(Clone::clone);
    let mut commands = controls.register("orders");
    let answers = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut client, server) = duplex(1 << 20);
            let taken = super::seats::Seats::new(1).take().await;
            client.write_all(&input[..input.len().min(1 << 19)]).await.unwrap();
            client.shutdown().await.unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let mut answers = Vec::new();
            let serving = service.requests(server, address, &taken.seat);
            tokio::select! {
                // A broken request ends the connection with an error.
                _ = async { tokio::join!(serving, client.read_to_end(&mut answers)) } => {}
                // An answer with events has no end.
                () = async {
                    while !taken.seat.is_lasting() {
                        sleep(Duration::from_millis(1)).await;
                    }
                } => {}
                command = commands.recv() => panic!("{command:?} without a token"),
            }
            answers
        })
    });
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."));
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Writes an answer that does not fit into the buffers, and returns how long it was tried.
    async fn answer(stream: impl AsyncWrite + Unpin) -> (io::Result<()>, Duration) {
        let begin = Instant::now();
        let mut stream = Patient::new(stream);
        let mut written = stream.write_all(&[b'x'; 1000]).await;
        if written.is_ok() {
            written = stream.flush().await;
        }
        (written, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_left() {
        let (server, _client) = duplex(100);
        let (written, took) = answer(server).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(took >= ANSWER_TIMEOUT && took < ANSWER_TIMEOUT * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_byte_now_and_then_has_no_more_time() {
        let (server, mut client) = duplex(100);
        let reading = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let (written, took) = answer(server).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(took >= ANSWER_TIMEOUT && took < ANSWER_TIMEOUT * 2, "{took:?}");
        reading.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_time() {
        let (server, mut client) = duplex(100);
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while read < 2000 {
                sleep(ANSWER_TIMEOUT / 20).await;
                read += client.read(&mut [0; 100]).await.unwrap();
            }
        });
        let mut stream = Patient::new(server);
        for _ in 0..2 {
            stream.write_all(&[b'x'; 1000]).await.unwrap();
            stream.flush().await.unwrap();
            sleep(ANSWER_TIMEOUT * 2).await;
        }
        reading.await.unwrap();
    }
}
