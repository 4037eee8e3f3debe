//! How long a message takes from its publish in NATS to a subscriber of Centrifugo, at several rates, in
//! each way in turn.

mod results;
mod way;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use slipring_support::servers::NatsServer;

use crate::home;
use crate::options::Options;
use crate::statistics::in_turn;

pub use results::Results;

use results::Run;
use way::{Trial, WAYS, Way};

/// Messages a second.
const RATES: [u32; 4] = [100, 1_000, 4_000, 10_000];

/// Enough for a smoke run, and for a debug build.
const SMOKE_RATES: [u32; 2] = [100, 1_000];

/// Messages published in this time do not count.
const WARM_UP: Duration = Duration::from_secs(1);

/// Returns true if any of its ways was asked for.
pub fn is_wanted(options: &Options) -> bool {
    WAYS.iter().any(|way| options.wants(way.name))
}

pub async fn run(options: &Options) -> Result<Results> {
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| options.wants(way.name)).collect();
    ensure!(
        !ways.is_empty(),
        "there is no way whose name begins with {}; there are {}",
        options.only.join(" or "),
        WAYS.map(|way| way.name).join(", ")
    );
    let rates: &[u32] = if options.smoke { &SMOKE_RATES } else { &RATES };
    let nats = NatsServer::start().await?;
    let slipring = home::slipring(options.slipring.as_deref())?;
    let seconds = Duration::from_secs_f64(options.seconds(10.0, 0.5));
    let mut results = Results::new(seconds);
    let rounds = options.rounds(3, 1);
    for round in 1..=rounds {
        for &rate in rates {
            for &way in in_turn(round, &ways) {
                let title = format!("round {round} of {rounds}, {}, {rate} messages/s", way.title);
                let trial = Trial {
                    nats: &nats,
                    slipring: &slipring,
                    rate,
                    time: WARM_UP + seconds,
                };
                let measured = way.run(trial).await.with_context(|| title.clone())?;
                let run = Run::new(way.name, rate, round, measured, WARM_UP);
                println!("{title}: {run}");
                results.runs.push(run);
            }
        }
    }
    Ok(results)
}
