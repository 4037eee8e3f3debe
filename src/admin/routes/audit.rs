//! One log line for each command: what, by whom, and what came of it.

use tracing::info;

use super::super::guard::{Client, Granted};

/// A command that is being carried out. Dropping it logs that the client did not wait for the result.
#[derive(Debug)]
pub(super) struct Audit<'a> {
    command: &'static str,
    module: Option<&'a str>,
    /// Which dead letters the command is about.
    letters: Option<String>,
    client: Client,
    granted: Granted,
    ended: bool,
}

impl<'a> Audit<'a> {
    pub fn begin(command: &'static str, module: &'a str, client: Client, granted: Granted) -> Self {
        Self {
            command,
            module: Some(module),
            letters: None,
            client,
            granted,
            ended: false,
        }
    }

    pub fn of_letters(command: &'static str, letters: String, client: Client, granted: Granted) -> Self {
        Self {
            command,
            module: None,
            letters: Some(letters),
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
        info!(
            target: "slipring::audit",
            command = self.command,
            module = self.module,
            letters = self.letters,
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
