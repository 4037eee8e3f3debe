//! The relay: builds its parts, owns them while it runs, and drains them at the end. The caller provides the
//! configuration and the shutdown signal.

mod greeting;
mod health;
mod name;
mod secrets;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin, Served};
use crate::config::{self, Bounds, Config};
use crate::dead_letter::{DeadLetters, Home};
use crate::memory::{self, Memory};
use crate::modules::{self, Controls};
use crate::nats::{self, Credentials, Lazy};
use crate::pipeline::Shared;
use crate::publish::Client;
use crate::shutdown::Shutdown;
use crate::source::Connections;
use crate::status::{Addresses, History, Metrics, Status, StatusBoard};
use crate::tap::Taps;
use crate::transform::{Engine, compile};

/// How long a relay that shuts down takes before it says what it waits for. Usually it is done by then.
const FIRST_WORDS: Duration = Duration::from_millis(300);

/// How long the pipelines have to report what remains when they are told to leave at once, and blocking threads to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A relay that listens on its admin address and does nothing else yet.
#[derive(Debug)]
pub struct Relay {
    admin: Admin,
    metrics: Metrics,
    /// A client of its own, because the other one goes to the pipelines.
    greeter: Client,
    signals: secrets::Signals,
    work: Work,
}

/// The parts that do the relay's work.
#[derive(Debug)]
struct Work {
    config: Config,
    memory: Memory,
    board: StatusBoard,
    controls: Controls,
    taps: Taps,
    engine: Engine,
    loading: Arc<modules::Loading>,
    centrifugo: Client,
    /// Set once NATS is connected, if it is needed.
    credentials: Arc<OnceLock<Arc<Credentials>>>,
}

/// Runs a relay on threads of its own until a signal ends it.
pub fn run_until_signal(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the tokio runtime failed")?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("catching signals failed")?;
        Relay::build(config).await?.run(shutdown).await
    });
    // Something may still block, such as a module that runs in a probe.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

impl Relay {
    /// Builds everything that needs no other server.
    pub async fn build(mut config: Config) -> anyhow::Result<Self> {
        let signals = secrets::Signals::catch().context("catching signals failed")?;
        let memory = memory(&config);
        let metrics = Metrics::with_memory(memory.clone());
        let engine = engine(&config, memory.limit())?;
        let centrifugo = Client::new(&config.centrifugo)?;
        let greeter = centrifugo.apart()?;
        let admin = Admin::bind(&config.admin).await?;
        if let Some(standby) = &mut config.standby {
            let name = standby.name.get_or_insert_with(|| name::own(admin.address()).into());
            info!(name = &**name, "other relays that stand by show this relay's name");
        }
        Ok(Self {
            admin,
            greeter,
            signals,
            work: Work {
                memory,
                board: board(&config, metrics.clone()),
                controls: Controls::default(),
                taps: Taps::default(),
                engine,
                loading: Arc::default(),
                centrifugo,
                credentials: Arc::default(),
                config,
            },
            metrics,
        })
    }

    /// Returns the address of the admin server.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Runs until `shutdown`, and returns when everything is drained.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            admin,
            metrics,
            greeter,
            mut signals,
            work,
        } = self;
        let board = work.board.clone();
        let (centrifugo, credentials) = (greeter.apart()?, Arc::clone(&work.credentials));
        let keeping = async {
            loop {
                signals.time_to_read().await;
                centrifugo.read_key_again().await;
                if let Some(credentials) = credentials.get() {
                    credentials.read_again().await;
                }
            }
        };
        let history = History::default();
        // The admin server starts first, to show what the rest waits for, and ends last, so that a drain can be
        // watched.
        let end_of_admin = CancellationToken::new();
        let served = Served {
            board: board.clone(),
            metrics,
            controls: work.controls.clone(),
            taps: work.taps.clone(),
            history: history.clone(),
            dead_letters: admin::DeadLetters::new(&work.config, greeter.apart()?, shutdown.drain.clone()),
            arrivals: admin::Arrivals::new(work.config.admin.centrifugo_websocket.clone()),
            uploads: work.uploads(),
        };
        let serving = admin.serve(served, end_of_admin.clone());
        let mut admin = tokio::spawn(serving);
        let greeting = async {
            greeting::greet(&greeter, &board).await;
            std::future::pending::<()>().await;
        };
        let mut work = pin!(work.run(shutdown));
        tokio::select! {
            result = &mut work => {
                result?;
                end_of_admin.cancel();
                admin.await.context("the admin server failed unexpectedly")?;
            }
            ended = &mut admin => {
                ended.context("the admin server failed unexpectedly")?;
                anyhow::bail!("the admin server has ended before the relay, which is a bug in Slipring");
            }
            () = greeting => {}
            () = keeping => {}
            () = history.follow(board.clone()) => {}
        }
        info!("stopped");
        Ok(())
    }
}

impl Work {
    fn uploads(&self) -> modules::Uploads {
        match self.config.admin.uploads {
            true => {
                let (engine, loading) = (self.engine.clone(), Arc::clone(&self.loading));
                modules::Uploads::new(engine, loading, self.config.modules.clone())
            }
            false => modules::Uploads::default(),
        }
    }

    async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            memory,
            board,
            controls,
            taps,
            engine,
            loading,
            centrifugo,
            credentials,
        } = self;
        let nats = Lazy::new();
        let mut link = pin!(connect(nats.clone(), config.nats.clone(), credentials, board.clone()));
        if config.redis.is_none() {
            // Every module needs NATS.
            tokio::select! {
                _ = nats.get() => {}
                () = &mut link => {}
                () = shutdown.drain.cancelled() => return Ok(()),
            }
        }
        let health = health::watch(board.clone(), nats.clone(), config.dead_letters.stream.clone());
        #[cfg(feature = "redis")]
        let redis = config.redis.map(crate::redis::Server::new);
        let home = match config.dead_letters.store {
            #[cfg(feature = "redis")]
            config::Store::Redis => match redis.clone() {
                Some(redis) => Home::Redis(redis),
                // The configuration refuses it.
                None => Home::JetStream(nats.clone()),
            },
            _ => Home::JetStream(nats.clone()),
        };
        let shared = Arc::new(Shared {
            dead_letters: DeadLetters::new(home, config.dead_letters),
            connections: Connections {
                nats,
                #[cfg(feature = "redis")]
                redis,
            },
            centrifugo,
            publish: config.publish,
            memory,
            taps,
            standby: config.standby,
            grace: config.shutdown.grace,
        });
        let (drain, now) = (shutdown.drain.clone(), shutdown.now.clone());
        let grace = config.shutdown.grace;
        let note = {
            let board = board.clone();
            async move {
                drain.cancelled().await;
                board.shutting_down();
                tokio::time::sleep(FIRST_WORDS).await;
                tell_of_waiting(&board.status(), grace);
                std::future::pending::<()>().await;
            }
        };
        let context = modules::Context {
            engine,
            shared,
            board,
            controls,
            shutdown,
            loading,
            claims: Arc::default(),
            config: config.modules,
        };
        let last_words = async {
            now.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = modules::run(context) => {}
            () = note => {}
            _ = health => {}
            () = last_words => warn!("exiting before all pipelines have ended"),
            () = &mut link => {
                anyhow::bail!("the state of the connection to NATS is no longer reported, which is a bug in Slipring")
            }
        }
        Ok(())
    }
}

/// Says what a relay that is shutting down waits for.
fn tell_of_waiting(status: &Status, grace: Duration) {
    let messages: u64 = status.modules.iter().map(|module| module.window_messages).sum();
    if messages > 0 {
        let trouble = status.centrifugo.trouble.as_deref();
        info!(
            messages,
            grace_seconds = grace.as_secs_f64(),
            trouble,
            "still waiting for messages in flight; what is not finished in time is delivered again after the next start"
        );
    }
}

/// Creates the board. Without Redis every module needs NATS, so the relay is not ready until it is connected.
fn board(config: &Config, metrics: Metrics) -> StatusBoard {
    let endpoints = config.centrifugo.endpoints.iter().map(ToString::to_string);
    let board = StatusBoard::new(metrics).with_addresses(Addresses {
        nats: config.nats.servers.clone(),
        centrifugo: endpoints.collect(),
    });
    if config.redis.is_none() {
        board.nats_disconnected(None);
    }
    board
}

/// Creates the memory for the pipelines, less what the processes that compile modules hold.
fn memory(config: &Config) -> Memory {
    let (limit, reason) = match config.memory_limit {
        Some(limit) => (limit, "`memory_limit`".to_owned()),
        None => {
            let default = memory::default_limit();
            (default.bytes, default.to_string())
        }
    };
    info!(
        limit_mib = limit >> 20,
        reason, "set the memory limit for messages and publications"
    );
    Memory::beside(limit, compile::memory_held)
}

/// If the cache cannot be used, only the start takes longer.
fn engine(config: &Config, memory_limit: usize) -> anyhow::Result<Engine> {
    let bounds = bounds(config, memory_limit);
    Engine::bounded(config.modules.cache_dir.as_deref(), bounds).or_else(|error| {
        let error = &error as &dyn std::error::Error;
        warn!(
            error,
            "compiled modules are not cached; set `modules.cache_dir` to another directory, or to `false`"
        );
        Ok(Engine::bounded(None, bounds)?)
    })
}

/// Compilation counts against the memory limit, so it may never take more than that limit.
fn bounds(config: &Config, memory_limit: usize) -> Bounds {
    let bounds = config.modules.bounds;
    Bounds {
        memory: bounds.memory.min(memory_limit),
        ..bounds
    }
}

/// Connects to NATS once that is wanted, and keeps its state on the board up to date. Ends only if the client's own task
/// has ended.
async fn connect(lazy: Lazy, config: config::Nats, credentials: Arc<OnceLock<Arc<Credentials>>>, board: StatusBoard) {
    lazy.wanted().await;
    board.nats_disconnected(None);
    let mut nats = nats::connect_telling(&config, |reason| board.nats_disconnected(Some(reason))).await;
    let _ = credentials.set(Arc::clone(&nats.credentials));
    lazy.provide(nats.clone());
    loop {
        if nats.link.borrow_and_update().connected {
            board.nats_connected(&nats.client.server_info().version);
        } else {
            board.nats_disconnected(nats.trouble.borrow_and_update().clone());
        }
        let ended = tokio::select! {
            changed = nats.link.changed() => changed.is_err(),
            changed = nats.trouble.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::status::Status;

    fn config(text: &str) -> Config {
        config::parse_config(Path::new("slipring.toml"), text, [("", ""); 0]).unwrap()
    }

    #[test]
    fn what_compiles_may_take_no_more_than_the_memory_limit() {
        let config = config("modules.compile_memory = \"512MiB\"");
        assert_eq!(bounds(&config, 256 << 20).memory, 256 << 20);
        assert_eq!(bounds(&config, 1 << 30).memory, 512 << 20);
    }

    #[tokio::test]
    async fn it_answers_while_it_waits_for_nats_and_ends_when_it_is_told_to() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nothing listens on port 1.
        let relay = Relay::build(config(
            "nats.servers = ['nats://127.0.0.1:1']\n\
             centrifugo.endpoints = ['http://127.0.0.1:1']\n\
             admin.listen = '127.0.0.1:0'\n\
             modules.cache_dir = false",
        ));
        let relay = relay.await.unwrap();
        let url = format!("http://{}/api/v1/", relay.admin_address());
        let shutdown = Shutdown::manual();
        let drain = shutdown.drain.clone();
        let running = tokio::spawn(relay.run(shutdown));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{url}status")).send();
        let status: Status = serde_json::from_slice(&answer.await.unwrap().bytes().await.unwrap()).unwrap();
        assert!(!status.ready && !status.nats.unwrap().connected);
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        let mut events = client.get(format!("{url}events")).send().await.unwrap();
        let sample = events.chunk().await.unwrap().unwrap();
        assert!(sample.starts_with(b"event: sample\ndata: {"), "{sample:?}");
        drain.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        ended.expect("an end").unwrap().unwrap();
    }
}
