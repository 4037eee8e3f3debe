//! Tests guests that try to get out of their sandbox. Each attempt costs its own message, and the next message finds a
//! working instance.

use super::super::{Engine, Module};
use super::message;
use super::wat::{EXPORTS, Guest, NOTHING, OK, ONE, TYPES, component, limits};
use crate::message::Outcome;

/// The guests publish the JSON `1` if they are well.
#[track_caller]
fn check_published(outcome: &Outcome, name: &str) {
    assert!(
        matches!(outcome, Outcome::Publish(all) if all.len() == 1),
        "{name}: {outcome:?}"
    );
}

/// Makes the attempt for message 1 only. Returns the code of its rejection.
fn attempt(wasm: &[u8], name: &str) -> String {
    let engine = Engine::new(None).expect("an engine");
    let module = Module::load(&engine, "test", wasm, "{}", limits()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut instance = module.instance();
    let outcome = instance.call(&message(1));
    check_published(&instance.call(&message(2)), name);
    match outcome {
        Outcome::Reject(rejection) => rejection.code.into_owned(),
        other => panic!("{name}: {other:?}"),
    }
}

/// Makes a guest that does this for message 1.
fn first(transform: &str) -> String {
    format!("(if (i64.eq (local.get $sequence) (i64.const 1)) (then {transform})) {ONE}")
}

#[test]
fn no_address_leads_out_of_the_guest_s_memory() {
    let attempts = [
        "(drop (i32.load (i32.const -1)))",
        "(drop (i32.load offset=0xffffffff (i32.const -1)))",
        "(drop (i64.load8_u (i32.const 131072)))",
        "(i64.store (i32.const 131065) (i64.const -1))",
        "(i64.store offset=0x80000000 (i32.const 0x7fffffff) (i64.const -1))",
        "(memory.fill (i32.const 131071) (i32.const 1) (i32.const 2))",
        "(memory.copy (i32.const 0) (i32.const 1) (i32.const -1))",
        "(memory.copy (i32.const -16) (i32.const 0) (i32.const 32))",
        "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 3))",
        "(call_indirect (i32.const 4))",
        "(call_indirect (i32.const -1))",
        // An empty place, and a function of another type.
        "(call_indirect (i32.const 0))",
        "(call_indirect (i32.const 1))",
        "(table.set (i32.const 4) (ref.func $other))",
    ];
    for attempt_text in attempts {
        let guest = Guest {
            transform: &first(attempt_text),
            more: "(table 4 funcref) (func $other (param i32)) (elem (i32.const 1) $other) (data $data \"ab\")",
            ..Guest::default()
        };
        assert_eq!(attempt(&guest.wasm(), attempt_text), "trap", "{attempt_text}");
    }
}

/// The relay reads what a guest returns at addresses and with lengths that the guest chooses.
#[test]
fn what_is_returned_cannot_lead_out_either() {
    let publication = |change: &str| {
        format!(
            "(local.set $at (call $publication)) {change}
             (return (call $result (i32.const 0) (local.get $at) (i32.const 1)))"
        )
    };
    let attempts = [
        // The result itself: outside, across the end, not aligned, neither ok nor an error.
        "(return (i32.const -4))".to_owned(),
        "(return (i32.const 131068))".to_owned(),
        "(return (i32.const 65537))".to_owned(),
        "(return (call $result (i32.const 2) (i32.const 0) (i32.const 0)))".to_owned(),
        "(return (call $result (i32.const 255) (i32.const 0) (i32.const 0)))".to_owned(),
        // A reason, and a list of publications.
        "(return (call $result (i32.const 1) (i32.const -1) (i32.const 2)))".to_owned(),
        "(return (call $result (i32.const 1) (i32.const 0) (i32.const -1)))".to_owned(),
        "(return (call $result (i32.const 0) (i32.const 131064) (i32.const 1)))".to_owned(),
        "(return (call $result (i32.const 0) (i32.const 3) (i32.const 1)))".to_owned(),
        "(return (call $result (i32.const 0) (i32.const 8) (i32.const 0x10000000)))".to_owned(),
        // In a publication: its channels, a channel, its body.
        publication("(i32.store (local.get $at) (i32.const 131072))"),
        publication("(i32.store offset=4 (local.get $at) (i32.const 0x20000001))"),
        publication("(i32.store (i32.load (local.get $at)) (i32.const 131072))"),
        publication("(i32.store offset=4 (i32.load (local.get $at)) (i32.const -1))"),
        publication("(i32.store8 (i32.const 16) (i32.const 0xff))"),
        publication("(i32.store8 offset=8 (local.get $at) (i32.const 2))"),
        publication("(i32.store offset=12 (local.get $at) (i32.const -1))"),
        publication("(i32.store offset=16 (local.get $at) (i32.const -1))"),
        // A version that is neither there nor absent.
        publication("(i32.store8 offset=24 (local.get $at) (i32.const 7))"),
    ];
    for attempt_text in attempts {
        let guest = Guest {
            transform: &first(&attempt_text),
            ..Guest::default()
        };
        let code = attempt(&guest.wasm(), &attempt_text);
        assert!(["trap", "output"].contains(&&*code), "{attempt_text}: {code}");
    }
}

/// The relay writes each message to the address that the guest's `realloc` returns.
#[test]
fn what_is_passed_goes_to_the_guest_s_memory_and_nowhere_else() {
    let whole = "(call $allocate (local.get $align) (local.get $size))";
    for bad in [
        "(i32.const -1)",
        "(i32.const 131072)",
        "(i32.const 131071)",
        "(unreachable)",
    ] {
        // From the first message on. `init` has settings to pass, too.
        let guest = Guest {
            init: &format!("(global.set $bad (i32.const 1)) {OK}"),
            more: "(global $bad (mut i32) (i32.const 0))",
            ..Guest::default()
        };
        let realloc = format!("(if (result i32) (global.get $bad) (then {bad}) (else {whole}))");
        let text = guest.core().replacen(whole, &realloc, 1);
        let wasm = component(&format!("{TYPES} {NOTHING}"), &text, EXPORTS);
        let engine = Engine::new(None).expect("an engine");
        let module = Module::load(&engine, "test", &wasm, "{}", limits()).expect("a module");
        let outcome = module.instance().call(&message(1));
        assert!(
            matches!(&outcome, Outcome::Reject(rejection) if rejection.code == "trap"),
            "{bad}: {outcome:?}"
        );
    }
}

/// WASI as it was before components knows files and sockets by number.
#[test]
fn no_number_is_a_file_or_socket() {
    let more = r#"
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environment (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $arguments (param i32 i32) (result i32)))
        (data (i32.const 1024) "/etc/hostname")
        (global $successes (mut i32) (i32.const 0))
        (func $count (param $success i32)
            (global.set $successes (i32.add (global.get $successes) (local.get $success))))
        (func $all (local $number i32)
            ;; One buffer of 8 bytes.
            (i32.store (i32.const 2048) (i32.const 4096))
            (i32.store (i32.const 2052) (i32.const 8))
            (loop $next
                (call $count (i32.eqz (call $open (local.get $number) (i32.const 1) (i32.const 1024) (i32.const 13)
                    (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 3072))))
                (call $count (i32.eqz (call $prestat (local.get $number) (i32.const 3072))))
                ;; The first three are standard input, output and error.
                (if (i32.gt_u (local.get $number) (i32.const 2)) (then
                    (call $count (i32.eqz (call $stat (local.get $number) (i32.const 3072))))
                    (call $count (i32.eqz (call $read (local.get $number) (i32.const 2048) (i32.const 1) (i32.const 3072))))
                    (call $count (i32.eqz (call $write (local.get $number) (i32.const 2048) (i32.const 1) (i32.const 3072))))))
                (local.set $number (i32.add (local.get $number) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $number) (i32.const 1000))))
            ;; Standard input is at its end.
            (i32.store (i32.const 3072) (i32.const 0))
            (drop (call $read (i32.const 0) (i32.const 2048) (i32.const 1) (i32.const 3072)))
            (call $count (i32.ne (i32.load (i32.const 3072)) (i32.const 0)))
            (drop (call $environment (i32.const 3072) (i32.const 3076)))
            (call $count (i32.load (i32.const 3072)))
            (drop (call $arguments (i32.const 3072) (i32.const 3076)))
            (call $count (i32.load (i32.const 3072))))"#;
    let guest = Guest {
        // The adapter to WASI 0.2 takes a page for itself.
        transform: &format!(
            "(drop (memory.grow (i32.const 30))) (call $all) (if (global.get $successes) (then unreachable)) {ONE}"
        ),
        more,
        ..Guest::default()
    };
    let text = guest.core().replace("\"realloc\"", "\"cabi_realloc\"");
    let wasm = wat::parse_str(text.replacen("(core module $core", "(module", 1)).expect("valid text");
    let engine = Engine::new(None).expect("an engine");
    let module = Module::load(&engine, "test", &wasm, "{}", limits()).expect("a module");
    check_published(&module.instance().call(&message(1)), "1,000 numbers");
}
