//! Which of several relays reads: JetStream pins a consumer to one client of a priority group (nats-server 2.11 and later), which
//! keeps the pin by pulling and loses it a time-to-live after its last pull. The others wait with pulls of their own.
//!
//! The server fences deliveries by the pin, but neither acks nor what this process publishes to Centrifugo. So the pin is also a
//! [`Lease`] by our own clock, which ends before the server's: a process that was stopped for a while finds it over.
//!
//! What the server does was read in nats-server 2.15.2, `server/consumer.go`: the timer starts anew with each pull of the pinned
//! client (`processNextMsgRequest`), a pin is given with a message that can be delivered (`nextWaiting`), a reset leaves it as
//! it is, and a new leader knows of none.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{Consumer, PriorityPolicy, pull};
use async_nats::jetstream::stream::Stream;
use async_nats::{Subject, Subscriber};
use futures_util::StreamExt;
use serde::Serialize;
use slipring_core::read;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{SourceError, Standby};
use crate::config::ModuleConfig;
use crate::nats::Nats;
use crate::nats::wire::{Ended, Wire, status};

/// The priority group of our consumers.
const GROUP: &str = "slipring";

/// Where deliveries say who is pinned.
pub(super) const PIN_ID: &str = "Nats-Pin-Id";

/// The status of a pull whose client is not pinned any more.
pub(super) const WRONG_PIN: u16 = 423;

/// How long a pull of a relay that stands by lives. Short, since the lease counts from when it was sent.
const WAITING: Duration = Duration::from_secs(2);

/// How long the server may take to answer beyond that.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many pulls renew a pin within its time-to-live.
const RENEWALS: u32 = 5;

/// How long giving up the pin may hold up the end of a pipeline.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The right to publish, which ends by itself. A clone is the same lease.
#[derive(Debug, Clone)]
pub struct Lease {
    shared: watch::Receiver<read::Lease>,
}

impl Lease {
    /// Whether no other relay can have been pinned at this time.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.shared.borrow().is_valid(now)
    }

    /// As it is now.
    pub fn current(&self) -> read::Lease {
        *self.shared.borrow()
    }
}

/// The consumer is pinned to us. Dropping it lets it run out.
#[derive(Debug)]
pub struct Pin {
    id: String,
    /// How the headers of each delivery end.
    mark: Vec<u8>,
    lease: Lease,
    renewing: JoinHandle<()>,
    stream: Stream,
    consumer: String,
}

/// A pull of a member of the group.
#[derive(Serialize)]
struct Pull<'a> {
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<usize>,
    expires: u128,
    #[serde(flatten)]
    member: Member<'a>,
}

/// What the pull of a member of the group says beside what it asks for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Member<'a> {
    group: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl Pin {
    pub(super) fn member(&self) -> Member<'_> {
        Member {
            group: GROUP,
            id: Some(&self.id),
        }
    }

    /// What the server adds to each delivery after it counted its size: the line that says who is pinned, and all that headers
    /// have around them where there are no others.
    pub(super) fn header_size(&self, alone: bool) -> usize {
        let line = PIN_ID.len() + ": ".len() + self.id.len() + "\r\n".len();
        let around = "NATS/1.0\r\n".len() + "\r\n".len();
        if alone { line + around } else { line }
    }

    /// The message's own header block, with the line left out by which the server says that we are pinned; empty if there is no more
    /// than that. `None`: we are not.
    ///
    /// The server writes its line over the last two bytes of the block, and ends that again (`genHeader` in `server/client.go`). Those are
    /// a line's end in every block that is one; in what is none, they are lost.
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
                "the pin could not be given up; another relay takes over when it has run out"
            ),
            Err(_) => warn!(
                consumer = self.consumer,
                "NATS did not answer in time; another relay takes over when the pin has run out"
            ),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// The consumer's settings for standby, or without it.
pub(super) fn adapt(consumer: &mut pull::Config, standby: Option<Standby>) {
    match standby {
        Some(Standby { ttl }) => {
            consumer.priority_policy = PriorityPolicy::PinnedClient;
            consumer.priority_groups = vec![GROUP.to_owned()];
            consumer.priority_timeout = ttl;
        }
        None => {
            consumer.priority_policy = PriorityPolicy::None;
            consumer.priority_groups = Vec::new();
            consumer.priority_timeout = Duration::ZERO;
        }
    }
}

/// Whether priority groups, if the consumer has any, are such as [`adapt`] makes.
pub(super) fn is_ours(policy: &PriorityPolicy, groups: &[String]) -> bool {
    match policy {
        PriorityPolicy::None => groups.is_empty(),
        PriorityPolicy::PinnedClient => groups == [GROUP],
        _ => false,
    }
}

/// Waits until the consumer is pinned to us. What comes with the pin is delivered again after the reset that has to follow.
pub(super) async fn acquire(
    nats: &Nats,
    wire: &mut Wire,
    config: &ModuleConfig,
    stream: Stream,
    consumer: &mut Consumer<pull::Config>,
    standby: Standby,
    standing_by: &watch::Sender<bool>,
) -> Result<Pin, SourceError> {
    let failed = |doing: &str, error: async_nats::Error| {
        SourceError::request(
            format!("{doing} the consumer `{}` of `{}`", config.consumer, config.stream),
            error,
        )
    };
    let subject = next_message(config);
    let inbox = wire.subscribe();
    let mut number: u64 = 0;
    loop {
        let sent = Instant::now();
        let pull = Pull {
            batch: 1,
            max_bytes: None,
            expires: WAITING.as_nanos(),
            member: Member { group: GROUP, id: None },
        };
        number += 1;
        let reply = format!("{inbox}.{number}");
        let body = serde_json::to_vec(&pull).map_err(|error| failed("waiting for", error.into()))?;
        wire.publish(&subject, &reply, &body);
        let answer = timeout(WAITING + PATIENCE, answer(wire, &reply)).await;
        let answer = answer.unwrap_or_else(|_| Ok(Answer::silent()));
        match answer.map_err(|error| failed("waiting for", error.into()))? {
            Answer::Pinned(id) => {
                let (sender, shared) = watch::channel(read::Lease::given(sent, standby.ttl));
                let pulls = Pulls::open(nats, config).await;
                let pulls = pulls.map_err(|error| failed("renewing the pin to", error))?;
                let renewing = tokio::spawn(renew(pulls, id.clone(), standby.ttl, sender));
                info!(
                    consumer = config.consumer,
                    "reading from the consumer, other relays stand by"
                );
                standing_by.send_replace(false);
                return Ok(Pin {
                    mark: format!("{PIN_ID}: {id}\r\n\r\n").into_bytes(),
                    id,
                    lease: Lease { shared },
                    renewing,
                    stream,
                    consumer: config.consumer.clone(),
                });
            }
            Answer::Nothing | Answer::Lost => {}
            Answer::Other(what) => return Err(failed("waiting for", what.into())),
        }
        standing_by.send_if_modified(|standing_by| !std::mem::replace(standing_by, true));
        let info = consumer
            .info()
            .await
            .map_err(|error| failed("looking up", error.into()))?;
        let pinned = info
            .priority_groups
            .iter()
            .any(|group| group.pinned_client_id.is_some());
        // A pin comes with a message, and those that another relay left unacked would come only after ack_wait.
        if !pinned && info.num_ack_pending > 0 {
            consumer
                .reset(None)
                .await
                .map_err(|error| failed("resetting", error.into()))?;
        }
    }
}

/// What comes of the pull with this reply. With a message comes the pin, in the last line of its headers: the rest of them may be
/// anything, and what comes is delivered again.
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
            // What is said of an earlier pull says nothing of this one.
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

fn next_message(config: &ModuleConfig) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", config.stream, config.consumer)
}

/// Keeps the pin until it is lost, whether or not the pipeline has room for messages: a pull for a single byte renews it, and
/// nothing is ever delivered to it.
async fn renew(mut pulls: Pulls, id: String, ttl: Duration, lease: watch::Sender<read::Lease>) {
    let expires = ttl / (2 * RENEWALS);
    let pull = Pull {
        batch: 1,
        max_bytes: Some(1),
        expires: expires.as_nanos(),
        member: Member {
            group: GROUP,
            id: Some(&id),
        },
    };
    loop {
        let sent = Instant::now();
        match pulls.pull(&pull, ttl).await {
            Ok(Answer::Nothing) => {
                lease.send_if_modified(|lease| lease.renewed(Instant::now(), sent));
            }
            // Never, for so few bytes.
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

/// Pulls of one message, one after the other, on an inbox of their own. They go over the client's connection, which comes back by
/// itself when it is lost: none of them is ever sent a message, which could be one that the client can't read.
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
    /// Somebody else is pinned, or nobody.
    Lost,
    Other(String),
}

impl Answer {
    fn of(status: u16, description: &str) -> Self {
        match status {
            status::TIMEOUT => Self::Nothing,
            WRONG_PIN => Self::Lost,
            status::ENDED if description == "Message Size Exceeds MaxBytes" => Self::Nothing,
            _ => Self::Other(format!("the server answered {status} {description}")),
        }
    }

    fn silent() -> Self {
        Self::Other("the server did not answer".to_owned())
    }
}

impl Pulls {
    async fn open(nats: &Nats, config: &ModuleConfig) -> Result<Self, async_nats::Error> {
        let inbox = nats.client.new_inbox();
        let subscriber = nats.client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self {
            client: nats.client.clone(),
            subject: next_message(config).into(),
            inbox,
            subscriber,
            sent: 0,
        })
    }

    async fn pull(&mut self, pull: &Pull<'_>, patience: Duration) -> Result<Answer, async_nats::Error> {
        self.sent += 1;
        let reply = Subject::from(format!("{}.{}", self.inbox, self.sent));
        let body = serde_json::to_vec(pull)?;
        self.client
            .publish_with_reply(self.subject.clone(), reply.clone(), body.into())
            .await?;
        let answer = timeout(patience, async {
            loop {
                let message = self.subscriber.next().await.ok_or("the subscription ended")?;
                // What is said of an earlier pull says nothing of this one.
                if message.subject != reply {
                    continue;
                }
                let status = message
                    .status
                    .ok_or("a message came for a pull that has no room for one")?;
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
            // The server has taken the end of the line for that of the block.
            ("nonsenNats-Pin-Id: abc\r\n\r\n", Some("abc")),
            ("NATS/1.0\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(pin_in(block.as_bytes()), id, "{block:?}");
        }
    }
}
