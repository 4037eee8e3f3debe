//! Warns about publications that Centrifugo accepts but clients may not receive. Each kind of warning is logged once
//! per load of a module. Some configurations of Centrifugo allow these publications, and the relay does not know its
//! configuration, so it refuses none of them.
//!
//! The rules are those of Centrifugo 6.9.1 (`validChannelName` in `internal/client/handler.go`) and of the centrifuge
//! library that it pins (`enqueue` in `writer.go`, `DisconnectInappropriateProtocol`).

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::warn;

use super::failure::one_line;
use crate::message::{Body, Publication};

/// The default of Centrifugo's `client.queue_max_size`, in bytes. Everything that cannot be sent to a client at once
/// has to fit.
const CLIENT_QUEUE: usize = 1 << 20;

/// The kinds that were already logged.
#[derive(Debug, Default)]
pub(super) struct Doubts(AtomicU8);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doubt<'a> {
    Channel(&'a str),
    Binary(&'a str),
    Large(&'a str, usize),
}

impl Doubts {
    /// Logs the new kinds.
    pub(super) fn look(&self, module: &str, publications: &[Publication]) {
        for publication in publications {
            for doubt in of(publication).into_iter().flatten() {
                let said = self.0.fetch_or(doubt.bit(), Ordering::Relaxed) & doubt.bit() != 0;
                if !said {
                    warn!(module, doubt = %doubt, "clients may not receive this kind of publication; each kind is logged once");
                }
            }
        }
    }
}

fn of(publication: &Publication) -> [Option<Doubt<'_>>; 3] {
    let first = publication.channels.first().map_or("", |channel| &**channel);
    let channel = publication.channels.iter().find(|channel| !channel.is_ascii());
    let len = publication.body.len();
    [
        channel.map(|channel| Doubt::Channel(channel)),
        matches!(publication.body, Body::Binary(_)).then_some(Doubt::Binary(first)),
        (len > CLIENT_QUEUE).then_some(Doubt::Large(first, len)),
    ]
}

impl Doubt<'_> {
    fn bit(&self) -> u8 {
        match self {
            Self::Channel(_) => 1,
            Self::Binary(_) => 2,
            Self::Large(..) => 4,
        }
    }
}

impl fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(
                f,
                "the channel `{}` has non-ASCII characters: Centrifugo lets no client subscribe to it (error 107), \
                 unless the `channel_regex` of its namespace matches it",
                one_line(channel)
            ),
            Self::Binary(channel) => write!(
                f,
                "the body for the channel `{}` is binary: Centrifugo disconnects each subscriber that speaks JSON from all its channels \
                 (code 3506). Use binary bodies only if every subscriber speaks Protobuf",
                one_line(channel)
            ),
            Self::Large(channel, len) => write!(
                f,
                "the body for the channel `{}` has {len} bytes: Centrifugo ends the connection of each subscriber \
                 whose queue is too small for it; a queue holds {CLIENT_QUEUE} bytes unless `client.queue_max_size` is \
                 set",
                one_line(channel)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn publication(channels: &[&str], body: Body) -> Publication {
        Publication::new(channels.iter().map(|&channel| channel.into()).collect(), body)
    }

    fn json(text: String) -> Body {
        Body::Json(RawValue::from_string(text).unwrap())
    }

    #[test]
    fn each_kind_is_found() {
        let found = |publication: &Publication| -> Vec<String> {
            of(publication)
                .into_iter()
                .flatten()
                .map(|doubt| doubt.to_string())
                .collect()
        };
        let good = publication(&["test:#17", "$test:a b\u{7f}", "test:/a*&"], json("1".to_owned()));
        assert!(found(&good).is_empty(), "{:?}", found(&good));
        let both = found(&publication(&["test:a", "test:größe"], Body::Binary(vec![1])));
        assert!(
            both.len() == 2 && both[0].contains("`test:größe`") && both[1].contains("`test:a` is binary"),
            "{both:?}"
        );
        let large = publication(&["test:a"], json(format!("\"{}\"", "x".repeat(CLIENT_QUEUE))));
        assert!(found(&large)[0].contains("has 1048578 bytes"), "{:?}", found(&large));
    }

    #[test]
    fn each_kind_is_said_once() {
        let doubts = Doubts::default();
        for (publication, said) in [
            (publication(&["test:a"], json("1".to_owned())), 0),
            (publication(&["test:ö"], json("1".to_owned())), 1),
            (publication(&["test:ü"], Body::Binary(Vec::new())), 3),
        ] {
            doubts.look("orders", &[publication]);
            assert_eq!(doubts.0.load(Ordering::Relaxed), said);
        }
    }
}
