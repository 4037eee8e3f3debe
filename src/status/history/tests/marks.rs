//! What counts as something that happened.

use super::*;
use crate::status::{NatsStatus, RolledBack};

/// A play in which the module runs with the version `a-b`, and this was told.
fn running() -> Play {
    let mut play = play();
    play.version("a", "b");
    play.at(0.5);
    play.at(1.5);
    assert_eq!(play.marks(), ["0.5 started orders: started with a-b"]);
    play
}

impl Play {
    fn version(&mut self, sha256: &str, toml_sha256: &str) {
        let orders = self.orders();
        orders.sha256 = Some(sha256.to_owned());
        orders.toml_sha256 = Some(toml_sha256.to_owned());
    }

    fn state(&mut self, state: State, reason: &str) {
        let orders = self.orders();
        orders.state = state;
        orders.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
    }

    fn nats(&mut self, connected: bool, trouble: Option<&str>) {
        self.status.nats = Some(NatsStatus {
            connected,
            trouble: trouble.map(str::to_owned),
            ..NatsStatus::default()
        });
    }

    /// Returns all marks, with the seconds since the start.
    fn marks(&self) -> Vec<String> {
        let shown = |mark: Mark| {
            let Mark {
                time,
                kind,
                module,
                text,
                ..
            } = mark;
            let module = module.map(|module| format!(" {module}")).unwrap_or_default();
            format!("{} {kind}{module}: {text}", time - START as f64)
        };
        self.recorder.marks_after(0).into_iter().map(shown).collect()
    }

    /// Returns the marks since the module started.
    fn new_marks(&self) -> Vec<String> {
        self.marks().split_off(1)
    }
}

#[test]
fn a_module_starts_once() {
    let mut play = play();
    play.version("a", "b");
    play.state(State::Starting, "");
    play.at(0.5);
    play.state(State::Running, "");
    play.at(1.5);
    play.state(State::Standby, "");
    play.at(2.5);
    play.state(State::Running, "");
    play.at(3.5);
    assert_eq!(play.marks(), ["1.5 started orders: started with a-b"]);
    // A module of that name that comes after it was removed is another one.
    let orders = play.status.modules.pop().unwrap();
    play.at(4.5);
    play.status.modules.push(orders);
    play.at(5.5);
    play.at(6.5);
    assert_eq!(play.new_marks(), ["5.5 started orders: started with a-b"]);
}

#[test]
fn a_swap_is_of_either_file() {
    let mut play = running();
    play.version("c", "b");
    play.at(2.5);
    play.at(3.5);
    play.version("c", "d");
    play.at(4.5);
    play.at(5.5);
    assert_eq!(
        play.new_marks(),
        ["2.5 swap orders: swapped to c-b", "4.5 swap orders: swapped to c-d"]
    );
}

#[test]
fn a_swap_is_told_when_both_hashes_are_known() {
    let mut play = running();
    play.version("c", "b");
    play.at(2.5);
    assert_eq!(play.new_marks().len(), 0);
    play.version("c", "d");
    play.at(3.5);
    play.orders().toml_sha256 = None;
    play.at(4.5);
    play.version("c", "d");
    play.at(5.5);
    play.at(6.5);
    play.at(7.5);
    assert_eq!(play.new_marks(), ["5.5 swap orders: swapped to c-d"]);
    // As if nothing had been.
    play.version("e", "d");
    play.at(8.5);
    play.version("c", "d");
    play.at(9.5);
    play.at(10.5);
    assert_eq!(play.new_marks().len(), 1);
}

#[test]
fn a_rollback_is_no_swap() {
    let mut play = running();
    play.version("c", "d");
    play.at(2.5);
    play.at(3.5);
    let rolled_back = |at: &str, reason: &str| {
        Some(RolledBack {
            sha256: "c".to_owned(),
            toml_sha256: "d".to_owned(),
            at: at.to_owned(),
            reason: reason.to_owned(),
        })
    };
    // The counter comes first, then a hash, and the rest when it is saved.
    play.orders().rollbacks = 1;
    play.at(4.5);
    play.orders().sha256 = Some("a".to_owned());
    play.at(5.5);
    play.version("a", "b");
    play.orders().rolled_back = rolled_back("today", "5 of 5 messages were rejected");
    play.at(6.5);
    play.at(7.5);
    // Then to another one, as another relay did.
    play.version("e", "f");
    play.orders().rolled_back = rolled_back("now", "a rollback was requested");
    play.at(8.5);
    play.at(9.5);
    // And forward.
    play.version("g", "h");
    play.orders().rolled_back = None;
    play.at(10.5);
    play.at(11.5);
    assert_eq!(
        play.new_marks(),
        [
            "2.5 swap orders: swapped to c-d",
            "5.5 rollback orders: rolled back to a-b: 5 of 5 messages were rejected",
            "8.5 rollback orders: rolled back to e-f: a rollback was requested",
            "10.5 swap orders: swapped to g-h",
        ]
    );
}

#[test]
fn a_rollback_from_a_version_that_nobody_saw_is_told() {
    let mut play = running();
    play.orders().rollbacks = 1;
    play.orders().rolled_back = Some(RolledBack {
        sha256: "c".to_owned(),
        toml_sha256: "d".to_owned(),
        at: "today".to_owned(),
        reason: "a rollback was requested".to_owned(),
    });
    play.at(2.5);
    play.at(3.5);
    play.at(4.5);
    play.version("e", "f");
    play.orders().rolled_back = None;
    play.at(5.5);
    play.at(6.5);
    assert_eq!(
        play.new_marks(),
        [
            "2.5 rollback orders: rolled back to a-b: a rollback was requested",
            "5.5 swap orders: swapped to e-f",
        ]
    );
}

#[test]
fn a_refusal_has_its_reason() {
    let mut play = running();
    play.orders().refused_swaps = 1;
    play.orders().last_refusal = Some("no such export".to_owned());
    play.at(2.5);
    play.at(3.5);
    play.orders().refused_swaps = 2;
    play.orders().last_refusal = None;
    play.at(4.5);
    assert_eq!(
        play.new_marks(),
        [
            "2.5 refused orders: no such export",
            "4.5 refused orders: a new version was refused"
        ]
    );
}

#[test]
fn a_halt_has_its_reason_and_an_end() {
    let mut play = running();
    play.state(State::Halted, "101 rejections in a row; the next retry is at 12:00");
    play.at(2.5);
    play.state(State::Halted, "101 rejections in a row; the next retry is at 12:05");
    play.at(3.5);
    play.state(State::Starting, "");
    play.at(4.5);
    play.state(State::Running, "");
    play.at(5.5);
    play.at(6.5);
    play.state(State::Halted, "");
    play.at(7.5);
    assert_eq!(
        play.new_marks(),
        [
            "2.5 halted orders: 101 rejections in a row; the next retry is at 12:00",
            "5.5 resumed orders: resumed",
            "7.5 halted orders: halted",
        ]
    );
}

#[test]
fn a_module_that_cannot_start_has_failed() {
    let mut play = play();
    play.state(State::Failed, "no such export");
    play.orders().refused_swaps = 1;
    play.at(0.5);
    play.at(1.5);
    // Another file, with another fault.
    play.state(State::Failed, "a trap");
    play.orders().refused_swaps = 2;
    play.at(2.5);
    play.state(State::Running, "");
    play.at(3.5);
    play.at(4.5);
    assert_eq!(
        play.marks(),
        [
            "0.5 failed orders: no such export",
            "2.5 failed orders: a trap",
            "3.5 started orders: started"
        ]
    );
}

#[test]
fn nats_is_lost_once_it_was_there() {
    let mut play = running();
    play.nats(false, None);
    play.at(2.5);
    play.nats(true, None);
    play.at(3.5);
    assert_eq!(play.new_marks().len(), 0, "it was not there before");
    play.nats(false, Some("connection refused"));
    play.at(4.5);
    play.nats(false, Some("timed out"));
    play.at(5.5);
    play.nats(true, None);
    play.at(6.5);
    assert_eq!(
        play.new_marks(),
        [
            "4.5 nats-lost: connection refused",
            "6.5 nats-back: NATS is connected again"
        ]
    );
}

#[test]
fn the_loss_of_nats_waits_for_its_reason() {
    let mut play = running();
    play.nats(true, None);
    play.at(2.5);
    play.nats(false, None);
    play.at(3.5);
    play.at(4.5);
    assert_eq!(play.new_marks().len(), 0);
    play.nats(false, Some("connection refused"));
    play.at(5.5);
    play.nats(true, None);
    play.at(6.5);
    // Without a reason after a while, and for a moment.
    play.nats(false, None);
    for second in 7..11 {
        play.at(f64::from(second) + 0.5);
    }
    play.nats(true, None);
    play.at(11.5);
    play.nats(false, None);
    play.at(12.5);
    play.nats(true, None);
    play.at(13.5);
    assert_eq!(
        play.new_marks(),
        [
            "3.5 nats-lost: connection refused",
            "6.5 nats-back: NATS is connected again",
            "7.5 nats-lost: the connection to NATS was lost",
            "11.5 nats-back: NATS is connected again",
            "12.5 nats-lost: the connection to NATS was lost",
            "13.5 nats-back: NATS is connected again",
        ]
    );
}

#[test]
fn centrifugo_is_lost_and_comes_back() {
    let mut play = running();
    play.status.centrifugo.trouble = Some("connection refused".to_owned());
    play.at(2.5);
    // A pipeline restarts.
    play.status.centrifugo.trouble = None;
    play.at(3.5);
    play.status.centrifugo.trouble = Some("connection refused".to_owned());
    play.at(4.5);
    play.status.centrifugo.trouble = None;
    play.at(5.5);
    play.at(6.5);
    play.at(7.5);
    assert_eq!(
        play.new_marks(),
        [
            "2.5 centrifugo-lost: connection refused",
            "5.5 centrifugo-back: publishing works again"
        ]
    );
}

#[test]
fn marks_are_bounded_in_number_length_and_age() {
    let mut play = running();
    let first = play.recorder.marks_after(0)[0].id;
    play.orders().last_refusal = Some("ä".repeat(5_000));
    for second in 0..2_000 {
        play.orders().refused_swaps += 1;
        // Ten a second.
        play.at(2.0 + f64::from(second) / 10.0);
    }
    let marks = play.recorder.marks_after(0);
    assert_eq!(marks.len(), 1_000);
    let ids: Vec<_> = marks.iter().map(|mark| mark.id).collect();
    assert_eq!(ids, (first + 1_001..=first + 2_000).collect::<Vec<_>>());
    assert_eq!(marks[0].text, "ä".repeat(250) + "…");
    assert_eq!(play.recorder.marks_after(first + 1_990).len(), 10);
    play.at(2_000.0);
    assert_eq!(play.marks(), [""; 0]);
}

#[test]
fn a_restarted_relay_has_higher_ids() {
    let play = running();
    let before = play.recorder.marks_after(0)[0].id;
    let mut play = super::play();
    play.at_clock(0.5, 10.5);
    assert!(play.recorder.marks_after(0)[0].id > before);
}

#[test]
fn a_kind_is_written_as_it_is_shown() {
    assert_eq!(MarkKind::CentrifugoBack.to_string(), "centrifugo-back");
    assert_eq!(serde_json::to_string(&MarkKind::NatsLost).unwrap(), "\"nats-lost\"");
}
