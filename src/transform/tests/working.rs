//! Tests guests that behave: what they see, and how workers run them.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::{Chunk, Engine, Module, Piece, Transformed, Workers};
use super::wat::{Guest, limits};
use super::{check_rejected, message};
use crate::message::{Body, Message, Outcome, Unreadable};

#[test]
fn a_message_becomes_a_publication() {
    let Outcome::Publish(publications) = Guest::default().instance().call(&message(1)) else {
        panic!("not published");
    };
    assert_eq!(publications.len(), 1);
    assert_eq!(&*publications[0].channels[0], "a");
    assert!(matches!(&publications[0].body, Body::Json(json) if json.get() == "1"));
}

#[test]
fn what_cannot_be_read_never_reaches_the_guest() {
    let mut instance = Guest::default().instance();
    let unreadable = Unreadable {
        reason: "its subject is not UTF-8: byte 3 of it is 0xfc".to_owned(),
        subject: b"a.\xfc".as_slice().into(),
        headers: bytes::Bytes::new(),
    };
    let message = Message {
        unreadable: Some(Box::new(unreadable)),
        ..message(1)
    };
    let reason = "the message cannot be read: its subject is not UTF-8: byte 3 of it is 0xfc";
    check_rejected(instance.call(&message), "unreadable", reason);
    assert_eq!(instance.memory(), 0, "it was not even started");
}

#[test]
fn the_memory_that_a_call_had_is_known() {
    const PAGE: usize = 64 * 1024;
    let guest = Guest {
        transform: "(if (i64.eq (local.get $sequence) (i64.const 2)) (then (drop (memory.grow (i32.const 3)))))
            (if (i64.eq (local.get $sequence) (i64.const 3)) (then (drop (memory.grow (i32.const 1))) (unreachable)))
            (call $result (i32.const 0) (i32.const 0) (i32.const 0))",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    let mut after = |sequence| {
        instance.call(&message(sequence));
        instance.memory() / PAGE
    };
    // The message that trapped is tried again on a new instance.
    assert_eq!([after(1), after(2), after(1), after(3)], [2, 5, 5, 3]);
}

#[test]
fn a_guest_sees_all_of_its_message() {
    // The guest returns each field as an error: the payload by default, and another field for the delivery count that
    // selects it.
    let field = |deliveries: u32| {
        let guest = Guest {
            transform: "(if (i32.eq (local.get $deliveries) (i32.const 2)) (then
                    (return (call $result (i32.const 1) (local.get $subject) (local.get $subject-length)))))
                (if (i32.eq (local.get $deliveries) (i32.const 3)) (then
                    (return (call $result (i32.const 1) (local.get $stream) (local.get $stream-length)))))
                (if (i32.eq (local.get $deliveries) (i32.const 4)) (then
                    (return (call $result (i32.const 1)
                        (i32.load offset=8 (local.get $headers)) (i32.load offset=12 (local.get $headers))))))
                (call $result (i32.const 1) (local.get $payload) (local.get $payload-length))",
            ..Guest::default()
        };
        let message = crate::message::Message {
            deliveries,
            ..message(1)
        };
        super::rejection(guest.instance().call(&message)).reason
    };
    assert_eq!(field(1), "{}");
    assert_eq!(field(2), "test.subject");
    assert_eq!(field(3), "TEST");
    assert_eq!(field(4), "value");
}

#[test]
fn random_numbers_and_time_are_the_message_s_in_every_call() {
    let imports = r#"
        (import "wasi:random/random@0.2.0" (instance $secure (export "get-random-u64" (func (result u64)))))
        (import "wasi:random/insecure@0.2.0" (instance $insecure (export "get-insecure-random-u64" (func (result u64)))))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
        (core func $a (canon lower (func $secure "get-random-u64")))
        (core func $b (canon lower (func $insecure "get-insecure-random-u64")))
        (core func $c (canon lower (func $clock "now")))
        (core instance $host (export "a" (func $a)) (export "b" (func $b)) (export "c" (func $c)))"#;
    let check = |transform: &str| {
        let guest = Guest {
            imports,
            more: r#"(import "host" "a" (func $secure (result i64))) (import "host" "b" (func $insecure (result i64)))
                (import "host" "c" (func $now (result i64)))"#,
            transform,
            ..Guest::default()
        };
        let module = guest.load(limits()).expect("a module");
        let mut instance = module.instance();
        let mut number = |sequence| super::version(instance.call(&message(sequence)));
        let numbers = [number(1), number(2), number(1)];
        assert_eq!(numbers[0], numbers[2]);
        assert_eq!(numbers[0], super::version(module.instance().call(&message(1))));
        numbers
    };
    let show = |number: &str| {
        format!(
            "(local.set $at (call $publication))
            (i32.store8 offset=24 (local.get $at) (i32.const 1))
            (i64.store offset=32 (local.get $at) (i64.shr_u {number} (i64.const 12)))
            (call $result (i32.const 0) (local.get $at) (i32.const 1))"
        )
    };
    for random in ["(call $secure)", "(call $insecure)"] {
        let numbers = check(&show(random));
        assert_ne!(numbers[0], numbers[1]);
    }
    let twice = check(&show("(i64.sub (call $secure) (call $secure))"));
    assert_ne!(twice[0], 0, "two numbers of one call are the same");
    assert_eq!(check(&show("(call $now)"))[0], message(1).timestamp >> 12);
}

#[test]
fn the_clock_runs_before_the_first_message() {
    let guest = Guest {
        imports: r#"
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
            (core func $now (canon lower (func $clock "now")))
            (core instance $host (export "now" (func $now)))"#,
        more: r#"(import "host" "now" (func $now (result i64)))"#,
        init: "(if (i64.eqz (call $now)) (then unreachable)) (call $result (i32.const 0) (i32.const 0) (i32.const 0))",
        ..Guest::default()
    };
    guest.load(limits()).expect("a clock that is not zero");
}

#[test]
fn outcomes_come_in_the_order_of_the_chunks() {
    // Lower sequences take longer. Without reordering, the last chunks would come first.
    let guest = Guest {
        transform: "(local.set $left (i64.mul (i64.sub (i64.const 400) (local.get $sequence)) (i64.const 3000)))
            (loop (br_if 0 (i64.gt_s (local.tee $left (i64.sub (local.get $left) (i64.const 1))) (i64.const 0))))
            (call $result (i32.const 0) (call $publication) (i32.const 1))",
        ..Guest::default()
    };
    let module = guest.load(limits()).expect("a module");
    let (mut workers, results) = Workers::spawn("test", 4, |_| 0).expect("threads");
    for number in 0..100 {
        workers.submit(chunk(&module, number * 4..number * 4 + 4));
    }
    drop(workers);
    let tickets: Vec<u64> = all(results).iter().map(|transformed| transformed.ticket).collect();
    assert_eq!(tickets, (0..400).collect::<Vec<_>>());
}

/// There is never room for the expected outcome, so each message goes alone, once everything before it is done.
#[test]
fn without_room_all_messages_get_through_one_after_the_other() {
    const COST: usize = 10_000;
    let guest = Guest {
        transform: super::wat::OK,
        ..Guest::default()
    };
    let module = guest.load(limits()).expect("a module");
    let (mut workers, mut results) = Workers::spawn("test", 4, |_| COST).expect("threads");
    workers.balance(0, |_| (0, true));
    for number in 0..10 {
        workers.submit(chunk(&module, number * 4..number * 4 + 4));
    }
    let mut tickets = Vec::new();
    while tickets.len() < 40 {
        let piece = results.blocking_recv().expect("the workers live");
        assert!(piece.outcomes.len() <= 1, "one at a time: {piece:?}");
        tickets.extend(piece.outcomes.iter().map(|transformed| transformed.ticket));
        workers.balance(piece.bytes, |held| {
            assert!(held.bytes <= 2 * COST, "{held:?}");
            (0, true)
        });
    }
    assert_eq!(tickets, (0..40).collect::<Vec<_>>());
}

/// Workers that wait for room end when nobody wants their outcomes.
#[test]
fn workers_that_wait_end_with_their_owner() {
    let module = Guest::default().load(limits()).expect("a module");
    let (mut workers, results) = Workers::spawn("test", 2, |_| 1).expect("threads");
    // Nothing is taken over, so no worker may continue.
    workers.balance(0, |_| (0, false));
    for number in 0..10 {
        workers.submit(chunk(&module, number * 4..number * 4 + 4));
    }
    drop(results);
    drop(workers);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while Arc::strong_count(&module) > 1 {
        assert!(std::time::Instant::now() < deadline, "a worker still has the module");
        std::thread::yield_now();
    }
}

#[test]
fn a_new_module_takes_over_between_two_chunks() {
    let old = Guest::default().load(limits()).expect("a module");
    let new = Guest {
        transform: super::wat::OK,
        ..Guest::default()
    }
    .load(limits())
    .expect("a module");
    let (mut workers, results) = Workers::spawn("test", 2, |_| 0).expect("threads");
    for number in 0..10 {
        workers.submit(chunk(if number < 5 { &old } else { &new }, number * 3..number * 3 + 3));
    }
    drop(workers);
    for transformed in all(results) {
        let by_old = matches!(transformed.outcome, Outcome::Publish(_));
        assert_eq!(by_old, transformed.ticket < 15, "{transformed:?}");
    }
    // The old module is released.
    assert_eq!(Arc::strong_count(&old), 1);
}

#[test]
fn the_tick_ends_with_the_last_engine() {
    let engine = Engine::new(None).expect("an engine");
    let module = Module::load(&engine, "test", &Guest::default().wasm(), "{}", limits()).expect("a module");
    let weak = engine.wasmtime.weak();
    drop(engine);
    assert!(weak.upgrade().is_some(), "the module still needs it");
    drop(module);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    // The tick's thread holds the engine for an instant every 10 ms.
    while weak.upgrade().is_some() {
        assert!(std::time::Instant::now() < deadline, "the engine still lives");
        std::thread::yield_now();
    }
}

fn chunk(module: &Arc<Module>, sequences: std::ops::Range<u64>) -> Chunk {
    let messages = sequences
        .map(|sequence| (sequence, Arc::new(message(sequence))))
        .collect();
    Chunk {
        module: Arc::clone(module),
        trial: None,
        messages,
    }
}

fn all(mut results: UnboundedReceiver<Piece>) -> Vec<Transformed> {
    std::iter::from_fn(|| results.blocking_recv())
        .flat_map(|piece| piece.outcomes)
        .collect()
}
