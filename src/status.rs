//! The state of the relay and its modules. The running parts write it on the board and count in the metrics; others
//! read the report. Nothing here knows HTTP, which is in `admin`.

mod board;
mod health;
mod history;
mod metrics;
mod progress;
mod report;
mod version;

pub use board::{Addresses, ModuleBoard, RunningVersion, StatusBoard};
pub use health::{Finding, Kind, Severity};
pub use history::{History, HistoryReport, LiveSample, Mark, MarkKind, ModuleHistory, ModuleSample};
pub use metrics::{AdminRequests, Format, Metrics, ModuleMetrics};
pub use progress::{Consumer, INTERVAL};
pub use report::{
    Backlog, CentrifugoStatus, KnownVersion, MemoryStatus, ModuleStatus, NatsStatus, RejectionStatus, RolledBack,
    State, Status, Trial, VersionStatus, Versions,
};
pub use version::version_name;
