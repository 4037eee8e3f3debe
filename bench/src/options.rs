//! The options of every benchmark.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct Options {
    /// Write every single run to this file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// How many times to measure each way, in turns; `swap` always does ten swaps
    #[arg(long, global = true, value_name = "NUMBER")]
    pub rounds: Option<usize>,

    /// How many messages the stream holds
    #[arg(long, global = true, value_name = "NUMBER")]
    pub messages: Option<usize>,

    /// Only the ways whose names begin with one of these
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Added round trips, in milliseconds
    #[arg(long, global = true, value_name = "MS", value_delimiter = ',', default_value = "0,5")]
    pub delays: Vec<u64>,

    /// Time limit of a run; a longer run is measured by what it did until then
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0)]
    pub limit: f64,

    /// How long each run of `latency` publishes, after a second that does not count; for `swap`, the time between two swaps
    #[arg(long, global = true, value_name = "SECONDS")]
    pub seconds: Option<f64>,

    /// Draw the throughput into this file, as SVG
    #[arg(long, global = true, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Use tiny numbers, only to check that everything works; the figures mean nothing
    #[arg(long, global = true)]
    pub smoke: bool,

    /// The relay's program [default: the one built beside this program]
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub slipring: Option<PathBuf>,

    /// For `pairs`: another build of the relay, which `--slipring` is compared with
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub against: Option<PathBuf>,

    /// For `pairs`: the module that `--against` runs, if it cannot run the one of today
    #[arg(long, global = true, value_name = "WASM", requires = "against")]
    pub against_module: Option<PathBuf>,

    /// For `pairs`: somebody has the page and a tap of the relay of `--slipring` open
    #[arg(long, global = true, requires = "against")]
    pub watched: bool,

    /// For `throughput`, `cluster` and `pairs`: run the relay on a processor core of its own, and everything else on another
    #[arg(long, global = true)]
    pub own_core: bool,
}

impl Options {
    /// Returns `full`, or `smoke` in a smoke run, unless the user gave a number.
    pub fn rounds(&self, full: usize, smoke: usize) -> usize {
        self.rounds.unwrap_or(if self.smoke { smoke } else { full })
    }

    /// As [`rounds`](Self::rounds).
    pub fn messages(&self, full: usize, smoke: usize) -> usize {
        self.messages.unwrap_or(if self.smoke { smoke } else { full })
    }

    /// As [`rounds`](Self::rounds).
    pub fn seconds(&self, full: f64, smoke: f64) -> f64 {
        self.seconds.unwrap_or(if self.smoke { smoke } else { full })
    }

    /// Returns true if the way of this name was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }
}
