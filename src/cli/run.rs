//! `slipring run`: the relay itself, from the first connection to the last ack.

mod greeting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ConfigFile, Failure};
use crate::admin::{Admin, Controls};
use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::memory::{self, Memory};
use crate::modules;
use crate::nats::{self, Nats};
use crate::pipeline::Shared;
use crate::publish::Client;
use crate::shutdown::Shutdown;
use crate::status::Metrics;
use crate::status::StatusBoard;
use crate::transform::Engine;

/// Run the relay
///
/// Watches the modules directory and runs a pipeline for each module in it. A module that is added, replaced or removed, and
/// one whose .toml is edited, takes effect without a restart; a bad one changes nothing but a line in the log.
///
/// It waits for NATS and Centrifugo as long as it takes. SIGTERM or Ctrl-C drains: what is in flight is finished and
/// acknowledged, for at most `shutdown.grace`. A second one leaves at once. Nothing is lost either way.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring run
  slipring run --config /etc/slipring/slipring.toml
  SLIPRING_NATS__SERVERS=nats://10.0.0.7:4222 slipring run")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn execute(args: &Args) -> Result<(), Failure> {
    let config = args.config.load()?;
    if args.config.is_absent() {
        let dir = std::env::current_dir().unwrap_or_default();
        info!(
            dir = %dir.display(),
            "there is no slipring.toml here: every key has its default, or what the environment says"
        );
    }
    let runtime = tokio::runtime::Runtime::new().context("starting the tokio runtime failed")?;
    let ended =
        runtime.block_on(async { run(&config, Shutdown::on_signals().context("catching signals failed")?).await });
    // Something may block still, such as a module that is asked for its opinion.
    runtime.shutdown_timeout(LAST_WORDS);
    Ok(ended?)
}

/// Runs the relay until `shutdown`.
pub async fn run(config: &Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let memory = memory(config);
    let metrics = Metrics::with_memory(memory.clone());
    let board = StatusBoard::new(metrics.clone());
    let engine = engine(config)?;
    let centrifugo = Client::new(&config.centrifugo)?;

    // First, so that it can be seen what the rest waits for; and last to go, so that a drain can be watched.
    let admin = Admin::bind(&config.admin).await?;
    let end_of_admin = CancellationToken::new();
    let controls = Controls::default();
    let serving = admin.serve(board.clone(), metrics, controls.clone(), end_of_admin.clone());
    let admin = tokio::spawn(serving);

    // A client of its own, since the pipelines' one goes to them.
    let greeter = Client::new(&config.centrifugo)?;
    let greeting = {
        let board = board.clone();
        async move {
            greeting::greet(&greeter, &board).await;
            std::future::pending::<()>().await;
        }
    };
    let relay = relay(config, memory, board, controls, engine, centrifugo, shutdown);
    tokio::pin!(relay);
    let mut admin = admin;
    tokio::select! {
        result = &mut relay => {
            result?;
            end_of_admin.cancel();
            admin.await.context("the admin server broke")??;
        }
        ended = &mut admin => {
            ended.context("the admin server broke")??;
        }
        () = greeting => {}
    }
    info!("stopped");
    Ok(())
}

/// What passes through the modules may take so much, and no more.
fn memory(config: &Config) -> Memory {
    let (limit, because) = match config.memory_limit {
        Some(limit) => (limit, "`memory_limit`".to_owned()),
        None => {
            let default = memory::default_limit();
            (default.bytes, default.to_string())
        }
    };
    info!(
        limit_mib = limit >> 20,
        because, "memory for messages and what they become is bounded"
    );
    Memory::new(limit)
}

/// A cache that can't be used costs some time at the start, and nothing else.
fn engine(config: &Config) -> anyhow::Result<Engine> {
    let bounds = config.modules.bounds;
    Engine::bounded(config.modules.cache_dir.as_deref(), bounds).or_else(|error| {
        let error = &error as &dyn std::error::Error;
        warn!(
            error,
            "compiled modules are not cached; `modules.cache_dir` names another directory, or `false`"
        );
        Ok(Engine::bounded(None, bounds)?)
    })
}

async fn relay(
    config: &Config,
    memory: Memory,
    board: StatusBoard,
    controls: Controls,
    engine: Engine,
    centrifugo: Client,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let nats = tokio::select! {
        nats = nats::connect(&config.nats) => nats?,
        () = shutdown.drain.cancelled() => return Ok(()),
    };
    let link = follow_link(nats.clone(), board.clone());
    let shared = Arc::new(Shared {
        dead_letters: DeadLetters::new(nats.clone(), config.dead_letters.stream.clone()),
        nats,
        centrifugo,
        publish: config.publish.clone(),
        memory,
        standby: config.standby,
        grace: config.shutdown.grace,
    });
    let (drain, now) = (shutdown.drain.clone(), shutdown.now.clone());
    let note = {
        let board = board.clone();
        async move {
            drain.cancelled().await;
            board.shutting_down();
            std::future::pending::<()>().await;
        }
    };
    let context = modules::Context {
        engine,
        shared,
        board,
        controls,
        shutdown,
        loading: modules::Loading::default(),
        leases: Arc::default(),
        config: config.modules.clone(),
    };
    let last_words = async {
        now.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        () = modules::run(context) => {}
        () = note => {}
        () = last_words => warn!("left before all pipelines had ended"),
        () = link => anyhow::bail!("nobody tells any more how the connection to NATS is, which is a bug in Slipring"),
    }
    Ok(())
}

/// How long the pipelines have to say what remains when they are told to leave at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Keeps the board's word on NATS true. It ends only if the client's own task has.
async fn follow_link(mut nats: Nats, board: StatusBoard) {
    loop {
        if nats.link.borrow_and_update().connected {
            board.nats_connected(&nats.client.server_info().version);
        } else {
            board.nats_disconnected();
        }
        if nats.link.changed().await.is_err() {
            return;
        }
    }
}
