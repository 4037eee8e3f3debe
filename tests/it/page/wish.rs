//! What a script can have done to the servers and the relay.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream;
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_support::eventually;
use slipring_support::guests;
use slipring_support::subscriber::Subscriber;
use tokio::task::JoinHandle;

use super::super::world::{SOON, publish, unruly_toml};
use super::LENIENT;
use super::stage::Stage;

/// How often a flow publishes.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wish {
    /// Publishes each of the messages so many times, in turn.
    Publish {
        messages: Vec<Sent>,
        #[serde(default = "once")]
        times: usize,
    },
    /// Publishes the message so often a second until the next `flow`. With 0, it only ends the last one.
    Flow {
        message: Sent,
        rate: u64,
    },
    /// Has somebody listen to these channels.
    Subscribe {
        channels: Vec<String>,
    },
    /// Answers with what has arrived since the last time.
    Received,
    KillNats,
    StartNats,
    KillCentrifugo,
    StartCentrifugo,
    /// Changes the module's settings, so that the relay loads a new version.
    Deploy {
        settings: String,
    },
    /// Replaces a module's component by that of a guest.
    Swap {
        module: String,
        guest: String,
    },
    /// Waits until this many dead letters are stored.
    DeadLetters {
        count: u64,
    },
    /// Answers with the relay's memory in bytes, now and at most since the last time.
    Memory,
}

fn once() -> usize {
    1
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    subject: String,
    payload: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Messages that come all the time.
#[derive(Debug)]
pub struct Flow(JoinHandle<()>);

impl Flow {
    fn start(jetstream: jetstream::Context, message: Sent, rate: u64) -> Self {
        let each = (rate * TICK.as_millis() as u64).div_ceil(1000) as usize;
        Self::from(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let messages = std::iter::repeat_n((message.subject.clone(), message.payload.clone()), each);
                // While NATS is away, there is nothing to do but try again.
                let _ = publish(&jetstream, messages).await;
            }
        }))
    }
}

impl From<JoinHandle<()>> for Flow {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wish {
    pub async fn carry_out(self, stage: &mut Stage) -> Result<Value> {
        match self {
            Self::Publish { messages, times } => send(stage, messages, times).await?,
            Self::Flow { message, rate } => {
                stage.flow = (rate > 0).then(|| Flow::start(stage.world.jetstream.clone(), message, rate));
            }
            Self::Subscribe { channels } => {
                stage.channels = channels;
                listen(stage).await?;
            }
            Self::Received => return received(stage),
            Self::KillNats => stage.world.nats.kill(),
            Self::StartNats => {
                stage.world.nats.restart().await?;
                // So that the next message is not published into a connection that is not there yet.
                let connected = async || stage.world.jetstream.query_account().await.map(drop);
                eventually(SOON, "the test's own connection", connected).await?;
            }
            Self::KillCentrifugo => {
                stage.subscriber = None;
                stage.world.centrifugo.kill();
            }
            Self::StartCentrifugo => {
                stage.world.centrifugo.restart().await?;
                listen(stage).await?;
            }
            Self::Deploy { settings } => {
                let toml = unruly_toml(&format!("{LENIENT}\n[settings]\n{settings}"));
                stage.world.home.configure_module("unruly", &toml)?;
            }
            Self::Swap { module, guest } => stage.world.home.replace_wasm(&module, &guests::component(&guest)?)?,
            Self::DeadLetters { count } => dead_letters(stage, count).await?,
            Self::Memory => {
                let usage = stage.relay.usage()?;
                stage.relay.forget_peak_memory()?;
                return Ok(json!({ "now": usage.memory, "peak": usage.peak_memory }));
            }
        }
        Ok(Value::Null)
    }
}

async fn send(stage: &Stage, messages: Vec<Sent>, times: usize) -> Result<()> {
    let (plain, others): (Vec<Sent>, Vec<Sent>) = messages.into_iter().partition(|sent| sent.headers.is_empty());
    let plain: Vec<_> = plain.into_iter().map(|sent| (sent.subject, sent.payload)).collect();
    let all = std::iter::repeat_n(plain, times).flatten();
    stage.world.publish(all).await?;
    for sent in std::iter::repeat_n(others, times).flatten() {
        let mut headers = HeaderMap::new();
        for (name, value) in sent.headers {
            headers.append(name.as_str(), value.as_str());
        }
        let publish = stage
            .world
            .jetstream
            .publish_with_headers(sent.subject, headers, sent.payload.into());
        publish.await?.await?;
    }
    Ok(())
}

async fn listen(stage: &mut Stage) -> Result<()> {
    stage.subscriber = match stage.channels.as_slice() {
        [] => None,
        channels => Some(Subscriber::connect(&stage.world.centrifugo.websocket_url(), channels).await?),
    };
    Ok(())
}

fn received(stage: &mut Stage) -> Result<Value> {
    let subscriber = stage.subscriber.as_mut().context("nobody listens")?;
    let all = subscriber.drain()?;
    let each = all.into_iter().map(|received| {
        let (channel, text) = (received.channel, received.publication.text());
        json!({ "channel": channel, "data": text })
    });
    Ok(each.collect())
}

async fn dead_letters(stage: &Stage, count: u64) -> Result<()> {
    let stored = async || -> Result<()> {
        let stream = stage.world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
        let messages = stream.cached_info().state.messages;
        ensure!(messages >= count, "{messages} are stored");
        Ok(())
    };
    eventually(2 * SOON, format!("{count} dead letters"), stored).await
}
