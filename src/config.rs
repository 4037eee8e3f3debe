//! The checked configuration, as every other part of the relay sees it. `config/` holds the parsers and everything that
//! can be wrong with a configuration.

mod checked;
mod credentials;
mod environment;
mod file;
mod hints;
mod load;
mod module;
mod pipeline;
mod problem;
#[cfg(test)]
mod reference;
mod relay;
mod rereading;
mod secret;
mod section;
mod settings;
mod source;
mod subject;
mod tls;
mod value;

pub use self::checked::{
    Admin, AdminTls, Bounds, Centrifugo, Config, DeadLetters, Modules, Nats, NatsAuth, Publish, Redis, Secret,
    Sentinel, Shutdown, Standby, Store,
};
pub use self::credentials::in_credentials;
pub use self::load::{DEFAULT_FILE, load, load_module};
pub use self::module::{name as module_name, parse as parse_module};
pub use self::pipeline::{Deliver, End, ModuleConfig, RedisSource, Source, check_sha256};
pub use self::problem::{Place, Problem, Problems};
pub use self::relay::{default_cache_dir, parse as parse_config};
pub use self::rereading::Rereading;
pub use self::subject::covers;
pub use self::tls::{Peer, Tls, TlsError};
pub use slipring_core::pipeline::OnReject;
pub use slipring_core::publish::Order;
pub use slipring_core::stamp::VersionSource;

/// `slipring.toml` or a module's `.toml`. Lines after a zero byte are variables of the environment.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    use std::path::Path;

    let Ok(text) = str::from_utf8(input) else { return };
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let problems = [
        parse_config(Path::new("slipring.toml"), text, variables).err(),
        parse_module(Path::new("modules/orders.toml"), text).err(),
    ];
    for problems in problems.into_iter().flatten() {
        assert!(!problems.to_string().is_empty());
    }
}
