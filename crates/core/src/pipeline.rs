//! A pipeline: from a delivery to its acknowledgement, and from its start to its stop.

mod conflate;
mod counters;
mod effect;
mod expired;
mod flow;
mod patience;
mod rejects;
pub mod run;
mod settings;
mod supervision;
mod weight;

pub use self::counters::{Counters, Gauges};
pub use self::effect::{Effect, Notice};
pub use self::flow::{Budget, Flow, PROGRESS_INTERVAL, Transformed};
pub use self::settings::{OnReject, Settings};
pub use self::supervision::{Next, Supervision};
pub use self::weight::{of_outcome, of_waiting};
