//! The events while a module is being developed.

use std::sync::Arc;

use crate::message::Message;

#[derive(Debug)]
pub(super) enum Event {
    /// Something happened in the folder.
    Hint,
    /// The stream is being read from now on.
    Tapped,
    Message {
        message: Arc<Message>,
        /// Messages before this one that were skipped for lack of time.
        skipped: u64,
    },
    /// The stream cannot be read.
    Trouble(String),
    Stop,
}
