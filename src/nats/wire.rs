//! A connection to NATS for deliveries, and for what is published in reply to them: pulls and acks.
//!
//! async-nats closes its connection when it cannot represent a message: a header that is not UTF-8, one without a
//! colon, a subject that is not UTF-8. nats-server stores such messages and delivers them again, so a single one would
//! stop its reader forever and disturb everyone who shares the connection. This connection reads messages by their
//! lengths ([`Frame`]) and leaves the meaning of the bytes to the reader. Requests and dead letters stay with the
//! client.
//!
//! It connects once. After it has ended, the reader opens another one.

mod connect;
mod delivered;
mod fetch;
mod frame;
mod outgoing;
mod pull_request;
#[cfg(test)]
mod tests;

pub use self::connect::ConnectError;
pub use self::delivered::Delivered;
pub use self::fetch::{Answer, Fetch};
#[cfg(any(test, fuzzing))]
pub(crate) use self::frame::fuzz;
pub use self::frame::{Frame, Malformed};
pub use self::outgoing::Outgoing;
pub use self::pull_request::PullRequest;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::connect::{Ready, Socket};
use self::frame::{Decoder, Operation};
use self::outgoing::{Order, Orders};
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
const MAX_PINGS: u64 = 2;

/// How many bytes to read at once at first. It grows while more is available, so that an idle connection holds little
/// memory.
const MIN_READ: usize = 4 << 10;
const MAX_READ: usize = 64 << 10;

/// When the buffer has less room than this, a new one is allocated.
const MIN_ROOM: usize = 1 << 10;

/// Memory for a large message is allocated as its bytes arrive, not because the server announced them.
const MAX_GROWTH: usize = 1 << 20;

/// While this much is to be written, no more orders are taken, and a buffer that has grown beyond it is not kept.
const MAX_OUT: usize = 64 << 10;

/// One connection with one subscription. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    outgoing: Outgoing,
    arrived: UnboundedReceiver<Vec<Frame>>,
    ready: std::vec::IntoIter<Frame>,
    ahead: Arc<Ahead>,
    /// The ID of the subscription; 0 before the first one.
    sid: u64,
    client: async_nats::Client,
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the server closed the connection")]
    Closed,
    #[error("{0}")]
    Io(String),
    #[error("the server did not reply for {} s", PING_INTERVAL.as_secs() * MAX_PINGS)]
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
        let ahead = Arc::new(Ahead::new(limit));
        let (sender, arrived) = mpsc::unbounded_channel();
        let line = Line::new(socket, buffer, Arc::clone(&ahead), Arc::clone(&nats.denials));
        Ok(Self {
            outgoing: Outgoing::start(|orders| line.run(orders, sender)),
            arrived,
            ready: Vec::new().into_iter(),
            ahead,
            sid: 0,
            client: nats.client.clone(),
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
        self.outgoing
            .send(format!("{unsubscribe}SUB {inbox}.* {}\r\n", self.sid).into());
        inbox
    }

    /// Ends the subscription. What arrives from now on is discarded, but the connection still sends.
    pub fn unsubscribe(self) -> Outgoing {
        let Self {
            outgoing, ahead, sid, ..
        } = self;
        if sid > 0 {
            outgoing.send(format!("UNSUB {sid}\r\n").into());
        }
        ahead.end();
        outgoing
    }

    pub fn publish(&self, subject: &str, reply: &str, payload: &[u8]) {
        let mut order = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        order.extend_from_slice(payload);
        order.extend_from_slice(b"\r\n");
        self.outgoing.send(order.into());
    }

    /// Returns what sends over this connection. If it has ended, [`Wire::next`] reports it.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Returns the next message of the subscription. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.try_next() {
                return Ok(frame);
            }
            match self.arrived.recv().await {
                Some(frames) => self.ready = frames.into_iter(),
                None => return Err(self.outgoing.ended().await),
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
        self.outgoing.ended().await
    }
}

/// Counts the bytes that were read but not taken.
#[derive(Debug)]
struct Ahead {
    bytes: AtomicUsize,
    limit: usize,
    /// Nothing is taken any more.
    over: AtomicBool,
    freed: Notify,
}

impl Ahead {
    fn new(limit: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            limit,
            over: AtomicBool::new(false),
            freed: Notify::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.limit && !self.over.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.freed.notify_one();
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
    /// The number of pings that were sent, and of those that the server has answered.
    pings: u64,
    pongs: u64,
    /// Who waits for the answer to which ping.
    flushes: VecDeque<(u64, oneshot::Sender<()>)>,
    ahead: Arc<Ahead>,
    denials: Arc<Denials>,
}

impl Line {
    fn new(socket: Socket, buffer: BytesMut, ahead: Arc<Ahead>, denials: Arc<Denials>) -> Self {
        let (reader, writer) = tokio::io::split(socket);
        Self {
            reader,
            writer,
            buffer,
            decoder: Decoder::default(),
            read: MIN_READ,
            out: BytesMut::new(),
            unflushed: false,
            pings: 0,
            pongs: 0,
            flushes: VecDeque::new(),
            ahead,
            denials,
        }
    }

    async fn run(mut self, mut orders: Orders, arrived: UnboundedSender<Vec<Frame>>) -> Ended {
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        // After a pause, the process must not send several pings at once.
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut frames = Vec::new();
            let end = self.decode(&mut frames).err();
            if !frames.is_empty() {
                self.ahead.came(frames.iter().map(Frame::size).sum());
                // After the end of the subscription, nobody takes them.
                let _ = arrived.send(frames);
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
                Operation::Pong => self.answered(),
                Operation::Error(error) => {
                    let denied = self.denials.record(&error, std::time::Instant::now());
                    // The server would continue after other missing permissions too, but the requested messages would
                    // never come. An ack that is not allowed does what a lost one does.
                    if !denied.is_some_and(|denied| denied.is_of_acks()) {
                        return Err(Ended::Said(error));
                    }
                }
                Operation::Info(_) | Operation::Ok => {}
            }
        }
        Ok(())
    }

    /// Waits for one thing that can be done, and does it.
    async fn step(&mut self, orders: &mut Orders, pings: &mut Interval) -> Result<(), Ended> {
        let is_full = self.ahead.is_full();
        let missing = self.decoder.missing(&self.buffer).min(MAX_GROWTH);
        let wanted = self.read.max(missing);
        if self.buffer.capacity() - self.buffer.len() < missing.max(MIN_ROOM) {
            self.buffer.reserve(wanted);
        }
        tokio::select! {
            order = orders.next(), if self.out.len() < MAX_OUT => match order.ok_or(Ended::Gone)? {
                Order::Send(bytes) => self.out.extend_from_slice(&bytes),
                Order::Flush(flushed) => {
                    self.ping();
                    self.flushes.push_back((self.pings, flushed));
                }
            },
            written = write(&mut self.writer, &mut self.out), if self.unflushed || !self.out.is_empty() => {
                self.unflushed = written?;
                if self.out.is_empty() && self.out.capacity() > MAX_OUT {
                    self.out = BytesMut::new();
                }
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
                if self.pings - self.pongs >= MAX_PINGS {
                    return Err(Ended::Silent);
                }
                self.ping();
            }
        }
        Ok(())
    }

    fn ping(&mut self) {
        self.pings += 1;
        self.out.extend_from_slice(b"PING\r\n");
    }

    /// The server answers pings in their order, and after everything that was sent before them.
    fn answered(&mut self) {
        self.pongs = self.pings.min(self.pongs + 1);
        while let Some((ping, _)) = self.flushes.front()
            && *ping <= self.pongs
            && let Some((_, flushed)) = self.flushes.pop_front()
        {
            let _ = flushed.send(());
        }
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
