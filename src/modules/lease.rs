//! Which module reads from which durable consumer. Two at once would each get a part of the messages and reset the other's
//! epoch for ever, so the second one has to wait; this holds within one relay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::config::ModuleConfig;

/// A stream and one of its consumers.
type Source = (String, String);

/// All leases of the relay.
#[derive(Debug, Default)]
pub struct Leases {
    holders: Mutex<HashMap<Source, Holder>>,
    freed: watch::Sender<()>,
}

#[derive(Debug)]
struct Holder {
    module: String,
    leaving: bool,
    /// Told when another module asks for the consumer.
    asked: Arc<Notify>,
}

/// The right to read from a consumer, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    source: Source,
    asked: Arc<Notify>,
}

/// Another module holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its consumer `{consumer}` of the stream `{stream}` is already read by the module `{by}`: remove one of the two, or name \
     another with `consumer` in the module's .toml"
)]
pub(super) struct Taken {
    stream: String,
    consumer: String,
    pub(super) by: String,
    /// The other one is draining, so this will pass.
    pub(super) leaving: bool,
}

impl Leases {
    pub(super) fn acquire(self: &Arc<Self>, module: &str, config: &ModuleConfig) -> Result<Lease, Taken> {
        let source = source(config);
        let mut holders = self.holders();
        if let Some(holder) = holders.get(&source) {
            holder.asked.notify_one();
            let (stream, consumer) = source;
            return Err(Taken {
                stream,
                consumer,
                by: holder.module.clone(),
                leaving: holder.leaving,
            });
        }
        let asked = Arc::new(Notify::new());
        holders.insert(
            source.clone(),
            Holder {
                module: module.to_owned(),
                leaving: false,
                asked: Arc::clone(&asked),
            },
        );
        Ok(Lease {
            leases: Arc::clone(self),
            source,
            asked,
        })
    }

    /// Changes when a lease has become free.
    pub(super) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Source, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn is_for(&self, config: &ModuleConfig) -> bool {
        self.source == source(config)
    }

    /// Its module has begun to drain, or is about to; or it stays after all.
    pub(super) fn set_leaving(&self, leaving: bool) {
        if let Some(holder) = self.leases.holders().get_mut(&self.source) {
            holder.leaving = leaving;
        }
    }

    /// Notified when another module asks for the consumer, or has since this one has it.
    pub(super) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.holders().remove(&self.source);
        self.leases.freed.send_replace(());
    }
}

fn source(config: &ModuleConfig) -> Source {
    (config.stream.clone(), config.consumer.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(stream: &str, consumer: &str) -> ModuleConfig {
        ModuleConfig {
            consumer: consumer.to_owned(),
            ..ModuleConfig::new("any", stream)
        }
    }

    #[test]
    fn a_consumer_has_one_reader_until_that_one_is_gone() {
        let leases = Arc::new(Leases::default());
        let mut freed = leases.freed();
        let first = leases.acquire("first", &reads("ORDERS", "shared")).unwrap();
        let _other_consumer = leases.acquire("second", &reads("ORDERS", "own")).unwrap();
        let _other_stream = leases.acquire("third", &reads("INVOICES", "shared")).unwrap();

        let taken = leases.acquire("fourth", &reads("ORDERS", "shared")).unwrap_err();
        assert_eq!((taken.by.as_str(), taken.leaving), ("first", false));
        first.set_leaving(true);
        assert!(
            leases
                .acquire("fourth", &reads("ORDERS", "shared"))
                .unwrap_err()
                .leaving
        );
        assert!(!freed.has_changed().unwrap());

        drop(first);
        assert!(freed.has_changed().unwrap());
        freed.mark_unchanged();
        let fourth = leases.acquire("fourth", &reads("ORDERS", "shared")).unwrap();
        assert!(fourth.is_for(&reads("ORDERS", "shared")) && !fourth.is_for(&reads("ORDERS", "own")));
    }
}
