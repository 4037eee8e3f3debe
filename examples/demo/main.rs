//! The demo: the relay runs the three examples between a real nats-server and a real Centrifugo. The demo publishes
//! a steady stream of events, shows them at a WebSocket subscriber, and swaps the orders module halfway.
//!
//! `make demo` runs until Ctrl-C. With `DEMO_SECONDS=20` it ends after 20 seconds, prints a summary, and fails if an
//! event was lost, repeated or out of order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use slipring_support::demo::{self, Checker, Events};
use slipring_support::guests;
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::subscriber::{Received, Subscriber};

/// The time between two events.
const PACE: Duration = Duration::from_millis(50);

/// When to swap the orders module. With `DEMO_SECONDS`, the demo swaps it after half of that time instead.
const SWAP_AFTER: Duration = Duration::from_secs(10);

/// How long to wait for the last events.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let seconds = match std::env::var("DEMO_SECONDS") {
        Ok(text) => Some(
            text.parse::<u32>()
                .ok()
                .filter(|seconds| *seconds > 0)
                .with_context(|| {
                    format!("DEMO_SECONDS is {text:?}, and must be a whole number of seconds from 1, such as 20")
                })?,
        ),
        Err(_) => None,
    };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let demo = tokio::select! {
        demo = Demo::start() => demo?,
        _ = &mut interrupted => return Ok(ExitCode::SUCCESS),
    };
    demo.run(seconds.map(|seconds| Duration::from_secs(seconds.into())), interrupted)
        .await
}

struct Demo {
    nats: NatsServer,
    centrifugo: Centrifugo,
    home: Home,
    relay: Relay,
    jetstream: jetstream::Context,
    subscriber: Subscriber,
    events: Events,
    checker: Checker,
}

impl Demo {
    async fn start() -> Result<Self> {
        println!("Starting nats-server, Centrifugo and slipring …");
        let (nats, centrifugo) = tokio::try_join!(NatsServer::start(), Centrifugo::start())?;
        let jetstream = nats.jetstream().await?;
        for (stream, subjects) in demo::STREAMS {
            let config = jetstream::stream::Config {
                name: stream.to_owned(),
                subjects: vec![subjects.to_owned()],
                ..Default::default()
            };
            jetstream
                .create_stream(config)
                .await
                .with_context(|| format!("creating the stream {stream}"))?;
        }
        let mut home = Home::new(relay_binary()?, &nats.url(), &centrifugo.url(), centrifugo.api_key())?;
        home.share_token();
        home.env("SLIPRING_ADMIN__CENTRIFUGO_WEBSOCKET", centrifugo.websocket_url());
        for name in ["orders", "notifications", "telemetry"] {
            let toml = example(&format!("{name}/{name}.toml"));
            let toml = std::fs::read_to_string(&toml).with_context(|| format!("reading {}", toml.display()))?;
            home.configure_module(name, &toml)?;
            link(&home, name, &guests::component(name)?)?;
        }
        let relay = home.run().await?;
        relay.ready(PATIENCE).await?;
        let channels = demo::channels();
        let subscriber = Subscriber::connect(&centrifugo.websocket_url(), &channels).await?;
        println!("  nats-server  {}", nats.url());
        println!("  Centrifugo   {}", centrifugo.url());
        println!("  slipring     {}", relay.url());
        println!("  modules      {}", home.modules().display());
        println!();
        println!("The page where the orders arrive, and change when the module is swapped:");
        println!("  {}", page(&relay)?);
        println!();
        Ok(Self {
            nats,
            centrifugo,
            home,
            relay,
            jetstream,
            subscriber,
            events: Events::default(),
            checker: Checker::default(),
        })
    }

    async fn run(
        mut self,
        length: Option<Duration>,
        mut interrupted: std::pin::Pin<&mut impl Future<Output = std::io::Result<()>>>,
    ) -> Result<ExitCode> {
        let start = Instant::now();
        let swap_at = length.map_or(SWAP_AFTER, |length| length / 2);
        let mut pace = tokio::time::interval(PACE);
        let mut swaps = 0;
        loop {
            if length.is_some_and(|length| start.elapsed() >= length) {
                break;
            }
            if swaps == 0 && start.elapsed() >= swap_at {
                self.swap().await?;
                swaps = 1;
            }
            if swaps == 1 && length.is_none() && start.elapsed() >= 2 * swap_at {
                self.swap_back().await?;
                swaps = 2;
            }
            tokio::select! {
                _ = pace.tick() => self.publish().await?,
                received = self.subscriber.next(PATIENCE) => self.show(start, &received?),
                _ = interrupted.as_mut() => break,
            }
            if let Some(status) = self.relay.exited() {
                bail!(
                    "slipring ended by itself, {status}; its log:\n{}",
                    self.relay.log().join("\n")
                );
            }
        }
        self.finish(start).await
    }

    async fn publish(&mut self) -> Result<()> {
        let event = self.events.make();
        self.checker.expect(&event);
        let ack = self.jetstream.publish(event.subject, event.payload.into()).await?;
        ack.await.context("storing an event in JetStream")?;
        Ok(())
    }

    fn show(&mut self, start: Instant, received: &Received) {
        let seconds = (received.at - start).as_secs_f64();
        println!(
            "{seconds:7.2} s  {:<24} {}",
            received.channel,
            received.publication.text()
        );
        self.checker.received(&received.channel, &received.publication);
    }

    /// Swaps the orders module while events arrive.
    async fn swap(&mut self) -> Result<()> {
        println!("\n--- replacing orders.wasm: its next events come with a currency ---\n");
        self.home.replace_wasm("orders", &guests::component("orders-next")?)?;
        self.swapped(1).await
    }

    /// Restores the first version, for the user to change.
    async fn swap_back(&mut self) -> Result<()> {
        link(&self.home, "orders", &guests::component("orders")?)?;
        self.swapped(2).await?;
        println!(
            "\n--- and back. Now change examples/orders/src/lib.rs, run `make guests` in another terminal, and watch. Ctrl-C \
             ends the demo. ---\n"
        );
        Ok(())
    }

    async fn swapped(&self, times: u64) -> Result<()> {
        let swapped = |status: &serde_json::Value| swaps(status) >= times;
        self.relay.status_when(PATIENCE, "the swap", swapped).await.map(drop)
    }

    async fn finish(mut self, start: Instant) -> Result<ExitCode> {
        let deadline = Instant::now() + PATIENCE;
        while self.checker.missing() > 0 && Instant::now() < deadline {
            match self.subscriber.next(deadline - Instant::now()).await {
                Ok(received) => self.show(start, &received),
                Err(_) => break,
            }
        }
        // Any publication that arrives from now on is a repeat.
        let stopped = self.relay.stop(PATIENCE).await?;
        for received in self.subscriber.drain()? {
            self.show(start, &received);
        }
        println!("\n{}", self.checker.summary());
        println!("slipring stopped, {stopped}");
        drop((self.centrifugo, self.nats));
        let good = (self.checker.is_good() || self.checker.cannot_tell()) && stopped.success();
        if !good {
            println!("FAILED. What slipring logged:\n{}", self.relay.log().join("\n"));
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn swaps(status: &serde_json::Value) -> u64 {
    let modules = status["modules"].as_array().map_or(&[][..], Vec::as_slice);
    let orders = modules.iter().find(|module| module["name"] == "orders");
    orders.and_then(|module| module["swaps"].as_u64()).unwrap_or(0)
}

/// Links the built module into the modules directory. Then a rebuild is enough to deploy it.
fn link(home: &Home, name: &str, wasm: &Path) -> Result<()> {
    let target = home.modules().join(format!("{name}.wasm"));
    let temporary = home.path().join("link");
    std::os::unix::fs::symlink(wasm, &temporary)
        .and_then(|()| std::fs::rename(&temporary, &target))
        .with_context(|| format!("linking {} to {}", target.display(), wasm.display()))
}

fn example(path: &str) -> PathBuf {
    slipring_support::workspace().join("examples").join(path)
}

/// Returns the address of the page with the relay's token, which is in a file that the relay names in its log.
fn page(relay: &Relay) -> Result<String> {
    let log = relay.log();
    let file = log.iter().find(|line| line.contains("created a token"));
    let file = file
        .and_then(|line| line.split_once("path="))
        .map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    let file = file.context("slipring has created no token: its log says why")?;
    let token = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    Ok(format!("{}/#/arrivals?token={}", relay.url(), token.trim()))
}

/// Returns the path of the relay that was built beside this program.
fn relay_binary() -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program's own path")?;
    let binary = this.with_file_name("slipring");
    binary
        .is_file()
        .then_some(binary)
        .context("slipring is not built: run `cargo build --bin slipring`, or `make demo`, which does")
}
