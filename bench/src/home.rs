//! The relay as a user would run it: a process, its `slipring.toml`, and a module in its directory. All settings have
//! their defaults, unless a benchmark is about one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use slipring_support::guests;
use slipring_support::relay::Home;

/// The name of the module, and so of its consumer.
pub const MODULE: &str = "bench";
pub const CONSUMER: &str = "slipring-bench";

/// Creates a home with one module, the guest of the bench, which reads all of `stream`. `publish` is added to the
/// table `[publish]`.
pub fn home(slipring: &Path, nats: &str, endpoint: &str, api_key: &str, stream: &str, publish: &str) -> Result<Home> {
    let home = bare(slipring, nats, endpoint, api_key, publish)?;
    let module = format!("stream = \"{stream}\"\ndeliver = \"all\"\n");
    home.add_module(MODULE, &guests::component("bench-guest")?, &module)?;
    Ok(home)
}

/// Creates a home without a module.
pub fn bare(slipring: &Path, nats: &str, endpoint: &str, api_key: &str, publish: &str) -> Result<Home> {
    let home = Home::new(slipring, nats, endpoint, api_key)?;
    home.configure_more(&format!("[publish]\n{publish}"))?;
    Ok(home)
}

/// Returns the path of the relay: `given`, or the one that was built beside this program.
pub fn slipring(given: Option<&Path>) -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program's own path")?;
    let slipring = given.map_or_else(|| this.with_file_name("slipring"), Path::to_path_buf);
    ensure!(
        slipring.is_file(),
        "{} is not there: `make bench` builds it, and so does `cargo build`",
        slipring.display()
    );
    Ok(slipring)
}
