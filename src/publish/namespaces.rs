//! The namespaces of channels. Centrifugo refuses every publication on a channel whose namespace is not in its
//! configuration, so it is worth asking before the first one.

use std::collections::BTreeMap;
use std::fmt;

use crate::message::{Outcome, Publication};

/// The error of Centrifugo for a channel whose namespace it does not know.
pub(super) const UNKNOWN_CHANNEL: u32 = 102;

/// The namespaces that some publications use, each with one of their channels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces(BTreeMap<String, String>);

/// A namespace that Centrifugo does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownNamespace {
    pub name: String,
    /// A channel that a module publishes to.
    pub channel: String,
}

impl Namespaces {
    pub fn of(outcome: &Outcome) -> Self {
        let mut namespaces = Self::default();
        if let Outcome::Publish(publications) = outcome {
            namespaces.add(publications);
        }
        namespaces
    }

    pub fn add(&mut self, publications: &[Publication]) {
        for channel in publications.iter().flat_map(|publication| &publication.channels) {
            if let Some(name) = namespace(channel)
                && !self.0.contains_key(name)
            {
                self.0.insert(name.to_owned(), channel.to_string());
            }
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns those that are not in the other.
    pub fn without(mut self, other: &Self) -> Self {
        self.0.retain(|name, _| !other.0.contains_key(name));
        self
    }

    pub fn extend(&mut self, other: Self) {
        for (name, channel) in other.0 {
            self.0.entry(name).or_insert(channel);
        }
    }

    pub(super) fn channels(&self) -> Vec<&str> {
        self.0.values().map(String::as_str).collect()
    }

    /// Returns those for which Centrifugo gave this error. The errors are in the order of [`channels`](Self::channels).
    pub(super) fn unknown(&self, errors: &[Option<u32>]) -> Vec<UnknownNamespace> {
        let unknown = self.0.iter().zip(errors);
        let unknown = unknown.filter(|(_, error)| **error == Some(UNKNOWN_CHANNEL));
        unknown
            .map(|((name, channel), _)| UnknownNamespace {
                name: name.clone(),
                channel: channel.clone(),
            })
            .collect()
    }
}

impl fmt::Display for UnknownNamespace {
    /// Writes a sentence that says what to change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, channel } = self;
        write!(
            f,
            "Centrifugo has no namespace `{name}` for the channel `{channel}`: add {{\"name\": \"{name}\"}} to \
             `channel.namespaces` in its configuration"
        )
    }
}

/// Returns the namespace of a channel, with Centrifugo's default for the character after it. A channel without one uses
/// settings that always exist. A `$` before the name is not part of it.
pub fn namespace(channel: &str) -> Option<&str> {
    let (name, _) = channel.split_once(':')?;
    Some(name.strip_prefix('$').unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;

    fn published(channels: &[&str]) -> Outcome {
        let channels = channels.iter().map(|channel| (*channel).into()).collect();
        Outcome::Publish(vec![Publication::new(channels, Body::Binary(Vec::new()))])
    }

    #[test]
    fn a_namespace_is_what_precedes_the_colon() {
        for (channel, expected) in [
            ("shop:17", Some("shop")),
            ("$shop:17", Some("shop")),
            ("shop:a:b", Some("shop")),
            ("shop:#42", Some("shop")),
            ("news", None),
            ("#42", None),
            (":17", None),
        ] {
            assert_eq!(namespace(channel), expected, "{channel}");
        }
    }

    #[test]
    fn one_channel_of_each_namespace_is_asked_about() {
        let mut all = Namespaces::of(&published(&["shop:1", "shop:2", "news", "audit:1"]));
        assert_eq!(all.channels(), ["audit:1", "shop:1"]);
        let known = Namespaces::of(&published(&["audit:9"]));
        assert_eq!(all.clone().without(&known).channels(), ["shop:1"]);
        all.extend(Namespaces::of(&published(&["shop:3", "x:1"])));
        assert_eq!(all.channels(), ["audit:1", "shop:1", "x:1"]);
        assert!(Namespaces::of(&Outcome::Drop).is_empty());
    }

    #[test]
    fn what_is_unknown_is_told_with_the_way_out() {
        let all = Namespaces::of(&published(&["shop:1", "audit:1", "x:1"]));
        let unknown = all.unknown(&[None, Some(102), Some(108)]);
        let told: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "Centrifugo has no namespace `shop` for the channel `shop:1`: add {\"name\": \"shop\"} to `channel.namespaces` \
              in its configuration"
            ]
        );
    }
}
