//! Publishes on an absolute schedule: a message that is late does not delay those that follow. It has a thread of its own, since
//! tokio's timers are good to a millisecond only, in which ten messages may be due.

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

/// What is to be published, and how fast.
#[derive(Debug)]
pub struct Load {
    pub nats: String,
    pub stream: String,
    pub headers: Headers,
    /// Messages a second.
    pub rate: u32,
    pub events: Vec<Event>,
}

/// One that publishes. Dropping it ends it.
#[derive(Debug)]
pub struct Publisher {
    thread: JoinHandle<Result<Vec<Sent>>>,
    stop: Stop,
}

/// Ends a publisher before it is through; a clone ends the same one.
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

    /// What it has published.
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
    // The client's own task runs on this thread too, while it is waited for: so a message is on its way when the wait is over.
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

/// Does not wait for JetStream's ack: a message that it did not store does not arrive either. Returns when it was sent.
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
