//! A connection to NATS that carries deliveries, and nothing else.
//!
//! async-nats closes its connection when a message is not what it can represent: a header that is not UTF-8, one without a colon, a
//! subject that is not UTF-8. nats-server stores such messages and delivers them again, so that one of them would stop its reader
//! for ever, and disturb all that share the connection. This one reads messages by their lengths ([`Frame`]) and leaves it to its
//! reader what their bytes mean. Requests, acks and what is published stay with the client.
//!
//! It connects once. Whoever reads from it opens another when it has ended.

mod connect;
mod delivered;
mod fetch;
mod frame;

pub use self::connect::ConnectError;
pub use self::delivered::Delivered;
pub use self::fetch::{Answer, Fetch};
pub use self::frame::{Frame, Malformed};

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

/// What a server says about a pull, in the terms of `server/consumer.go`.
pub mod status {
    /// The pull is alive.
    pub const IDLE_HEARTBEAT: u16 = 100;
    /// There is nothing, and the pull would not wait.
    pub const NO_MESSAGES: u16 = 404;
    /// The pull's time is over.
    pub const TIMEOUT: u16 = 408;
    /// The pull has ended, for the reason that the description names.
    pub const ENDED: u16 = 409;
}

/// How often the server is asked whether it is still there, as the client does.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// So many questions may be open.
const MAX_PINGS: u32 = 2;

/// Bytes read at once: more as long as more is there. An idle connection holds little.
const MIN_READ: usize = 4 << 10;
const MAX_READ: usize = 64 << 10;

/// With less room than this in the buffer it is time for another one.
const MIN_ROOM: usize = 1 << 10;

/// A large message gets its memory as it comes, and not because it was announced.
const MAX_GROWTH: usize = 1 << 20;

/// One connection with one subscription. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    orders: UnboundedSender<Bytes>,
    arrived: UnboundedReceiver<Vec<Frame>>,
    ready: std::vec::IntoIter<Frame>,
    ahead: Arc<Ahead>,
    /// Of the subscription; 0 before the first.
    sid: u64,
    client: async_nats::Client,
    task: AbortOnDropHandle<Ended>,
    ended: Option<Ended>,
}

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the server closed it")]
    Closed,
    #[error("{0}")]
    Io(String),
    #[error("the server did not answer for {} s", PING_INTERVAL.as_secs() * u64::from(MAX_PINGS))]
    Silent,
    #[error("the server says: {0}")]
    Said(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its reader is gone, or it broke.
    #[error("its task ended")]
    Gone,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl Wire {
    /// Connects to a server that the client knows. When about `limit` bytes wait to be taken, no more is read.
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

    /// Subscribes to an inbox, to which answers come at `INBOX.anything`, in place of the one before, of which nothing comes any more.
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

    /// When it has ended, [`Wire::next`] says so.
    fn order(&self, order: Bytes) {
        let _ = self.orders.send(order);
    }

    /// The next message of the subscription. May be dropped at any time without losing one.
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

    /// The next one, if it is there.
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

    /// What was read and not taken, in bytes.
    pub fn waiting(&self) -> usize {
        self.ahead.bytes.load(Ordering::Acquire)
    }

    /// Waits until it has ended, whatever was read and not taken. May be dropped at any time.
    pub async fn ended(&mut self) -> Ended {
        if self.ended.is_none() {
            self.ended = Some((&mut self.task).await.unwrap_or(Ended::Gone));
        }
        self.ended.clone().unwrap_or(Ended::Gone)
    }
}

/// What was read and not taken, in bytes.
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

/// The connection's own task: reads and writes, and answers the server's questions whether or not anybody takes what has come.
struct Line {
    reader: ReadHalf<Socket>,
    writer: WriteHalf<Socket>,
    buffer: BytesMut,
    decoder: Decoder,
    /// How much is read at once.
    read: usize,
    out: BytesMut,
    /// TLS keeps what is written until it is flushed.
    unflushed: bool,
    /// Questions to the server that it has not answered.
    unanswered: u32,
    ahead: Arc<Ahead>,
}

impl Line {
    async fn run(mut self, mut orders: UnboundedReceiver<Bytes>, arrived: UnboundedSender<Vec<Frame>>) -> Ended {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        // A process that was stopped for a while must not ask several times at once.
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

    /// Takes all that is whole off the buffer.
    fn decode(&mut self, frames: &mut Vec<Frame>) -> Result<(), Ended> {
        while let Some(operation) = self.decoder.next(&mut self.buffer)? {
            match operation {
                Operation::Message(frame) => frames.push(frame),
                Operation::Ping => self.out.extend_from_slice(b"PONG\r\n"),
                Operation::Pong => self.unanswered = 0,
                // After some of them, such as a permission that lacks, the server would go on; what was asked for would never come.
                Operation::Error(error) => return Err(Ended::Said(error)),
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
            // While nothing is read, no answer can be seen.
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

/// Writes what there is to write, or flushes once that is done. Returns whether something is to be flushed. May be dropped at any time.
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
