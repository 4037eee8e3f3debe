//! Tests harmful guests. Each costs its own message and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Module;
use super::super::limits::thread_time;
use super::wat::{Guest, impatient, limits};
use super::{check_rejected, message, version};
use crate::message::Outcome;

#[test]
fn a_trap_says_what_it_was() {
    let mut instance = Guest {
        transform: "unreachable",
        ..Guest::default()
    }
    .instance();
    check_rejected(
        instance.call(&message(1)),
        "trap",
        "trapped: wasm `unreachable` instruction executed",
    );
}

#[test]
fn an_endless_loop_ends_at_the_time_out() {
    let guest = Guest {
        transform: "(loop (br 0)) unreachable",
        ..Guest::default()
    };
    let mut instance = guest.load(impatient()).expect("a module").instance();
    let start = thread_time();
    check_rejected(
        instance.call(&message(1)),
        "timeout",
        "did not return within its timeout of 100ms",
    );
    let used = thread_time() - start;
    // The timeout occurs twice because the message is tried once more. Neither call uses twice its time.
    assert!(
        (Duration::from_millis(200)..Duration::from_millis(400)).contains(&used),
        "{used:?}"
    );
}

/// Takes about 15 ms of processor time, and returns a publication.
const LENGTHY: &str = "(local.set $left (i64.const 20000000))
    (loop
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br_if 0 (i64.ne (local.get $left) (i64.const 0))))
    (call $result (i32.const 0) (call $publication) (i32.const 1))";

/// Simulates a machine with next to no time for the call: the clock runs on while the call does not.
fn without_processor<T>(module: &Module, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..100).for_each(|_| module.engine.increment_epoch());
                thread::sleep(Duration::from_micros(100));
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn a_call_that_gets_no_processor_is_not_ended() {
    let guest = Guest {
        transform: LENGTHY,
        ..Guest::default()
    };
    let module = guest.load(impatient()).expect("a module");
    let outcome = without_processor(&module, || module.instance().call(&message(1)));
    assert!(matches!(outcome, Outcome::Publish(_)), "{outcome:?}");
}

#[test]
fn an_init_that_gets_no_processor_is_not_ended() {
    let guest = Guest {
        init: "(local i64)
            (local.set 2 (i64.const 20000000))
            (loop
                (local.set 2 (i64.sub (local.get 2) (i64.const 1)))
                (br_if 0 (i64.ne (local.get 2) (i64.const 0))))
            (call $result (i32.const 0) (i32.const 0) (i32.const 0))",
        ..Guest::default()
    };
    let module = guest.load(impatient()).expect("a module");
    let outcome = without_processor(&module, || module.instance().try_out());
    outcome.expect("it starts");
}

/// A real one: whatever else the machine does comes first.
#[cfg(target_os = "linux")]
#[test]
fn on_a_busy_machine_no_call_is_ended() {
    let guest = Guest {
        transform: LENGTHY,
        ..Guest::default()
    };
    let module = guest.load(impatient()).expect("a module");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 * cores {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let starved = scope.spawn(|| {
            // On Linux, that of this thread alone.
            rustix::process::nice(19).expect("anybody may lower it");
            let (mut instance, begin) = (module.instance(), Instant::now());
            for sequence in 1.. {
                let start = Instant::now();
                let outcome = instance.call(&message(sequence));
                assert!(matches!(outcome, Outcome::Publish(_)), "{sequence}: {outcome:?}");
                if start.elapsed() > 3 * module.limits.timeout {
                    return;
                }
                assert!(begin.elapsed() < Duration::from_secs(120), "no call takes long");
            }
        });
        let done = starved.join();
        over.store(true, Ordering::Relaxed);
        done.expect("every call is good");
    });
}

#[test]
fn endless_recursion_is_a_trap() {
    let guest = Guest {
        more: "(func $f (call $f))",
        transform: "(call $f) unreachable",
        ..Guest::default()
    };
    check_rejected(
        guest.instance().call(&message(1)),
        "trap",
        "overflowed its stack, most likely by endless recursion",
    );
}

#[test]
fn memory_ends_at_its_limit() {
    // Works like an allocator: grows until that fails, then gives up.
    let transform = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let mut instance = Guest {
        transform,
        ..Guest::default()
    }
    .instance();
    check_rejected(
        instance.call(&message(1)),
        "memory",
        "needed more memory than its limit of 4 MiB",
    );
}

#[test]
fn a_list_that_leads_out_of_its_memory_is_a_trap() {
    let transform = "(call $result (i32.const 0) (i32.const 0) (i32.const 0x7fffffff))";
    let outcome = Guest {
        transform,
        ..Guest::default()
    }
    .instance()
    .call(&message(1));
    assert!(
        matches!(&outcome, Outcome::Reject(rejection) if rejection.code == "trap"),
        "{outcome:?}"
    );
}

#[test]
fn output_ends_at_its_limit() {
    // 40,000 publications of 80 bytes, all zero. They fit in memory and name no channel.
    let transform =
        "(drop (memory.grow (i32.const 50))) (call $result (i32.const 0) (i32.const 131072) (i32.const 40000))";
    let guest = Guest {
        transform,
        ..Guest::default()
    };
    let module = guest.load(limits()).expect("a module");
    let reason = "returned 40000 publications for one message; 10000 is the limit";
    check_rejected(module.instance().call(&message(1)), "output", reason);
    let module = guest
        .load(super::super::Limits {
            max_output: 64 * 1024,
            ..limits()
        })
        .expect("a module");
    check_rejected(
        module.instance().call(&message(1)),
        "output",
        "returned more than 64 KiB for one message",
    );
}

#[test]
fn a_fault_that_a_fresh_instance_does_not_have_is_not_seen() {
    // The guest traps at every second call.
    let guest = Guest {
        more: "(global $calls (mut i32) (i32.const 0))",
        transform: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))
            (call $result (i32.const 0) (call $publication) (i32.const 1))",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    for sequence in 1..=5 {
        let outcome = instance.call(&message(sequence));
        assert!(matches!(outcome, Outcome::Publish(_)), "{sequence}: {outcome:?}");
    }
}

#[test]
fn a_message_after_a_trap_finds_a_working_instance() {
    // The guest traps only for message 1.
    let transform = "(if (i64.eq (local.get $sequence) (i64.const 1)) (then unreachable))
        (call $result (i32.const 0) (call $publication) (i32.const 1))";
    let mut instance = Guest {
        transform,
        ..Guest::default()
    }
    .instance();
    assert!(matches!(instance.call(&message(1)), Outcome::Reject(_)));
    assert!(matches!(instance.call(&message(2)), Outcome::Publish(_)));
}

#[test]
fn an_instance_that_has_grown_is_replaced() {
    // The guest counts its calls in the version. Message 2 makes its memory grow by 3 MiB of the 4.
    let guest = Guest {
        more: "(global $calls (mut i64) (i64.const 0))",
        transform: "(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (if (i64.eq (local.get $sequence) (i64.const 2)) (then (drop (memory.grow (i32.const 48)))))
            (local.set $at (call $publication))
            (i32.store8 offset=24 (local.get $at) (i32.const 1))
            (i64.store offset=32 (local.get $at) (global.get $calls))
            (call $result (i32.const 0) (local.get $at) (i32.const 1))",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    let calls: Vec<u64> = (1..=4)
        .map(|sequence| version(instance.call(&message(sequence))))
        .collect();
    assert_eq!(calls, [1, 2, 1, 2]);
}

#[test]
fn an_init_that_fails_later_rejects_with_its_reason() {
    // The guest refuses all settings but those of two bytes.
    let guest = Guest {
        init: "(call $result (i32.ne (local.get 1) (i32.const 2)) (i32.const 16) (i32.const 1))",
        ..Guest::default()
    };
    let mut module = guest.load(limits()).expect("a module");
    Arc::get_mut(&mut module).expect("the only one").settings = "other".into();
    check_rejected(
        module.instance().call(&message(1)),
        "init",
        "`init` refused its settings: a",
    );
}
