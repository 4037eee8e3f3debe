//! How the relay and its modules are: the running parts write it on the board and count it in the metrics, and the report is what
//! others read. It knows nothing of HTTP, which `admin` speaks.

mod board;
mod metrics;
mod report;

pub use board::{AtWork, ModuleBoard, StatusBoard};
pub use metrics::{CONTENT_TYPE, Metrics, ModuleMetrics};
pub use report::{CentrifugoStatus, MemoryStatus, ModuleStatus, NatsStatus, RolledBack, State, Status, VersionStatus};
