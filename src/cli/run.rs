//! `slipring run`: runs the relay, from the first connection to the last ack.

use std::path::Path;

use tracing::info;
use url::Url;

use super::config_file::ConfigFile;
use super::failure::Failure;
use crate::config::Config;
use crate::relay;

/// Run the relay
///
/// Watches the modules directory and runs a pipeline for each module in it. Adding, replacing or removing a module, or editing its
/// .toml, takes effect without a restart. A bad file is logged, and running modules continue unchanged.
///
/// The relay waits for NATS and Centrifugo as long as it takes. On SIGTERM or Ctrl-C it drains: it finishes and acknowledges what is in
/// flight, for at most `shutdown.grace`. A second signal exits at once. Nothing is lost either way.
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
    let mut config = args.config.load()?;
    // It may be the relay of `slipring up` itself.
    config.nats.from_up = false;
    say_what_runs(args, &config);
    Ok(relay::run_until_signal(config)?)
}

/// Logs the version, the files and the servers, so that a log says by itself what it belongs to.
fn say_what_runs(args: &Args, config: &Config) {
    let file = args.config.path();
    let file = file.map_or_else(|| "none".to_owned(), |file| absolute(&file));
    // None of these URLs can hold a secret.
    let endpoints: Vec<&str> = config.centrifugo.endpoints.iter().map(Url::as_str).collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file,
        modules = absolute(&config.modules.dir),
        nats = config.nats.servers.join(", "),
        redis = config.redis.as_ref().map(|redis| redis.url.as_str()),
        centrifugo = endpoints.join(", "),
        "starting the relay"
    );
    if args.config.is_absent() {
        info!("there is no slipring.toml here: keys are set by environment variables or have their defaults");
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .as_deref()
        .unwrap_or(path)
        .display()
        .to_string()
}
