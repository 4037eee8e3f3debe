//! Publishes messages that are commands for Centrifugo's API already, for services that used to post them there.
//!
//! A message is the body of `publish` or `broadcast` (`{"channel": "chat", "data": {…}}`, `{"channels": […], …}`), or names
//! the method beside it: `{"method": "publish", "payload": {…}}`, as Centrifugo's own consumers take it. What Centrifugo's
//! API takes beside channel and data is passed on as well.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use slipring_sdk::{Message, Output, Publication, Result, bail, transform};

/// The header with the method, if a field of a stream's entry names it.
const METHOD: &str = "method";

/// A command that names its method.
#[derive(Deserialize)]
struct Command<'a> {
    method: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// The older name of `payload`.
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// The body of `publish` or `broadcast`: <https://centrifugal.dev/docs/server/server_api#publishrequest>.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    #[serde(default)]
    skip_history: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    idempotency_key: Option<String>,
    #[serde(default)]
    delta: bool,
    version: Option<u64>,
    version_epoch: Option<String>,
}

#[transform]
fn pass_through(message: &Message) -> Result<Output> {
    let text = message.text()?;
    if let Some((_, method)) = message.headers.iter().find(|(name, _)| name == METHOD) {
        return publication(method, text);
    }
    let command: Command = serde_json::from_str(text)?;
    match (command.method, command.payload.or(command.params)) {
        (None, _) => publication("publish", text),
        (Some(method), Some(body)) => publication(&method, body.get()),
        (Some(method), None) => bail!("the command {method:?} has no `payload`"),
    }
}

fn publication(method: &str, body: &str) -> Result<Output> {
    if !matches!(method, "publish" | "broadcast") {
        bail!("the method is {method:?}, but only \"publish\" and \"broadcast\" become publications");
    }
    let body: Body = serde_json::from_str(body)?;
    let channels: Vec<String> = body.channel.into_iter().chain(body.channels).collect();
    if channels.is_empty() {
        bail!("the command names no channel: it needs `channel` or `channels`");
    }
    let mut publication = match (body.data, body.b64data) {
        (Some(data), None) => Publication::json_text(channels, data.get()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Publication::binary(channels, bytes),
            Err(error) => bail!("`b64data` is not base64: {error}"),
        },
        (Some(_), Some(_)) => bail!("the command has both `data` and `b64data`"),
        (None, None) => bail!("the command has no `data`"),
    };
    for (name, value) in body.tags {
        publication = publication.tag(name, value);
    }
    if let Some(key) = body.idempotency_key {
        publication = publication.idempotency_key(key);
    }
    if let Some(version) = body.version {
        publication = publication.version(version);
    }
    if let Some(epoch) = body.version_epoch {
        publication = publication.version_epoch(epoch);
    }
    Ok(publication.delta(body.delta).skip_history(body.skip_history).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(payload: &str) -> Result<Output> {
        pass_through(&Message::new("centrifugo.publish", payload))
    }

    #[test]
    fn a_command_becomes_its_publication() -> Result<()> {
        let chat = Publication::json_text("chat", r#"{"input": "test"}"#);
        for command in [
            r#"{"channel": "chat", "data": {"input": "test"}}"#,
            r#"{"method": "publish", "payload": {"channel": "chat", "data": {"input": "test"}}}"#,
            r#"{"method": "publish", "params": {"channel": "chat", "data": {"input": "test"}}}"#,
        ] {
            assert_eq!(made(command)?, chat.clone().into(), "{command}");
        }
        let all = made(
            r#"{"channels": ["a", "b"], "b64data": "AQI=", "tags": {"k": "v"}, "idempotency_key": "once", "delta": true,
                "skip_history": true, "version": 3, "version_epoch": "e"}"#,
        )?;
        let expected = Publication::binary(["a", "b"], [1, 2])
            .tag("k", "v")
            .idempotency_key("once")
            .version(3)
            .version_epoch("e")
            .delta(true)
            .skip_history(true);
        assert_eq!(all, expected.into());
        Ok(())
    }

    #[test]
    fn what_is_no_publication_says_why() {
        for (command, reason) in [
            (
                r#"{"data": 1}"#,
                "the command names no channel: it needs `channel` or `channels`",
            ),
            (r#"{"channel": "chat"}"#, "the command has no `data`"),
            (
                r#"{"channel": "chat", "data": 1, "b64data": ""}"#,
                "the command has both `data` and `b64data`",
            ),
            (
                r#"{"method": "disconnect", "payload": {"user": "1"}}"#,
                "the method is \"disconnect\", but only \"publish\" and \"broadcast\" become publications",
            ),
            (r#"{"method": "publish"}"#, "the command \"publish\" has no `payload`"),
        ] {
            assert_eq!(made(command).unwrap_err().to_string(), reason);
        }
        assert!(made("no JSON").is_err());
        // A typing error must not go unnoticed.
        assert!(made(r#"{"channel": "chat", "data": 1, "skip_hist": true}"#).is_err());
    }
}
