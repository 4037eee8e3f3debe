//! What a server says about itself, and what that means for the relay's promises.

use redis::RedisError;
use redis::aio::MultiplexedConnection;

use super::{Error, Server};

/// The first version that counts how many entries a stream has had, and whose scripts may read with a consumer group.
const OLDEST: (u32, u32) = (7, 0);

/// The facts of `INFO` and `CONFIG` that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `Redis 7.0.15` or `Valkey 8.1.1`.
    pub name: String,
    version: (u32, u32),
    is_replica: bool,
    /// In bytes; 0 means no limit.
    max_memory: u64,
    max_memory_policy: String,
    has_append_only_file: bool,
    /// `None` if the user may not ask.
    append_fsync: Option<String>,
}

impl Facts {
    /// Asks the server, or some node of a cluster.
    pub async fn of(server: &Server) -> Result<Self, Error> {
        let connection = server.shared("").await?;
        server.checked("reading the settings of Redis", Self::ask(connection).await)
    }

    /// Asks the server over this connection.
    pub async fn ask(mut connection: MultiplexedConnection) -> Result<Self, RedisError> {
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("appendfsync");
        let config: Result<Vec<String>, RedisError> = command.query_async(&mut connection).await;
        let append_fsync = config.ok().and_then(|config| config.into_iter().nth(1));
        Ok(Self::read(&info, append_fsync))
    }

    fn read(info: &str, append_fsync: Option<String>) -> Self {
        let fact = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
            lines.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        // Valkey calls itself Redis 7.2 for the sake of old clients.
        let (kind, version) = match fact("valkey_version") {
            Some(version) => ("Valkey", version),
            None => ("Redis", fact("redis_version").unwrap_or_default()),
        };
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        Self {
            name: format!("{kind} {version}"),
            version: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
            is_replica: fact("role") == Some("slave"),
            max_memory: fact("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            max_memory_policy: fact("maxmemory_policy").unwrap_or("noeviction").to_owned(),
            has_append_only_file: fact("aof_enabled") == Some("1"),
            append_fsync,
        }
    }

    /// Returns why the relay cannot use the server, in a sentence that says what to change.
    pub fn refusal(&self) -> Option<String> {
        let name = &self.name;
        if self.version < OLDEST {
            let (major, minor) = OLDEST;
            return Some(format!(
                "the server is {name}, but {major}.{minor} or later is needed: upgrade it"
            ));
        }
        if self.is_replica {
            return Some(format!(
                "the server ({name}) is a replica, which cannot be written to: set `redis.url` to the master, or use \
                 `redis.sentinels`"
            ));
        }
        None
    }

    /// Returns what weakens a promise, with what it costs and what to change.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.max_memory_policy != "noeviction" {
            let when = match self.max_memory {
                0 => "once `maxmemory` is set and reached",
                _ => "when `maxmemory` is reached",
            };
            // These remove only keys that expire: the leases, and the marks of dead letters.
            let what = match self.max_memory_policy.starts_with("volatile-") {
                true => "the relay's lease, so that another relay could read as well",
                false => "whole lists and streams with unread messages, and the relay's own keys",
            };
            warnings.push(format!(
                "`maxmemory-policy` of Redis is {}: {when}, Redis may remove {what}; set it to noeviction",
                self.max_memory_policy
            ));
        }
        if !self.has_append_only_file {
            warnings.push(
                "Redis has no append-only file: after a crash it loses everything since its last snapshot, and the relay \
                 may publish some messages again; set `appendonly yes`"
                    .to_owned(),
            );
        } else if self.append_fsync.as_deref().is_some_and(|fsync| fsync != "always") {
            let fsync = self.append_fsync.as_deref().unwrap_or_default();
            let lost = match fsync {
                "everysec" => "the last second",
                _ => "what the operating system has not written yet",
            };
            warnings.push(format!(
                "`appendfsync` of Redis is {fsync}: if its machine crashes, Redis loses {lost}, and the relay may publish \
                 some messages again; set it to always to prevent that"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\
                        # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\n";

    fn facts(from: &str, to: &str) -> Facts {
        Facts::read(&GOOD.replace(from, to), Some("always".to_owned()))
    }

    #[test]
    fn a_server_that_keeps_everything_needs_no_word() {
        let facts = facts("", "");
        assert_eq!(
            (facts.name.as_str(), facts.refusal(), facts.warnings()),
            ("Redis 7.0.15", None, Vec::new())
        );
        let valkey = self::facts("redis_version:7.0.15", "redis_version:7.2.4\r\nvalkey_version:8.1.1");
        assert_eq!((valkey.name.as_str(), valkey.refusal()), ("Valkey 8.1.1", None));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (from, to, reason) in [
            (
                "7.0.15",
                "6.2.14",
                "the server is Redis 6.2.14, but 7.0 or later is needed",
            ),
            ("role:master", "role:slave", "is a replica"),
        ] {
            let refusal = facts(from, to).refusal().unwrap();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn what_may_lose_messages_is_said_with_its_cost() {
        for (from, to, warning) in [
            (
                "noeviction",
                "allkeys-lru",
                "`maxmemory-policy` of Redis is allkeys-lru: once",
            ),
            ("aof_enabled:1", "aof_enabled:0", "Redis has no append-only file"),
        ] {
            let warnings = facts(from, to).warnings();
            assert!(warnings.len() == 1 && warnings[0].contains(warning), "{warnings:?}");
        }
        let everysec = Facts::read(GOOD, Some("everysec".to_owned())).warnings();
        assert!(everysec[0].contains("loses the last second"), "{everysec:?}");
        assert_eq!(Facts::read(GOOD, None).warnings(), [""; 0], "the user may not ask");
    }
}
