//! The real servers, from `.tools/bin` or the `PATH`. Each one listens on a port of its own on 127.0.0.1, keeps it over
//! a restart, and ends with its owner.

mod centrifugo;
#[cfg(feature = "redis")]
pub mod cluster;
mod nats;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod sentinel;

use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use centrifugo::Centrifugo;
pub use nats::{NatsServer, NatsVersion};
// Without `self::`, this could also be the crate.
#[cfg(feature = "redis")]
pub use self::redis::Redis;
#[cfg(feature = "redis")]
pub use sentinel::Sentinel;

/// How long a server may take to start or end, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many ports are tried when one is taken.
pub(crate) const PORTS_TRIED: usize = 20;

/// The ports to choose from.
const PORTS: Range<u32> = 10_000..32_000;

/// Returns a program that `make tools` or another target installed, or that is on the `PATH`.
pub fn tool(name: &str) -> Result<PathBuf> {
    let installed = crate::workspace().join(".tools/bin").join(name);
    if installed.is_file() {
        return Ok(installed);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "{name} is neither at {} nor on the PATH: run `make tools`",
                installed.display()
            )
        })
}

/// Returns a program below `.tools` that is installed in several versions.
pub fn installed(path: &str) -> Result<PathBuf> {
    let program = crate::workspace().join(".tools").join(path);
    ensure!(
        program.is_file(),
        "{} is not there: run `make tools`",
        program.display()
    );
    Ok(program)
}

/// Returns a port for a server to listen on, even after a restart. It is below the range that the kernel gives to
/// outgoing connections (32768 and up on Linux). Above, another connection may take it while the server is down, even
/// the very client that tries to reach the server, which then talks to itself. No port comes twice in this process: its
/// server may be down and want it again.
pub(crate) fn candidate_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    static FIRST: LazyLock<u32> = LazyLock::new(|| fastrand::u32(PORTS));
    let turn = FIRST.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) - PORTS.start;
    let port = PORTS.start + turn % (PORTS.end - PORTS.start);
    u16::try_from(port).expect("a port")
}

/// Returns a port that nobody listens on now, for a server that cannot be given another one later.
pub fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut candidates = std::iter::repeat_with(candidate_port);
    candidates.find(free).unwrap_or_else(candidate_port)
}

/// Returns true if a server gave up because its port was taken.
fn port_was_taken(error: &anyhow::Error) -> bool {
    // Redis begins the first text with a capital letter. The second one is all that Centrifugo says about its GRPC port.
    let error = format!("{error:#}").to_lowercase();
    ["address already in use", "cannot listen to address"]
        .iter()
        .any(|text| error.contains(text))
}
