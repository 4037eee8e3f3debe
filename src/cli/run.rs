//! `slipring run`: runs the relay, from the first connection to the last ack.

use tracing::info;

use super::config_file::ConfigFile;
use super::failure::Failure;
use crate::relay;

/// Run the relay
///
/// Watches the modules directory and runs a pipeline for each module in it. Adding, replacing or removing a module, or editing its
/// .toml, takes effect without a restart. A bad file is logged and changes nothing else.
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
    let config = args.config.load()?;
    if args.config.is_absent() {
        let dir = std::env::current_dir().unwrap_or_default();
        info!(
            dir = %dir.display(),
            "there is no slipring.toml here: keys are set by environment variables or have their defaults"
        );
    }
    Ok(relay::run_until_signal(config)?)
}
