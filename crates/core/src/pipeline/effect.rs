//! What a pipeline wants its caller to do or to report.

use std::sync::Arc;
use std::time::Duration;

use crate::load::Load;
use crate::message::{Message, Rejection};
use crate::publish::Stuck;
use crate::window::Ticket;

/// An action for the caller. Effects have to be carried out in order.
#[derive(Debug)]
pub enum Effect<R> {
    Ack(R),
    InProgress(R),
    /// The caller stores the message and then calls [`Flow::dead_lettered`](super::Flow::dead_lettered). The load is
    /// the one that rejected the message, or that made the publication that Centrifugo refused.
    DeadLetter(Ticket, Arc<Message>, Rejection, Load),
    /// Centrifugo permanently refused a publication that this load made of the message.
    Refused(Arc<Message>, Rejection, Load),
    /// The run ends, and a new one starts.
    Renew(String),
    /// The run ends, and the pipeline waits for a load other than this one.
    Halt(String, Load),
    /// Something to log.
    Say(Notice),
}

/// A notice for people, limited in rate.
#[derive(Debug)]
pub enum Notice {
    /// A message was rejected. `not_logged` counts the rejections of this kind that had no notice since the last one.
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
    /// The reason why publishing pauses, or `None` once it goes on.
    Trouble(Option<String>),
}
