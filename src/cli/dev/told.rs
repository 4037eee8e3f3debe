//! What a module made of a message, in few lines.

use super::super::terminal::columns;
use super::layout::{compact, pretty};
use crate::message::{Body, Outcome, Publication};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Published(Vec<Published>),
    Dropped,
    Rejected { code: String, reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The channels, the version, and what else is set.
    head: String,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    /// Without spaces between its parts.
    Json(String),
    Bytes(usize),
}

/// The most channels that are named. A case has all of them.
const CHANNELS: usize = 5;

impl Told {
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Publish(publications) => Self::Published(publications.iter().map(Published::of).collect()),
            Outcome::Drop => Self::Dropped,
            Outcome::Reject(rejection) => Self::Rejected {
                code: rejection.code.to_string(),
                reason: match &rejection.channel {
                    Some(channel) => format!("{channel}: {}", rejection.reason),
                    None => rejection.reason.clone(),
                },
            },
        }
    }

    /// Returns one line for each publication that fits in `width` columns. A longer one has its data on lines below.
    pub fn lines(&self, width: u16) -> Vec<String> {
        match self {
            Self::Published(publications) => publications.iter().flat_map(|one| one.lines(width)).collect(),
            Self::Dropped => vec!["dropped".to_owned()],
            Self::Rejected { code, reason } => vec![format!("rejected ({code}): {reason}")],
        }
    }

    /// Says in few words what happened.
    pub fn brief(&self) -> String {
        match self {
            Self::Published(publications) => match publications.as_slice() {
                [one] => one.head.clone(),
                many => format!("{} publications", many.len()),
            },
            Self::Dropped => "dropped".to_owned(),
            Self::Rejected { code, reason } if code == "rejected" => format!("rejected: {reason}"),
            Self::Rejected { code, reason } => format!("rejected ({code}): {reason}"),
        }
    }
}

impl Published {
    fn of(publication: &Publication) -> Self {
        let named: Vec<&str> = publication.channels.iter().take(CHANNELS).map(AsRef::as_ref).collect();
        let mut head = named.join(", ");
        let more = publication.channels.len() - named.len();
        if more > 0 {
            head.push_str(&format!(" and {more} more"));
        }
        let mut add = |text: String| {
            head.push_str("  ");
            head.push_str(&text);
        };
        if let Some(version) = publication.version {
            add(format!("v{version}"));
        }
        if let Some(epoch) = &publication.version_epoch {
            add(format!("epoch {epoch}"));
        }
        if let Some(key) = &publication.idempotency_key {
            add(format!("key {key}"));
        }
        for (name, value) in &publication.tags {
            add(format!("{name}={value}"));
        }
        if publication.delta {
            add("delta".to_owned());
        }
        if publication.skip_history {
            add("no history".to_owned());
        }
        Self {
            head,
            data: match &publication.body {
                Body::Json(json) => Data::Json(compact(json.get())),
                Body::Binary(bytes) => Data::Bytes(bytes.len()),
            },
        }
    }

    fn lines(&self, width: u16) -> Vec<String> {
        let json = match &self.data {
            Data::Json(json) => json,
            Data::Bytes(1) => return vec![format!("{}  1 byte", self.head)],
            Data::Bytes(count) => return vec![format!("{}  {count} bytes", self.head)],
        };
        let line = format!("{}  {json}", self.head);
        if columns(&line) <= width {
            return vec![line];
        }
        let below = pretty(json);
        let below = below.lines().map(|line| format!("  {line}"));
        std::iter::once(self.head.clone()).chain(below).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::message::{Rejection, Stage};

    fn publication(json: &str) -> Publication {
        let json = RawValue::from_string(json.to_owned()).unwrap();
        Publication {
            version: Some(24_023_128),
            ..Publication::new(vec!["shop:17".into()], Body::Json(json))
        }
    }

    #[test]
    fn a_publication_is_one_line_if_it_fits() {
        let told = Told::of(&Outcome::Publish(vec![publication("{\"status\": \"paid\", \"a\": 1}")]));
        let line = "shop:17  v24023128  {\"status\":\"paid\",\"a\":1}";
        assert_eq!(told.lines(u16::MAX), [line]);
        assert_eq!(told.lines(43), [line]);
        let below = [
            "shop:17  v24023128",
            "  {",
            "    \"status\": \"paid\",",
            "    \"a\": 1",
            "  }",
        ];
        assert_eq!(told.lines(42), below);
        assert_eq!(told.brief(), "shop:17  v24023128");
    }

    #[test]
    fn everything_that_is_set_is_told() {
        let channels = (1..=7).map(|number| format!("a:{number}").into()).collect();
        let full = Publication {
            version: Some(1),
            version_epoch: Some("e".to_owned()),
            tags: vec![("mark".to_owned(), "new".to_owned())],
            idempotency_key: Some("k".to_owned()),
            delta: true,
            skip_history: true,
            ..Publication::new(channels, Body::Binary(vec![1, 2]))
        };
        let told = Told::of(&Outcome::Publish(vec![full.clone(), full]));
        let line = "a:1, a:2, a:3, a:4, a:5 and 2 more  v1  epoch e  key k  mark=new  delta  no history  2 bytes";
        assert_eq!(told.lines(10), [line, line]);
        assert_eq!(told.brief(), "2 publications");
    }

    #[test]
    fn drops_and_rejections_have_a_line() {
        assert_eq!(Told::of(&Outcome::Drop).lines(80), ["dropped"]);
        let rejection = |code: &'static str| {
            Told::of(&Outcome::Reject(Rejection {
                stage: Stage::Transform,
                code: code.into(),
                channel: None,
                reason: "no id".to_owned(),
            }))
        };
        assert_eq!(rejection("json").lines(80), ["rejected (json): no id"]);
        assert_eq!(rejection("json").brief(), "rejected (json): no id");
        assert_eq!(rejection("rejected").brief(), "rejected: no id");
    }
}
