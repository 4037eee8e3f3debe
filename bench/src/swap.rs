//! What subscribers notice of a swap: under a steady load the module is replaced again and again, and the longest time
//! without a receipt around each swap is compared with the one just before it. Compiling the new module counts, because
//! it takes place on the same machine.

mod build;
mod results;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::NatsServer;
use tokio::time::sleep;

use crate::centrifugo::{Api, Target};
use crate::fill::Headers;
use crate::home::{self, MODULE, home};
use crate::options::Options;
use crate::paced::{self, Listener, Load, Publisher};

pub use results::Results;

use results::Swap;

const STREAM: &str = "BENCH";

/// Messages a second. A smoke run may use a debug build, which cannot handle this rate.
const RATE: u32 = 10_000;
const SMOKE_RATE: u32 = 1_000;

const WARM_UP: Duration = Duration::from_secs(2);

/// The limit for the relay's start, and for a swap.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a swap still counts after the status shows the new module.
const AFTERMATH: Duration = Duration::from_millis(250);

/// When the module was replaced.
#[derive(Debug, Clone, Copy)]
struct Replaced {
    at: Instant,
    /// When the status showed the new module.
    taken_over: Instant,
}

pub async fn run(options: &Options) -> Result<Results> {
    let swaps = if options.smoke { 2 } else { 10 };
    let rate = if options.smoke { SMOKE_RATE } else { RATE };
    let between = Duration::from_secs_f64(options.seconds(3.0, 1.0));
    println!("{swaps} swaps under {rate} messages/s …");

    let nats = NatsServer::start().await?;
    paced::empty_stream(&nats, STREAM).await?;
    // More than enough: the publisher is stopped after the last swap.
    let longest = WARM_UP + (between + PATIENCE) * u32::try_from(swaps)?;
    let load = Load {
        nats: nats.url(),
        stream: STREAM.to_owned(),
        headers: Headers::None,
        rate,
        events: paced::events(rate, longest),
    };
    let target = Target::start(load.events.len(), |_| ()).await?;
    let slipring = home::slipring(options.slipring.as_deref())?;
    let (endpoint, key) = (target.endpoint(Api::Http, None), target.centrifugo.api_key());
    let mut home = home(&slipring, &nats.url(), &endpoint, key, STREAM, "")?;
    // Each version is compiled, whatever this user has compiled before.
    home.env("SLIPRING_MODULES__CACHE_DIR", home.path().join("cache"));
    let relay = home.run().await?;
    relay.ready(PATIENCE).await?;

    let listener = Listener::subscribe(&target.centrifugo).await?;
    let publisher = Publisher::start(load);
    let stop = publisher.stop();
    let swapping = async {
        sleep(WARM_UP).await;
        let replaced = replace(&home, &relay, swaps, between).await;
        stop.now();
        replaced
    };
    let observing = async { tokio::try_join!(listener.listen(publisher), swapping) };
    let (observed, replaced) = observing
        .await
        .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
    let swaps = replaced.into_iter().map(|replaced| {
        Swap::new(
            &observed,
            replaced.at,
            replaced.taken_over,
            replaced.taken_over + AFTERMATH,
        )
    });
    Ok(Results::new(rate, swaps.collect()))
}

/// Replaces the module `swaps` times. Before each swap there is a time without one, for comparison.
async fn replace(home: &Home, relay: &Relay, swaps: usize, between: Duration) -> Result<Vec<Replaced>> {
    let mut replaced = Vec::with_capacity(swaps);
    for number in 1..=swaps {
        sleep(between).await;
        let before = sha256(relay).await?;
        let wasm = build::another(home, number)?;
        let at = Instant::now();
        home.replace_wasm(MODULE, &wasm)?;
        let status = relay.status_when(PATIENCE, "the new module to take over", |status| {
            let module = &status["modules"][0];
            module["sha256"].as_str().is_some_and(|sha256| sha256 != before)
        });
        let status = status.await?;
        replaced.push(Replaced {
            at,
            taken_over: Instant::now(),
        });
        ensure!(
            status["modules"][0]["swaps"] == number,
            "the relay counts other swaps than {number}: {status}"
        );
        sleep(AFTERMATH).await;
    }
    Ok(replaced)
}

async fn sha256(relay: &Relay) -> Result<String> {
    let status = relay.status().await?;
    let sha256 = status["modules"][0]["sha256"].as_str();
    sha256
        .map(str::to_owned)
        .with_context(|| format!("no module is loaded: {status}"))
}
