//! Describes why a call produced no result. A trap alone does not help a person; the text of a panic does.

use std::time::Duration;

use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use super::last_words::LastWords;
use super::limits::Limits;
use crate::message::{Rejection, Stage};

/// The most bytes of a rejection's reason, which becomes a header of the dead letter.
const MAX_REASON: usize = 1024;

/// A failed call. The instance is lost, but the message may succeed on another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The rejection's code.
    pub code: &'static str,
    pub reason: String,
}

impl Failure {
    pub fn new(code: &'static str, reason: &str) -> Self {
        Self {
            code,
            reason: one_line(reason),
        }
    }

    /// Describes an error that ended a call, with what the guest said before.
    pub fn of(error: &wasmtime::Error, words: &LastWords, limits: &Limits, timeout: Duration) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            // WASI 0.2 passes on whether it failed, and no number.
            let how = if exit.0 == 0 { "exited" } else { "exited with an error" };
            let exited = || with_words(format!("{how} instead of returning"), words);
            return Self::new("exit", &words.report().unwrap_or_else(exited));
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Self::new("timeout", &format!("did not return within its timeout of {timeout:?}")),
            _ if words.memory_denied => {
                let limit = human_bytes(limits.memory);
                Self::new(
                    "memory",
                    &with_words(format!("needed more memory than its limit of {limit}"), words),
                )
            }
            Some(Trap::StackOverflow) => Self::new("trap", "overflowed its stack, most likely by endless recursion"),
            Some(trap) => Self::new("trap", &explain(trap, words)),
            None => Self::of_host(error, words, limits),
        }
    }

    /// Describes an error that a host function returned.
    fn of_host(error: &wasmtime::Error, words: &LastWords, limits: &Limits) -> Self {
        let cause = error.root_cause().to_string();
        // wasmtime does not export this error's type (48.0.8, `HostcallFuelExhausted`). A test checks the text.
        if cause.contains("fuel allocated for hostcalls has been exhausted") {
            let limit = human_bytes(limits.max_output);
            return Self::new("output", &format!("returned more than {limit} for one message"));
        }
        Self::new("trap", &with_words(cause, words))
    }

    pub fn into_rejection(self) -> Rejection {
        reject(self.code, self.reason)
    }
}

pub(super) fn reject(code: &'static str, reason: String) -> Rejection {
    Rejection {
        stage: Stage::Transform,
        code: code.into(),
        channel: None,
        reason,
    }
}

fn explain(trap: &Trap, words: &LastWords) -> String {
    words.report().unwrap_or_else(|| {
        let trap = trap.to_string();
        with_words(
            format!("trapped: {}", trap.strip_prefix("wasm trap: ").unwrap_or(&trap)),
            words,
        )
    })
}

/// An abort without a panic also explains itself on standard error, for example with "memory allocation of 8 bytes
/// failed".
fn with_words(reason: String, words: &LastWords) -> String {
    match words.report().as_deref().or_else(|| words.last_line()) {
        Some(text) => format!("{reason}; its last output: {text}"),
        None => reason,
    }
}

/// Removes line breaks and other control characters, which a header cannot hold, and limits the length.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_REASON {
            line.truncate(line.floor_char_boundary(MAX_REASON));
            line.push('…');
            break;
        }
    }
    line
}

pub(super) fn human_bytes(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    const KIB: usize = 1024;
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<wasmtime::Error>, words: &LastWords, code: &str, reason: &str) {
        let limits = Limits::new(Duration::from_millis(100), 64 * 1024 * 1024);
        let failure = Failure::of(&error.into(), words, &limits, limits.timeout);
        assert_eq!((failure.code, failure.reason.as_str()), (code, reason));
    }

    fn stderr(text: &str) -> LastWords {
        LastWords {
            stderr: text.to_owned(),
            ..LastWords::default()
        }
    }

    #[test]
    fn a_panic_s_text_is_the_reason() {
        let words = stderr(
            "first\n\nthread '<unnamed>' panicked at src/lib.rs:10:5:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
        );
        let reason = "panicked at src/lib.rs:10:5: assertion `left == right` failed left: 1 right: 2";
        check(Trap::UnreachableCodeReached, &words, "trap", reason);
    }

    #[test]
    fn a_core_module_hands_its_panic_over() {
        let words = LastWords {
            panic: Some("panicked at src/lib.rs:1:2: no".into()),
            ..LastWords::default()
        };
        check(
            Trap::UnreachableCodeReached,
            &words,
            "trap",
            "panicked at src/lib.rs:1:2: no",
        );
    }

    #[test]
    fn a_trap_without_words_says_what_it_was() {
        check(
            Trap::MemoryOutOfBounds,
            &stderr(""),
            "trap",
            "trapped: out of bounds memory access",
        );
        let words = stderr("hm\nlast\nnote: run with `RUST_BACKTRACE=1`\n\n");
        check(
            Trap::UnreachableCodeReached,
            &words,
            "trap",
            "trapped: wasm `unreachable` instruction executed; its last output: last",
        );
    }

    #[test]
    fn a_panic_in_go_is_found_above_its_stack() {
        let words =
            stderr("hm\npanic: no such order\n\ngoroutine 19 [running]:\nmain.orders(...)\n\torders/orders.go:39\n");
        check(
            wasmtime::Error::new(I32Exit(2)),
            &words,
            "exit",
            "panic: no such order (orders.go:39)",
        );
    }

    #[test]
    fn each_limit_is_named() {
        check(
            Trap::Interrupt,
            &stderr(""),
            "timeout",
            "did not return within its timeout of 100ms",
        );
        let words = LastWords {
            memory_denied: true,
            ..LastWords::default()
        };
        check(
            Trap::UnreachableCodeReached,
            &words,
            "memory",
            "needed more memory than its limit of 64 MiB",
        );
        check(
            Trap::StackOverflow,
            &stderr(""),
            "trap",
            "overflowed its stack, most likely by endless recursion",
        );
    }

    #[test]
    fn a_refusal_of_the_host_is_passed_on() {
        let error =
            wasmtime::Error::msg("a transform cannot sleep").context("error while executing at wasm backtrace: …");
        check(error, &stderr(""), "trap", "a transform cannot sleep");
        check(
            wasmtime::Error::new(I32Exit(3)),
            &stderr(""),
            "exit",
            "exited with an error instead of returning",
        );
    }

    #[test]
    fn a_reason_fits_a_header() {
        assert_eq!(one_line("  a\r\n\tb\u{0} c "), "a b c");
        let long = one_line(&"ä".repeat(5_000));
        assert!(
            long.len() <= MAX_REASON + '…'.len_utf8() && long.ends_with('…'),
            "{}",
            long.len()
        );
    }
}
