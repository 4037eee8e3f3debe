//! What happens while a module is worked on.

use std::sync::Arc;

use crate::message::Message;

#[derive(Debug)]
pub(super) enum Event {
    /// Something happened in the folder.
    Hint,
    /// The stream is read from now on.
    Tapped,
    Message {
        message: Arc<Message>,
        /// Messages before it that there was no time for.
        skipped: u64,
    },
    /// The stream is not read.
    Trouble(String),
    Stop,
}
