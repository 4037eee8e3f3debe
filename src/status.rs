//! The state of the relay and its modules. The running parts write it on the board and count in the metrics; others
//! read the report. Nothing here knows HTTP, which is in `admin`.

mod board;
mod health;
mod metrics;
mod progress;
mod report;

pub use board::{ModuleBoard, RunningVersion, StatusBoard};
pub use health::{Finding, Kind, Severity};
pub use metrics::{AdminRequests, Format, Metrics, ModuleMetrics};
pub use progress::{Consumer, INTERVAL};
pub use report::{
    Backlog, CentrifugoStatus, MemoryStatus, ModuleStatus, NatsStatus, RolledBack, State, Status, VersionStatus,
};
