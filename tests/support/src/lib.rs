//! What the relay's integration tests and the demo use. It is not part of the relay and shares no code with it, so that
//! a mistake in the relay cannot hide itself here.
//!
//! - [`servers`]: nats-server, Centrifugo and Redis, run as users run them, on ports of their own.
//! - [`subscriber`]: a client of Centrifugo, over WebSocket.
//! - [`clients`]: clients of Centrifugo that others wrote.
//! - [`fake_centrifugo`]: answers that the real Centrifugo does not give on demand.
//! - [`demo`]: the events of the demo.
//! - [`process`]: a child process, which ends when its owner does.
//! - [`proxy`]: a faulty connection between the relay and a server.
//! - [`raw`]: messages that no library sends.
//! - [`relay`]: the relay itself, as a process.
//! - [`guests`]: the guest crates, built.
//! - [`eventually()`]: waits for a condition, with a deadline.

pub mod clients;
pub mod demo;
pub mod eventually;
pub mod fake_centrifugo;
pub mod guests;
pub mod process;
pub mod proxy;
mod publication;
pub mod raw;
pub mod relay;
pub mod servers;
pub mod subscriber;
mod test_timeout;
mod usage;

pub use eventually::eventually;
pub use publication::Publication;
pub use usage::Usage;

use std::path::{Path, PathBuf};

/// The APIs of Centrifugo that accept publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Http,
    Grpc,
}

/// Returns the root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/support is two below the root")
        .to_path_buf()
}

/// Returns an HTTP client. reqwest is built without a TLS provider, and refuses to create a client before one is
/// installed, even for plain HTTP.
pub fn http_client() -> reqwest::Client {
    // An error means that a provider is already installed, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
