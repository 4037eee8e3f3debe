//! Decides which of several relays reads. JetStream pins a consumer to one client of a priority group (nats-server 2.11
//! and later). The client keeps the pin by pulling and loses it one time-to-live after its last pull. The other relays
//! wait with pulls of their own.
//!
//! The server checks the pin for deliveries, but neither for acks nor for what this process publishes to Centrifugo. So
//! the pin is also a [`Lease`] on our own clock, which ends before the server's. A process that was paused for a while
//! finds its lease over.
//!
//! The server's behaviour is from nats-server 2.15.2, `server/consumer.go`: the timer restarts with each pull of the
//! pinned client (`processNextMsgRequest`), a pin is given with a message that can be delivered (`nextWaiting`), a
//! reset does not change it, and a new leader does not know it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{Consumer, PriorityPolicy, pull};
use async_nats::jetstream::stream::Stream;
use async_nats::{Subject, Subscriber};
use futures_util::StreamExt;
use slipring_core::read;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::super::standing_by::Teller;
use super::super::{Active, Lease};
use super::{SourceError, signature};
use crate::config::{ModuleConfig, Standby};
use crate::nats::Nats;
use crate::nats::wire::{Ended, PullRequest, Wire, status};

/// The priority group of our consumers.
pub(super) const GROUP: &str = "slipring";

/// The header of a delivery that names the pinned client.
pub(super) const PIN_ID: &str = "Nats-Pin-Id";

/// The status of a pull whose client is no longer pinned.
pub(super) const WRONG_PIN: u16 = 423;

/// How long a pull of a standby relay lives. It is short because the lease counts from when the pull was sent.
const WAITING: Duration = Duration::from_secs(2);

/// How much longer the server may take to reply.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many pulls renew a pin within its time-to-live.
const RENEWALS: u32 = 5;

/// How long releasing the pin may delay the end of a pipeline.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pin of the consumer to this relay. Dropping it lets it expire.
#[derive(Debug)]
pub struct Pin {
    id: String,
    /// The end of the headers of each delivery.
    mark: Vec<u8>,
    lease: Lease,
    renewing: JoinHandle<()>,
    stream: Stream,
    consumer: String,
    /// The name of the relay could not be written beside the pin.
    nameless: AtomicBool,
}

impl Pin {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_nameless(&self) -> bool {
        self.nameless.load(Ordering::Relaxed)
    }

    pub(super) fn stays_nameless(&self) {
        self.nameless.store(true, Ordering::Relaxed);
    }

    /// Returns how many bytes the server adds to each delivery after counting its size: the line that names the pinned
    /// client, and the rest of a header block if the message has none.
    pub(super) fn header_size(&self, alone: bool) -> usize {
        let line = PIN_ID.len() + ": ".len() + self.id.len() + "\r\n".len();
        let around = "NATS/1.0\r\n".len() + "\r\n".len();
        if alone { line + around } else { line }
    }

    /// Returns the message's own header block, without the server's line that says that we are pinned. It is empty if
    /// nothing else remains. Returns `None` if we are not pinned.
    ///
    /// The server writes its line over the last two bytes of the block, and then ends the block again (`genHeader` in
    /// `server/client.go`). In a valid block those bytes are a line end. In an invalid one they are lost.
    pub(super) fn without_its_line<'a>(&self, block: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let own = block.strip_suffix(self.mark.as_slice())?;
        if own == b"NATS/1.0\r\n" {
            return Some(Cow::Borrowed(&[]));
        }
        Some(Cow::Owned([own, b"\r\n"].concat()))
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Lets another relay take over at once.
    pub async fn release(&self) {
        if !self.lease.is_valid(Instant::now()) {
            return;
        }
        match timeout(RELEASE_TIMEOUT, self.stream.unpin_consumer(&self.consumer, GROUP)).await {
            Ok(Ok(())) => debug!(consumer = self.consumer, "gave up the pin"),
            Ok(Err(error)) => warn!(
                consumer = self.consumer,
                error = &error as &dyn std::error::Error,
                "cannot give up the pin; another relay takes over when it expires"
            ),
            Err(_) => warn!(
                consumer = self.consumer,
                "NATS did not confirm in time that the pin was given up; another relay takes over when the pin expires, at the latest"
            ),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// Adapts the consumer's settings to standby, or to working without it.
pub(super) fn adapt(consumer: &mut pull::Config, standby: Option<&Standby>) {
    match standby {
        Some(Standby { ttl, .. }) => {
            consumer.priority_policy = PriorityPolicy::PinnedClient;
            consumer.priority_groups = vec![GROUP.to_owned()];
            consumer.priority_timeout = *ttl;
        }
        None => {
            consumer.priority_policy = PriorityPolicy::None;
            consumer.priority_groups = Vec::new();
            consumer.priority_timeout = Duration::ZERO;
            signature::remove(consumer);
        }
    }
}

/// Returns true if the consumer has no priority groups, or those that [`adapt`] sets.
pub(super) fn is_ours(policy: &PriorityPolicy, groups: &[String]) -> bool {
    match policy {
        PriorityPolicy::None => groups.is_empty(),
        PriorityPolicy::PinnedClient => groups == [GROUP],
        _ => false,
    }
}

/// Waits until the consumer is pinned to us. A message that comes with the pin is delivered again after the reset that
/// has to follow.
pub(super) async fn acquire(
    nats: &Nats,
    wire: &mut Wire,
    config: &ModuleConfig,
    stream: Stream,
    consumer: &mut Consumer<pull::Config>,
    standby: &Standby,
    standing_by: &Teller,
) -> Result<Pin, SourceError> {
    let failed = |doing: &str, error: async_nats::Error| {
        SourceError::request(
            format!("{doing} the consumer `{}` of `{}`", config.consumer, config.stream),
            error,
        )
    };
    let subject = nats.pull_subject(&config.stream, &config.consumer);
    let inbox = wire.subscribe();
    let mut number: u64 = 0;
    loop {
        let sent = Instant::now();
        let pull = PullRequest {
            batch: 1,
            expires: Some(WAITING),
            group: Some(GROUP),
            ..PullRequest::default()
        };
        number += 1;
        let reply = format!("{inbox}.{number}");
        let body = serde_json::to_vec(&pull).map_err(|error| failed("waiting for", error.into()))?;
        wire.publish(&subject, &reply, &body);
        let answer = timeout(WAITING + PATIENCE, answer(wire, &reply)).await;
        let answer = answer.unwrap_or_else(|_| Ok(Answer::silent()));
        match answer.map_err(|error| failed("waiting for", error.into()))? {
            Answer::Pinned(id) => {
                let (sender, lease) = Lease::new(read::Lease::given(sent, standby.ttl));
                let pulls = Pulls::open(nats, config).await;
                let pulls = pulls.map_err(|error| failed("renewing the pin to", error))?;
                let renewing = tokio::spawn(renew(pulls, id.clone(), standby.ttl, sender));
                info!(
                    consumer = config.consumer,
                    "reading from the consumer, other relays stand by"
                );
                standing_by.is_active();
                return Ok(Pin {
                    mark: format!("{PIN_ID}: {id}\r\n\r\n").into_bytes(),
                    id,
                    lease,
                    renewing,
                    stream,
                    consumer: config.consumer.clone(),
                    nameless: AtomicBool::new(false),
                });
            }
            Answer::Nothing | Answer::Lost => {}
            Answer::Other(what) => return Err(failed("waiting for", what.into())),
        }
        let info = consumer
            .info()
            .await
            .map_err(|error| failed("looking up", error.into()))?;
        let active = signature::active(info);
        let waits = active == Active::Nobody && info.num_ack_pending > 0;
        standing_by.stands_by(active);
        // A pin comes with a message, and those that another relay left unacked would come only after ack_wait.
        if waits {
            consumer
                .reset(None)
                .await
                .map_err(|error| failed("resetting", error.into()))?;
        }
    }
}

/// Returns the reply to the pull with this reply subject. The pin comes with a message, in the last line of its
/// headers. The rest of the headers may be anything, and the message is delivered again.
async fn answer(wire: &mut Wire, reply: &str) -> Result<Answer, Ended> {
    loop {
        let frame = wire.next().await?;
        match frame.status() {
            None => {
                let Some(id) = pin_in(frame.headers()) else {
                    return Ok(Answer::Other("a message came without a pin".to_owned()));
                };
                return Ok(Answer::Pinned(id.to_owned()));
            }
            // A reply to an earlier pull tells nothing about this one.
            Some(_) if frame.subject() != reply.as_bytes() => {}
            Some((status, description)) => return Ok(Answer::of(status, description)),
        }
    }
}

fn pin_in(block: &[u8]) -> Option<&str> {
    let block = block.strip_suffix(b"\r\n\r\n")?;
    let mark = format!("{PIN_ID}: ");
    let begin = memchr::memmem::rfind(block, mark.as_bytes())? + mark.len();
    std::str::from_utf8(&block[begin..]).ok()
}

/// Keeps the pin until it is lost, even if the pipeline has no room for messages. A pull for a single byte renews the
/// pin, and nothing is ever delivered to it.
async fn renew(mut pulls: Pulls, id: String, ttl: Duration, lease: watch::Sender<read::Lease>) {
    let expires = ttl / (2 * RENEWALS);
    let pull = PullRequest {
        batch: 1,
        max_bytes: Some(1),
        expires: Some(expires),
        group: Some(GROUP),
        id: Some(&id),
        ..PullRequest::default()
    };
    loop {
        let sent = Instant::now();
        match pulls.pull(&pull, ttl).await {
            Ok(Answer::Nothing) => {
                lease.send_if_modified(|lease| lease.renewed(Instant::now(), sent));
            }
            // Never happens for so few bytes.
            Ok(Answer::Pinned(_)) => {}
            Ok(Answer::Lost) => {
                lease.send_modify(|lease| lease.lost(Instant::now()));
            }
            Ok(Answer::Other(what)) => debug!(what, "the pin was not renewed"),
            Err(error) => debug!(error = &*error as &dyn std::error::Error, "the pin was not renewed"),
        }
        if !lease.borrow().is_valid(Instant::now()) {
            return;
        }
        tokio::time::sleep_until((sent + ttl / RENEWALS).into()).await;
    }
}

/// Pulls for one message each, one after the other, on an inbox of their own. They use the client's connection, which
/// reconnects by itself. None of them is ever sent a message, which could be one that the client cannot read.
struct Pulls {
    client: async_nats::Client,
    subject: Subject,
    inbox: String,
    subscriber: Subscriber,
    sent: u64,
}

enum Answer {
    /// A message, and with it the pin.
    Pinned(String),
    /// The pull has ended without a message.
    Nothing,
    /// Another relay is pinned, or none.
    Lost,
    Other(String),
}

impl Answer {
    fn of(status: u16, description: &str) -> Self {
        match status {
            status::TIMEOUT => Self::Nothing,
            WRONG_PIN => Self::Lost,
            status::ENDED if description == "Message Size Exceeds MaxBytes" => Self::Nothing,
            _ => Self::Other(format!("the server returned {status} {description}")),
        }
    }

    fn silent() -> Self {
        Self::Other("the server did not reply".to_owned())
    }
}

impl Pulls {
    async fn open(nats: &Nats, config: &ModuleConfig) -> Result<Self, async_nats::Error> {
        let inbox = nats.client.new_inbox();
        let subscriber = nats.client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self {
            client: nats.client.clone(),
            subject: nats.pull_subject(&config.stream, &config.consumer).into(),
            inbox,
            subscriber,
            sent: 0,
        })
    }

    async fn pull(&mut self, pull: &PullRequest<'_>, patience: Duration) -> Result<Answer, async_nats::Error> {
        self.sent += 1;
        let reply = Subject::from(format!("{}.{}", self.inbox, self.sent));
        let body = serde_json::to_vec(pull)?;
        self.client
            .publish_with_reply(self.subject.clone(), reply.clone(), body.into())
            .await?;
        let answer = timeout(patience, async {
            loop {
                let message = self.subscriber.next().await.ok_or("the subscription ended")?;
                // A reply to an earlier pull tells nothing about this one.
                if message.subject != reply {
                    continue;
                }
                let status = message
                    .status
                    .ok_or("the server delivered a message for a pull that accepts none")?;
                let description = message.description.as_deref().unwrap_or_default();
                return Ok(Answer::of(status.as_u16(), description));
            }
        });
        answer.await.unwrap_or_else(|_| Ok(Answer::silent()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_in_the_last_line_whatever_is_before_it() {
        for (block, id) in [
            ("NATS/1.0\r\nNats-Pin-Id: abc\r\n\r\n", Some("abc")),
            (
                "NATS/1.0\r\nNats-Pin-Id: theirs\r\nNats-Pin-Id: abc\r\n\r\n",
                Some("abc"),
            ),
            // The server has taken the end of the line for the end of the block.
            ("nonsenNats-Pin-Id: abc\r\n\r\n", Some("abc")),
            ("NATS/1.0\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(pin_in(block.as_bytes()), id, "{block:?}");
        }
    }
}
