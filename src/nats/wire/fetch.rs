//! Pulls from a consumer, one after the other.

use serde::Serialize;

use super::{Ended, Frame, Wire};

/// A consumer that is pulled from. What an earlier pull was sent never comes as an answer to a later one.
#[derive(Debug)]
pub struct Fetch {
    wire: Wire,
    subject: String,
}

/// What comes of a pull.
#[derive(Debug)]
pub enum Answer {
    Message(Frame),
    /// A code and its description. The pull has ended, unless the code is 100.
    Status(u16, String),
}

impl Fetch {
    pub fn new(wire: Wire, stream: &str, consumer: &str) -> Self {
        Self {
            wire,
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
        }
    }

    /// Asks, with a body of JSON.
    pub fn ask(&mut self, pull: &impl Serialize) -> serde_json::Result<()> {
        let body = serde_json::to_vec(pull)?;
        let inbox = self.wire.subscribe();
        self.wire.publish(&self.subject, &format!("{inbox}.0"), &body);
        Ok(())
    }

    /// May be dropped at any time without losing a message.
    pub async fn next(&mut self) -> Result<Answer, Ended> {
        let frame = self.wire.next().await?;
        let status = frame.status().map(|(code, description)| (code, description.to_owned()));
        Ok(match status {
            Some((code, description)) => Answer::Status(code, description),
            None => Answer::Message(frame),
        })
    }

    /// The connection, for somebody else.
    pub fn into_wire(self) -> Wire {
        self.wire
    }
}
