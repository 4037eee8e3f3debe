//! Asks a relay what its version of a module makes of messages. Nothing is published.

use anyhow::Context;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::{COMMAND_TIMEOUT, Client, refusal};
use crate::admin::guard::COMMAND_HEADER;
use crate::json::{Kind, Published, Report, Sample};
use crate::message::Outcome;

/// What a version made of a message.
#[derive(Debug)]
pub struct Attempted {
    /// The name of the version.
    pub version: String,
    pub outcome: Outcome,
}

/// The fields of a report are among others.
#[derive(Deserialize)]
struct Reply {
    version: String,
    outcome: Kind,
    publications: Option<Vec<Published<'static>>>,
    code: Option<String>,
    channel: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Request<'a> {
    message: &'a Sample,
}

impl Reply {
    fn attempted(self) -> anyhow::Result<Attempted> {
        let report = Report {
            outcome: self.outcome,
            publications: self.publications,
            code: self.code.map(Into::into),
            channel: self.channel.map(Into::into),
            reason: self.reason.map(Into::into),
        };
        Ok(Attempted {
            version: self.version,
            outcome: report.into_outcome()?,
        })
    }
}

impl Client {
    /// Returns the last messages of a module, as many as the relay still has, the oldest first.
    pub fn last_messages(&self, module: &str, count: u64) -> anyhow::Result<Vec<Sample>> {
        let path = format!("api/v1/modules/{module}/messages?last={count}");
        let mut messages: Vec<Sample> = self.block_on(self.get(&path))?;
        messages.reverse();
        Ok(messages)
    }

    /// Returns what the running version makes of a message.
    pub fn attempt(&self, module: &str, message: &Sample) -> anyhow::Result<Attempted> {
        let url = self.path(&format!("api/v1/modules/{module}/try"))?;
        let body = serde_json::to_vec(&Request { message }).context("a message cannot be written as JSON")?;
        let request = self.client.post(url.clone()).header(COMMAND_HEADER, "1");
        let (status, said) = self.ask(&url, request.timeout(COMMAND_TIMEOUT).body(body))?;
        if status != StatusCode::OK {
            return Err(refusal(&url, status, &said));
        }
        let read = || {
            serde_json::from_str::<Reply>(&said)
                .map_err(anyhow::Error::from)?
                .attempted()
        };
        read().with_context(|| format!("the reply from {url} cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{relay, without_port};
    use super::*;
    use crate::admin::canned;

    fn sample() -> Sample {
        serde_json::from_str(r#"{"subject":"orders.7","data":{"id":7}}"#).unwrap()
    }

    #[test]
    fn an_attempt_is_an_outcome_again() {
        let publications = r#"[{"channels":["orders:7"],"data":{"id":7},"version":3,"tags":{"a":"b"}}]"#;
        let reply =
            format!(r#"{{"version":"3045-2a14","micros":9,"outcome":"publish","publications":{publications}}}"#);
        let (url, asked) = canned::answer("200 OK", reply.leak());
        let attempted = relay(&url, None).attempt("orders", &sample()).unwrap();
        assert_eq!(attempted.version, "3045-2a14");
        let again = serde_json::to_value(Report::of(&attempted.outcome)).unwrap();
        let expected: serde_json::Value = serde_json::from_str(publications).unwrap();
        assert_eq!(again["publications"], expected);
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "POST /api/v1/modules/orders/try HTTP/1.1");
        assert!(asked.iter().any(|line| line == "slipring-command: 1"), "{asked:?}");
    }

    #[test]
    fn a_module_that_does_not_run_is_told() {
        let (url, _) = canned::answer("409 Conflict", "orders does not run.\n");
        let error = relay(&url, None).attempt("orders", &sample()).unwrap_err();
        insta::assert_snapshot!(without_port(&url, &error), @"http://127.0.0.1:8787/api/v1/modules/orders/try returned 409 Conflict: orders does not run.");
    }
}
