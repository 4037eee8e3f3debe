//! Follows what a relay sends, over one connection after the other.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::super::failure::told_once;
use super::relay::News;
use crate::admin::{Client, Event, Events};
use crate::status::LiveSample;

/// The pause before the next try to connect.
const RETRY: Duration = Duration::from_secs(1);

/// The first sample comes at once.
const FIRST: Duration = Duration::from_secs(10);

/// Returns what the relay says first, and the events that follow.
pub async fn connect(client: &Client) -> anyhow::Result<([News; 2], Events)> {
    let history = client.get("api/v1/history?step=1").await?;
    let mut events = client.events("api/v1/events").await?;
    let sample = timeout(FIRST, sample(&mut events)).await;
    let sample = sample.context("the relay has sent nothing about its state")??;
    Ok(([News::History(history), sample], events))
}

/// Passes on all samples of this connection and of those that follow when it breaks.
pub async fn follow(client: &Client, mut events: Events, news: &Sender<News>) -> Infallible {
    loop {
        let mut why = loop {
            match sample(&mut events).await {
                Ok(sample) => tell(news, sample).await,
                Err(why) => break why,
            }
        };
        events = loop {
            tell(news, News::Lost(reason(&why))).await;
            sleep(RETRY).await;
            match connect(client).await {
                Ok((first, events)) => {
                    for one in first {
                        tell(news, one).await;
                    }
                    break events;
                }
                Err(error) => why = error,
            }
        };
    }
}

/// Returns why the connection was lost. The address is on the screen, and the system's own reason is the shortest.
fn reason(error: &anyhow::Error) -> String {
    match error.root_cause().downcast_ref::<io::Error>() {
        Some(error) => error.to_string(),
        None => told_once(error),
    }
}

/// The receiver lives as long as the screen. Without it, nobody polls this any more.
async fn tell(news: &Sender<News>, one: News) {
    let _ = news.send(one).await;
}

/// Returns the next sample. Newer relays may send other events, too.
async fn sample(events: &mut Events) -> anyhow::Result<News> {
    while let Some(Event { name, data }) = events.next().await? {
        if name == "sample" {
            let sample: LiveSample = serde_json::from_str(&data).context("the relay's state cannot be read")?;
            return Ok(News::Sample(Box::new(sample)));
        }
    }
    bail!("the relay has closed the connection")
}
