//! Sends acks beside the pipeline, so that a connection that is down never holds it up.

use std::time::Duration;

use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

/// How long the last acks may take. Without a connection they never arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What to tell JetStream of a message, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    Done(Subject),
    InProgress(Subject),
}

/// Where a pipeline leaves its acks. They go out in order; those of an epoch that is over are lost with its connection, and
/// nothing comes of it.
#[derive(Debug)]
pub struct Acks {
    sender: mpsc::UnboundedSender<Vec<Ack>>,
    task: JoinHandle<()>,
}

impl Acks {
    pub fn start(client: Client) -> Self {
        // What waits here is bounded by the window: a message is acked once and reported as in progress every 20 s.
        let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<Ack>>();
        let task = tokio::spawn(async move {
            while let Some(acks) = receiver.recv().await {
                for ack in acks {
                    let (reply, kind) = match ack {
                        Ack::Done(reply) => (reply, Bytes::from_static(b"+ACK")),
                        Ack::InProgress(reply) => (reply, Bytes::from_static(b"+WPI")),
                    };
                    if let Err(error) = client.publish(reply, kind).await {
                        let error: &dyn std::error::Error = &error;
                        warn!(error, "an ack could not be sent; its message will come again");
                    }
                }
            }
            if let Err(error) = client.flush().await {
                let error: &dyn std::error::Error = &error;
                warn!(
                    error,
                    "the last acks may not have reached NATS; their messages will come again"
                );
            }
        });
        Self { sender, task }
    }

    /// Gathered, so that the task wakes once for all that a pipeline has to say at a time, and they go out in one write.
    pub fn send(&self, acks: Vec<Ack>) {
        if !acks.is_empty() {
            // It ends after the sender, unless it broke. Then the pipeline has to begin again, since its acks are lost.
            let sent = self.sender.send(acks);
            sent.expect("the task that sends acks lives as long as it is given some");
        }
    }

    /// Ends once the server has got all acks, or does not answer in time.
    pub async fn flush(self) {
        let Self { sender, mut task } = self;
        drop(sender);
        match timeout(FLUSH_TIMEOUT, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "sending acks ended unexpectedly; their messages will come again"),
            Err(_) => {
                task.abort();
                warn!("NATS did not take the last acks in time; their messages will come again");
            }
        }
    }
}
