//! Checks what a guest returned and turns it into an outcome that later stages can rely on.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::bindings::slipring::transform::types as wit;
use super::failure::{one_line, reject};
use super::limits::Limits;
use crate::message::{Body, MAX_CHANNEL_BYTES, MAX_VERSION, Outcome, Publication, Rejection};

/// Centrifugo reads requests with Go's `encoding/json`, which allows 10,000 levels, including those around the body.
/// Bodies up to this depth were accepted (measured on 6.9.1). Over GRPC it accepts more, but can then no longer return
/// the history of the channel.
const MAX_DEPTH: usize = 9_990;

/// Some programs put it at the start of a text. It is not part of JSON (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// `Err` is the guest's way to reject a message, and its text becomes the reason.
pub(super) fn check(returned: Result<Vec<wit::Publication>, String>, limits: &Limits) -> Outcome {
    let checked = match returned {
        Ok(publications) => check_all(publications, limits),
        Err(reason) => Err(reject("rejected", one_line(&reason))),
    };
    match checked {
        Ok(publications) if publications.is_empty() => Outcome::Drop,
        Ok(publications) => Outcome::Publish(publications),
        Err(rejection) => Outcome::Reject(rejection),
    }
}

fn check_all(publications: Vec<wit::Publication>, limits: &Limits) -> Result<Vec<Publication>, Rejection> {
    let count = publications.len();
    if count > limits.max_publications {
        let limit = limits.max_publications;
        return Err(reject(
            "output",
            format!("returned {count} publications for one message; {limit} is the limit"),
        ));
    }
    let channels: usize = publications.iter().map(|publication| publication.channels.len()).sum();
    if channels > limits.max_channels {
        let limit = limits.max_channels;
        return Err(reject(
            "output",
            format!("named {channels} channels for one message; {limit} is the limit"),
        ));
    }
    let numbered = publications.into_iter().enumerate();
    let checked: Vec<Publication> = numbered
        // A list of followers or of settings may well be empty. Then the publication goes to nobody.
        .filter(|(_, publication)| !publication.channels.is_empty())
        .map(|(index, publication)| check_one(publication, Place { index, count }, limits))
        .collect::<Result<_, _>>()?;
    let twice = if limits.one_a_channel {
        published_twice(&checked)
    } else {
        None
    };
    match twice {
        None => Ok(checked),
        Some(channel) => {
            let reason = format!(
                "the module returned two publications on the channel `{channel}` for one message, but with `version = \
                 \"sequence\"` both would have the same version, and Centrifugo would show only the first"
            );
            Err(Rejection {
                channel: Some(channel),
                ..reject("version", reason)
            })
        }
    }
}

fn published_twice(publications: &[Publication]) -> Option<Arc<str>> {
    let mut channels: Vec<_> = publications.iter().flat_map(|one| &one.channels).collect();
    channels.sort_unstable();
    let twice = channels.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(Arc::clone(twice[0]))
}

/// Both of Centrifugo's APIs treat a field that is zero or empty as absent. A version of 0 would therefore be no
/// version. An empty key or epoch already counts as absent here.
fn check_one(publication: wit::Publication, place: Place, limits: &Limits) -> Result<Publication, Rejection> {
    let channels = check_channels(publication.channels, place)?;
    // If the relay sets the versions, the module's do not count.
    let version = publication.version.filter(|_| !limits.one_a_channel);
    if let Some(version) = version.filter(|version| *version >= MAX_VERSION) {
        let reason = format!("version {version} is too large: Centrifugo compares versions up to 2^53 - 1");
        return Err(place.reject("version", &channels, &reason));
    }
    if version == Some(0) {
        let reason = "Centrifugo treats version 0 as no version and would show an older state after it: count from 1, \
                      by adding 1 to a number that starts at 0";
        return Err(place.reject("version", &channels, reason));
    }
    let body = match publication.body {
        wit::Body::Binary(bytes) => Body::Binary(bytes),
        wit::Body::Json(text) if text.starts_with(BYTE_ORDER_MARK) => {
            let reason = "its body is not JSON: it begins with a byte order mark (U+FEFF), which must be removed";
            return Err(place.reject("json", &channels, reason));
        }
        wit::Body::Json(text) => {
            let json = RawValue::from_string(text)
                .map_err(|error| place.reject("json", &channels, &format!("its body is not JSON: {error}")))?;
            if is_too_deep(json.get()) {
                let reason =
                    format!("its body is JSON nested deeper than {MAX_DEPTH} levels, which Centrifugo cannot read");
                return Err(place.reject("json", &channels, &reason));
            }
            Body::Json(json)
        }
    };
    Ok(Publication {
        channels,
        body,
        version,
        version_epoch: publication.version_epoch.filter(|epoch| !epoch.is_empty()),
        tags: publication.tags,
        idempotency_key: publication.idempotency_key.filter(|key| !key.is_empty()),
        delta: publication.delta,
        skip_history: publication.skip_history,
    })
}

/// Returns true if valid JSON is nested too deeply. Text with few brackets needs no full check.
fn is_too_deep(json: &str) -> bool {
    let opens = |byte: &&u8| matches!(byte, b'[' | b'{');
    if json.len() <= 2 * MAX_DEPTH || json.as_bytes().iter().filter(opens).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Accepts a repeated channel once. The channels of a publication are a set, and a module that builds the list from the
/// members of a group does not mean to show anyone the same thing twice.
fn check_channels(names: Vec<String>, place: Place) -> Result<Vec<Arc<str>>, Rejection> {
    for name in &names {
        if name.is_empty() {
            return Err(place.reject("channel", &[], "its channel is empty"));
        }
        let len = name.len();
        if len > MAX_CHANNEL_BYTES {
            let head = one_line(&name[..name.floor_char_boundary(32)]);
            let reason = format!("the channel `{head}…` has {len} bytes; {MAX_CHANNEL_BYTES} is the limit");
            return Err(place.reject("channel", &[], &reason));
        }
    }
    if names.len() == 1 {
        return Ok(names.into_iter().map(Arc::from).collect());
    }
    let mut seen = HashSet::with_capacity(names.len());
    let channels = names.into_iter().map(Arc::<str>::from);
    Ok(channels.filter(|channel| seen.insert(Arc::clone(channel))).collect())
}

/// Identifies one of a message's publications.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    count: usize,
}

impl Place {
    fn reject(self, code: &'static str, channels: &[Arc<str>], reason: &str) -> Rejection {
        let reason = match self.count {
            1 => format!("the publication was refused: {reason}"),
            count => format!("publication {} of {count} was refused: {reason}", self.index + 1),
        };
        Rejection {
            channel: channels.first().cloned(),
            ..reject(code, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn publication(channels: &[&str], json: &str) -> wit::Publication {
        wit::Publication {
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            body: wit::Body::Json(json.to_owned()),
            version: None,
            version_epoch: None,
            tags: Vec::new(),
            idempotency_key: None,
            delta: false,
            skip_history: false,
        }
    }

    fn outcome(publications: Vec<wit::Publication>) -> Outcome {
        check(Ok(publications), &Limits::new(Duration::from_millis(100), 1))
    }

    fn published(publications: Vec<wit::Publication>) -> Vec<Publication> {
        match outcome(publications) {
            Outcome::Publish(publications) => publications,
            other => panic!("{other:?}"),
        }
    }

    fn refused(publications: Vec<wit::Publication>, code: &str, reason: &str) -> Rejection {
        match outcome(publications) {
            Outcome::Reject(rejection) => {
                assert_eq!((rejection.code.as_ref(), rejection.reason.as_str()), (code, reason));
                rejection
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_is_kept_as_it_is() {
        let publications = published(vec![publication(&["a"], r#"{ "b" : 1.50 }"#)]);
        assert!(matches!(&publications[0].body, Body::Json(json) if json.get() == r#"{ "b" : 1.50 }"#));
    }

    #[test]
    fn an_empty_list_drops() {
        assert!(matches!(outcome(Vec::new()), Outcome::Drop));
    }

    #[test]
    fn an_error_rejects_with_its_words_on_one_line() {
        let limits = Limits::new(Duration::from_millis(100), 1);
        let Outcome::Reject(rejection) = check(Err("no\nway".into()), &limits) else {
            panic!("not rejected")
        };
        assert_eq!(
            (rejection.code.as_ref(), rejection.reason.as_str()),
            ("rejected", "no way")
        );
    }

    #[test]
    fn a_channel_twice_is_taken_once() {
        let publications = published(vec![publication(&["a", "b", "a", "c", "b"], "1")]);
        let channels: Vec<&str> = publications[0].channels.iter().map(AsRef::as_ref).collect();
        assert_eq!(channels, ["a", "b", "c"]);
    }

    #[test]
    fn a_publication_without_channels_goes_to_nobody() {
        assert!(matches!(outcome(vec![publication(&[], "1")]), Outcome::Drop));
        let publications = published(vec![publication(&[], "no JSON"), publication(&["a"], "1")]);
        assert_eq!(publications.len(), 1);
        // The others keep their numbers.
        let reason = "publication 2 of 2 was refused: its channel is empty";
        refused(vec![publication(&[], "1"), publication(&[""], "1")], "channel", reason);
    }

    #[test]
    fn bad_channels_are_refused() {
        let reason = "publication 2 of 2 was refused: its channel is empty";
        refused(
            vec![publication(&["a"], "1"), publication(&[""], "1")],
            "channel",
            reason,
        );
        refused(
            vec![publication(&["a", ""], "1")],
            "channel",
            "the publication was refused: its channel is empty",
        );
        published(vec![publication(&[&"x".repeat(255)], "1")]);
        let reason = format!(
            "the publication was refused: the channel `{}…` has 256 bytes; 255 is the limit",
            "ä".repeat(16)
        );
        refused(vec![publication(&[&"ä".repeat(128)], "1")], "channel", &reason);
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        let reason = "the publication was refused: its body is not JSON: expected value at line 2 column 6";
        let rejection = refused(vec![publication(&["a"], "{\n\"b\": }")], "json", reason);
        assert_eq!(rejection.channel.as_deref(), Some("a"));
        let reason = "the publication was refused: its body is not JSON: EOF while parsing a value at line 1 column 0";
        refused(vec![publication(&["a"], "")], "json", reason);
        let reason = "the publication was refused: its body is not JSON: trailing characters at line 1 column 3";
        refused(vec![publication(&["a"], "1 2")], "json", reason);
        let reason = "the publication was refused: its body is not JSON: it begins with a byte order mark (U+FEFF), \
                      which must be removed";
        refused(vec![publication(&["a"], "\u{feff}1")], "json", reason);
    }

    #[test]
    fn json_is_not_nested_too_deeply() {
        let nested = |levels: usize, around: &str| {
            let text = format!("{}{around}{}", "[".repeat(levels), "]".repeat(levels));
            vec![publication(&["a"], &text)]
        };
        published(nested(MAX_DEPTH, "1"));
        let reason = "the publication was refused: its body is JSON nested deeper than 9990 levels, which Centrifugo cannot read";
        refused(nested(MAX_DEPTH + 1, "1"), "json", reason);
        refused(nested(MAX_DEPTH, "{}"), "json", reason);
        // Brackets in a string are no levels, and neither are adjacent ones.
        published(nested(MAX_DEPTH, r#""[[\"[[""#));
        published(vec![publication(
            &["a"],
            &format!("[{}1]", "[],".repeat(2 * MAX_DEPTH)),
        )]);
        let objects = format!("{}1{}", r#"{"[":"#.repeat(MAX_DEPTH + 1), "}".repeat(MAX_DEPTH + 1));
        refused(vec![publication(&["a"], &objects)], "json", reason);
    }

    #[test]
    fn versions_stay_below_2_to_the_53() {
        let with = |version| wit::Publication {
            version: Some(version),
            ..publication(&["a"], "1")
        };
        assert_eq!(published(vec![with(MAX_VERSION - 1)])[0].version, Some(MAX_VERSION - 1));
        let reason = "the publication was refused: version 9007199254740992 is too large: \
                      Centrifugo compares versions up to 2^53 - 1";
        refused(vec![with(MAX_VERSION)], "version", reason);
    }

    #[test]
    fn what_is_zero_or_empty_is_nothing_that_centrifugo_could_tell_from_none() {
        let with = |version| wit::Publication {
            version: Some(version),
            ..publication(&["a"], "1")
        };
        let reason = "the publication was refused: Centrifugo treats version 0 as no version and would show an older state \
                      after it: count from 1, by adding 1 to a number that starts at 0";
        let rejection = refused(vec![with(0)], "version", reason);
        assert_eq!(rejection.channel.as_deref(), Some("a"));
        assert_eq!(published(vec![with(1)])[0].version, Some(1));
        let empty = wit::Publication {
            version_epoch: Some(String::new()),
            idempotency_key: Some(String::new()),
            ..publication(&["a"], "1")
        };
        let publication = published(vec![empty]).remove(0);
        assert_eq!((publication.version_epoch, publication.idempotency_key), (None, None));
    }

    #[test]
    fn where_the_relay_gives_the_version_the_modules_own_does_not_count() {
        let limits = Limits {
            one_a_channel: true,
            ..Limits::new(Duration::from_millis(100), 1)
        };
        for version in [0, 7, MAX_VERSION] {
            let publication = wit::Publication {
                version: Some(version),
                ..publication(&["a"], "1")
            };
            let Outcome::Publish(publications) = check(Ok(vec![publication]), &limits) else {
                panic!("version {version} was refused")
            };
            assert_eq!(publications[0].version, None);
        }
    }

    #[test]
    fn where_the_sequence_is_the_version_a_channel_has_one_publication() {
        let limits = Limits {
            one_a_channel: true,
            ..Limits::new(Duration::from_millis(100), 1)
        };
        let checked = |channels: [&[&str]; 2]| check(Ok(channels.map(|names| publication(names, "1")).into()), &limits);
        assert!(matches!(checked([&["a"], &["b", "c"]]), Outcome::Publish(_)));
        let Outcome::Reject(rejection) = checked([&["a", "b"], &["c", "b"]]) else {
            panic!("not rejected")
        };
        assert_eq!((&*rejection.code, rejection.channel.as_deref()), ("version", Some("b")));
        published(vec![publication(&["a"], "1"), publication(&["a"], "2")]);
    }

    #[test]
    fn a_message_does_not_become_too_much() {
        let many = vec![publication(&["a"], "1"); Limits::MAX_PUBLICATIONS + 1];
        refused(
            many,
            "output",
            "returned 10001 publications for one message; 10000 is the limit",
        );
        let names = vec!["a"; Limits::MAX_CHANNELS + 1];
        refused(
            vec![publication(&names, "1")],
            "output",
            "named 100001 channels for one message; 100000 is the limit",
        );
    }
}
