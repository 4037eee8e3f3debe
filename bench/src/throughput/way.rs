//! The ways that are compared.

use std::time::Duration;

use anyhow::Result;

use super::measured::Measured;
use super::world::World;
use super::{bento, ceiling, own_consumer, relay};
use crate::centrifugo::Api;

#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// For `--only` and for files.
    pub name: &'static str,
    pub title: &'static str,
    /// Whether a smoke run includes it.
    pub in_smoke: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Relay { api: Api, keys: bool },
    OwnConsumer,
    Bento(bento::Output),
    Ceiling { api: Api, keys: bool },
}

/// The way that the others are compared with.
pub const REFERENCE: &str = "centrifugo";

/// The same way once more. Its ratio shows how far two equal things differ.
pub const AGAIN: &str = "centrifugo-again";

pub const WAYS: [Way; 13] = [
    way(
        "slipring-http",
        "slipring, HTTP",
        Kind::Relay {
            api: Api::Http,
            keys: false,
        },
    ),
    way(
        "slipring-grpc",
        "slipring, GRPC",
        Kind::Relay {
            api: Api::Grpc,
            keys: false,
        },
    ),
    way(
        "slipring-keys-http",
        "slipring, HTTP, keys",
        Kind::Relay {
            api: Api::Http,
            keys: true,
        },
    ),
    way(
        "slipring-keys-grpc",
        "slipring, GRPC, keys",
        Kind::Relay {
            api: Api::Grpc,
            keys: true,
        },
    ),
    way(REFERENCE, "Centrifugo's own consumer", Kind::OwnConsumer),
    way(AGAIN, "Centrifugo's own consumer, again", Kind::OwnConsumer),
    way(
        "bento-1",
        "Bento, one by one",
        Kind::Bento(bento::Output::Publish { in_flight: 1 }),
    ),
    way(
        "bento-20",
        "Bento, 20 in flight (order lost)",
        Kind::Bento(bento::Output::Publish { in_flight: 20 }),
    ),
    way(
        "bento-batch",
        "Bento, batches of 500",
        Kind::Bento(bento::Output::Batch { size: 500 }),
    ),
    way(
        "ceiling-http",
        "Centrifugo alone, HTTP",
        Kind::Ceiling {
            api: Api::Http,
            keys: false,
        },
    ),
    way(
        "ceiling-grpc",
        "Centrifugo alone, GRPC",
        Kind::Ceiling {
            api: Api::Grpc,
            keys: false,
        },
    ),
    way(
        "ceiling-keys-http",
        "Centrifugo alone, HTTP, keys",
        Kind::Ceiling {
            api: Api::Http,
            keys: true,
        },
    ),
    way(
        "ceiling-keys-grpc",
        "Centrifugo alone, GRPC, keys",
        Kind::Ceiling {
            api: Api::Grpc,
            keys: true,
        },
    ),
];

const fn way(name: &'static str, title: &'static str, kind: Kind) -> Way {
    Way {
        name,
        title,
        // Bento takes minutes to build, and is not what the smoke run tests.
        in_smoke: !matches!(kind, Kind::Bento(_)),
        kind,
    }
}

impl Way {
    pub fn is_relay(self) -> bool {
        matches!(self.kind, Kind::Relay { .. })
    }

    /// Returns true if it is measured with a cluster too.
    pub fn in_cluster(self) -> bool {
        matches!(self.kind, Kind::Relay { keys: false, .. } | Kind::OwnConsumer)
    }

    pub async fn run(self, world: &World, delay: Duration) -> Result<Measured> {
        match self.kind {
            Kind::Relay { api, keys } => relay::run(world, delay, api, keys).await,
            Kind::OwnConsumer => own_consumer::run(world, delay).await,
            Kind::Bento(output) => bento::run(world, delay, output).await,
            Kind::Ceiling { api, keys } => ceiling::run(world, delay, api, keys).await,
        }
    }
}
