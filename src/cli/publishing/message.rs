//! The message to send, from the command line or from a case.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::super::case::{self, Case};
use crate::message::Message;

#[derive(Debug)]
pub struct Outgoing {
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl Outgoing {
    pub fn new(subject: String, payload: Vec<u8>) -> Self {
        Self {
            subject,
            headers: HeaderMap::new(),
            payload: payload.into(),
        }
    }

    /// Takes the message of a case, with another subject if one is given.
    pub fn of_case(file: &Path, other_subject: Option<&str>) -> anyhow::Result<Self> {
        let metadata = file.metadata();
        if metadata.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Err(no_case(file));
        }
        let mut message = Case::read(file, "")?.message;
        if let Some(subject) = other_subject {
            subject.clone_into(&mut message.subject);
        }
        Self::of_message(&message).with_context(|| file.display().to_string())
    }

    /// Takes the subject, the headers and the payload of a message.
    pub fn of_message(message: &Message) -> anyhow::Result<Self> {
        if let Some(unreadable) = &message.unreadable {
            bail!("a message like this cannot be sent: {}", unreadable.reason);
        }
        let mut outgoing = Self {
            subject: subject(&message.subject).map_err(|wrong| anyhow!(wrong))?.to_owned(),
            headers: HeaderMap::new(),
            payload: message.payload.clone(),
        };
        for (name, value) in &message.headers {
            outgoing.add(name, value).map_err(|wrong| anyhow!(wrong))?;
        }
        Ok(outgoing)
    }

    /// Adds a header in the form `Name: value`.
    pub fn add_header(&mut self, header: &str) -> Result<(), String> {
        match header.split_once(':') {
            Some((name, value)) => self.add(name.trim(), value.trim()),
            None => Err(format!("the header {header:?} must have the form 'Name: value'")),
        }
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let valid_name: HeaderName = name
            .parse()
            .map_err(|_| format!("the header name {name:?} must be ASCII without spaces and colons"))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| format!("the value of the header {name:?} must be in one line"))?;
        self.headers.append(valid_name, value);
        Ok(())
    }
}

/// Returns the subject if a message can have it. The error is a sentence.
pub fn subject(subject: &str) -> Result<&str, String> {
    let is_token = |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control());
    if subject.split('.').any(|token| matches!(token, "*" | ">")) {
        return Err(format!(
            "the subject {subject:?} has a wildcard; a message goes to one subject, such as orders.7"
        ));
    }
    match subject.split('.').all(is_token) {
        true => Ok(subject),
        false => Err(format!(
            "the subject {subject:?} must be words separated by dots, without spaces, such as orders.7"
        )),
    }
}

fn no_case(file: &Path) -> anyhow::Error {
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (case, shown) = (file.display(), dir.display());
    if !dir.is_dir() {
        return anyhow!(
            "there is no case {case}: there is no folder {shown}. Run this in the module's folder, or name the case's file"
        );
    }
    let others = case::list(dir).unwrap_or_default();
    let names: Vec<String> = others.iter().map(|file| case::name(file)).collect();
    let there = match names.is_empty() {
        true => "no cases".to_owned(),
        false => names.join(", "),
    };
    anyhow!("there is no case {case}: {shown} has {there}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_message_goes_to_one_subject() {
        assert_eq!(subject("orders.7"), Ok("orders.7"));
        assert_eq!(subject("a.b*c"), Ok("a.b*c"));
        for wrong in ["", "a..b", ".a", "a b", "orders.*", "orders.>"] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let mut outgoing = Outgoing::new("a".to_owned(), Vec::new());
        outgoing.add_header("Nats-Msg-Id: 7: paid ").unwrap();
        outgoing.add_header("Trace:1").unwrap();
        outgoing.add_header("Trace:2").unwrap();
        let values = |name: &str| {
            outgoing
                .headers
                .get_all(name)
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(values("Nats-Msg-Id"), ["7: paid"]);
        assert_eq!(values("Trace"), ["1", "2"]);
        let wrong = ["no colon", "a b: 1", "A: 1\n2"].map(|header| outgoing.add_header(header).unwrap_err());
        assert_snapshot!(wrong.join("\n"), @r#"
        the header "no colon" must have the form 'Name: value'
        the header name "a b" must be ASCII without spaces and colons
        the value of the header "A" must be in one line
        "#);
    }

    #[test]
    fn a_case_is_sent_with_its_headers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("paid.json");
        let text = r#"{"message":{"subject":"shop.7","data":{"id":7},"headers":{"A":["1","2"]}}}"#;
        fs::write(&file, text).unwrap();
        let outgoing = Outgoing::of_case(&file, None).unwrap();
        assert_eq!(
            (outgoing.subject.as_str(), &outgoing.payload[..]),
            ("shop.7", &b"{\"id\":7}"[..])
        );
        assert_eq!(outgoing.headers.get_all("A").count(), 2);
        assert_eq!(Outgoing::of_case(&file, Some("shop.8")).unwrap().subject, "shop.8");
        let error = Outgoing::of_case(&dir.path().join("piad.json"), None)
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("has paid"), "{error}");
    }
}
