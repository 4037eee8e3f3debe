//! Says in a sentence why there is no connection to Redis, and which key to change.

use redis::{ErrorKind, RedisError};

use super::Error;
use crate::cause;
use crate::config::{Peer, Redis as Config};

/// Explains the error of an attempt to connect to this address.
pub(super) fn explain(error: RedisError, address: &str, config: &Config) -> Error {
    let text = error.to_string();
    let name = format!("Redis at {address}");
    let has_sentinels = config.sentinel.is_some();
    let peer = Peer {
        name: &name,
        address: if has_sentinels { "redis.sentinels" } else { "redis.url" },
        section: "redis.tls",
    };
    let refused = |sentence: String| Error::Refused(sentence);
    if let Some(reason) = config.tls.explain(&text, peer) {
        return refused(reason);
    }
    if text.to_lowercase().contains("invalidcontenttype") {
        let key = peer.address;
        return refused(format!(
            "{name} does not speak TLS: write `redis://` in `{key}`, or turn on TLS in the server"
        ));
    }
    if text.contains("DB index is out of range") {
        let database = config.url.path().trim_start_matches('/');
        return refused(format!(
            "{name} has no database {database}: correct the number at the end of `redis.url`"
        ));
    }
    if text.contains("does not point to a sentinel") {
        return refused(format!(
            "what is at {address} is no sentinel: correct `redis.sentinels`"
        ));
    }
    if error.kind() == ErrorKind::Parse {
        let key = peer.address;
        return refused(format!(
            "what replies at {address} is not Redis: correct `{key}` ({text})"
        ));
    }
    if error.kind() == ErrorKind::MasterNameNotFoundBySentinel {
        return refused(format!(
            "the sentinels at {address} know no such master, or it is down; is `redis.master` right?"
        ));
    }
    let is_denied =
        matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) || error.kind() == ErrorKind::AuthenticationFailed;
    if is_denied && has_sentinels {
        return refused(format!(
            "a sentinel or the master at {address} refuses the user or the password: set `redis.sentinel_password_file` for \
             the sentinels, and `redis.password_file` for the master ({text})"
        ));
    }
    match Error::of("connecting to Redis", address, error) {
        Error::Request { source, .. } => {
            let question = match has_sentinels {
                true if source.is_timeout() => {
                    "are the sentinels and the master running? If they do not speak TLS, write `redis://` in \
                     `redis.sentinels` and `redis.url`"
                }
                true => "are the sentinels and the master running, and are `redis.sentinels` and `redis.master` right?",
                false
                    if source.is_connection_dropped()
                        && !source.is_connection_refusal()
                        && !super::is_encrypted(&config.url) =>
                {
                    "if the server speaks TLS, write `rediss://` in `redis.url`"
                }
                // Such a server waits for the rest of what it takes for a command.
                false if source.is_timeout() && super::is_encrypted(&config.url) => {
                    "is it running? If it does not speak TLS, write `redis://` in `redis.url`"
                }
                false => "is it running, and is `redis.url` right?",
            };
            Error::Unreachable {
                address: address.to_owned(),
                reason: format!("{}; {question}", cause::of(&source)),
            }
        }
        error => error,
    }
}
