//! Tests what an open tap sees of workers, and that it changes nothing for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::super::{Chunk, Limits, Module, Trial, Workers};
use super::message;
use super::unruly::{Form, module, wish};
use super::wat::{Guest, ONE, limits};
use crate::message::Message;
use crate::tap::{Filter, Tap, Taps, View};

const CHUNK: usize = 100;

fn patient() -> Limits {
    Limits::new(Duration::from_secs(20), 64 * 1024 * 1024)
}

/// Returns what the messages became, in the order in which it came.
fn run(module: &Arc<Module>, trial: Option<&Arc<Trial>>, messages: &[Arc<Message>], tap: Tap) -> Vec<(u64, String)> {
    let (mut workers, mut results) = Workers::spawn_tapped("test", 4, |_| 0, tap).expect("threads");
    for (chunk, first) in messages.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        workers.submit(Chunk {
            module: Arc::clone(module),
            trial: trial.cloned(),
            messages: (first..).zip(chunk.iter().cloned()).collect(),
        });
    }
    drop(workers);
    let all = std::iter::from_fn(|| results.blocking_recv()).flat_map(|piece| piece.outcomes);
    all.map(|transformed| (transformed.ticket, format!("{:?}", transformed.outcome)))
        .collect()
}

fn messages(count: u64) -> Vec<Arc<Message>> {
    let wishes = ["ok", "drop", "reject", "headers"];
    let messages = (1..=count).zip(wishes.into_iter().cycle());
    messages
        .map(|(sequence, name)| {
            Arc::new(Message {
                place: sequence.into(),
                ..wish(name, "1")
            })
        })
        .collect()
}

fn open(taps: &Taps) -> View {
    taps.open(Filter::default(), 10_000).expect("a tap")
}

/// Returns what is shown so far.
fn shown(view: &mut View) -> Vec<Value> {
    let shown = std::iter::from_fn(|| view.next().now_or_never().flatten());
    shown
        .map(|shown| serde_json::to_value(&shown).expect("it is JSON"))
        .collect()
}

#[test]
fn taps_that_nobody_reads_change_no_outcome() {
    let module = module(Form::Component, "{}", patient());
    let messages = messages(10_000);
    let expected = run(&module, None, &messages, Tap::default());
    let tickets = expected.iter().map(|(ticket, _)| *ticket);
    assert!(tickets.eq(0..10_000));

    let taps = Taps::default();
    let (mut first, _second) = (open(&taps), open(&taps));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(open(&taps));
            }
        });
        let tapped = run(&module, None, &messages, taps.of("unruly"));
        done.store(true, Ordering::Relaxed);
        assert!(tapped == expected, "the outcomes differ");
    });
    let shown = shown(&mut first);
    assert!((1..=64).contains(&shown.len()), "{}", shown.len());
}

#[test]
fn one_that_is_read_shows_what_the_messages_became() {
    let module = module(Form::Component, "{}", patient());
    module.set_version("3045d0fa30ea-2a14983ed58f".into());
    let messages = messages(60);
    let taps = Taps::default();
    let mut view = open(&taps);
    run(&module, None, &messages, taps.of("unruly"));
    let shown = shown(&mut view);
    assert_eq!(shown.len(), messages.len());
    let by_wish = |wish: &str| {
        let subject = format!("test.{wish}");
        let mut of_wish = shown.iter().filter(move |one| one["subject"] == *subject);
        of_wish.next().expect("one").clone()
    };
    assert_eq!(
        by_wish("ok")["publications"],
        json!([{ "channels": ["unruly:ok"], "data": 1 }])
    );
    assert_eq!(by_wish("drop")["outcome"], "drop");
    assert_eq!(by_wish("reject")["reason"], "rejected as asked: 1");
    for (one, message) in shown.iter().zip(&messages) {
        assert_eq!(one["sequence"], message.sequence());
        assert_eq!(one["version"], "3045d0fa30ea-2a14983ed58f");
        assert_eq!((&one["payload"], &one["skipped"]), (&json!("1"), &json!(0)));
    }
}

#[test]
fn the_version_is_the_one_that_made_the_outcome() {
    let guest = |transform| {
        let guest = Guest {
            transform,
            ..Guest::default()
        };
        guest.load(limits()).expect("a module")
    };
    let old = guest(ONE);
    let new = guest("(call $result (i32.const 1) (i32.const 16) (i32.const 1))");
    old.set_version("OLD".into());
    new.set_version("NEW".into());
    let trial = Trial::new(old, Duration::from_secs(60), 1);
    let messages: Vec<_> = (1..=4).map(|sequence| Arc::new(message(sequence))).collect();
    let taps = Taps::default();
    let mut view = open(&taps);
    run(&new, Some(&trial), &messages, taps.of("test"));
    let shown = shown(&mut view);
    let by = |one: &Value| (one["version"].clone(), one["outcome"].clone());
    // The calls of the old version that only judge the new one are not shown.
    let (rejected, kept) = ((json!("NEW"), json!("reject")), (json!("OLD"), json!("publish")));
    assert_eq!(
        shown.iter().map(by).collect::<Vec<_>>(),
        [rejected.clone(), rejected, kept.clone(), kept]
    );
}

#[test]
fn calls_on_the_pipeline_s_thread_are_shown_too() {
    let module = module(Form::Component, "{}", patient());
    let taps = Taps::default();
    let (mut workers, mut results) = Workers::spawn_tapped("test", 1, |_| 0, taps.of("unruly")).expect("threads");
    let deadline = Instant::now() + Duration::from_secs(60);
    while workers.here(&module, 1).is_none() {
        assert!(Instant::now() < deadline, "no call is short");
        workers.submit(Chunk {
            module: Arc::clone(&module),
            trial: None,
            messages: vec![(0, Arc::new(wish("drop", "")))],
        });
        results.blocking_recv().expect("the workers live");
    }
    let mut view = open(&taps);
    let mut here = workers.here(&module, 1).expect("calls are short");
    let called = here.call(&wish("ok", "7"));
    // A busy machine may make the call long. It is then left to a worker, and not shown here.
    let expected = called.map(|_| json!([{ "channels": ["unruly:ok"], "data": 7 }]));
    let publications = shown(&mut view).into_iter().map(|one| one["publications"].clone());
    assert_eq!(publications.collect::<Vec<_>>(), Vec::from_iter(expected));
}
