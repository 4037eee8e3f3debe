//! Adds what the relay contributes to a publication: its idempotency key, and its version if the relay sets it.

use crate::key::idempotency_key;
use crate::message::{Message, Outcome, Publication};
use crate::read::Incarnation;

/// The source of a publication's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSource {
    /// The module sets the version, if any.
    Module,
    /// The version is the message's place in the source, and the version epoch is the source's incarnation.
    Sequence,
}

/// The values that all messages of a stream share.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    pub module: &'a str,
    /// The incarnation of the source. `None` means that the messages come from no source, so their versions have no epoch.
    pub incarnation: Option<Incarnation>,
    pub idempotency: bool,
    pub version: VersionSource,
}

impl Stamp<'_> {
    /// Returns the publications of one message, each with its key.
    pub fn all(&self, message: &Message, publications: Vec<Publication>) -> Vec<(Publication, Option<String>)> {
        let stamp = |(index, publication)| self.one(message, index, publication);
        publications.into_iter().enumerate().map(stamp).collect()
    }

    /// Adds keys and versions to an outcome of the module.
    pub fn outcome(&self, message: &Message, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Publish(publications) => Outcome::Publish(keyed(self.all(message, publications))),
            other => other,
        }
    }

    fn one(&self, message: &Message, index: usize, mut publication: Publication) -> (Publication, Option<String>) {
        if self.version == VersionSource::Sequence {
            publication.version = message.place.number();
            // Two modules may publish messages of one stream on the same channel. With one epoch for both, Centrifugo
            // would suppress what the slower module publishes of an earlier message.
            publication.version_epoch = self.incarnation.map(|Incarnation(id)| format!("{id}-{}", self.module));
        }
        let key = || {
            let Incarnation(source) = self.incarnation.unwrap_or_default();
            let (place, stored) = message.place.identity(message.timestamp, &message.payload);
            idempotency_key(self.module, source, place, stored, index)
        };
        (publication, self.idempotency.then(key))
    }
}

/// Sets the key that Centrifugo gets: the module's own, or else the relay's.
pub fn keyed(stamped: Vec<(Publication, Option<String>)>) -> Vec<Publication> {
    let keyed = stamped.into_iter().map(|(mut publication, key)| {
        publication.idempotency_key = publication.idempotency_key.or(key);
        publication
    });
    keyed.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Body;

    const STAMP: Stamp<'static> = Stamp {
        module: "orders",
        incarnation: Some(Incarnation(5)),
        idempotency: true,
        version: VersionSource::Module,
    };

    fn message() -> Message {
        Message {
            subject: "orders.1".into(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: "ORDERS".into(),
            place: 42.into(),
            timestamp: 7,
            deliveries: 1,
            unreadable: None,
        }
    }

    fn publication(channel: &str) -> Publication {
        Publication {
            version: Some(3),
            ..Publication::new(vec![channel.into()], Body::Binary(Vec::new()))
        }
    }

    #[test]
    fn each_publication_of_a_message_has_a_key_of_its_own() {
        let stamped = STAMP.all(&message(), vec![publication("a"), publication("a")]);
        let keys: Vec<_> = stamped.iter().map(|(_, key)| key.clone().unwrap()).collect();
        assert_eq!(keys[0], idempotency_key("orders", 5, 42, 7, 0));
        assert_eq!(keys[1], idempotency_key("orders", 5, 42, 7, 1));
        assert_eq!(stamped[0].0.version, Some(3), "the module's own");
    }

    #[test]
    fn a_publication_keeps_the_key_that_the_module_gave_it() {
        let own = Publication {
            idempotency_key: Some("own".to_owned()),
            ..publication("a")
        };
        let made = Outcome::Publish(vec![publication("a"), own]);
        let Outcome::Publish(keyed) = STAMP.outcome(&message(), made) else {
            panic!("it is still published");
        };
        let keys: Vec<_> = keyed.iter().map(|one| one.idempotency_key.as_deref()).collect();
        let relays = idempotency_key("orders", 5, 42, 7, 0);
        assert_eq!(keys, [Some(relays.as_str()), Some("own")]);
    }

    #[test]
    fn without_idempotency_there_is_no_key() {
        let stamp = Stamp {
            idempotency: false,
            ..STAMP
        };
        let stamped = stamp.all(&message(), vec![publication("a")]);
        assert_eq!(stamped[0].1, None);
    }

    #[test]
    fn the_sequence_is_a_version_of_the_stream_s_epoch() {
        let stamp = Stamp {
            version: VersionSource::Sequence,
            ..STAMP
        };
        let stamped = stamp.all(&message(), vec![publication("a"), publication("b")]);
        let versions: Vec<_> = stamped
            .iter()
            .map(|(one, _)| (one.version, one.version_epoch.as_deref()))
            .collect();
        assert_eq!(versions, [(Some(42), Some("5-orders")); 2]);
        let of_another = Stamp {
            module: "invoices",
            ..stamp
        };
        let stamped_by_another = of_another.all(&message(), vec![publication("a")]);
        assert_ne!(
            stamped_by_another[0].0.version_epoch, stamped[0].0.version_epoch,
            "two modules on one channel do not leave each other's publications out"
        );
        let of_no_stream = Stamp {
            incarnation: None,
            ..stamp
        };
        let stamped = of_no_stream.all(&message(), vec![publication("a")]);
        assert_eq!((stamped[0].0.version, &stamped[0].0.version_epoch), (Some(42), &None));
    }
}
