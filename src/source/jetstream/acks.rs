//! Sends acks over the connection that carried the deliveries.
//!
//! They go out in the order of the deliveries. The reset that follows an epoch waits for its acks, unless the server does
//! not reply for a second. The pipeline hands them over and never waits for the connection.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::super::{Ack, Receipt};
use crate::nats::wire::Outgoing;

/// How long the last acks may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the acks of one epoch may delay the next.
const EPOCH_TIMEOUT: Duration = Duration::from_secs(1);

/// What an ack needs beside its subject.
const FRAMING: usize = b"PUB  4\r\n+ACK\r\n".len();

/// Sends the acks. While the connection takes nothing, further acks are left out, so that at most twice as many wait as
/// messages have to be acked. A message that was not acked is delivered again and acked then.
pub fn send(connection: &Outgoing, mut acks: Vec<Ack>, window: usize) {
    if acks.is_empty() {
        return;
    }
    let each = acks.iter().map(length).sum::<usize>() / acks.len();
    let waiting = connection.unsent() / each.max(1);
    shorten(&mut acks, (2 * window).saturating_sub(waiting));
    if !acks.is_empty() {
        connection.send(operations(&acks));
    }
}

/// Returns the acks as operations of the NATS protocol.
fn operations(acks: &[Ack]) -> Bytes {
    let mut operations = BytesMut::with_capacity(acks.iter().map(length).sum());
    for ack in acks {
        let (Receipt::JetStream(subject), payload) = (match ack {
            Ack::Done(receipt) => (receipt, &b"+ACK"[..]),
            Ack::InProgress(receipt) => (receipt, &b"+WPI"[..]),
        }) else {
            continue;
        };
        operations.put_slice(b"PUB ");
        operations.put_slice(subject.as_bytes());
        operations.put_slice(b" 4\r\n");
        operations.put_slice(payload);
        operations.put_slice(b"\r\n");
    }
    operations.freeze()
}

fn length(ack: &Ack) -> usize {
    let (Ack::Done(receipt) | Ack::InProgress(receipt)) = ack;
    match receipt {
        Receipt::JetStream(subject) => FRAMING + subject.len(),
        Receipt::Redis(_) => 0,
    }
}

/// Waits until the server has the last acks of the pipeline, or does not reply in time.
pub async fn flush(mut connection: Outgoing) {
    match timeout(FLUSH_TIMEOUT, connection.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(ended)) => warn!(
            error = %ended,
            "the last acks may not have reached NATS; if so, their messages will be delivered again"
        ),
        Err(_) => warn!("NATS did not confirm the last acks in time; their messages may be delivered again"),
    }
}

/// Does the same for the last acks of an epoch, before the next one begins.
pub async fn flush_epoch(mut connection: Outgoing) {
    match timeout(EPOCH_TIMEOUT, connection.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(ended)) => debug!(error = %ended, "some acks of the last epoch may not have reached NATS"),
        Err(_) => debug!("NATS did not confirm the acks of the last epoch in time"),
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

    #[test]
    fn acks_are_operations_of_the_protocol() {
        let acks = [Ack::Done(receipt("$JS.ACK.a")), Ack::InProgress(receipt("$JS.ACK.bc"))];
        let operations = operations(&acks);
        assert_eq!(operations, "PUB $JS.ACK.a 4\r\n+ACK\r\nPUB $JS.ACK.bc 4\r\n+WPI\r\n");
        assert_eq!(operations.len(), acks.iter().map(length).sum::<usize>());
    }

    #[tokio::test]
    async fn a_connection_that_takes_nothing_leaves_a_bounded_queue() {
        const WINDOW: usize = 1_000;
        let (outgoing, _server) = Outgoing::to_nowhere().await;
        // Long, so that the buffers of both sockets are soon full.
        let long = receipt(&"a".repeat(1_000));
        let acks = vec![Ack::Done(long); WINDOW];
        let all: usize = acks.iter().map(length).sum();
        for _ in 0..100 {
            send(&outgoing, acks.clone(), WINDOW);
            assert!(outgoing.unsent() <= 2 * all);
            // A server that read would take each thousand in this time.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(outgoing.unsent() > all, "the connection takes them");
    }
}
