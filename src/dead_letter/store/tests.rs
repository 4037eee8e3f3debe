use jiff::Timestamp;
use proptest::prelude::*;

use super::super::letter::{Letter, Opened};
use super::super::parts::Assembly;
use super::*;
use crate::message::{Share, Stage};

const SENDER: Sender<'static> = Sender {
    module: "orders",
    sha256: "ab12",
};

fn message(payload: &'static [u8], headers: &[(&str, &str)]) -> Message {
    Message {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        timestamp: 1_700_000_000_000_000_000,
        ..Message::new("ORDERS", 42, "orders.7", payload)
    }
}

fn rejection(reason: &str) -> Rejection {
    Rejection {
        stage: Stage::Transform,
        code: "trap".into(),
        channel: Some("orders:7".into()),
        reason: reason.into(),
    }
}

fn facts<'a>(message: &'a Message, rejection: &'a Rejection) -> Facts<'a> {
    Facts {
        sender: SENDER,
        message,
        rejection,
        results: None,
        replaces: &[],
    }
}

/// Reads the letter again.
fn opened(letters: &[(HeaderMap, Bytes)]) -> Opened {
    let mut assembly = Assembly::default();
    let mut whole = None;
    for (number, (headers, payload)) in (1..).zip(letters) {
        let part = Letter::read(
            number,
            Timestamp::UNIX_EPOCH,
            "slipring.dead.orders",
            headers,
            payload.len(),
        );
        whole = assembly.add(part).or(whole);
    }
    let payloads: Vec<&[u8]> = letters.iter().map(|(_, payload)| payload.as_ref()).collect();
    Opened::new(whole.expect("all parts are there"), payloads.concat().into())
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::as_str)
}

#[test]
fn a_letter_keeps_the_payload_and_its_headers_and_adds_the_facts() {
    let message = message(
        b"{}",
        &[
            ("Trace", "1"),
            ("Trace", "2"),
            ("Nats-Msg-Id", "theirs"),
            ("nats-ttl", "1s"),
        ],
    );
    let letters = letters(facts(&message, &rejection("panicked at\nsrc/lib.rs:3")), 1 << 20);
    let [(headers, payload)] = letters.as_slice() else {
        panic!("one letter")
    };
    assert_eq!(payload.as_ref(), b"{}");
    let traces: Vec<_> = headers.get_all("Trace").map(HeaderValue::as_str).collect();
    assert_eq!(traces, ["1", "2"]);
    assert_eq!(value(headers, "nats-ttl"), None);
    assert_eq!(value(headers, "Slipring-Kept-nats-ttl"), Some("1s"));
    assert_eq!(value(headers, "Slipring-Kept-Nats-Msg-Id"), Some("theirs"));
    assert_eq!(value(headers, "Slipring-Reason"), Some("panicked at src/lib.rs:3"));
    assert_eq!(value(headers, "Slipring-Stage"), Some("transform"));
    assert_eq!(value(headers, "Slipring-Code"), Some("trap"));
    assert_eq!(value(headers, "Slipring-Channel"), Some("orders:7"));
    assert_eq!(value(headers, "Slipring-Subject"), Some("orders.7"));
    assert_eq!(value(headers, "Slipring-Stream"), Some("ORDERS"));
    assert_eq!(value(headers, "Slipring-Sequence"), Some("42"));
    assert_eq!(value(headers, "Slipring-Timestamp"), Some("1700000000000000000"));
    assert_eq!(value(headers, "Slipring-Module-Sha256"), Some("ab12"));
    let id = "slipring.orders.ORDERS.42.1700000000000000000.transform";
    assert_eq!(value(headers, "Nats-Msg-Id"), Some(id));
}

#[test]
fn a_payload_that_does_not_fit_with_the_headers_comes_in_parts() {
    let payload: &'static [u8] = &[7; 2000];
    let letters = letters(facts(&message(payload, &[]), &rejection("too bad")), 2000);
    assert_eq!(letters.len(), 2);
    let joined: Vec<u8> = letters.iter().flat_map(|(_, part)| part.to_vec()).collect();
    assert_eq!(joined, payload);
    for (index, (headers, part)) in letters.iter().enumerate() {
        assert!(size(headers) + part.len() <= 2000, "the server takes it");
        assert_eq!(
            value(headers, "Slipring-Part"),
            Some(format!("{}/2", index + 1).as_str())
        );
    }
    assert_ne!(value(&letters[0].0, "Nats-Msg-Id"), value(&letters[1].0, "Nats-Msg-Id"));
}

/// Returns the message of the stored letter.
fn reopened(letters: &[(HeaderMap, Bytes)]) -> Message {
    let (mut assembly, mut whole) = (Assembly::default(), None);
    for (number, (headers, payload)) in (1..).zip(letters) {
        let letter = Letter::read(
            number,
            Timestamp::UNIX_EPOCH,
            "slipring.dead.orders",
            headers,
            payload.len(),
        );
        whole = assembly.add(letter);
    }
    let stored: Vec<u8> = letters.iter().flat_map(|(_, payload)| payload.to_vec()).collect();
    Opened::new(whole.expect("all parts are there"), stored.into())
        .message()
        .expect("a message")
}

#[test]
fn whatever_the_message_is_its_letter_gives_it_back() {
    let large = "x".repeat(60_000);
    let block = |end: &[u8]| [format!("NATS/1.0\r\nCity: {large}\r\nTrace: 1").as_bytes(), end].concat();
    for (subject, block) in [
        (
            &b"orders.1"[..],
            b"NATS/1.0\r\nTrace: 1\r\nCity: M\xfcnchen\r\n\r\n".to_vec(),
        ),
        (b"orders.\xfc", Vec::new()),
        (b"orders.\xfc", b"NATS/1.0\r\nTrace: 1\r\n\r\n".to_vec()),
        (b"orders.\x0b\x7f", b"NATS/1.0\r\nTrace: 1\r\nTrace: 2\r\n\r\n".to_vec()),
        (b"orders.1", b"\xff".to_vec()),
        (b"orders.1", block(b"\r\n\r\n")),
        (b"orders.1", block(b"\xfc\r\n\r\n")),
    ] {
        let contents = crate::nats::headers::read(subject, &block);
        let message = Message {
            subject: contents.subject,
            headers: contents.headers,
            unreadable: contents.unreadable,
            ..message(b"{\"payload\":\"\xff\"}", &[])
        };
        for max_payload in [1 << 20, 70_000] {
            let letters = letters(facts(&message, &rejection("no")), max_payload);
            for (headers, payload) in &letters {
                // Some headers are added when it is sent.
                let fits = size(headers) <= 65_535 - 256 && size(headers) + payload.len() <= max_payload;
                assert!(fits, "{} bytes of headers", size(headers));
            }
            assert_eq!(reopened(&letters), message);
        }
    }
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let reason = "é".repeat(MAX_REASON);
    assert!(line(&reason).len() <= MAX_REASON);
}

#[test]
fn a_letter_says_what_became_of_each_channel_and_which_it_replaces() {
    let share = Share {
        number: 1,
        channels: vec!["test:größe".into(), "nowhere:\"1\"\n".into()],
        refused: vec!["nowhere:\"1\"\n".into()],
    };
    let results = Results::of(&[share]);
    let (message, rejection) = (message(b"{}", &[]), rejection("unknown channel"));
    let letters = letters(
        Facts {
            results: Some(&results),
            replaces: &[17, 18],
            ..facts(&message, &rejection)
        },
        1 << 20,
    );
    let headers = &letters[0].0;
    let expected = r#"{"nowhere:\"1\"\n":"-","test:größe":"+"}"#;
    assert_eq!(value(headers, "Slipring-Channels"), Some(expected));
    assert_eq!(value(headers, "Slipring-Replaces"), Some("17,18"));
    let id = "slipring.orders.ORDERS.42.1700000000000000000.transform.after.17,18";
    assert_eq!(value(headers, "Nats-Msg-Id"), Some(id));
    let opened = opened(&letters);
    assert_eq!(
        (opened.letter.results, opened.letter.replaces),
        (Some(results), vec![17, 18])
    );
}

proptest! {
    /// Whatever a message contains and however many parts its letter has, it comes back unchanged.
    #[test]
    fn a_message_comes_back_as_it_was(
        payload in prop::collection::vec(any::<u8>(), 0..3000),
        headers in prop::collection::vec(
            ("(Trace|Nats-Msg-Id|nats-Expected-Stream|NATS-TTL|Slipring-Part|slipring-tail|Slipring-Kept-A|KV-Operation)", ".{0,40}|\\PC{0,300}| x |a\rb|"),
            0..20,
        ),
        channels in prop::option::of(0_usize..2000),
        max_payload in 2000_usize..6000,
    ) {
        let mut message = message(b"", &[]);
        message.payload = payload.into();
        message.headers = headers;
        message.headers.sort_by(|(left, _), (right, _)| left.cmp(right));
        let results = channels.map(|channels| {
            let channels: Vec<std::sync::Arc<str>> = (0..channels).map(|number| format!("a:{number}").into()).collect();
            let refused = channels.iter().step_by(3).cloned().collect();
            Results::of(&[Share { number: 0, channels, refused }])
        });
        let rejection = rejection("no");
        let stored = letters(Facts { results: results.as_ref(), ..facts(&message, &rejection) }, max_payload);
        for (headers, payload) in &stored {
            // With our largest headers, the smallest server would accept no payload at all.
            prop_assert!(size(headers) + payload.len() <= max_payload.max(size(headers) + 1));
        }
        let opened = opened(&stored);
        prop_assert_eq!(opened.letter.size(), message.payload.len());
        prop_assert_eq!(&opened.letter.results, &results);
        prop_assert_eq!(opened.message().unwrap(), message);
    }
}
