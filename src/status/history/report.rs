//! The format of `/api/v1/history` and of the events of `/api/v1/events`, for writers and readers. It is a public contract
//! like the status: fields may be added but not changed, and a missing field has its default.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::report::Status;

/// What happened lately, in steps. Each list of a module is as long as `times`, and has no value where nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistoryReport {
    pub step_seconds: u32,
    /// When each step began, in seconds since 1970: multiples of `step_seconds`, the oldest first. The newest step may not
    /// be over.
    pub times: Vec<u64>,
    /// Sorted by name. One that was removed lately is here, too.
    pub modules: Vec<ModuleHistory>,
    /// Those of the module that was asked for, and those of the relay as a whole. The oldest is first.
    pub marks: Vec<Mark>,
}

/// Rates are per second, as averages over the step. The others are the highest value within it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleHistory {
    pub name: String,
    pub received: Vec<Option<f32>>,
    pub published: Vec<Option<f32>>,
    pub rejected: Vec<Option<f32>>,
    pub lag_messages: Vec<Option<u64>>,
    pub lag_seconds: Vec<Option<f32>>,
    /// From when a message was stored in its source until it was settled.
    pub latency_p50_ms: Vec<Option<f32>>,
    pub latency_p99_ms: Vec<Option<f32>>,
}

/// Something that happened at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Mark {
    /// Newer marks have higher ones, also after a restart of the relay.
    pub id: u64,
    /// In seconds since 1970.
    pub time: f64,
    pub kind: MarkKind,
    /// `None` if it concerns the whole relay.
    pub module: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// A module runs for the first time.
    Started,
    /// Another version of a module took over.
    Swap,
    /// An earlier version of a module took over again.
    Rollback,
    /// New files of a module were refused.
    Refused,
    Halted,
    /// A module runs again after it was halted or had failed.
    Resumed,
    /// A module cannot run.
    Failed,
    NatsLost,
    NatsBack,
    /// Nothing can be published any more.
    CentrifugoLost,
    CentrifugoBack,
    /// A kind that this version does not know. No relay sends it.
    #[default]
    #[serde(other)]
    Unknown,
}

impl fmt::Display for MarkKind {
    /// Writes the word that the report uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The state of everything, and what has happened within the last second: the data of an event `sample`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LiveSample {
    /// In seconds since 1970.
    pub time: f64,
    pub status: Status,
    /// By the name of the module.
    pub samples: BTreeMap<String, ModuleSample>,
    /// Those that are new since the last event on the same connection. The first event has all of the last 15 minutes.
    pub marks: Vec<Mark>,
    /// All of it but the marks, once somebody needed it.
    #[serde(skip)]
    written: OnceLock<String>,
}

/// Rates are per second. What is unknown is `None`: the rates of a module that is new, and the latency if no message was
/// settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleSample {
    pub received: Option<f32>,
    pub published: Option<f32>,
    pub rejected: Option<f32>,
    pub lag_messages: Option<u64>,
    pub lag_seconds: Option<f32>,
    /// From when a message was stored in its source until it was settled.
    pub latency_p50_ms: Option<f32>,
    pub latency_p99_ms: Option<f32>,
}

impl LiveSample {
    pub(super) fn new(time: f64, status: Status, samples: BTreeMap<String, ModuleSample>) -> Self {
        Self {
            time,
            status,
            samples,
            ..Self::default()
        }
    }

    /// Returns the JSON of the sample with these marks. All but the marks is written once, for however many clients.
    pub fn with_marks(&self, marks: &[Mark]) -> String {
        #[derive(Serialize)]
        struct Shared<'a> {
            time: f64,
            status: &'a Status,
            samples: &'a BTreeMap<String, ModuleSample>,
        }
        let shared = self.written.get_or_init(|| {
            let mut text = json(&Shared {
                time: self.time,
                status: &self.status,
                samples: &self.samples,
            });
            // The marks come before the end of the object.
            text.pop();
            text
        });
        format!("{shared},\"marks\":{}}}", json(marks))
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("the report has only texts as keys")
}
