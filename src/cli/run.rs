//! `slipring run`: runs the relay, from the first connection to the last ack.

use tracing::info;

use super::config_file::ConfigFile;
use super::failure::Failure;
use crate::relay;

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
    Ok(relay::run_until_signal(config)?)
}
