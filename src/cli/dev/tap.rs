//! A look at the module's stream while messages arrive: nothing is acknowledged, no consumer of anybody's moves, and nothing is
//! published.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::super::connection::connect;
use super::super::stored::Stored;
use super::Event;
use crate::config::{self, ModuleConfig};

/// After trouble.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Tap {
    stream: String,
    subjects: Vec<String>,
    _task: AbortOnDropHandle<()>,
}

impl Tap {
    pub fn open(runtime: &Handle, nats: &config::Nats, module: &ModuleConfig, events: SyncSender<Event>) -> Self {
        let (stream, subjects) = (module.stream.clone(), module.subjects.clone());
        let task = tap(nats.clone(), stream.clone(), subjects.clone(), events);
        Self {
            stream,
            subjects,
            _task: AbortOnDropHandle::new(runtime.spawn(task)),
        }
    }

    /// Whether this is what the module reads.
    pub fn fits(&self, module: &ModuleConfig) -> bool {
        self.stream == module.stream && self.subjects == module.subjects
    }
}

/// Until it is aborted. The same trouble is told once.
async fn tap(nats: config::Nats, stream: String, subjects: Vec<String>, events: SyncSender<Event>) {
    let mut told = String::new();
    loop {
        let trouble = match follow(&nats, &stream, &subjects, &events).await {
            Ok(()) => format!("the tap of {stream} ended"),
            Err(error) => format!("{error:#}"),
        };
        if trouble != told && events.try_send(Event::Trouble(trouble.clone())).is_ok() {
            told = trouble;
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn follow(
    nats: &config::Nats,
    stream: &str,
    subjects: &[String],
    events: &SyncSender<Event>,
) -> anyhow::Result<()> {
    let nats = connect(nats).await?;
    let mut messages = Stored::open(&nats, stream).await?.tap(subjects).await?;
    let _ = events.try_send(Event::Tapped);
    let mut skipped = 0;
    while let Some(message) = messages.next().await? {
        // Nobody reads as fast as a busy stream writes, and a build takes its time: what there is no room for is counted.
        let event = Event::Message {
            message: Arc::clone(&message),
            skipped,
        };
        skipped = match events.try_send(event) {
            Ok(()) => 0,
            Err(_) => skipped + 1,
        };
    }
    Ok(())
}
