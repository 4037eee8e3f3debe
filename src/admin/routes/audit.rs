//! One log line for each command: what, by whom, and what came of it.

use tracing::info;

use super::super::guard::{Client, Granted};
use crate::modules::Verb;

/// A command that is being carried out. Dropping it logs that the client did not wait for the result.
#[derive(Debug)]
pub(super) struct Audit<'a> {
    verb: Verb,
    module: &'a str,
    client: Client,
    granted: Granted,
    ended: bool,
}

impl<'a> Audit<'a> {
    pub fn begin(verb: Verb, module: &'a str, client: Client, granted: Granted) -> Self {
        Self {
            verb,
            module,
            client,
            granted,
            ended: false,
        }
    }

    /// `text` is what the client is told.
    pub fn end(mut self, is_done: bool, text: &str) {
        self.ended = true;
        self.log(if is_done { "done" } else { "refused" }, text);
    }

    fn log(&self, result: &str, text: &str) {
        let command = match self.verb {
            Verb::Rollback => "rollback",
            Verb::Retry => "retry",
        };
        info!(
            target: "slipring::audit",
            command,
            module = self.module,
            client = %self.client.0,
            token = self.granted.token,
            result,
            reply = text,
            "a client sent a command"
        );
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.log("unknown", "none: the client did not wait for the result");
        }
    }
}
