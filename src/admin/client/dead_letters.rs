//! Looks at a dead letter of a relay, and has the relay publish it.

use std::io;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use slipring_core::place::Place;

use super::{COMMAND_TIMEOUT, Client, refusal};
use crate::admin::guard::COMMAND_HEADER;
use crate::message::{Message, UNREADABLE};

/// A letter in parts takes a scan of the stream.
const LOOKING: Duration = Duration::from_secs(60);

/// A dead letter as the relay shows it.
#[derive(Debug, Deserialize)]
pub struct DeadLetter {
    pub module: String,
    pub stage: String,
    pub code: String,
    pub reason: String,
    subject: Option<String>,
    stream: Option<String>,
    sequence: Option<Sequence>,
    /// `None` if the relay does not know the whole message.
    timestamp: Option<String>,
    headers: Vec<(String, String)>,
    payload: Option<String>,
    payload_base64: Option<String>,
    truncated: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Sequence {
    Number(u64),
    Id(String),
}

/// How a replay ended.
#[derive(Debug, Deserialize)]
pub struct Replayed {
    /// The relay has come to the end of the letters.
    pub ok: bool,
    /// A line for people.
    pub text: String,
    /// The letters that were rejected again.
    pub failures: Vec<Rejected>,
}

#[derive(Debug, Deserialize)]
pub struct Rejected {
    pub number: u64,
    pub reason: String,
}

#[derive(Deserialize)]
struct Progress {
    paused: Option<String>,
}

impl DeadLetter {
    /// Returns the message as the module first got it.
    pub fn message(&self) -> anyhow::Result<Message> {
        ensure!(!self.truncated, "it is longer than the relay sends");
        ensure!(self.code != UNREADABLE, "no module can read it: {}", self.reason);
        let whole = (&self.subject, &self.stream, &self.sequence, &self.timestamp);
        let (Some(subject), Some(stream), Some(sequence), Some(timestamp)) = whole else {
            bail!("the relay does not know the whole message");
        };
        let place = match sequence {
            Sequence::Number(number) => Place::from(*number),
            Sequence::Id(id) => id.parse().ok().with_context(|| format!("{id:?} is no ID"))?,
        };
        let payload = match (&self.payload, &self.payload_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).context("its payload is not base64")?,
            _ => bail!("it has no payload, or two"),
        };
        let timestamp: jiff::Timestamp = timestamp.parse().context("its time cannot be read")?;
        Ok(Message {
            headers: self.headers.clone(),
            timestamp: u64::try_from(timestamp.as_nanosecond()).context("its time is before 1970")?,
            ..Message::new(stream, place, subject.clone(), payload)
        })
    }
}

impl Client {
    /// Returns the dead letter with this number, or `None` if there is none.
    pub fn dead_letter(&self, number: u64) -> anyhow::Result<Option<DeadLetter>> {
        let url = self.path(&format!("api/v1/dead-letters/{number}"))?;
        let (status, body) = self.ask(&url, self.client.get(url.clone()).timeout(LOOKING))?;
        match status {
            StatusCode::OK => {
                let letter = serde_json::from_str(&body);
                letter
                    .map(Some)
                    .with_context(|| format!("the reply from {url} cannot be read"))
            }
            // Another server would not say that.
            StatusCode::NOT_FOUND if body.contains("no dead letter") => Ok(None),
            _ => Err(refusal(&url, status, &body)),
        }
    }

    /// Publishes a dead letter through the running version of its module. `tell` learns why nothing is published, and that it
    /// goes on. The relay stops when this client leaves.
    pub fn replay(
        &self,
        number: u64,
        mut tell: impl FnMut(Option<&str>) -> io::Result<()>,
    ) -> anyhow::Result<Replayed> {
        let url = self.path("api/v1/dead-letters/replay")?;
        let request = self.client.post(url.clone()).header(COMMAND_HEADER, "1");
        let request = request.body(format!("{{\"numbers\":[{number}]}}"));
        self.block_on(async {
            let mut events = self.stream(url.clone(), request, COMMAND_TIMEOUT).await?;
            let unreadable = || format!("the events from {url} cannot be read");
            let mut paused = None;
            while let Some(event) = events.next().await? {
                match event.name.as_str() {
                    "progress" => {
                        let progress: Progress = serde_json::from_str(&event.data).with_context(unreadable)?;
                        if progress.paused != paused {
                            tell(progress.paused.as_deref())?;
                            paused = progress.paused;
                        }
                    }
                    "end" => return serde_json::from_str(&event.data).with_context(unreadable),
                    _ => {}
                }
            }
            bail!("the relay at {url} has not told how the replay ended")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{relay, without_port};
    use super::*;
    use crate::admin::canned;

    const LETTER: &str = r#"{"number":17,"stored":"1970-01-01T00:00:00Z","module":"orders","stage":"transform","code":"rejected","reason":"no","channel":null,"subject":"orders.7","stream":"ORDERS","sequence":42,"size":8,"sha256":"","headers":[["Trace","1"]],"payload":"{\"id\":7}","payload_base64":null,"truncated":false,"timestamp":"1970-01-01T00:00:01Z","now":null,"problem":"it does not run"}"#;

    fn letter(json: &str) -> DeadLetter {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_letter_becomes_the_message_again() {
        let expected = Message {
            headers: vec![("Trace".to_owned(), "1".to_owned())],
            timestamp: 1_000_000_000,
            ..Message::new("ORDERS", 42, "orders.7", r#"{"id":7}"#)
        };
        assert_eq!(letter(LETTER).message().unwrap(), expected);
        let of_redis = LETTER.replace("\"sequence\":42", "\"sequence\":\"7-1\"");
        assert_eq!(letter(&of_redis).message().unwrap().place.to_string(), "7-1");
        let bytes = LETTER.replace(
            r#""payload":"{\"id\":7}","payload_base64":null"#,
            r#""payload":null,"payload_base64":"/w==""#,
        );
        assert_eq!(letter(&bytes).message().unwrap().payload, &b"\xff"[..]);
    }

    #[test]
    fn a_part_of_a_message_is_no_message() {
        for (from, to, words) in [
            (
                "\"truncated\":false",
                "\"truncated\":true",
                "longer than the relay sends",
            ),
            (
                "\"code\":\"rejected\"",
                "\"code\":\"unreadable\"",
                "no module can read it",
            ),
            (
                "\"timestamp\":\"1970-01-01T00:00:01Z\"",
                "\"timestamp\":null",
                "does not know the whole message",
            ),
        ] {
            let error = letter(&LETTER.replace(from, to)).message().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_letter_that_is_gone_is_no_error_but_another_server_is() {
        let (url, asked) = canned::answer("404 Not Found", "there is no dead letter 17 in SLIPRING_DEAD_LETTERS\n");
        assert!(relay(&url, Some("hunter2")).dead_letter(17).unwrap().is_none());
        assert_eq!(asked.join().unwrap()[0], "GET /api/v1/dead-letters/17 HTTP/1.1");
        let (url, _) = canned::answer("404 Not Found", "404 page not found\n");
        let error = relay(&url, None).dead_letter(17).unwrap_err();
        insta::assert_snapshot!(without_port(&url, &error), @"http://127.0.0.1:8787/api/v1/dead-letters/17 returned 404 Not Found: 404 page not found");
        let (url, _) = canned::answer("200 OK", LETTER);
        assert_eq!(relay(&url, None).dead_letter(17).unwrap().unwrap().module, "orders");
    }

    #[test]
    fn a_replay_that_is_refused_says_why() {
        let (url, asked) = canned::answer("409 Conflict", "Another replay is running.\n");
        let error = relay(&url, None).replay(17, |_| Ok(())).unwrap_err();
        insta::assert_snapshot!(without_port(&url, &error), @"http://127.0.0.1:8787/api/v1/dead-letters/replay returned 409 Conflict: Another replay is running.");
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "POST /api/v1/dead-letters/replay HTTP/1.1");
        assert!(asked.iter().any(|line| line == "slipring-command: 1"), "{asked:?}");
    }
}
