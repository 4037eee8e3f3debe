//! The format of `/api/v1/status`, for writers and readers. It is a public contract: the relay and the `slipring status`
//! that asks it may have different versions. Fields may be added but not changed, and a missing field has its default.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slipring_core::place::Place;

use super::health::Finding;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Status {
    /// The relay's version.
    pub version: String,
    /// RFC 3339, like every time here.
    pub started: String,
    pub ready: bool,
    /// Why the relay is not ready. Empty if it is.
    pub obstacles: Vec<Finding>,
    /// What somebody should look at, although the relay is ready.
    pub warnings: Vec<Finding>,
    /// Left out as long as nothing needs NATS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsStatus>,
    pub centrifugo: CentrifugoStatus,
    pub memory: Option<MemoryStatus>,
    /// Sorted by name.
    pub modules: Vec<ModuleStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NatsStatus {
    /// `nats.servers`.
    pub servers: Vec<String>,
    pub connected: bool,
    /// The version of the server that is connected, or was connected last.
    pub server: Option<String>,
    /// Why there is no connection, if that is known.
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CentrifugoStatus {
    /// `centrifugo.endpoints`.
    pub endpoints: Vec<String>,
    /// Why nothing can be published.
    pub trouble: Option<String>,
}

/// The memory of what passes through the modules, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemoryStatus {
    pub used: u64,
    /// `memory_limit`, or the default for this machine.
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleStatus {
    pub name: String,
    pub state: State,
    pub reason: Option<String>,
    /// The hash of the module in use.
    pub sha256: Option<String>,
    /// When the state began.
    pub since: String,
    pub stream: Option<String>,
    pub consumer: Option<String>,
    pub received: u64,
    pub transformed: u64,
    pub dropped: u64,
    /// Messages that were skipped, in whole or in part, because they were older than `max_age`.
    pub expired: u64,
    /// Rejections in both stages.
    pub rejected: u64,
    pub published: u64,
    /// Publications replaced by a newer one on the same channel.
    pub conflated: u64,
    /// Messages removed by the stream's limits before they could be read.
    pub missed: u64,
    pub retried: u64,
    /// The hash of the settings in use.
    pub toml_sha256: Option<String>,
    /// When the version in use took over.
    #[serde(alias = "working_since")]
    pub running_since: Option<String>,
    /// The version before it, for a rollback.
    pub predecessor: Option<VersionStatus>,
    /// Set if the version in the directory was in use and then rolled back, automatically or by hand.
    pub rolled_back: Option<RolledBack>,
    pub rollbacks: u64,
    pub swaps: u64,
    pub refused_swaps: u64,
    /// Why the newest file was refused, until a good one comes.
    pub last_refusal: Option<String>,
    /// The last rejection that is in the log. The log has the first of each kind, and then one a second.
    pub last_rejection: Option<RejectionStatus>,
    /// Messages that are not settled, delivered or not. `None` if nobody knows.
    pub lag_messages: Option<u64>,
    pub lag_seconds: Option<f64>,
    /// What the server says about the consumer. `None` if it has not answered lately.
    pub backlog: Option<Backlog>,
    pub window_messages: u64,
    pub window_bytes: u64,
}

/// The server's own count, asked every five seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Backlog {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: u64,
    /// The place up to which everything is acknowledged: the sequence in a stream of JetStream, or a text with the ID in
    /// Redis.
    #[serde(with = "place")]
    #[schemars(with = "place::Written")]
    pub ack_floor: Place,
    pub paused: bool,
    /// How long messages have waited while neither delivery nor ack floor moved.
    pub stalled_seconds: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RejectionStatus {
    pub at: String,
    /// `transform` or `publish`.
    pub stage: String,
    pub code: String,
    pub channel: Option<String>,
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VersionStatus {
    pub sha256: String,
    pub toml_sha256: String,
    /// When the version took over.
    pub since: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RolledBack {
    /// The hash of the version in the directory.
    pub sha256: String,
    pub toml_sha256: String,
    pub at: String,
    pub reason: String,
}

/// The versions of a module, for `/api/v1/modules/NAME/versions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Versions {
    pub module: String,
    /// Those that a rollback can return to, and the one in use. The newest is first.
    pub versions: Vec<KnownVersion>,
    /// Set if the version in the directory was in use and then rolled back, automatically or by hand.
    pub rolled_back: Option<RolledBack>,
    /// Why the newest file was refused, until a good one comes.
    pub last_refusal: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KnownVersion {
    /// Its name: the first twelve digits of both hashes.
    pub version: String,
    pub sha256: String,
    pub toml_sha256: String,
    /// When the version took over.
    pub since: String,
    pub running: bool,
    /// What the probe before the swap said.
    pub probe: Option<String>,
    /// What the trial after the swap says. `None` if there was none, or if it was not passed.
    pub trial: Option<Trial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    Running,
    Passed,
    /// A word that this version does not know. No relay sends it.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// For one of its two files; or, with a module in use, for the stream it reads from.
    Waiting,
    Starting,
    /// Another relay reads from the consumer. This one takes over when the other ends.
    Standby,
    Running,
    /// Stopped by itself, by `on_reject = "halt"` or after too many rejections. The next good module resumes it.
    Halted,
    /// Removed, or the relay is shutting down: messages in flight are being finished.
    Draining,
    /// Cannot run: its files are not good, and there was no older version.
    Failed,
    /// A state that this version does not know. No relay sends it.
    #[default]
    #[serde(other)]
    Unknown,
}

impl State {
    /// Each state that a relay reports.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Starting,
        Self::Standby,
        Self::Running,
        Self::Halted,
        Self::Draining,
        Self::Failed,
    ];
}

impl fmt::Display for State {
    /// Writes the word that the report uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A sequence as a number, and an ID as a text.
mod place {
    use schemars::JsonSchema;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use slipring_core::place::Place;

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    pub enum Written {
        Sequence(u64),
        Id(String),
    }

    pub fn serialize<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
        match place {
            Place::Sequence(sequence) => serializer.serialize_u64(*sequence),
            Place::Id(..) => serializer.collect_str(place),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Sequence(sequence) => Ok(Place::Sequence(sequence)),
            Written::Id(id) => id.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_may_say_more_or_less() {
        let newer = r#"{"modules":[{"name":"orders","state":"dreaming","mood":"good"}],"weather":{"wind":3}}"#;
        let status: Status = serde_json::from_str(newer).unwrap();
        assert_eq!(status.modules[0].name, "orders");
        assert_eq!(status.modules[0].state, State::Unknown);
        let older: Status = serde_json::from_str("{}").unwrap();
        assert_eq!(older, Status::default());
    }

    #[test]
    fn what_was_written_is_read_back() {
        let version = VersionStatus {
            sha256: "abc".to_owned(),
            toml_sha256: "def".to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
        };
        let module = ModuleStatus {
            name: "orders".to_owned(),
            state: State::Standby,
            predecessor: Some(version),
            lag_seconds: Some(0.5),
            window_bytes: 7,
            ..ModuleStatus::default()
        };
        let status = Status {
            memory: Some(MemoryStatus { used: 1, limit: 2 }),
            modules: vec![module],
            ..Status::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn a_state_prints_as_it_is_written() {
        assert_eq!(State::Standby.to_string(), "standby");
        assert_eq!(serde_json::to_string(&State::Standby).unwrap(), "\"standby\"");
    }
}
