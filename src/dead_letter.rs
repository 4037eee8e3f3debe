//! What could not be published waits here for a person, with the reason, in a JetStream stream: how it is stored, and how it
//! is read again.

mod header;
mod letter;
mod parts;
mod read;
mod store;
mod tail;

pub use header::SUBJECT_PREFIX;
pub use letter::{Letter, Opened, Origin, Raw, Unfit};
pub use read::{ReadError, Reader, Scan};
pub use store::{DeadLetters, Sender, StoreError};
