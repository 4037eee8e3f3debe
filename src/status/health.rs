//! What is wrong with the relay and its modules: what keeps it from being ready, and what somebody should look at.
//! `/readyz`, the status, the log and the metrics all say what is found here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be wrong. [`Kind::severity`] says which of it makes the relay not ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    ShuttingDown,
    /// There is no connection to NATS.
    Nats,
    /// The modules directory has not been read yet.
    Directory,
    /// Nothing can be published.
    Centrifugo,
    /// NATS denies a permission.
    Permission,
    Starting,
    /// For its stream, its consumer or Redis.
    Waiting,
    Halted,
    /// No module can run.
    Failed,
    /// This module cannot run, and others do.
    FailedAmongOthers,
    /// The connection is up, and the server does not answer.
    NoAnswer,
    /// Messages wait, and nothing moves.
    Stalled,
    /// The ack floor does not follow the acks.
    AcksIgnored,
    /// A dead letter cannot be stored.
    DeadLetters,
    /// Somebody has paused the consumer.
    Paused,
    /// A newer version sends a kind that this one does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    NotReady,
    /// The relay is ready.
    Warning,
}

impl Kind {
    pub const ALL: [Self; 15] = [
        Self::ShuttingDown,
        Self::Nats,
        Self::Directory,
        Self::Centrifugo,
        Self::Permission,
        Self::Starting,
        Self::Waiting,
        Self::Halted,
        Self::Failed,
        Self::FailedAmongOthers,
        Self::NoAnswer,
        Self::Stalled,
        Self::AcksIgnored,
        Self::DeadLetters,
        Self::Paused,
    ];

    pub fn severity(self) -> Severity {
        match self {
            Self::FailedAmongOthers | Self::Paused => Severity::Warning,
            _ => Severity::NotReady,
        }
    }

    /// Returns true if the part that notices it logs it as well.
    pub fn is_logged_elsewhere(self) -> bool {
        !matches!(
            self,
            Self::Permission | Self::NoAnswer | Self::Stalled | Self::AcksIgnored | Self::DeadLetters | Self::Paused
        )
    }

    /// Returns its name in the status, the metrics and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::Nats => "nats",
            Self::Directory => "directory",
            Self::Centrifugo => "centrifugo",
            Self::Permission => "permission",
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Halted => "halted",
            Self::Failed => "failed",
            Self::FailedAmongOthers => "failed_among_others",
            Self::NoAnswer => "no_answer",
            Self::Stalled => "stalled",
            Self::AcksIgnored => "acks_ignored",
            Self::DeadLetters => "dead_letters",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Finding {
    pub kind: Kind,
    /// `None` if it concerns the whole relay.
    pub module: Option<String>,
    /// A sentence with the reason and what to change. It does not repeat the module's name.
    pub text: String,
}

impl Finding {
    pub fn of_relay(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            module: None,
            text: text.into(),
        }
    }

    pub fn of_module(kind: Kind, module: &str, text: impl Into<String>) -> Self {
        Self {
            kind,
            module: Some(module.to_owned()),
            text: text.into(),
        }
    }

    pub fn is_obstacle(&self) -> bool {
        self.kind.severity() == Severity::NotReady
    }
}

impl std::fmt::Display for Finding {
    /// Writes a sentence with the name of the module.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{module} {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_status_has() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn the_manual_says_of_each_kind_whether_the_relay_is_ready() {
        let page = include_str!("../../docs/operating/health.md");
        let rows: Vec<(&str, &str)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .filter_map(|(kind, rest)| Some((kind, rest.split_once(" |")?.0)))
            .collect();
        let expected = Kind::ALL.map(|kind| {
            let word = match kind.severity() {
                Severity::NotReady => "not ready",
                Severity::Warning => "warning",
            };
            (kind.name(), word)
        });
        assert_eq!(rows, expected);
    }
}
