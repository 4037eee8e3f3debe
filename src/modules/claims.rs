//! Records which module reads from which durable consumer. Two modules on one consumer would each get part of the
//! messages and reset each other's epoch for ever, so the second one has to wait. The claims cover one relay only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::config::ModuleConfig;

/// What is read, in words that name one reader.
type Source = String;

/// All claims of this relay's modules.
#[derive(Debug, Default)]
pub struct Claims {
    holders: Mutex<HashMap<Source, Holder>>,
    freed: watch::Sender<()>,
}

#[derive(Debug)]
struct Holder {
    module: String,
    leaving: bool,
    /// Notified when another module asks for the consumer.
    asked: Arc<Notify>,
}

/// The right to read from a consumer, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    source: Source,
    asked: Arc<Notify>,
}

/// Another module has the claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {what} is already read by the module `{by}`: remove one of the two modules, or {change} in one of their .toml files"
)]
pub(super) struct Taken {
    what: Source,
    change: &'static str,
    pub(super) by: String,
    /// The other module is draining, so the claim will become free.
    pub(super) leaving: bool,
}

impl Claims {
    pub(super) fn take(self: &Arc<Self>, module: &str, config: &ModuleConfig) -> Result<Claim, Taken> {
        let source = config.reader();
        let mut holders = self.holders();
        if let Some(holder) = holders.get(&source) {
            holder.asked.notify_one();
            return Err(Taken {
                change: config.another_reader(),
                what: source.clone(),
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
        Ok(Claim {
            claims: Arc::clone(self),
            source,
            asked,
        })
    }

    /// Changes when a consumer has become free.
    pub(super) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Source, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    pub(super) fn is_for(&self, config: &ModuleConfig) -> bool {
        self.source == config.reader()
    }

    /// Records that its module is draining or about to drain, or that it stays after all.
    pub(super) fn set_leaving(&self, leaving: bool) {
        if let Some(holder) = self.claims.holders().get_mut(&self.source) {
            holder.leaving = leaving;
        }
    }

    /// Returns a notification for when another module asks for the consumer. It is already set if one has asked since
    /// the claim was taken.
    pub(super) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.holders().remove(&self.source);
        self.claims.freed.send_replace(());
    }
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
        let claims = Arc::new(Claims::default());
        let mut freed = claims.freed();
        let first = claims.take("first", &reads("ORDERS", "shared")).unwrap();
        let _other_consumer = claims.take("second", &reads("ORDERS", "own")).unwrap();
        let _other_stream = claims.take("third", &reads("INVOICES", "shared")).unwrap();

        let taken = claims.take("fourth", &reads("ORDERS", "shared")).unwrap_err();
        assert_eq!((taken.by.as_str(), taken.leaving), ("first", false));
        first.set_leaving(true);
        assert!(claims.take("fourth", &reads("ORDERS", "shared")).unwrap_err().leaving);
        assert!(!freed.has_changed().unwrap());

        drop(first);
        assert!(freed.has_changed().unwrap());
        freed.mark_unchanged();
        let fourth = claims.take("fourth", &reads("ORDERS", "shared")).unwrap();
        assert!(fourth.is_for(&reads("ORDERS", "shared")) && !fourth.is_for(&reads("ORDERS", "own")));
    }
}
