//! Carries requests to Centrifugo over HTTP or GRPC and returns the results. [`slipring_core::publish`] decides what
//! goes into a request and what an answer means for it.
//!
//! [`write_body`] and [`read_replies`] are the formats that [`Client`] uses over HTTP. Outside, only
//! `benches/pieces.rs` uses them.

mod body;
mod centrifugo;
mod namespaces;
mod replies;

pub use self::body::write as write_body;
pub use self::centrifugo::{Client, ClientError, http_builder};
pub use self::namespaces::{Namespaces, UnknownNamespace};
#[cfg(any(test, fuzzing))]
pub(crate) use self::replies::fuzz;
pub use self::replies::{Unreadable, read as read_replies};
pub use slipring_core::publish::{Answer, Command, Concluded, HistoryPosition, Reply, Request, RequestId, Scheduler};
