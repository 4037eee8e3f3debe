//! The state of the relay and its modules. The running parts write it on the board and count in the metrics; others
//! read the report. Nothing here knows HTTP, which is in `admin`.

mod board;
mod metrics;
mod report;

pub use board::{AtWork, ModuleBoard, StatusBoard};
pub use metrics::{AdminRequests, CONTENT_TYPE, Metrics, ModuleMetrics};
pub use report::{CentrifugoStatus, MemoryStatus, ModuleStatus, NatsStatus, RolledBack, State, Status, VersionStatus};
