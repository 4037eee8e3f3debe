//! Dead letters: messages that could not be published. They wait for a person in a stream of JetStream or of Redis, each
//! with its reason. This part stores them and reads them again.

mod header;
mod letter;
mod parts;
mod read;
#[cfg(feature = "redis")]
mod redis;
mod store;
mod tail;

pub use header::SUBJECT_PREFIX;
#[cfg(any(test, fuzzing))]
pub(crate) use letter::fuzz;
pub use letter::{Letter, Opened, Origin, Raw, Unfit};
pub use read::{ReadError, Reader, Scan};
pub use store::{DeadLetters, Home, Sender, StoreError};
