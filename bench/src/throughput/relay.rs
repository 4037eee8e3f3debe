//! The relay in its strict order, with a transform that does real work.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::measured::Measured;
use super::onlookers::Onlookers;
use super::world::{PLAIN, SIZE, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::clock;
use crate::cores;
use crate::delay::Link;
use crate::home::{self, CONSUMER, MODULE};
use crate::meter::Meter;

/// How the relay and Centrifugo are set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub api: Api,
    /// Lines of the table `[publish]`.
    pub publish: &'static str,
    /// Lines of the module's `.toml`.
    pub module: &'static str,
    /// How many publications a channel's history keeps, if not all.
    pub history: Option<usize>,
    /// Changes Centrifugo's configuration.
    pub centrifugo: fn(&mut Value),
    /// Centrifugo's environment variables.
    pub environment: &'static [(&'static str, &'static str)],
}

impl Setup {
    /// Returns the defaults of both.
    pub const fn over(api: Api) -> Self {
        Self {
            api,
            publish: "",
            module: "",
            history: None,
            centrifugo: |_| (),
            environment: &[],
        }
    }
}

/// `keys`: whether publications carry idempotency keys.
pub async fn run(world: &World, delay: Duration, api: Api, keys: bool) -> Result<Measured> {
    let publish = match keys {
        true => "",
        false => "idempotency = false",
    };
    let setup = Setup::over(api);
    run_as(world, delay, Setup { publish, ..setup }).await
}

pub async fn run_as(world: &World, delay: Duration, setup: Setup) -> Result<Measured> {
    let history = setup.history.unwrap_or(world.history());
    let target = Target::start_in(setup.environment, history, setup.centrifugo).await?;
    let link = Link::unless_zero(&target.endpoint(setup.api, None), delay)?;
    let endpoint = target.endpoint(setup.api, link.as_ref());
    let home = home::bare(
        &world.slipring,
        &world.url(),
        &endpoint,
        target.centrifugo.api_key(),
        setup.publish,
    )?;
    let module = format!("stream = \"{PLAIN}\"\ndeliver = \"all\"\n{}\n", setup.module);
    home.add_module(MODULE, &world.module, &module)?;
    world.forget_peak_memory()?;
    let mut relay = home.run().await?;
    if world.own_core {
        cores::give_second_core(relay.id())?;
    }
    let onlookers = match world.watched {
        true => Some(Onlookers::arrive(&home, &relay).await?),
        false => None,
    };
    let meter = Meter::default()
        .watch("nats-server", || world.usage())
        .watch("slipring", || relay.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let drained = clock::drain(&world.plain, CONSUMER, world.limit, &meter)
        .await
        .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
    drop((meter, onlookers));
    let per_request = per_request(&relay.metrics().await?);
    relay.kill();
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::Reshaped).await?;
    match setup.history {
        None => arrived.ensure_in_order(drained.all.then_some(world.events.len() as u64), drained.acknowledged)?,
        // The rest is gone.
        Some(_) => ensure!(arrived.inversions == 0, "the order was lost: {arrived:?}"),
    }
    Ok(Measured {
        per_request,
        ..Measured::new(drained, arrived)
    })
}

/// Reads the average from the relay's histogram.
fn per_request(metrics: &str) -> Option<f64> {
    let number = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let average = number("slipring_batch_size_sum{")? / number("slipring_batch_size_count{")?;
    average.is_finite().then_some(average)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_read_from_the_metrics() {
        let metrics = "# TYPE slipring_batch_size histogram\n\
                       slipring_batch_size_sum{module=\"bench\"} 300.0\n\
                       slipring_batch_size_count{module=\"bench\"} 4\n";
        assert_eq!(per_request(metrics), Some(75.0));
        assert_eq!(
            per_request("slipring_batch_size_sum{} 0\nslipring_batch_size_count{} 0"),
            None
        );
    }
}
