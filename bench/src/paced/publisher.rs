//! Publishes on an absolute schedule: a late message does not delay the following ones. It has a thread of its own,
//! because tokio's timers have a resolution of a millisecond, in which ten messages may be due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::Client;
use tokio::task::{JoinHandle, spawn_blocking};

use super::SIZE;
use crate::event::Event;
use crate::fill::{Headers, headers_of};

/// What to publish, and how fast.
#[derive(Debug)]
pub struct Load {
    pub nats: String,
    pub stream: String,
    pub headers: Headers,
    /// Messages a second.
    pub rate: u32,
    pub events: Vec<Event>,
}

/// A running publisher. Dropping it ends it.
#[derive(Debug)]
pub struct Publisher {
    thread: JoinHandle<Result<Vec<Sent>>>,
    stop: Stop,
}

/// Ends a publisher early. A clone ends the same one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub event: Event,
    pub due: Instant,
    pub at: Instant,
}

impl Publisher {
    pub fn start(load: Load) -> Self {
        let stop = Stop::default();
        let stopping = stop.clone();
        Self {
            thread: spawn_blocking(move || publish(&load, &stopping).context("publishing at a steady pace")),
            stop,
        }
    }

    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns what it has published.
    pub async fn sent(mut self) -> Result<Vec<Sent>> {
        (&mut self.thread).await.context("the publisher broke")?
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.now();
    }
}

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

fn publish(load: &Load, stop: &Stop) -> Result<Vec<Sent>> {
    // The client's own task also runs on this thread while it waits, so a message has left when the wait is over.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async_nats::connect(&load.nats))?;
    let mut sent = Vec::with_capacity(load.events.len());
    let start = Instant::now();
    let due = |number: usize| start + Duration::from_secs_f64(number as f64 / f64::from(load.rate));
    let mut rest = load.events.iter().copied().zip((0..).map(due)).peekable();
    while let Some((_, next)) = rest.peek()
        && !stop.is_asked_for()
    {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        runtime.block_on(async {
            while let Some((event, due)) = rest.next_if(|(_, due)| *due <= now) {
                let at = send(&client, load, event).await?;
                sent.push(Sent { event, due, at });
            }
            client.flush().await.context("flushing")
        })?;
    }
    Ok(sent)
}

/// Returns when the message was sent, without waiting for JetStream's ack: a message that was not stored does not
/// arrive either.
async fn send(client: &Client, load: &Load, event: Event) -> Result<Instant> {
    let subject = format!("{}.{}", load.stream, event.key);
    let payload = event.payload(SIZE).into();
    let headers = headers_of(event, load.headers);
    let at = Instant::now();
    match headers {
        None => client.publish(subject, payload).await?,
        Some(headers) => client.publish_with_headers(subject, headers, payload).await?,
    }
    Ok(at)
}
