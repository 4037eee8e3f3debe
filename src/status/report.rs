//! What `/api/status` says, for those who write it and those who read it. A public contract: a relay of one version is asked by a
//! `slipring status` of another, so fields may be added, not changed, and what the other one leaves out has its default.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Of the relay.
    pub version: String,
    /// RFC 3339, like every time here.
    pub started: String,
    pub ready: bool,
    pub nats: NatsStatus,
    pub centrifugo: CentrifugoStatus,
    pub memory: Option<MemoryStatus>,
    /// By name.
    pub modules: Vec<ModuleStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatsStatus {
    pub connected: bool,
    /// The version of the server that is, or last was, connected.
    pub server: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CentrifugoStatus {
    /// Why nothing can be published.
    pub trouble: Option<String>,
}

/// For what passes through the modules, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStatus {
    pub used: u64,
    /// `memory_limit`, or what suits the machine.
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleStatus {
    pub name: String,
    pub state: State,
    pub reason: Option<String>,
    /// Of the module in use.
    pub sha256: Option<String>,
    /// When the state began.
    pub since: String,
    pub stream: Option<String>,
    pub consumer: Option<String>,
    pub received: u64,
    pub transformed: u64,
    pub dropped: u64,
    /// Left out, or a publication of them, since they were older than `max_age`.
    pub expired: u64,
    /// In both stages.
    pub rejected: u64,
    pub published: u64,
    /// Publications that gave up their place to a newer one of their channels.
    pub conflated: u64,
    /// Removed by the stream's limits before they could be read.
    pub missed: u64,
    pub retried: u64,
    /// Of the settings in use.
    pub toml_sha256: Option<String>,
    /// When the version in use took over.
    pub working_since: Option<String>,
    /// The version that was in use before it, for a rollback.
    pub predecessor: Option<VersionStatus>,
    /// What the directory holds was in use and was rolled back, by itself or by hand.
    pub rolled_back: Option<RolledBack>,
    pub rollbacks: u64,
    pub swaps: u64,
    pub refused_swaps: u64,
    /// Why the newest file was refused, until a good one comes.
    pub last_refusal: Option<String>,
    pub lag_messages: Option<u64>,
    pub lag_seconds: Option<f64>,
    pub window_messages: u64,
    pub window_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionStatus {
    pub sha256: String,
    pub toml_sha256: String,
    /// When it took over.
    pub since: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolledBack {
    /// Of the version that the directory holds.
    pub sha256: String,
    pub toml_sha256: String,
    pub at: String,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// For one of its two files; or, with a module in use, for what it reads from.
    Waiting,
    Starting,
    /// Another relay reads from the consumer, and this one takes over when it ends.
    Standby,
    Running,
    /// Stopped by itself, on `on_reject = "halt"` or too many rejections; resumed by the next good module.
    Halted,
    /// Removed, or the relay is shutting down: what is in flight is being finished.
    Draining,
    /// Cannot run: its files are not good, and there was no older version.
    Failed,
    /// One that this version does not know. No relay says it.
    #[default]
    #[serde(other)]
    Unknown,
}

impl fmt::Display for State {
    /// The word that the report has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
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
