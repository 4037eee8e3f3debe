//! Sends pulls to a consumer, one at a time.

use super::{Ended, Frame, PullRequest, Wire};

/// A consumer with its connection. Replies to an earlier pull are never taken for replies to a later one.
#[derive(Debug)]
pub struct Fetch {
    wire: Wire,
    subject: String,
}

/// The reply to a pull.
#[derive(Debug)]
pub enum Answer {
    Message(Frame),
    /// A code and its description. The pull has ended, unless the code is 100.
    Status(u16, String),
}

impl Fetch {
    /// Pulls with this subject: see [`Nats::pull_subject`](crate::nats::Nats::pull_subject).
    pub fn new(wire: Wire, subject: String) -> Self {
        Self { wire, subject }
    }

    /// Sends a pull.
    pub fn ask(&mut self, pull: &PullRequest<'_>) -> serde_json::Result<()> {
        let body = serde_json::to_vec(pull)?;
        let inbox = self.wire.subscribe();
        self.wire.publish(&self.subject, &format!("{inbox}.0"), &body);
        Ok(())
    }

    /// Returns the next reply. Cancel-safe.
    pub async fn next(&mut self) -> Result<Answer, Ended> {
        let frame = self.wire.next().await?;
        let status = frame.status().map(|(code, description)| (code, description.to_owned()));
        Ok(match status {
            Some((code, description)) => Answer::Status(code, description),
            None => Answer::Message(frame),
        })
    }

    /// Returns the connection.
    pub fn into_wire(self) -> Wire {
        self.wire
    }
}
