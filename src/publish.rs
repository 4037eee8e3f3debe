//! Carries requests to Centrifugo, over HTTP or GRPC, and tells what became of them. What goes into a request, and what an answer means
//! for it, is decided in [`slipring_core::publish`].
//!
//! [`write_body`] and [`read_replies`] are what [`Client`] says and hears over HTTP; outside, only `benches/pieces.rs` asks for them.

mod body;
mod centrifugo;
mod replies;

pub use self::body::write as write_body;
pub use self::centrifugo::{Client, ClientError};
pub use self::replies::{Unreadable, read as read_replies};
pub use slipring_core::publish::{Answer, Command, Concluded, Position, Reply, Request, RequestId, Scheduler};
