//! Tests calls with many messages. Each message becomes what it becomes alone, whatever the others do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Chunk, Instance, Limits, Module, Workers};
use super::unruly::{BOTH, Form, logged, module, wish};
use super::wat::{EXPORTS, Guest, ONE, TYPES, component, impatient, limits};
use crate::message::{Message, Outcome, Unreadable};

fn shown(outcomes: impl IntoIterator<Item = Outcome>) -> Vec<String> {
    outcomes.into_iter().map(|outcome| format!("{outcome:?}")).collect()
}

fn one_by_one(module: &Arc<Module>, messages: &[Arc<Message>]) -> Vec<String> {
    let mut instance = module.instance();
    shown(messages.iter().map(|message| instance.call(message)))
}

/// Returns the outcomes, and how many calls there were.
fn many(instance: &mut Instance, messages: &[Arc<Message>]) -> (Vec<String>, usize) {
    let (mut outcomes, mut calls) = (Vec::new(), 0);
    while outcomes.len() < messages.len() {
        let returned = instance.call_many(&messages[outcomes.len()..]);
        assert!(!returned.is_empty(), "there is always one");
        outcomes.extend(shown(returned.into_iter().map(|(outcome, _)| outcome)));
        calls += 1;
    }
    (outcomes, calls)
}

fn numbered(messages: impl IntoIterator<Item = Message>) -> Vec<Arc<Message>> {
    let numbered = messages.into_iter().zip(1_u64..).map(|(message, sequence)| {
        Arc::new(Message {
            place: sequence.into(),
            timestamp: 1_700_000_000_000_000_000 + sequence * 1_000_000_007,
            deliveries: u32::try_from(sequence % 3).unwrap(),
            ..message
        })
    });
    numbered.collect()
}

/// Something that a message may ask for.
fn any_wish() -> impl Strategy<Value = Message> {
    const EVERYTHING: &str = r#"[{"channels":["a"],"bytes":[0,255],"version":3,"delta":true},{"channels":["ä","b","c"],
        "data":{"id":1},"version":1,"version_epoch":"e","tags":{"k":"v","l":""},"idempotency_key":"once","skip_history":true}]"#;
    let usual = prop_oneof![
        4 => Just(wish("ok", r#"{"a": [1, 2.50], "é": "\u0000"}"#)),
        2 => Just(wish("channels", r#"["a","b"]"#)),
        2 => Just(wish("publish", EVERYTHING)),
        1 => Just(wish("binary", "bytes")),
        2 => Just(wish("drop", "")),
        2 => Just(wish("reject", "näh")),
        2 => (prop::collection::vec(("[a-zA-Z]{1,9}", "\\PC{0,20}"), 0..4)).prop_map(|headers| Message { headers, ..wish("headers", "") }),
        1 => Just(wish("many", "50")),
        1 => Just(wish("same-channel-twice", "")),
    ];
    let bad = prop_oneof![
        Just(wish("panic", "a reason")),
        Just(wish("abort", "")),
        Just(wish("exit", "")),
        Just(wish("overflow", "")),
        Just(wish("eat", "")),
        Just(wish("large", "300000")),
        Just(wish("large", "20000000")),
        Just(wish("no-channels", "")),
        Just(wish("empty-channel", "")),
        Just(wish("broken-json", "")),
        Just(wish("big-version", "")),
        Just(wish("many", "10001")),
        Just(Message {
            unreadable: Some(Box::new(Unreadable {
                reason: "its subject is not UTF-8".to_owned(),
                subject: b"a.\xfc".as_slice().into(),
                headers: bytes::Bytes::new(),
            })),
            ..wish("ok", "1")
        }),
        Just(Message {
            headers: vec![("KV-Operation".to_owned(), "DEL".to_owned())],
            ..wish("reject", "")
        }),
    ];
    prop_oneof![30 => usual, 1 => bad]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_messages_become_they_become_together(messages in prop::collection::vec(any_wish(), 1..150)) {
        static MODULES: std::sync::LazyLock<[Arc<Module>; 2]> = std::sync::LazyLock::new(|| {
            BOTH.map(|form| module(form, "{}", Limits::new(Duration::from_secs(5), 64 * 1024 * 1024)))
        });
        let messages = numbered(messages);
        for module in &*MODULES {
            let (together, _) = many(&mut module.instance(), &messages);
            prop_assert_eq!(&together, &one_by_one(module, &messages));
        }
    }
}

#[test]
fn each_message_has_its_own_clock_and_random_numbers() {
    let limits = Limits::new(Duration::from_secs(5), 64 * 1024 * 1024);
    // Without WASI there is neither a clock nor random numbers.
    let module = module(Form::Component, "{}", limits);
    let messages = numbered([wish("report", ""), wish("report", ""), wish("report", "")]);
    let (together, calls) = many(&mut module.instance(), &messages);
    assert_eq!(calls, 1);
    assert_eq!(together, one_by_one(&module, &messages));
    // The first one draws the seed of the instance.
    let (later, _) = many(&mut module.instance(), &messages[1..]);
    assert_ne!(together[1], later[0]);
}

#[test]
fn each_message_has_its_own_time() {
    let timeout = Duration::from_millis(100);
    let module = module(
        Form::Component,
        "{}",
        Limits {
            timeout,
            ..Limits::new(Duration::from_secs(5), 64 * 1024 * 1024)
        },
    );
    let mut instance = module.instance();
    instance.call(&wish("drop", ""));
    let start = Instant::now();
    instance.call(&wish("spin", "20000000"));
    let alone = start.elapsed();
    // Together they take much longer than the timeout.
    let count = (3 * timeout.as_nanos() / alone.as_nanos().max(1)) as usize;
    let messages = numbered(vec![wish("spin", "20000000"); count.clamp(4, 64)]);
    let (outcomes, calls) = many(&mut instance, &messages);
    assert_eq!((outcomes, calls), (vec!["Drop".to_owned(); messages.len()], 1));

    let messages = numbered([wish("ok", "1"), wish("loop", ""), wish("ok", "2")]);
    let (outcomes, _) = many(&mut instance, &messages);
    assert!(
        outcomes[1].contains("did not return within its timeout of 100ms"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes, one_by_one(&module, &messages));
}

#[test]
fn each_message_is_timed() {
    let module = module(
        Form::Component,
        "{}",
        Limits::new(Duration::from_secs(5), 64 * 1024 * 1024),
    );
    let messages = numbered([wish("drop", ""), wish("spin", "20000000"), wish("drop", "")]);
    let times: Vec<Duration> = module
        .instance()
        .call_many(&messages)
        .into_iter()
        .map(|(_, took)| took)
        .collect();
    assert_eq!(times.len(), 3);
    assert!(times[1] > times[2], "{times:?}");
}

#[test]
fn what_was_logged_is_not_logged_again() {
    let messages = numbered([
        wish("say", "one"),
        wish("say", "two"),
        wish("panic", "no"),
        wish("say", "three"),
    ]);
    let lines = logged(|| {
        let limits = Limits::new(Duration::from_secs(5), 64 * 1024 * 1024);
        many(&mut module(Form::Component, "{}", limits).instance(), &messages);
    });
    let said: Vec<&String> = lines
        .iter()
        .filter(|line| ["one", "two", "three"].contains(&line.as_str()))
        .collect();
    assert_eq!(said, ["one", "two", "three"], "{lines:?}");
}

#[test]
fn large_results_end_a_call_early() {
    let module = module(
        Form::Component,
        "{}",
        Limits::new(Duration::from_secs(5), 64 * 1024 * 1024),
    );
    let messages = numbered(vec![wish("large", "200000"); 8]);
    let (outcomes, calls) = many(&mut module.instance(), &messages);
    assert_eq!((outcomes.len(), calls), (8, 4));
}

#[test]
fn large_messages_go_alone() {
    let module = module(
        Form::Component,
        "{}",
        Limits::new(Duration::from_secs(5), 64 * 1024 * 1024),
    );
    let large = Message {
        payload: vec![b'1'; 70_000].into(),
        ..wish("drop", "")
    };
    let messages = numbered([wish("drop", ""), large.clone(), large, wish("drop", "")]);
    assert_eq!(many(&mut module.instance(), &messages).1, 4);
}

/// A guest with a `transform-batch`, written by hand. `$begin` begins a message, and `$answer` returns the bytes at an
/// address.
fn by_hand(more: &str, body: &str) -> Vec<u8> {
    let imports = format!(
        r#"{TYPES}
        (import "slipring:transform/batch@0.1.0" (instance $batch (export "begin" (func (param "index" u32)))))
        (core func $begin (canon lower (func $batch "begin")))
        (core instance $host (export "begin" (func $begin)))"#
    );
    let more = format!(
        r#"(import "host" "begin" (func $begin (param i32)))
        (data (i32.const 64) "{more}")
        (func $answer (param $address i32) (param $length i32) (result i32)
            (i32.store (i32.const 32) (local.get $address))
            (i32.store (i32.const 36) (local.get $length))
            (i32.const 32))
        (func (export "transform-batch") (param $messages i32) (param $length i32) (result i32) {body})"#
    );
    let guest = Guest {
        transform: ONE,
        more: &more,
        ..Guest::default()
    };
    let exports = format!(
        r#"{EXPORTS}
        (func $many (param "messages" (list u8)) (result (list u8))
            (canon lift (core func $guest "transform-batch")
                (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
        (export "transform-batch" (func $many))"#
    );
    component(&imports, &guest.core(), &exports)
}

/// Whatever the guest returns for many messages, each gets the one publication that it returns for one.
#[test]
fn a_guest_whose_results_cannot_be_read_gets_its_messages_one_by_one() {
    let messages = numbered(vec![wish("ok", "1"); 3]);
    let begin = "(call $begin (i32.const 0))";
    let bodies = [
        ("", "(call $answer (i32.const 64) (i32.const 0))".to_owned()),
        // No results, and more than there are messages.
        (
            r"\00\00\00\00",
            "(call $answer (i32.const 64) (i32.const 4))".to_owned(),
        ),
        (
            r"\04\00\00\00\00\00\00\00\00",
            "(call $answer (i32.const 64) (i32.const 9))".to_owned(),
        ),
        // A result that is neither publications nor a reason.
        (
            r"\01\00\00\00\02",
            "(call $answer (i32.const 64) (i32.const 5))".to_owned(),
        ),
        // Lists and texts that are longer than the rest.
        (
            r"\01\00\00\00\00\ff\ff\ff\ff",
            "(call $answer (i32.const 64) (i32.const 9))".to_owned(),
        ),
        (
            r"\01\00\00\00\01\ff\ff\ff\ff",
            "(call $answer (i32.const 64) (i32.const 9))".to_owned(),
        ),
        (
            r"\01\00\00\00\01\00\00\00\00\00",
            "(call $answer (i32.const 64) (i32.const 10))".to_owned(),
        ),
        // Not UTF-8.
        (
            r"\01\00\00\00\01\01\00\00\00\ff",
            "(call $answer (i32.const 64) (i32.const 10))".to_owned(),
        ),
        // Outside of its memory.
        ("", "(call $answer (i32.const -1) (i32.const 100))".to_owned()),
        // Messages in the wrong order, one that does not exist, and one for ever.
        ("", "(call $begin (i32.const 1)) unreachable".to_owned()),
        ("", format!("{begin} (call $begin (i32.const 2)) unreachable")),
        ("", format!("(loop {begin} (br 0)) unreachable")),
        // Results for messages that were not begun, and none for one that was.
        (
            r"\01\00\00\00\00\00\00\00\00",
            "(call $answer (i32.const 64) (i32.const 9))".to_owned(),
        ),
        (
            r"\01\00\00\00\00\00\00\00\00",
            format!("{begin} (call $begin (i32.const 1)) (call $answer (i32.const 64) (i32.const 9))"),
        ),
        ("", "unreachable".to_owned()),
        ("", "(loop (br 0)) unreachable".to_owned()),
    ];
    for (data, body) in bodies {
        let wasm = by_hand(data, &body);
        let engine = super::super::Engine::new(None).expect("an engine");
        let module = Module::load(&engine, "test", &wasm, "{}", impatient()).expect("a module");
        let mut instance = module.instance();
        let (outcomes, _) = many(&mut instance, &messages);
        assert_eq!(outcomes, one_by_one(&module, &messages), "{body} {data}");
        assert!(
            outcomes.iter().all(|outcome| outcome.starts_with("Publish")),
            "{body}: {outcomes:?}"
        );
    }
}

#[test]
fn a_function_of_another_type_is_refused() {
    let guest = Guest::default();
    let exports = format!(r#"{EXPORTS} (export "transform-batch" (func $init))"#);
    let wasm = component(&format!("{TYPES} {}", guest.imports), &guest.core(), &exports);
    let engine = super::super::Engine::new(None).expect("an engine");
    let error = Module::load(&engine, "test", &wasm, "{}", limits())
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("its `transform-batch` is not a function from list<u8> to list<u8>"),
        "{error}"
    );
}

#[test]
fn workers_return_what_messages_become_in_order_and_within_the_room() {
    let module = module(
        Form::Component,
        "{}",
        Limits::new(Duration::from_secs(5), 64 * 1024 * 1024),
    );
    let wishes = ["ok", "drop", "reject", "binary"].map(|name| wish(name, "1"));
    let messages = numbered(wishes.into_iter().cycle().take(1_000));
    let expected = one_by_one(&module, &messages);
    // In the second round, each outcome has to be taken over before the next one.
    for room in [usize::MAX, 0] {
        let (mut workers, mut results) = Workers::spawn("test", 2, |_| 1_000).expect("threads");
        workers.balance(0, |_| (room, true));
        for (chunk, first) in messages.chunks(100).zip((0_u64..).step_by(100)) {
            workers.submit(Chunk {
                module: Arc::clone(&module),
                trial: None,
                messages: (first..).zip(chunk.iter().cloned()).collect(),
            });
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < messages.len() {
            let piece = results.blocking_recv().expect("the workers live");
            assert!(room > 0 || piece.outcomes.len() == 1, "one at a time: {piece:?}");
            for transformed in piece.outcomes {
                assert_eq!(transformed.ticket, outcomes.len() as u64);
                if room == 0 {
                    let message = &messages[outcomes.len()];
                    assert_eq!(Arc::strong_count(message), 1, "it is held while others wait");
                }
                outcomes.push(format!("{:?}", transformed.outcome));
            }
            workers.balance(piece.bytes, |held| {
                assert!(room > 0 || held.bytes == 0, "{held:?}");
                (room, true)
            });
        }
        assert_eq!(outcomes, expected);
    }
}
