//! The events while a module is being developed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::units::Tested;
use crate::message::Message;

#[derive(Debug)]
pub enum Event {
    /// Something happened in the folder.
    Hint,
    /// A build has ended. `None` if it was stopped.
    Built {
        result: anyhow::Result<Option<()>>,
        took: Duration,
    },
    /// The unit tests of this round have ended.
    Tested {
        round: u64,
        tested: Tested,
    },
    /// The stream is being read from now on.
    Tapped,
    Message {
        message: Arc<Message>,
        /// Messages before this one that were skipped for lack of time.
        skipped: u64,
    },
    /// The stream cannot be read.
    Trouble(String),
    Order(Order),
    /// An order of somebody who waits for the answer: whether it was done, or why not.
    Asked {
        order: Order,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// A message was published, or not.
    Published(anyhow::Result<String>),
    Stop,
}

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Build and run everything again.
    Run,
    /// Let a case expect what the module makes of it now.
    Accept { name: String },
    /// Run a message that was pasted or edited.
    Try { name: String, text: String },
    /// Make a case of a message.
    Save { name: String, text: String },
    /// Send a message to the stream.
    Publish { text: String },
    /// Run the unit tests with each build, or do not.
    Units(bool),
}
