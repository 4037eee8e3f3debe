//! What goes out over a connection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Ended;

/// What the connection's task is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Send these operations, each of which is complete.
    Send(Bytes),
    /// Report once the server has everything that was sent before.
    Flush(oneshot::Sender<()>),
}

/// The task's end of the orders.
#[derive(Debug)]
pub(super) struct Orders {
    orders: UnboundedReceiver<Order>,
    unsent: Arc<AtomicUsize>,
}

impl Orders {
    /// Returns the next order, or `None` once there can be none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Order> {
        let order = self.orders.recv().await?;
        if let Order::Send(operations) = &order {
            self.unsent.fetch_sub(operations.len(), Ordering::Relaxed);
        }
        Some(order)
    }
}

/// Sends over a connection, in order. Dropping it closes the connection, and what is not sent yet is lost.
#[derive(Debug)]
pub struct Outgoing {
    orders: UnboundedSender<Order>,
    unsent: Arc<AtomicUsize>,
    task: AbortOnDropHandle<Ended>,
    ended: Option<Ended>,
}

impl Outgoing {
    /// Starts the connection's task.
    pub(super) fn start<F>(task: impl FnOnce(Orders) -> F) -> Self
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (sender, orders) = mpsc::unbounded_channel();
        let unsent = Arc::new(AtomicUsize::new(0));
        let task = task(Orders {
            orders,
            unsent: Arc::clone(&unsent),
        });
        Self {
            orders: sender,
            unsent,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
            ended: None,
        }
    }

    /// Sends operations of the NATS protocol, each of them complete. Does nothing if the connection has ended.
    pub fn send(&self, operations: Bytes) {
        self.unsent.fetch_add(operations.len(), Ordering::Relaxed);
        let _ = self.orders.send(Order::Send(operations));
    }

    /// Returns the number of bytes that wait because the connection does not take them, or because it has ended.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Returns once the server has everything that was sent before. Cancel-safe.
    pub async fn flush(&mut self) -> Result<(), Ended> {
        let (sender, flushed) = oneshot::channel();
        let _ = self.orders.send(Order::Flush(sender));
        match flushed.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Waits until the connection has ended. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Ended {
        if self.ended.is_none() {
            self.ended = Some((&mut self.task).await.unwrap_or(Ended::Gone));
        }
        self.ended.clone().unwrap_or(Ended::Gone)
    }
}
