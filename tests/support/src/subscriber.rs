//! A client of Centrifugo over WebSocket: its bidirectional protocol, as lines of JSON. It subscribes, answers pings and hands
//! out what arrives; it does not reconnect or recover, so that what a test sees is what one connection was sent.
//!
//! Protocol: <https://centrifugal.dev/docs/transports/client_protocol>.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::Publication;

/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Subscriptions a frame.
const BATCH: usize = 500;

/// The frame that a ping is, and its answer.
const PING: &str = "{}";

#[derive(Debug)]
pub struct Subscriber {
    received: mpsc::UnboundedReceiver<Result<Received>>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Clone)]
pub struct Received {
    pub channel: String,
    pub publication: Publication,
    pub at: Instant,
}

impl Subscriber {
    /// Connects to `url` (`ws://…/connection/websocket`) and subscribes to `channels`: on return, all subscriptions stand.
    pub async fn connect<C: AsRef<str>>(url: &str, channels: impl IntoIterator<Item = C>) -> Result<Self> {
        let channels = channels
            .into_iter()
            .map(|channel| channel.as_ref().to_owned())
            .collect();
        let connecting = async {
            let (socket, _) = tokio_tungstenite::connect_async(url).await?;
            let (sender, received) = mpsc::unbounded_channel();
            let mut connection = Connection { socket, sender };
            connection.subscribe(channels).await?;
            let reader = tokio::spawn(connection.run());
            anyhow::Ok(Self { received, reader })
        };
        timeout(PATIENCE, connecting)
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .with_context(|| format!("subscribing at {url}"))
    }

    /// The next publication, of whatever channel.
    pub async fn next(&mut self, patience: Duration) -> Result<Received> {
        let next = timeout(patience, self.received.recv()).await;
        next.with_context(|| format!("nothing arrived for {patience:?}"))?
            .context("the connection has ended")?
    }

    /// The next `count` publications, with `patience` for each.
    pub async fn take(&mut self, count: usize, patience: Duration) -> Result<Vec<Received>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            all.push(
                self.next(patience)
                    .await
                    .with_context(|| format!("{} of {count} arrived", all.len()))?,
            );
        }
        Ok(all)
    }

    /// What has arrived and was not asked for yet.
    pub fn drain(&mut self) -> Result<Vec<Received>> {
        let mut all = Vec::new();
        while let Ok(received) = self.received.try_recv() {
            all.push(received?);
        }
        Ok(all)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sender: mpsc::UnboundedSender<Result<Received>>,
}

/// What the server sends, as far as it matters here.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: usize,
    error: Option<Value>,
    push: Option<Push>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(default)]
    channel: String,
    #[serde(rename = "pub")]
    publication: Option<Publication>,
    unsubscribe: Option<Value>,
    disconnect: Option<Value>,
}

impl Connection {
    async fn subscribe(&mut self, channels: Vec<String>) -> Result<()> {
        // Command 1 connects, command n + 2 subscribes to channel n.
        self.send(json!({ "id": 1, "connect": {} }).to_string()).await?;
        self.replies(BTreeSet::from([1]), &channels).await?;
        for (batch, names) in channels.chunks(BATCH).enumerate() {
            let first = batch * BATCH + 2;
            let commands = names
                .iter()
                .enumerate()
                .map(|(n, channel)| json!({ "id": first + n, "subscribe": { "channel": channel } }).to_string());
            self.send(commands.collect::<Vec<_>>().join("\n")).await?;
            self.replies((first..first + names.len()).collect(), &channels).await?;
        }
        Ok(())
    }

    /// Waits for the replies to `commands`. Publications may come in between.
    async fn replies(&mut self, mut commands: BTreeSet<usize>, channels: &[String]) -> Result<()> {
        while !commands.is_empty() {
            for reply in self.read().await? {
                if reply.id > 0 {
                    let about = reply
                        .id
                        .checked_sub(2)
                        .and_then(|n| channels.get(n))
                        .map_or("connecting", String::as_str);
                    ensure!(reply.error.is_none(), "{about}: {}", reply.error.unwrap_or_default());
                    commands.remove(&reply.id);
                } else {
                    self.push(reply)?;
                }
            }
        }
        Ok(())
    }

    async fn run(mut self) {
        let error = loop {
            let replies = match self.read().await {
                Ok(replies) => replies,
                Err(error) => break error,
            };
            if let Err(error) = replies.into_iter().try_for_each(|reply| self.push(reply)) {
                break error;
            }
        };
        // Fails only when nobody is interested any more.
        let _ = self.sender.send(Err(error));
    }

    /// Reads one frame; a ping is answered and is an empty list.
    async fn read(&mut self) -> Result<Vec<Reply>> {
        let text = match self.socket.next().await.context("the connection has ended")?? {
            Message::Text(text) => text,
            Message::Close(frame) => bail!(
                "Centrifugo closed the connection: {}",
                frame.map_or_else(String::new, |f| f.to_string())
            ),
            _ => return Ok(Vec::new()),
        };
        let mut replies = Vec::new();
        for line in text.lines() {
            if line == PING {
                self.send(PING.to_owned()).await?;
            } else {
                replies.push(serde_json::from_str(line).with_context(|| format!("reading {line}"))?);
            }
        }
        Ok(replies)
    }

    async fn send(&mut self, text: String) -> Result<()> {
        self.socket
            .send(Message::text(text))
            .await
            .context("sending to Centrifugo")
    }

    fn push(&self, reply: Reply) -> Result<()> {
        let Some(push) = reply.push else { return Ok(()) };
        if let Some(reason) = push.unsubscribe.or(push.disconnect) {
            return Err(anyhow!(
                "Centrifugo ended the subscription to {:?}: {reason}",
                push.channel
            ));
        }
        if let Some(publication) = push.publication {
            let received = Received {
                channel: push.channel,
                publication,
                at: Instant::now(),
            };
            // Fails only when nobody is interested any more.
            let _ = self.sender.send(Ok(received));
        }
        Ok(())
    }
}
