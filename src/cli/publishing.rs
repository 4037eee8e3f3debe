//! Sends a message to the stream of its subject, for commands that do what an application would.

mod message;

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use async_nats::jetstream::{self, message::PublishMessage};
use futures_util::TryStreamExt;
use tokio::time::{sleep, timeout};

pub use self::message::{Outgoing, subject};
use crate::nats::Nats;
use crate::nats::denials::Action;

/// How long JetStream may take to store a message.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a list of streams for an error may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// After this time without a reply it looks whether there is a stream for the subject. If nobody but a stream listens, the server
/// says at once that there is none; otherwise it says nothing.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// How often it looks whether the server has denied the permission. That comes as an error beside, and no reply comes.
const DENIED_POLL: Duration = Duration::from_millis(10);

/// Returns once JetStream has stored the message. `dead_letters` is the relay's own stream, which no error names.
pub async fn publish(
    nats: &Nats,
    outgoing: &Outgoing,
    dead_letters: &str,
) -> anyhow::Result<jetstream::publish::PublishAck> {
    use jetstream::context::PublishErrorKind;
    let Outgoing {
        subject,
        headers,
        payload,
    } = outgoing;
    let (size, max) = (payload.len(), nats.client.max_payload());
    if size > max {
        bail!("the data has {size} bytes, and this NATS takes at most {max} (`max_payload` in its configuration)");
    }
    let mut letter = PublishMessage::build().payload(payload.clone());
    if !headers.is_empty() {
        letter = letter.headers(headers.clone());
    }
    let sending = async {
        let ack = nats.jetstream.send_publish(subject.clone(), letter).await?;
        ack.await
    };
    let sent = tokio::select! {
        sent = timeout(ACK_TIMEOUT, sending) => sent,
        () = nowhere(nats, subject) => return Err(anyhow!("{}", no_stream(nats, subject, dead_letters).await)),
        () = denied(nats, subject) => bail!(
            "NATS does not let this user publish to {subject}: allow it in the server's configuration (`permissions`)"
        ),
    };
    match sent {
        Ok(Ok(ack)) => Ok(ack),
        Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
            Err(anyhow!("{}", no_stream(nats, subject, dead_letters).await))
        }
        Ok(Err(error)) if error.kind() != PublishErrorKind::TimedOut => {
            Err(error).with_context(|| format!("JetStream has not stored the message to {subject}"))
        }
        _ => Err(anyhow!(
            "JetStream has not answered within {} s, so it is not known whether the message to {subject} is stored",
            ACK_TIMEOUT.as_secs()
        )),
    }
}

/// Returns if no stream stores the subject.
async fn nowhere(nats: &Nats, subject: &str) {
    use jetstream::context::GetStreamByNameErrorKind;
    sleep(LOOK_AFTER).await;
    let found = timeout(LIST_TIMEOUT, nats.jetstream.stream_by_subject(subject)).await;
    match found {
        Ok(Err(error)) if error.kind() == GetStreamByNameErrorKind::NotFound => {}
        // There is one, or nobody knows.
        _ => std::future::pending().await,
    }
}

/// Returns once the server has denied the permission to publish to this subject.
async fn denied(nats: &Nats, subject: &str) {
    loop {
        let denials = nats.denials.current(Instant::now());
        if denials
            .iter()
            .any(|denied| denied.action == Action::Publish && denied.subject == subject)
        {
            return;
        }
        sleep(DENIED_POLL).await;
    }
}

/// Says that no stream stores the subject, and which subjects are stored.
async fn no_stream(nats: &Nats, subject: &str, dead_letters: &str) -> String {
    let server = nats.config.servers.join(", ");
    let listing = async {
        let mut streams = nats.jetstream.streams();
        let mut found = Vec::new();
        while let Some(stream) = streams.try_next().await? {
            found.push(stream.config);
        }
        Ok::<_, anyhow::Error>(found)
    };
    let listed = timeout(LIST_TIMEOUT, listing).await;
    let Ok(Ok(mut streams)) = listed else {
        return format!("no stream in NATS at {server} stores {subject}: create one, or use a subject of a stream");
    };
    streams.retain(|stream| stream.name != dead_letters && !stream.subjects.is_empty());
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    let names = streams
        .iter()
        .map(|stream| format!("{} ({})", stream.name, stream.subjects.join(", ")));
    let names: Vec<String> = names.collect();
    match names.is_empty() {
        true => format!(
            "no stream in NATS at {server} stores {subject}, because there is none: create one, or let `slipring up` create \
             those of your modules"
        ),
        false => format!(
            "no stream in NATS at {server} stores {subject}. The streams and their subjects are: {}",
            names.join(", ")
        ),
    }
}
