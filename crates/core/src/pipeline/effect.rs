//! What a pipeline wants done, and what there is to say.

use std::sync::Arc;
use std::time::Duration;

use crate::load::Load;
use crate::message::{Message, Rejection};
use crate::publish::Stuck;
use crate::window::Ticket;

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect<R> {
    Ack(R),
    InProgress(R),
    /// Comes back as [`Flow::dead_lettered`](super::Flow::dead_lettered). With the load of the module that rejected the message, or
    /// made of it what Centrifugo refused.
    DeadLetter(Ticket, Arc<Message>, Rejection, Load),
    /// Centrifugo refused for good what this load of the module made of the message.
    Refused(Arc<Message>, Rejection, Load),
    /// The run ends, to begin afresh.
    Renew(String),
    /// The run ends, until there is another load of the module than this one.
    Halt(String, Load),
    /// Somebody may want to read this.
    Say(Notice),
}

/// What there is to say, no more often than a person can read it.
#[derive(Debug)]
pub enum Notice {
    /// A message was rejected; so many of its kind were not told of since the last one.
    Rejected {
        message: Arc<Message>,
        rejection: Rejection,
        not_logged: u64,
    },
    /// A publication of this message is never answered, while others are.
    Stuck { message: Arc<Message>, stuck: Stuck },
    /// Messages were left out for their age.
    Expired {
        messages: u64,
        youngest: Duration,
        oldest: Duration,
    },
    /// Publishing pauses for this reason, or goes on.
    Trouble(Option<String>),
}
