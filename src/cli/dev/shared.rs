//! The one model that the screen and the page show. Both change it, and each learns that the other did.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::event::{Event, Order};
use super::model::Model;
use super::news::News;

#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Mutex<Model>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub fn new(model: Model) -> Self {
        Self(Arc::new(Inner {
            model: Mutex::new(model),
            changed: watch::Sender::new(()),
        }))
    }

    pub fn look<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.model())
    }

    /// Changes the model, and tells those who follow.
    pub fn change<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        let changed = change(&mut self.model());
        self.0.changed.send_replace(());
        changed
    }

    /// Tells of each change from here on.
    pub fn follow(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Takes in what the session tells. After each round, messages that no case holds run again.
    pub fn hear(&self, news: News, orders: &SyncSender<Event>) {
        let is_round = matches!(news, News::Cases(_) | News::NoCases(_));
        let tries = self.change(|model| {
            model.hear(news, Instant::now());
            if is_round { model.tries() } else { Vec::new() }
        });
        for (name, text) in tries {
            self.order(Order::Try { name, text }, orders);
        }
    }

    /// Passes an order on. If too much is waiting, the user has to give it again.
    pub fn order(&self, order: Order, orders: &SyncSender<Event>) {
        if orders.try_send(Event::Order(order)).is_err() {
            self.change(|model| model.note("too much is waiting: try again".to_owned(), true));
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
