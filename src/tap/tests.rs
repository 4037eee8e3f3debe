use std::sync::atomic::AtomicUsize;
use std::thread;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use slipring_core::place::Place;

use super::shown::{CHANNELS, LONGEST, PUBLICATIONS};
use super::viewer::{MOST_WAITING, WAITING_BYTES};
use super::*;
use crate::clock;
use crate::message::{Body, Publication, Rejection, Stage};

fn message(sequence: u64, payload: impl Into<Bytes>) -> Message {
    Message::new("ORDERS", sequence, "orders.7", payload)
}

fn publication(channels: &[&str], data: &str) -> Publication {
    let channels = channels.iter().map(|channel| Arc::from(*channel)).collect();
    Publication::new(channels, Body::Json(RawValue::from_string(data.to_owned()).unwrap()))
}

fn published(channel: &str) -> Outcome {
    Outcome::Publish(vec![publication(&["other"], "0"), publication(&["one", channel], "1")])
}

fn open(taps: &Taps, module: Option<&str>, channel: Option<&str>, rate: usize) -> Result<View, TooMany> {
    let filter = Filter {
        module: module.map(str::to_owned),
        channel: channel.map(str::to_owned),
    };
    taps.open(filter, rate)
}

fn offer(tap: &Tap, at: Instant, message: &Message, outcome: &Outcome) {
    tap.offer_at(at, &"V".into(), [(message, outcome, Duration::from_micros(12))]);
}

/// Returns what is shown now.
fn next(view: &mut View) -> Option<Shown> {
    view.next().now_or_never().map(|shown| shown.expect("the tap is open"))
}

fn all(view: &mut View) -> Vec<Shown> {
    std::iter::from_fn(|| next(view)).collect()
}

fn sequences(view: &mut View) -> Vec<u64> {
    all(view).iter().map(|shown| shown.message.sequence()).collect()
}

/// Returns what a client sees of a message with its outcome.
fn seen(message: &Message, outcome: &Outcome) -> Value {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let mut view = open(&taps, None, None, 1).unwrap();
    offer(&tap, Instant::now(), message, outcome);
    let text = serde_json::to_string(&next(&mut view).unwrap()).unwrap();
    assert!(!text.contains(['\n', '\r']), "an event is one line: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_module_is_watched_as_long_as_a_tap_is_open() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    assert!(!tap.wants() && !Tap::default().wants());
    let first = open(&taps, Some("orders"), None, 10).unwrap();
    let second = open(&taps, None, Some("a"), 10).unwrap();
    assert!(tap.wants() && taps.of("orders").wants());
    drop(first);
    assert!(tap.wants());
    drop(second);
    assert!(!tap.wants());
    assert!(tap.0.viewers.read().unwrap().is_empty());
}

#[test]
fn a_tap_follows_its_modules_whenever_they_start() {
    let taps = Taps::default();
    let mut one = open(&taps, Some("orders"), None, 10).unwrap();
    let mut every = open(&taps, None, None, 10).unwrap();
    let (orders, bills) = (taps.of("orders"), taps.of("bills"));
    assert!(orders.wants() && bills.wants());
    let now = Instant::now();
    offer(&orders, now, &message(1, ""), &Outcome::Drop);
    offer(&bills, now, &message(2, ""), &Outcome::Drop);
    drop(orders);
    // Its pipeline has restarted.
    offer(&taps.of("orders"), now, &message(3, ""), &Outcome::Drop);
    let modules: Vec<_> = all(&mut every).iter().map(|shown| shown.module.to_string()).collect();
    assert_eq!(modules, ["orders", "bills", "orders"]);
    assert_eq!(sequences(&mut one), [1, 3]);
    drop(every);
    assert!(!bills.wants());
}

#[test]
fn the_names_of_modules_that_are_gone_are_forgotten() {
    let taps = Taps::default();
    for number in 0..100 {
        drop(taps.of(&number.to_string()));
    }
    assert_eq!(taps.book().lines.len(), 1);
}

#[test]
fn only_so_many_taps_are_open_at_once() {
    let taps = Taps::default();
    let mut views: Vec<_> = (0..MOST_OPEN).map(|_| open(&taps, None, None, 1).unwrap()).collect();
    let refused = open(&taps, None, None, 1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "8 taps are open already, which is the limit; close one of them first"
    );
    views.pop();
    open(&taps, None, None, 1).unwrap();
}

#[test]
fn a_channel_has_to_be_named_exactly() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let mut view = open(&taps, None, Some("two"), 1).unwrap();
    let now = Instant::now();
    let rejected = Outcome::Reject(Rejection {
        stage: Stage::Transform,
        code: "rejected".into(),
        channel: Some("two".into()),
        reason: "two".to_owned(),
    });
    for (sequence, outcome) in [
        published("twofold"),
        published("tw"),
        published("TWO"),
        Outcome::Drop,
        rejected,
    ]
    .iter()
    .enumerate()
    {
        offer(&tap, now, &message(sequence as u64, "two"), outcome);
    }
    offer(&tap, now, &message(10, ""), &published("two"));
    // What is for others neither uses up the rate nor counts as left out.
    let shown = next(&mut view).unwrap();
    assert_eq!((shown.message.sequence(), shown.skipped), (10, 0));
    offer(&tap, now, &message(11, ""), &published("two"));
    offer(&tap, now, &message(12, ""), &published("three"));
    assert!(next(&mut view).is_none());
    offer(&tap, now + Duration::from_secs(1), &message(13, ""), &published("two"));
    let shown = next(&mut view).unwrap();
    assert_eq!((shown.message.sequence(), shown.skipped), (13, 1));
}

#[test]
fn what_exceeds_the_rate_is_counted() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let mut view = open(&taps, None, None, 3).unwrap();
    let now = Instant::now();
    for sequence in 1..=200 {
        offer(&tap, now, &message(sequence, ""), &Outcome::Drop);
    }
    assert_eq!(sequences(&mut view), [1, 2, 3]);
    offer(&tap, now + Duration::from_secs(1), &message(201, ""), &Outcome::Drop);
    assert_eq!(next(&mut view).unwrap().skipped, 197);
    offer(&tap, now + Duration::from_secs(1), &message(202, ""), &Outcome::Drop);
    assert_eq!(next(&mut view).unwrap().skipped, 0);
}

#[test]
fn each_tap_has_a_rate_of_its_own() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let (mut slow, mut fast) = (open(&taps, None, None, 1).unwrap(), open(&taps, None, None, 5).unwrap());
    let now = Instant::now();
    for sequence in 1..=10 {
        offer(&tap, now, &message(sequence, ""), &Outcome::Drop);
    }
    assert_eq!((all(&mut slow).len(), all(&mut fast).len()), (1, 5));
}

#[test]
fn a_client_that_does_not_read_gets_what_fits() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let mut view = open(&taps, None, None, 1_000).unwrap();
    let now = Instant::now();
    for sequence in 0..100 {
        offer(&tap, now, &message(sequence, ""), &Outcome::Drop);
    }
    assert_eq!(all(&mut view).len(), MOST_WAITING);
    assert_eq!(view.viewer.waiting(), 0);
    offer(&tap, now, &message(100, ""), &Outcome::Drop);
    assert_eq!(next(&mut view).unwrap().skipped, 100 - MOST_WAITING as u64);
}

#[test]
fn what_waits_takes_little_memory_however_large_it_was() {
    let taps = Taps::default();
    let tap = taps.of("orders");
    let mut view = open(&taps, None, None, 1_000).unwrap();
    let large = Message {
        subject: "s".repeat(1 << 20),
        headers: vec![("n".to_owned(), "v".repeat(100)); 10_000],
        ..message(1, vec![b'x'; 1 << 20])
    };
    let many = publication(&["a"], &format!("\"{}\"", "d".repeat(1 << 20)));
    let outcome = Outcome::Publish(vec![many; 10]);
    let now = Instant::now();
    for _ in 0..50 {
        offer(&tap, now, &large, &outcome);
    }
    let waiting = view.viewer.waiting();
    assert!(waiting <= WAITING_BYTES && waiting > WAITING_BYTES / 2, "{waiting}");
    let shown = all(&mut view);
    assert!(shown.len() >= 5, "{}", shown.len());
    for one in &shown {
        assert!(one.bytes() * 5 < WAITING_BYTES, "{}", one.bytes());
    }
    assert_eq!(view.viewer.waiting(), 0);
    assert_eq!(view.viewer.skipped(), 50 - shown.len() as u64);
}

#[test]
fn every_message_is_shown_or_counted_whatever_the_threads_do() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let taps = Taps::default();
    let mut view = open(&taps, None, None, 50).unwrap();
    let (start, running) = (Instant::now(), AtomicUsize::new(THREADS as usize));
    let mut shown = Vec::new();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (taps, running) = (&taps, &running);
            scope.spawn(move || {
                let tap = taps.of("orders");
                for number in 0..EACH {
                    let at = start + Duration::from_millis(number);
                    offer(&tap, at, &message(thread * EACH + number, "x"), &Outcome::Drop);
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while running.load(Ordering::Relaxed) > 0 {
            shown.extend(all(&mut view));
            // Others open and close taps meanwhile.
            drop(open(&taps, Some("orders"), None, 1));
        }
    });
    shown.extend(all(&mut view));
    assert!(shown.len() > 50, "{}", shown.len());
    let counted: u64 = shown.iter().map(|shown| 1 + shown.skipped).sum();
    assert_eq!(counted + view.viewer.skipped(), THREADS * EACH);
    assert_eq!(view.viewer.waiting(), 0);
}

#[test]
fn a_client_sees_the_message_and_the_outcome() {
    let message = Message {
        headers: [("a", "1"), ("b", "2"), ("b", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        timestamp: 1_000_000_000,
        ..message(7, "{\"id\":7}")
    };
    let tagged = Publication {
        version: Some(7),
        tags: vec![("kind".to_owned(), "order".to_owned())],
        ..publication(&["a", "b"], "{\n\"n\": 1.50}")
    };
    let binary = Publication::new(vec!["c".into()], Body::Binary(vec![0, 255]));
    let mut line = seen(&message, &Outcome::Publish(vec![tagged, binary]));
    let time = line.as_object_mut().unwrap().remove("time").unwrap().as_f64().unwrap();
    let age = clock::now().unix.as_secs_f64() - time;
    assert!((-0.1..60.0).contains(&age), "{age}");
    let expected = json!({
        "module": "orders", "version": "V", "subject": "orders.7", "stream": "ORDERS", "sequence": 7,
        "timestamp": "1970-01-01T00:00:01Z", "headers": { "a": ["1"], "b": ["2", "3"] },
        "payload": "{\"id\":7}", "payload_base64": null, "size": 8, "truncated": false,
        "micros": 12, "outcome": "publish", "skipped": 0,
        "publications": [
            { "channels": ["a", "b"], "data": { "n": 1.5 }, "version": 7, "tags": { "kind": "order" } },
            { "channels": ["c"], "binary_base64": "AP8=" },
        ],
    });
    assert_eq!(line, expected);
}

#[test]
fn a_client_sees_drops_and_rejections() {
    let dropped = seen(&message(1, ""), &Outcome::Drop);
    assert_eq!(dropped["outcome"], "drop");
    assert!(dropped.get("publications").is_none() && dropped.get("code").is_none());
    let rejection = Rejection {
        stage: Stage::Transform,
        code: "version".into(),
        channel: Some("a".into()),
        reason: "<img src=x onerror=alert(1)>".to_owned(),
    };
    let from_redis = Message {
        place: Place::Id(1_795_888_251_712, 3),
        ..message(1, "")
    };
    let rejected = seen(&from_redis, &Outcome::Reject(rejection));
    assert_eq!(rejected["outcome"], "reject");
    assert_eq!(rejected["code"], "version");
    assert_eq!(rejected["channel"], "a");
    assert_eq!(rejected["reason"], "<img src=x onerror=alert(1)>");
    assert_eq!(rejected["sequence"], "1795888251712-3");
}

#[test]
fn a_payload_that_is_no_text_comes_as_base64() {
    let line = seen(&message(1, b"a\xffb".to_vec()), &Outcome::Drop);
    assert_eq!(line["payload"], Value::Null);
    assert_eq!(line["payload_base64"], "Yf9i");
    assert_eq!((&line["size"], &line["truncated"]), (&json!(3), &json!(false)));
}

#[test]
fn what_is_long_is_cut_between_two_letters() {
    // The limit is in the middle of a letter.
    let text = format!("x{}", "ä".repeat(LONGEST));
    let line = seen(&message(1, text.clone()), &Outcome::Drop);
    assert_eq!(line["payload"], text[..LONGEST - 1]);
    assert_eq!((&line["size"], &line["truncated"]), (&json!(text.len()), &json!(true)));
    assert_eq!(line["payload_base64"], Value::Null);

    let bytes = vec![255_u8; LONGEST + 1];
    let line = seen(&message(1, bytes), &Outcome::Drop);
    assert_eq!(line["payload"], Value::Null);
    assert_eq!(line["payload_base64"].as_str().unwrap().len(), LONGEST.div_ceil(3) * 4);

    let whole = "y".repeat(LONGEST);
    let line = seen(&message(1, whole.clone()), &Outcome::Drop);
    assert_eq!((&line["payload"], &line["truncated"]), (&json!(whole), &json!(false)));
}

#[test]
fn long_data_comes_as_a_text_with_its_beginning() {
    let json = format!("\"{}\"", "ä".repeat(LONGEST));
    let long = publication(&["a"], &json);
    let binary = Publication::new(vec!["b".into()], Body::Binary(vec![7; LONGEST + 1]));
    let short = publication(&["c"], "1");
    let line = seen(&message(1, ""), &Outcome::Publish(vec![long, binary, short]));
    let publications = line["publications"].as_array().unwrap();
    let expected = json!({ "channels": ["a"], "data": json[..LONGEST - 1], "size": json.len(), "truncated": true });
    assert_eq!(publications[0], expected);
    assert_eq!(publications[1]["size"], LONGEST + 1);
    assert_eq!(publications[1]["truncated"], true);
    assert!(publications[1]["binary_base64"].is_string() && publications[1].get("data").is_none());
    assert_eq!(publications[2], json!({ "channels": ["c"], "data": 1 }));
}

#[test]
fn what_is_too_much_is_counted() {
    let headers = vec![("name".to_owned(), "v".repeat(1_000)); 100];
    let message = Message {
        headers,
        ..message(1, "")
    };
    let channels: Vec<String> = (0..CHANNELS + 7).map(|number| number.to_string()).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let broadcast = publication(&channels, "1");
    let tagged = Publication {
        tags: vec![("t".to_owned(), "v".repeat(PUBLICATIONS))],
        ..publication(&["a"], "1")
    };
    let line = seen(
        &message,
        &Outcome::Publish(vec![broadcast, tagged, publication(&["b"], "1")]),
    );
    let shown = line["headers"]["name"].as_array().unwrap().len();
    assert!((50..65).contains(&shown), "{shown}");
    assert_eq!(line["more_headers"], 100 - shown);
    let publications = line["publications"].as_array().unwrap();
    // What follows one that does not fit is left out as well, so that the ones that are shown are the first.
    assert_eq!((publications.len(), &line["more_publications"]), (1, &json!(2)));
    assert_eq!(publications[0]["channels"].as_array().unwrap().len(), CHANNELS);
    assert_eq!(publications[0]["more_channels"], 7);
}
