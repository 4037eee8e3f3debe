//! Sends acks beside the pipeline, so that a lost connection never delays it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::super::{Ack, Receipt};

/// How long the last acks may take. Without a connection they never arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes a pipeline's acks and sends them in order. The acks of an epoch that is over are lost with its connection,
/// which does no harm.
///
/// The queue is bounded: while a connection takes nothing, further acks are left out. A message that was not acked is
/// delivered again and acked then.
#[derive(Debug)]
pub struct Acks {
    sender: mpsc::UnboundedSender<Vec<Ack>>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    task: JoinHandle<()>,
}

impl Acks {
    /// `window` is how many messages may have to be acked.
    pub fn start(client: Client, window: usize) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<Ack>>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(acks) = receiver.recv().await {
                for ack in acks {
                    left.fetch_sub(1, Ordering::Relaxed);
                    let (receipt, kind) = match ack {
                        Ack::Done(receipt) => (receipt, Bytes::from_static(b"+ACK")),
                        Ack::InProgress(receipt) => (receipt, Bytes::from_static(b"+WPI")),
                    };
                    let Receipt::JetStream(reply) = receipt else { continue };
                    if let Err(error) = client.publish(reply, kind).await {
                        let error: &dyn std::error::Error = &error;
                        warn!(error, "cannot send an ack; its message will be delivered again");
                    }
                }
            }
            if let Err(error) = client.flush().await {
                let error: &dyn std::error::Error = &error;
                warn!(
                    error,
                    "the last acks may not have reached NATS; if so, their messages will be delivered again"
                );
            }
        });
        Self {
            sender,
            waiting,
            max_waiting: 2 * window,
            task,
        }
    }

    /// Takes all acks that a pipeline has at a time, so that the task wakes once and they go out in one write.
    pub fn send(&self, mut acks: Vec<Ack>) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        shorten(&mut acks, self.max_waiting.saturating_sub(waiting));
        if !acks.is_empty() {
            self.waiting.fetch_add(acks.len(), Ordering::Relaxed);
            // The task ends after the sender, unless it broke. Then the pipeline has to restart, because its acks are
            // lost.
            let sent = self.sender.send(acks);
            sent.expect("the task that sends acks lives as long as it is given some");
        }
    }

    /// Returns once the server has all acks, or does not reply in time.
    pub async fn flush(self) {
        let Self { sender, mut task, .. } = self;
        drop(sender);
        match timeout(FLUSH_TIMEOUT, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(
                %error,
                "the task that sends acks failed unexpectedly, which is a bug in Slipring; the messages will be \
                 delivered again"
            ),
            Err(_) => {
                task.abort();
                warn!("NATS did not confirm the last acks in time; their messages may be delivered again");
            }
        }
    }
}

/// Leaves out what exceeds `room`, progress acks first: those are sent every 20 s, and a final ack only once.
fn shorten(acks: &mut Vec<Ack>, room: usize) {
    if acks.len() > room {
        acks.retain(|ack| matches!(ack, Ack::Done(_)));
        acks.truncate(room);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn receipt(subject: &str) -> Receipt {
        Receipt::JetStream(subject.into())
    }

    #[test]
    fn what_is_in_progress_is_left_out_first() {
        let all = [
            Ack::InProgress(receipt("1")),
            Ack::Done(receipt("2")),
            Ack::InProgress(receipt("3")),
            Ack::Done(receipt("4")),
        ];
        for (room, left) in [(4, 4), (3, 2), (2, 2), (1, 1), (0, 0)] {
            let mut acks = all.to_vec();
            shorten(&mut acks, room);
            assert_eq!(acks.len(), left, "room for {room}");
            assert!(left == 4 || acks.iter().all(|ack| matches!(ack, Ack::Done(_))));
        }
    }

    /// The server replies to the first PING and then reads nothing.
    #[tokio::test]
    async fn a_connection_that_takes_nothing_leaves_a_bounded_queue() {
        const WINDOW: usize = 1_000;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let info = b"INFO {\"server_id\":\"x\",\"version\":\"2.15.0\",\"max_payload\":1048576,\"proto\":1}\r\n";
            connection.write_all(info).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(b"PING\r\n") {
                received.push(connection.read_u8().await.unwrap());
            }
            connection.write_all(b"PONG\r\n").await.unwrap();
            connection
        });
        let client = async_nats::connect(address.to_string()).await.unwrap();
        let _connection = server.await.unwrap();
        let acks = Acks::start(client, WINDOW);
        // Long, so that the buffers of the client and of both sockets are soon full.
        let long = receipt(&"a".repeat(1_000));
        let most = 2 * WINDOW;
        for _ in 0..100 {
            acks.send(vec![Ack::Done(long.clone()); WINDOW]);
            assert!(acks.waiting.load(Ordering::Relaxed) <= most);
            // A server that read would take each thousand in this time.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            acks.waiting.load(Ordering::Relaxed) > most - WINDOW,
            "the connection takes them"
        );
        acks.task.abort();
    }
}
