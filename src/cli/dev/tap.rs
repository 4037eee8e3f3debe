//! Shows the messages of the module's source as they arrive. Nothing is taken, acknowledged or published, and no one's
//! consumer moves.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::super::failure::told_once;
use super::super::held::Held;
use super::super::selection::Selection;
use super::event::Event;
use crate::config::{Config, ModuleConfig};

/// The pause after an error.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The tap ends when this is dropped.
#[derive(Debug)]
pub struct Tap {
    module: ModuleConfig,
    _task: AbortOnDropHandle<()>,
}

impl Tap {
    pub fn open(runtime: &Handle, config: Arc<Config>, module: &ModuleConfig, events: SyncSender<Event>) -> Self {
        let task = tap(config, module.clone(), events);
        Self {
            module: module.clone(),
            _task: AbortOnDropHandle::new(runtime.spawn(task)),
        }
    }

    /// Returns true if this reads the same messages as the module.
    pub fn fits(&self, module: &ModuleConfig) -> bool {
        let read = |module: &ModuleConfig| (module.stream.clone(), module.subjects.clone(), module.source.clone());
        read(&self.module) == read(module)
    }
}

/// Runs until it is aborted.
async fn tap(config: Arc<Config>, module: ModuleConfig, events: SyncSender<Event>) {
    let mut told = None;
    loop {
        let trouble = match follow(&config, &module, &events, &mut told).await {
            Ok(()) => format!("watching {} ended", module.stream),
            Err(error) => told_once(&error),
        };
        tell(Event::Trouble(trouble), &mut told, &events);
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn follow(
    config: &Config,
    module: &ModuleConfig,
    events: &SyncSender<Event>,
    told: &mut Option<String>,
) -> anyhow::Result<()> {
    let selection = Selection {
        stream: &module.stream,
        subjects: &module.subjects,
    };
    let held = Held::open(config, selection, Some(module)).await?;
    let mut messages = held.tap(selection.subjects).await?;
    tell(Event::Tapped, told, events);
    let mut skipped = 0;
    while let Some(message) = messages.next().await? {
        // Nobody reads as fast as a busy stream writes, and a build takes time. Messages without room are counted.
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

/// Sends a problem only once, until the stream was read in between. `told` is the last problem that was sent, if any.
fn tell(event: Event, told: &mut Option<String>, events: &SyncSender<Event>) {
    let trouble = match &event {
        Event::Trouble(trouble) => Some(trouble.clone()),
        _ => None,
    };
    let is_news = trouble.is_none() || trouble != *told;
    if is_news && events.try_send(event).is_ok() {
        *told = trouble;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn trouble_that_comes_back_is_told_again() {
        let (sender, events) = sync_channel(10);
        let mut told = None;
        let trouble = || Event::Trouble("there is no stream `ORDERS`".to_owned());
        for event in [trouble(), trouble(), Event::Tapped, trouble(), trouble()] {
            tell(event, &mut told, &sender);
        }
        let told: Vec<bool> = events
            .try_iter()
            .map(|event| matches!(event, Event::Trouble(_)))
            .collect();
        assert_eq!(told, [true, false, true]);
    }
}
