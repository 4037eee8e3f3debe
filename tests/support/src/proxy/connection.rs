//! One connection through the proxy: two directions, each a loop that reads a piece, applies the faults, and writes it.

use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

use super::{Shared, Tape, lock};

/// The most bytes read at once.
const PIECE: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// Ends when both sides have ended, or at the first error of one.
pub(super) async fn carry(shared: &Shared, client: TcpStream) -> Result<()> {
    let status = shared.faults.borrow().status;
    if let Some(status) = status {
        return answer(client, status).await;
    }
    let server = TcpStream::connect(shared.upstream).await?;
    let tape = shared.tapes.as_ref().map(|tapes| {
        let label = shared.label.load(Ordering::Relaxed);
        let tape = Arc::new(Mutex::new(Tape {
            label,
            ..Tape::default()
        }));
        lock(tapes).push(Arc::clone(&tape));
        tape
    });
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let tape = tape.as_deref();
    tokio::try_join!(
        pass(shared, tape, Direction::Requests, client_reads, server_writes),
        pass(shared, tape, Direction::Answers, server_reads, client_writes),
    )
    .map(drop)
}

/// Answers a request with only a status.
async fn answer(mut client: TcpStream, status: u16) -> Result<()> {
    if client.read(&mut [0; PIECE]).await? == 0 {
        return Ok(());
    }
    let answer = format!("HTTP/1.1 {status} As Asked\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    // If a connection is closed while it has unread data, the answer is lost.
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop)
}

async fn pass(
    shared: &Shared,
    tape: Option<&Mutex<Tape>>,
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> Result<()> {
    let mut faults = shared.faults.subscribe();
    let mut deaf = false;
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer).await?;
        let piece = &buffer[..length];
        if let Some(tape) = tape {
            let mut tape = lock(tape);
            match direction {
                Direction::Requests => tape.requests.extend_from_slice(piece),
                Direction::Answers => tape.answers.extend_from_slice(piece),
            }
        }
        let latency = faults.borrow().latency;
        if !latency.is_zero() {
            sleep(latency.mul_f64(fastrand::f64())).await;
        }
        // The end of a connection is held back with the rest. The sender lives as long as `shared`.
        let _ = faults.wait_for(|faults| !faults.stall).await;
        if piece.is_empty() {
            return to.shutdown().await;
        }
        let poison = faults.borrow().poison.filter(|_| direction == Direction::Requests);
        if poison.is_some_and(|poison| holds(piece, poison)) {
            return Err(Error::new(ErrorKind::ConnectionAborted, "poisoned as asked"));
        }
        if direction == Direction::Answers {
            deaf |= faults.borrow().swallow;
            if deaf {
                continue;
            }
            if let Some(rest) = cut_within(shared, length) {
                to.write_all(&piece[..rest]).await?;
                return Err(Error::new(ErrorKind::ConnectionAborted, "cut as asked"));
            }
        }
        to.write_all(piece).await?;
    }
}

fn holds(piece: &[u8], text: &str) -> bool {
    piece.windows(text.len()).any(|window| window == text.as_bytes())
}

/// If the requested cut comes within the next `length` bytes of answers, returns after how many.
fn cut_within(shared: &Shared, length: usize) -> Option<usize> {
    let mut cut = lock(&shared.cut_answer);
    match *cut {
        Some(bytes) if bytes <= length => cut.take(),
        Some(bytes) => {
            *cut = Some(bytes - length);
            None
        }
        None => None,
    }
}
