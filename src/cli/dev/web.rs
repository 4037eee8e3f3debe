//! `slipring dev --web`: a page that shows the same model as the screen.

mod routes;
mod state;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::failure::Failure;
use super::event::Event;
use super::lines::Lines;
use super::news::{Front, News};
use super::session::{self, Setup};
use super::shared::Shared;
use crate::admin::Local;

#[cfg(test)]
pub use self::routes::router;

/// How often it looks whether the session has ended without a word.
const LOOK: Duration = Duration::from_millis(200);

/// The server of the page.
#[derive(Debug)]
pub struct Web {
    serving: JoinHandle<()>,
}

impl Web {
    /// Serves the page until it is stopped, and puts its address into the model.
    pub fn start(
        runtime: &Handle,
        port: u16,
        shared: &Shared,
        events: &SyncSender<Event>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let local = runtime.block_on(Local::bind(port))?;
        shared.change(|model| model.address = Some(local.page()));
        let api = routes::router(shared.clone(), events.clone());
        let serving = runtime.spawn(local.serve(api, stop.clone()));
        Ok(Self { serving })
    }

    /// Waits until everything that was asked before the stop is answered.
    pub fn end(self, runtime: &Handle) -> anyhow::Result<()> {
        runtime
            .block_on(self.serving)
            .context("the server of the page has failed")
    }
}

/// Shows a session as lines and on the page.
pub fn run(mut setup: Setup, events: Receiver<Event>, shared: &Shared, lines: &mut Lines<'_>) -> Result<(), Failure> {
    let (sender, news) = mpsc::channel();
    setup.words = Some(sender.clone());
    let (orders, stop) = (setup.events.clone(), setup.stop.clone());
    let session = thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || session::run(setup, events, &mut { sender }))
        .context("starting a thread failed")?;
    let shown = loop {
        match news.recv_timeout(LOOK) {
            Ok(news) => {
                let is_end = matches!(news, News::Stopped);
                shared.hear(news.clone(), &orders);
                let told = lines.tell(news);
                if is_end || told.is_err() {
                    break told;
                }
            }
            // Something that a build has started may hold the other end longer than the session does.
            Err(RecvTimeoutError::Timeout) if !session.is_finished() => {}
            Err(_) => break Ok(()),
        }
    };
    stop.cancel();
    // A full channel wakes it as well.
    let _ = orders.try_send(Event::Stop);
    let ended = session.join().map_err(|_| anyhow!("the session has failed"))?;
    shown?;
    ended
}
