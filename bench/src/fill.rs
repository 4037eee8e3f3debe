//! Fills a file-based stream with messages as fast as JetStream accepts them.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, Stream};

use crate::event::Event;

/// The most messages on their way into JetStream at once. JetStream drops what it cannot take in (10,000 or 128 MiB by
/// default), so this is bounded.
const CHUNK: usize = 5_000;

/// The most bytes on their way.
const CHUNK_BYTES: usize = 32 << 20;

/// What a message has beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    None,
    /// Channel and version, as Centrifugo's own consumer expects them.
    Centrifugo,
}

/// Creates the stream `name` with `events` of `size` bytes, each on the subject `name.KEY`.
pub async fn fill(
    jetstream: &jetstream::Context,
    name: &str,
    events: &[Event],
    size: usize,
    headers: Headers,
) -> Result<Stream> {
    fill_replicated(jetstream, 1, name, events, size, headers).await
}

/// Does the same as [`fill`] with this many replicas of the stream.
pub async fn fill_replicated(
    jetstream: &jetstream::Context,
    replicas: usize,
    name: &str,
    events: &[Event],
    size: usize,
    headers: Headers,
) -> Result<Stream> {
    let config = Config {
        name: name.to_owned(),
        num_replicas: replicas,
        subjects: vec![format!("{name}.>")],
        ..Config::default()
    };
    let filling = async {
        jetstream.create_stream(config).await?;
        for chunk in events.chunks(CHUNK.min(CHUNK_BYTES / size)) {
            store(jetstream, name, chunk, size, headers).await?;
        }
        let stream = jetstream.get_stream(name).await?;
        let stored = stream.cached_info().state.messages;
        ensure!(
            stored == events.len() as u64,
            "{stored} of {} messages were stored",
            events.len()
        );
        Ok(stream)
    };
    filling.await.with_context(|| format!("filling the stream {name}"))
}

/// Only the last message asks for an ack. JetStream stores the messages of one connection in order, so the last
/// ack covers all.
async fn store(
    jetstream: &jetstream::Context,
    name: &str,
    chunk: &[Event],
    size: usize,
    headers: Headers,
) -> Result<()> {
    let Some((last, others)) = chunk.split_last() else {
        return Ok(());
    };
    let client = jetstream.client();
    let subject = |event: &Event| format!("{name}.{}", event.key);
    for event in others {
        let payload = event.payload(size).into();
        match headers_of(*event, headers) {
            None => client.publish(subject(event), payload).await?,
            Some(headers) => client.publish_with_headers(subject(event), headers, payload).await?,
        }
    }
    let headers = headers_of(*last, headers).unwrap_or_default();
    let ack = jetstream
        .publish_with_headers(subject(last), headers, last.payload(size).into())
        .await?;
    ack.await?;
    Ok(())
}

pub fn headers_of(event: Event, headers: Headers) -> Option<HeaderMap> {
    (headers == Headers::Centrifugo).then(|| {
        let mut headers = HeaderMap::new();
        headers.insert("centrifugo-channels", event.channel());
        headers.insert("centrifugo-version", event.revision.to_string());
        headers
    })
}
