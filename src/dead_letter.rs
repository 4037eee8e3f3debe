//! Dead letters: messages that could not be published. They wait for a person in a stream of JetStream or of Redis, each
//! with its reason. This part stores them and reads them again.

mod header;
mod letter;
mod parts;
mod read;
#[cfg(feature = "redis")]
mod redis;
mod remove;
mod select;
mod servers;
mod store;
mod tail;

pub use header::SUBJECT_PREFIX;
#[cfg(any(test, fuzzing))]
pub(crate) use letter::fuzz;
pub use letter::{Letter, Opened, Origin, Raw, Unfit};
pub use read::{ReadError, Reader, Scan};
pub use remove::remove_all;
pub use select::{Filter, Found, Reason, Selection};
pub use servers::{OpenError, Servers, Session};
pub use store::{DeadLetters, Home, Sender, StoreError};

/// Formats a count: `1 dead letter`, `2 dead letters`.
pub fn count(letters: usize) -> String {
    match letters {
        1 => "1 dead letter".to_owned(),
        _ => format!("{letters} dead letters"),
    }
}
