//! The ways that are compared: the relay, and Centrifugo's own consumer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use slipring_support::Usage;
use slipring_support::servers::NatsServer;

use crate::centrifugo::{Api, Target};
use crate::fill::Headers;
use crate::home::home;
use crate::meter::{self, Meter, Used};
use crate::own_consumer::{self, consumers};
use crate::paced::{self, Load, Observed, observe};

const STREAM: &str = "BENCH";

/// How long the relay may take to create its consumer and read from it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// For `--only` and for files.
    pub name: &'static str,
    pub title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Relay(Api),
    OwnConsumer,
}

/// The way that the others are compared with.
pub const REFERENCE: &str = "centrifugo";

/// The same way once more. Its ratio shows how far two equal things differ.
pub const AGAIN: &str = "centrifugo-again";

pub const WAYS: [Way; 4] = [
    Way {
        name: "slipring-http",
        title: "slipring, HTTP",
        kind: Kind::Relay(Api::Http),
    },
    Way {
        name: "slipring-grpc",
        title: "slipring, GRPC",
        kind: Kind::Relay(Api::Grpc),
    },
    Way {
        name: REFERENCE,
        title: "Centrifugo's own consumer",
        kind: Kind::OwnConsumer,
    },
    Way {
        name: AGAIN,
        title: "Centrifugo's own consumer, again",
        kind: Kind::OwnConsumer,
    },
];

/// What a way has to do.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    pub nats: &'a NatsServer,
    pub slipring: &'a Path,
    /// Messages a second.
    pub rate: u32,
    pub time: Duration,
}

#[derive(Debug)]
pub struct Measured {
    pub observed: Observed,
    pub used: BTreeMap<String, Used>,
}

impl Way {
    pub async fn run(self, trial: Trial<'_>) -> Result<Measured> {
        match self.kind {
            Kind::Relay(api) => relay(trial, api).await,
            Kind::OwnConsumer => own_consumer(trial).await,
        }
    }
}

/// The relay with its default settings, including idempotency keys.
async fn relay(trial: Trial<'_>, api: Api) -> Result<Measured> {
    let load = trial.load(Headers::None);
    paced::empty_stream(trial.nats, STREAM).await?;
    let target = Target::start(load.events.len(), |_| ()).await?;
    let home = home(
        trial.slipring,
        &trial.nats.url(),
        &target.endpoint(api, None),
        target.centrifugo.api_key(),
        STREAM,
        "",
    )?;
    let relay = home.run().await?;
    relay.ready(PATIENCE).await?;
    let meter = trial.meter(&target).watch("slipring", || relay.usage());
    measure(load, &target, &meter)
        .await
        .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))
}

async fn own_consumer(trial: Trial<'_>) -> Result<Measured> {
    let load = trial.load(Headers::Centrifugo);
    let stream = paced::empty_stream(trial.nats, STREAM).await?;
    own_consumer::create(&stream).await?;
    let nats = trial.nats.url();
    let target = Target::start(load.events.len(), |config| {
        config["consumers"] = consumers(&nats, STREAM);
    })
    .await?;
    measure(load, &target, &trial.meter(&target))
        .await
        .with_context(|| format!("Centrifugo logged:\n{}", target.centrifugo.log().join("\n")))
}

async fn measure(load: Load, target: &Target, meter: &Meter<'_>) -> Result<Measured> {
    let before = meter.read()?;
    let observed = observe(load, &target.centrifugo).await?;
    Ok(Measured {
        observed,
        used: meter::between(&before, &meter.read()?),
    })
}

impl<'a> Trial<'a> {
    fn load(&self, headers: Headers) -> Load {
        Load {
            nats: self.nats.url(),
            stream: STREAM.to_owned(),
            headers,
            rate: self.rate,
            events: paced::events(self.rate, self.time),
        }
    }

    /// Publisher and subscriber are in this process, so its usage is the cost of measuring.
    fn meter<'b>(&self, target: &'b Target) -> Meter<'b>
    where
        'a: 'b,
    {
        let nats = self.nats;
        Meter::default()
            .watch("nats-server", || nats.usage())
            .watch("centrifugo", || target.centrifugo.usage())
            .watch("client", || Usage::of(std::process::id()))
    }
}
