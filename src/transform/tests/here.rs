//! Tests calls on the thread that reads the messages: they do what calls on the module's own threads do, and leave to those
//! whatever may take long.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::{Chunk, Limits, Module, Piece, Workers};
use super::unruly::{BOTH, Form, logged, module, wish};
use crate::message::{Message, Outcome};

/// Its timeout is much longer than a call on this thread may take.
fn load(form: Form) -> Arc<Module> {
    let limits = Limits {
        timeout: Duration::from_secs(20),
        ..Limits::new(Duration::from_secs(20), 64 * 1024 * 1024)
    };
    module(form, "{}", limits)
}

/// Returns a module that is compiled once for all tests, because compiling is slow.
fn patient(form: Form) -> Arc<Module> {
    static MODULES: LazyLock<[Arc<Module>; 2]> = LazyLock::new(|| BOTH.map(load));
    Arc::clone(&MODULES[form as usize])
}

fn submit(workers: &mut Workers, module: &Arc<Module>, message: Message) {
    workers.submit(Chunk {
        module: Arc::clone(module),
        trial: None,
        messages: vec![(7, Arc::new(message))],
    });
}

fn next(results: &mut UnboundedReceiver<Piece>) -> Outcome {
    let piece = results.blocking_recv().expect("the workers live");
    piece.outcomes.into_iter().next().expect("an outcome").outcome
}

/// Calls the module on its thread until its calls are known to be short. A busy machine makes some of them long.
fn learn(workers: &mut Workers, results: &mut UnboundedReceiver<Piece>, module: &Arc<Module>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while workers.here(module, 1).is_none() {
        assert!(Instant::now() < deadline, "no call is short");
        submit(workers, module, wish("drop", ""));
        next(results);
    }
}

/// Returns workers that know the module's calls to be short.
fn workers(module: &Arc<Module>) -> (Workers, UnboundedReceiver<Piece>) {
    let (mut workers, mut results) = Workers::spawn("test", 1, |_| 0).expect("threads");
    assert!(workers.here(module, 1).is_none(), "nothing is known yet");
    learn(&mut workers, &mut results, module);
    (workers, results)
}

#[test]
fn few_messages_become_here_what_they_become_on_a_thread() {
    for form in BOTH {
        let module = patient(form);
        let (mut workers, mut results) = workers(&module);
        let mut instance = module.instance();
        for wish in [
            wish("ok", r#"{"a":[1, 2.50]}"#),
            wish("channels", r#"["a","b"]"#),
            wish("headers", ""),
            wish("drop", ""),
            wish("reject", "no"),
            wish("large", "300000"),
        ] {
            learn(&mut workers, &mut results, &module);
            let mut here = workers.here(&module, 1).expect("calls are short");
            let (outcome, took) = here.call(&wish).expect("it is over soon");
            assert_eq!(
                format!("{outcome:?}"),
                format!("{:?}", instance.call(&wish)),
                "{form:?}"
            );
            assert!(took > Duration::ZERO);
        }
    }
}

/// Output goes through blocking calls of wasmtime-wasi, which panic inside an async task.
#[test]
fn a_guest_may_print_between_two_turns_of_a_runtime() {
    let module = patient(Form::Component);
    let (mut workers, mut results) = workers(&module);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for line in ["one", "two"] {
        learn(&mut workers, &mut results, &module);
        runtime.block_on(tokio::task::yield_now());
        let lines = logged(|| {
            let mut here = workers.here(&module, 1).expect("calls are short");
            here.call(&wish("say", line)).expect("it is over soon");
        });
        assert!(lines.iter().any(|logged| logged.contains(line)), "{lines:?}");
    }
}

#[test]
fn what_fails_or_takes_long_is_left_to_the_threads() {
    let module = patient(Form::Component);
    for slow in [wish("loop", ""), wish("panic", "as asked"), wish("spin", "2000000000")] {
        let (mut workers, mut results) = workers(&module);
        let start = Instant::now();
        let mut here = workers.here(&module, 1).expect("calls are short");
        assert!(here.call(&slow).is_none(), "{slow:?}");
        drop(here);
        assert!(start.elapsed() < Duration::from_secs(10), "it waited for the call");
        assert!(workers.here(&module, 1).is_none(), "the next one may be slow as well");
        submit(&mut workers, &module, wish("reject", "as asked"));
        let rejected = format!("{:?}", next(&mut results));
        assert!(rejected.contains("rejected as asked"), "{rejected}");
    }
}

#[test]
fn after_a_slow_one_the_others_are_left_to_the_threads() {
    let module = patient(Form::Component);
    let (workers, _results) = workers(&module);
    let mut here = workers.here(&module, 1).expect("calls are short");
    let start = Instant::now();
    // It may be cut off, or not.
    let _ = here.call(&wish("spin", "20000000"));
    assert!(
        start.elapsed() > Duration::from_millis(1),
        "it took too little for this test"
    );
    assert!(here.call(&wish("drop", "")).is_none());
}

#[test]
fn many_messages_and_new_modules_are_left_to_the_threads() {
    let module = patient(Form::Component);
    let (workers, _results) = workers(&module);
    assert!(workers.here(&module, 1_000_000).is_none(), "they take long together");
    let other = load(Form::Component);
    let mut here = workers.here(&other, 1).expect("calls are short");
    assert!(here.call(&wish("drop", "")).is_none(), "`init` may take long");
}

#[test]
fn nothing_happens_here_while_the_thread_is_busy() {
    let module = patient(Form::Component);
    let (mut workers, mut results) = workers(&module);
    submit(&mut workers, &module, wish("spin", "200000000"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while workers.here(&module, 1).is_some() {
        assert!(Instant::now() < deadline, "the thread never began");
    }
    next(&mut results);
}
