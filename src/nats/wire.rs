//! A connection to NATS that only carries deliveries.
//!
//! async-nats closes its connection when it cannot represent a message: a header that is not UTF-8, one without a
//! colon, a subject that is not UTF-8. nats-server stores such messages and delivers them again, so a single one would
//! stop its reader forever and disturb everyone who shares the connection. This connection reads messages by their
//! lengths ([`Frame`]) and leaves the meaning of the bytes to the reader. Requests, acks and publishing stay with the
//! client.
//!
//! It connects once. After it has ended, the reader opens another one.

mod connect;
mod delivered;
mod fetch;
mod frame;
mod pull_request;

pub use self::connect::ConnectError;
pub use self::delivered::Delivered;
pub use self::fetch::{Answer, Fetch};
#[cfg(any(test, fuzzing))]
pub(crate) use self::frame::fuzz;
pub use self::frame::{Frame, Malformed};
pub use self::pull_request::PullRequest;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use self::connect::{Ready, Socket};
use self::frame::{Decoder, Operation};
use super::Nats;
use super::denials::Denials;

/// The status codes of a server's reply to a pull, from `server/consumer.go`.
pub mod status {
    /// The pull is alive.
    pub const IDLE_HEARTBEAT: u16 = 100;
    /// There are no messages, and the pull asked not to wait.
    pub const NO_MESSAGES: u16 = 404;
    /// The pull's time is over.
    pub const TIMEOUT: u16 = 408;
    /// The pull has ended, for the reason in the description.
    pub const ENDED: u16 = 409;
}

/// How often to ping the server, the same as in the client.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How many pings may be unanswered.
const MAX_PINGS: u32 = 2;

/// How many bytes to read at once at first. It grows while more is available, so that an idle connection holds little
/// memory.
const MIN_READ: usize = 4 << 10;
const MAX_READ: usize = 64 << 10;

/// When the buffer has less room than this, a new one is allocated.
const MIN_ROOM: usize = 1 << 10;

/// Memory for a large message is allocated as its bytes arrive, not because the server announced them.
const MAX_GROWTH: usize = 1 << 20;

/// One connection with one subscription. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    orders: UnboundedSender<Bytes>,
    arrived: UnboundedReceiver<Vec<Frame>>,
    ready: std::vec::IntoIter<Frame>,
    ahead: Arc<Ahead>,
    /// The ID of the subscription; 0 before the first one.
    sid: u64,
    client: async_nats::Client,
    task: AbortOnDropHandle<Ended>,
    ended: Option<Ended>,
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the server closed the connection")]
    Closed,
    #[error("{0}")]
    Io(String),
    #[error("the server did not reply for {} s", PING_INTERVAL.as_secs() * u64::from(MAX_PINGS))]
    Silent,
    #[error("the server reported: {0}")]
    Said(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its reader was dropped, or the task panicked.
    #[error("the connection's task ended")]
    Gone,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl Wire {
    /// Connects to a server that the client knows. Stops reading while about `limit` bytes wait to be taken.
    pub async fn open(nats: &Nats, limit: usize) -> Result<Self, ConnectError> {
        let Ready { socket, buffer } = connect::connect(nats).await?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let (sender, arrived) = mpsc::unbounded_channel();
        let ahead = Arc::new(Ahead {
            bytes: AtomicUsize::new(0),
            limit,
            freed: Notify::new(),
        });
        let (reader, writer) = tokio::io::split(socket);
        let line = Line {
            reader,
            writer,
            buffer,
            decoder: Decoder::default(),
            read: MIN_READ,
            out: BytesMut::new(),
            unflushed: false,
            unanswered: 0,
            ahead: Arc::clone(&ahead),
            denials: Arc::clone(&nats.denials),
        };
        let task = tokio::spawn(line.run(receiver, sender));
        Ok(Self {
            orders,
            arrived,
            ready: Vec::new().into_iter(),
            ahead,
            sid: 0,
            client: nats.client.clone(),
            task: AbortOnDropHandle::new(task),
            ended: None,
        })
    }

    /// Subscribes to a new inbox and returns it. Replies go to `INBOX.anything`. The previous subscription ends, and
    /// nothing of it is returned any more.
    pub fn subscribe(&mut self) -> String {
        let inbox = self.client.new_inbox();
        let before = self.sid;
        self.sid += 1;
        let unsubscribe = if before > 0 {
            format!("UNSUB {before}\r\n")
        } else {
            String::new()
        };
        self.order(format!("{unsubscribe}SUB {inbox}.* {}\r\n", self.sid).into());
        inbox
    }

    pub fn publish(&self, subject: &str, reply: &str, payload: &[u8]) {
        let mut order = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        order.extend_from_slice(payload);
        order.extend_from_slice(b"\r\n");
        self.order(order.into());
    }

    /// If the task has ended, [`Wire::next`] reports it.
    fn order(&self, order: Bytes) {
        let _ = self.orders.send(order);
    }

    /// Returns the next message of the subscription. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.try_next() {
                return Ok(frame);
            }
            match self.arrived.recv().await {
                Some(frames) => self.ready = frames.into_iter(),
                None => return Err(self.ended().await),
            }
        }
    }

    /// Returns the next message if it has already arrived.
    pub fn try_next(&mut self) -> Option<Frame> {
        loop {
            match self.ready.next() {
                Some(frame) => {
                    self.ahead.took(frame.size());
                    if frame.sid == self.sid {
                        return Some(frame);
                    }
                }
                None => self.ready = self.arrived.try_recv().ok()?.into_iter(),
            }
        }
    }

    /// Returns the number of bytes that were read but not taken.
    pub fn waiting(&self) -> usize {
        self.ahead.bytes.load(Ordering::Acquire)
    }

    /// Waits until the connection has ended, even if read messages are still waiting to be taken. Cancel-safe.
    pub async fn ended(&mut self) -> Ended {
        if self.ended.is_none() {
            self.ended = Some((&mut self.task).await.unwrap_or(Ended::Gone));
        }
        self.ended.clone().unwrap_or(Ended::Gone)
    }
}

/// Counts the bytes that were read but not taken.
#[derive(Debug)]
struct Ahead {
    bytes: AtomicUsize,
    limit: usize,
    freed: Notify,
}

impl Ahead {
    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.limit
    }

    fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn took(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.limit && before - bytes < self.limit {
            self.freed.notify_one();
        }
    }
}

/// The connection's own task. It reads, writes and replies to the server's pings, even if nobody takes messages.
struct Line {
    reader: ReadHalf<Socket>,
    writer: WriteHalf<Socket>,
    buffer: BytesMut,
    decoder: Decoder,
    /// How many bytes to read at once.
    read: usize,
    out: BytesMut,
    /// TLS keeps written bytes until they are flushed.
    unflushed: bool,
    /// The number of pings that the server has not answered.
    unanswered: u32,
    ahead: Arc<Ahead>,
    denials: Arc<Denials>,
}

impl Line {
    async fn run(mut self, mut orders: UnboundedReceiver<Bytes>, arrived: UnboundedSender<Vec<Frame>>) -> Ended {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        // After a pause, the process must not send several pings at once.
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut frames = Vec::new();
            let end = self.decode(&mut frames).err();
            if !frames.is_empty() {
                self.ahead.came(frames.iter().map(Frame::size).sum());
                if arrived.send(frames).is_err() {
                    return Ended::Gone;
                }
            }
            let step = match end {
                None => self.step(&mut orders, &mut pings).await,
                Some(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Takes all complete operations off the buffer.
    fn decode(&mut self, frames: &mut Vec<Frame>) -> Result<(), Ended> {
        while let Some(operation) = self.decoder.next(&mut self.buffer)? {
            match operation {
                Operation::Message(frame) => frames.push(frame),
                Operation::Ping => self.out.extend_from_slice(b"PONG\r\n"),
                Operation::Pong => self.unanswered = 0,
                // The server would continue after some errors, such as a missing permission, but the requested messages
                // would never come.
                Operation::Error(error) => {
                    self.denials.record(&error, std::time::Instant::now());
                    return Err(Ended::Said(error));
                }
                Operation::Info(_) | Operation::Ok => {}
            }
        }
        Ok(())
    }

    /// Waits for one thing that can be done, and does it.
    async fn step(&mut self, orders: &mut UnboundedReceiver<Bytes>, pings: &mut Interval) -> Result<(), Ended> {
        let is_full = self.ahead.is_full();
        let missing = self.decoder.missing(&self.buffer).min(MAX_GROWTH);
        let wanted = self.read.max(missing);
        if self.buffer.capacity() - self.buffer.len() < missing.max(MIN_ROOM) {
            self.buffer.reserve(wanted);
        }
        tokio::select! {
            order = orders.recv() => {
                self.out.extend_from_slice(&order.ok_or(Ended::Gone)?);
            }
            written = write(&mut self.writer, &mut self.out), if self.unflushed || !self.out.is_empty() => {
                self.unflushed = written?;
            }
            read = self.reader.read_buf(&mut self.buffer), if !is_full => {
                let room = self.buffer.capacity() - self.buffer.len();
                match read? {
                    0 => return Err(Ended::Closed),
                    _ if room == 0 => self.read = (2 * self.read).min(MAX_READ),
                    some if some < self.read / 4 => self.read = (self.read / 2).max(MIN_READ),
                    _ => {}
                }
            }
            () = self.ahead.freed.notified(), if is_full => {}
            // While nothing is read, no reply to a ping can be seen.
            _ = pings.tick(), if !is_full => {
                if self.unanswered == MAX_PINGS {
                    return Err(Ended::Silent);
                }
                self.unanswered += 1;
                self.out.extend_from_slice(b"PING\r\n");
            }
        }
        Ok(())
    }
}

/// Writes what there is to write, then flushes. Returns true if something still has to be flushed. Cancel-safe.
async fn write(writer: &mut WriteHalf<Socket>, out: &mut BytesMut) -> Result<bool, Ended> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    match writer.write_buf(out).await? {
        0 => Err(Ended::Closed),
        _ => Ok(true),
    }
}
