//! The arguments that say where a version goes, and what is checked on the way.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use url::Url;

use super::super::address::{self, Address};
use super::super::failure::Failure;
use super::target::token;
use crate::admin::Client;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The modules directory [default: `modules.dir` in the configuration]
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub dir: Option<PathBuf>,
    /// Upload to the relay at this address, which must have `admin.uploads = true`, instead of copying
    #[arg(long, value_name = "URL", value_parser = address::url, conflicts_with = "url")]
    pub to: Option<Url>,
    /// The file with the relay's token, instead of the one in the configuration
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Do not ask before deploying a version whose outcomes differ
    #[arg(long, short)]
    pub yes: bool,
    /// Run neither the unit tests nor the cases
    #[arg(long)]
    pub no_test: bool,
    /// Do not compare with the running version
    #[arg(long, conflicts_with = "expect_same")]
    pub no_diff: bool,
    /// How many of the last messages to compare
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub last: u64,
    /// Deploy nothing and exit with 1 if outcomes differ, or if they cannot be compared
    #[arg(long)]
    pub expect_same: bool,
    /// Do not wait for the relay
    #[arg(long)]
    pub no_wait: bool,
    /// How long the relay may take to load and probe the version; its trial takes `watch` more
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub relay: Address,
}

impl Options {
    /// Returns the relay that takes the upload, if there is to be one.
    pub fn remote(&self) -> Result<Option<Client>, Failure> {
        let Some(url) = &self.to else { return Ok(None) };
        let token = token(self.token_file.as_deref())?;
        Ok(Some(self.relay.at(Some(url), token)?))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
    parsed
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it must be a duration such as 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "0s", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
