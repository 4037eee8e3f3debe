//! A client of Centrifugo over WebSocket. It subscribes, answers pings and returns what arrives. It does not reconnect
//! or recover, so a test sees exactly what one connection was sent.

mod protocol;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::Publication;
use protocol::Reply;

/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Subscriptions per frame.
const BATCH: usize = 500;

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
    /// Connects to `url` (`ws://…/connection/websocket`) and subscribes to `channels`. Returns when all
    /// subscriptions are active.
    pub async fn connect<C: AsRef<str>>(url: &str, channels: impl IntoIterator<Item = C>) -> Result<Self> {
        let channels = channels
            .into_iter()
            .map(|channel| channel.as_ref().to_owned())
            .collect();
        let connecting = async {
            let (socket, _) = tokio_tungstenite::connect_async(format!("{url}?cf_protocol=protobuf")).await?;
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

    /// Returns the next publication of any channel.
    pub async fn next(&mut self, patience: Duration) -> Result<Received> {
        let next = timeout(patience, self.received.recv()).await;
        next.with_context(|| format!("nothing arrived for {patience:?}"))?
            .context("the connection has ended")?
    }

    /// Returns the next `count` publications, with `patience` for each.
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

    /// Returns the next one that has already arrived, if any. Nothing follows an error.
    pub fn try_next(&mut self) -> Option<Result<Received>> {
        self.received.try_recv().ok()
    }

    /// Returns everything that has arrived and was not returned yet.
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

impl Connection {
    async fn subscribe(&mut self, channels: Vec<String>) -> Result<()> {
        // Command 1 connects, command n + 2 subscribes to channel n.
        self.send(protocol::connect(1)).await?;
        self.replies(BTreeSet::from([1]), &channels).await?;
        let commands: Vec<(u64, &String)> = (2..).zip(&channels).collect();
        for batch in commands.chunks(BATCH) {
            self.send(
                batch
                    .iter()
                    .flat_map(|(id, channel)| protocol::subscribe(*id, channel))
                    .collect(),
            )
            .await?;
            self.replies(batch.iter().map(|(id, _)| *id).collect(), &channels)
                .await?;
        }
        Ok(())
    }

    /// Waits for the replies to `commands`. Publications may come in between.
    async fn replies(&mut self, mut commands: BTreeSet<u64>, channels: &[String]) -> Result<()> {
        while !commands.is_empty() {
            for reply in self.read().await? {
                if let Some(error) = reply.error {
                    let channel = reply.id.checked_sub(2).and_then(|n| channels.get(n as usize));
                    bail!("{}: {error}", channel.map_or("connecting", String::as_str));
                }
                commands.remove(&reply.id);
                self.push(reply)?;
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

    /// Reads one frame, and answers the pings in it.
    async fn read(&mut self) -> Result<Vec<Reply>> {
        let frame = match self.socket.next().await.context("the connection has ended")?? {
            Message::Binary(frame) => frame,
            Message::Close(reason) => {
                bail!(
                    "Centrifugo closed the connection: {}",
                    reason.map_or_else(String::new, |reason| reason.to_string())
                )
            }
            _ => return Ok(Vec::new()),
        };
        let mut replies = protocol::read_frame(&frame).context("reading what Centrifugo sent")?;
        let received = replies.len();
        replies.retain(|reply| *reply != Reply::default());
        if replies.len() < received {
            self.send(protocol::PING.to_vec()).await?;
        }
        Ok(replies)
    }

    async fn send(&mut self, frame: Vec<u8>) -> Result<()> {
        self.socket
            .send(Message::binary(frame))
            .await
            .context("sending to Centrifugo")
    }

    fn push(&self, reply: Reply) -> Result<()> {
        let Some(push) = reply.push else { return Ok(()) };
        ensure!(
            push.end.is_none(),
            "Centrifugo ended {:?}: {}",
            push.channel,
            push.end.unwrap_or_default()
        );
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
