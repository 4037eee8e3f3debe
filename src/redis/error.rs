//! What can be wrong with Redis, in words that say what to change.

use redis::{ErrorKind, RedisError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Redis is configured: add the table `[redis]` to slipring.toml, with the `url` of the server")]
    NotConfigured,
    #[error("no connection to Redis at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("Redis at {address} did not reply in time")]
    Late { address: String },
    #[error(
        "the key `{key}` in Redis holds a {found}, but `source.kind` needs a {wanted}: correct `key` or `kind` in the \
         module's .toml"
    )]
    Kind {
        key: String,
        found: String,
        wanted: &'static str,
    },
    /// The reason is a sentence that says what to change.
    #[error("{0}")]
    Refused(String),
    #[error("Redis returned an unexpected reply to {0}, which is a bug in Slipring")]
    Reply(&'static str),
    #[error("{doing} failed")]
    Request { doing: String, source: RedisError },
}

impl Error {
    /// `doing` completes "… failed".
    pub(super) fn of(doing: &str, address: &str, error: RedisError) -> Self {
        let detail = error.detail().unwrap_or_default();
        let refused = |sentence: String| Self::Refused(sentence);
        match error.code() {
            Some("NOAUTH") => refused(format!(
                "Redis at {address} requires a password: set `redis.password_file` or SLIPRING_REDIS__PASSWORD"
            )),
            Some("WRONGPASS") => refused(format!(
                "Redis at {address} refuses the user or the password: correct `redis.user`, and `redis.password_file` or \
                 SLIPRING_REDIS__PASSWORD"
            )),
            Some("NOPERM") => refused(format!(
                "Redis at {address} denies this user a permission: {detail}; `slipring check --permissions` lists what \
                 is needed"
            )),
            Some("LOADING") => refused(format!(
                "Redis at {address} is still loading its data; the relay tries again"
            )),
            Some("READONLY") => refused(format!(
                "Redis at {address} is a replica, which cannot be written to: set `redis.url` to the master, or use \
                 `redis.sentinels`"
            )),
            Some("MASTERDOWN") => refused(format!(
                "Redis at {address} is a replica that has lost its master: set `redis.url` to the master, or use \
                 `redis.sentinels`"
            )),
            Some("OOM") => refused(format!(
                "Redis at {address} has reached `maxmemory` and refuses to store anything more: raise `maxmemory`, or delete \
                 keys"
            )),
            Some("MISCONF") => refused(format!(
                "Redis at {address} cannot save its data, and refuses to write: {detail}"
            )),
            Some("MOVED" | "ASK" | "TRYAGAIN") => refused(format!(
                "the cluster of Redis at {address} moves the key to another node ({detail}); the relay tries again"
            )),
            Some("CLUSTERDOWN") => refused(format!(
                "the cluster of Redis at {address} is down ({detail}); the relay tries again"
            )),
            Some("CROSSSLOT") => refused(format!(
                "the cluster of Redis at {address} keeps the relay's own keys on another node than the list or stream, \
                 because of the braces in its key: use a key with no braces, or with a name in them, such as {{shop}}:orders"
            )),
            Some("WRONGTYPE") => refused(format!(
                "a key that the relay uses in Redis at {address} now has another type: delete or rename it ({detail})"
            )),
            // In a script it has no code of its own: Redis 7.0, then later versions and Valkey.
            _ if ["The user executing the script", "ACL failure in script"]
                .iter()
                .any(|text| error.to_string().contains(text)) =>
            {
                refused(format!(
                    "Redis at {address} denies this user a permission: {detail}; `slipring check --permissions` lists what \
                 is needed"
                ))
            }
            _ if error.kind() == ErrorKind::AuthenticationFailed => refused(format!(
                "Redis at {address} refuses the user or the password: correct `redis.user`, and `redis.password_file` or \
                 SLIPRING_REDIS__PASSWORD ({error})"
            )),
            _ => Self::Request {
                doing: doing.to_owned(),
                source: error,
            },
        }
    }
}
