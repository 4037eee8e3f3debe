use std::time::Duration;

use slipring_core::pipeline::Counters;

use super::super::metrics::Format;
use super::super::progress::STALL;
use super::*;
use crate::memory::Memory;

/// Returns a board with NATS connected.
fn board() -> StatusBoard {
    let board = StatusBoard::new(Metrics::with_memory(Memory::new(256 << 20)));
    board.nats_connected("2.15.2");
    board.modules_known();
    board
}

fn obstacles(board: &StatusBoard) -> Vec<String> {
    let findings = board.findings().into_iter();
    findings
        .filter(Finding::is_obstacle)
        .map(|finding| finding.to_string())
        .collect()
}

fn warnings(board: &StatusBoard) -> Vec<String> {
    let findings = board.findings().into_iter();
    findings
        .filter(|finding| !finding.is_obstacle())
        .map(|finding| finding.to_string())
        .collect()
}

#[test]
fn the_contract() {
    let mut board = board();
    board.started = "2026-01-01T00:00:00Z".to_owned();
    let orders = board.module("orders");
    orders.set_state(State::Running, None);
    orders.set_source("ORDERS", "slipring-orders", "NATS");
    orders.loaded("abc");
    orders.facts().since = "2026-01-01T00:00:01Z".to_owned();
    let metrics = orders.metrics();
    metrics.received.inc_by(10);
    metrics.transformed.inc_by(9);
    metrics.count(&Counters {
        dropped: 1,
        expired: 1,
        rejected_in_transform: 2,
        rejected_in_publish: 1,
        published: 5,
        retried: 4,
        ..Counters::default()
    });
    metrics.window(3, 300);
    let consumer = Consumer {
        ack_floor: 7.into(),
        ..Consumer::default()
    };
    orders.inspected(Instant::now(), consumer);
    board.module("later").facts().since = "2026-01-01T00:00:02Z".to_owned();
    insta::assert_snapshot!(serde_json::to_string_pretty(&board.status()).unwrap());
}

#[test]
fn ready_means_that_all_that_should_run_runs() {
    let check = |state, expected: &[&str]| {
        let board = board();
        board.module("orders").set_state(state, Some("why".to_owned()));
        assert_eq!(obstacles(&board), expected);
        assert_eq!(board.status().ready, expected.is_empty());
    };
    check(State::Running, &[]);
    check(State::Waiting, &[]);
    check(State::Draining, &[]);
    check(State::Starting, &["orders is starting: why"]);
    check(State::Halted, &["orders is halted: why"]);
    check(State::Failed, &["orders has failed: why"]);
}

#[test]
fn waiting_for_a_file_is_not_waiting_for_a_stream() {
    let board = board();
    let orders = board.module("orders");
    orders.loaded("abc");
    orders.set_source("ORDERS", "slipring-orders", "NATS");
    orders.set_state(State::Waiting, Some("the stream ORDERS does not exist".to_owned()));
    assert_eq!(
        obstacles(&board),
        ["orders is waiting: the stream ORDERS does not exist"]
    );
    orders.unloaded();
    orders.set_state(State::Waiting, Some("waiting for orders.toml".to_owned()));
    assert_eq!(obstacles(&board), [""; 0]);
    let status = board.status().modules.remove(0);
    assert_eq!(
        (status.sha256, status.stream, status.consumer, status.lag_messages),
        (None, None, None, None)
    );
}

#[test]
fn the_process_has_obstacles_of_its_own() {
    let board = StatusBoard::new(Metrics::new());
    assert_eq!(obstacles(&board), ["the modules directory has not been read yet"]);
    board.nats_disconnected(None);
    assert_eq!(
        obstacles(&board),
        ["NATS is not connected", "the modules directory has not been read yet"]
    );
    board.nats_connected("2.15.2");
    board.modules_known();
    assert_eq!(obstacles(&board), [""; 0]);
    board.nats_disconnected(None);
    assert_eq!(
        board.status().nats,
        Some(NatsStatus {
            connected: false,
            server: Some("2.15.2".to_owned()),
            ..NatsStatus::default()
        })
    );
    board.shutting_down();
    assert_eq!(obstacles(&board), ["shutting down", "NATS is not connected"]);
}

#[test]
fn trouble_with_centrifugo_lasts_until_the_pipeline_that_had_it_takes_it_back() {
    let board = board();
    let (a, b) = (board.module("a"), board.module("b"));
    a.set_state(State::Running, None);
    b.set_state(State::Running, None);
    b.set_trouble(Some("401: wrong API key".to_owned()));
    a.set_trouble(None);
    assert_eq!(obstacles(&board), ["Centrifugo: 401: wrong API key"]);
    assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("401: wrong API key"));
    board.remove("b");
    assert_eq!(board.status().centrifugo.trouble, None);
    assert!(board.status().ready);
}

#[test]
fn a_centrifugo_that_was_never_reached_is_an_obstacle() {
    let board = board();
    board.centrifugo_unreached(Some("connection refused".to_owned()));
    assert_eq!(obstacles(&board), ["Centrifugo: connection refused"]);
    assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("connection refused"));
    board.centrifugo_unreached(None);
    assert_eq!(obstacles(&board), [""; 0]);
}

#[test]
fn a_refusal_is_shown_until_a_good_module_comes() {
    let board = board();
    let orders = board.module("orders");
    orders.loaded("abc");
    orders.refused("no export `transform`");
    let status = board.status().modules.remove(0);
    assert_eq!(
        (status.refused_swaps, status.swaps, status.sha256.as_deref()),
        (1, 0, Some("abc"))
    );
    assert_eq!(status.last_refusal.as_deref(), Some("no export `transform`"));
    orders.swapped("def");
    orders.accepted();
    let status = board.status().modules.remove(0);
    assert_eq!(
        (status.refused_swaps, status.swaps, status.sha256.as_deref()),
        (1, 1, Some("def"))
    );
    assert_eq!(status.last_refusal, None);
}

#[test]
fn one_failed_module_among_others_is_a_warning() {
    let board = board();
    let (orders, bills) = (board.module("orders"), board.module("bills"));
    orders.set_state(State::Failed, Some("no such export".to_owned()));
    bills.set_state(State::Failed, None);
    assert_eq!(
        obstacles(&board),
        ["bills has failed", "orders has failed: no such export"]
    );
    bills.set_state(State::Running, None);
    assert_eq!(obstacles(&board), [""; 0]);
    assert_eq!(warnings(&board), ["orders has failed: no such export"]);
}

/// Returns a board with a running module, and that module.
fn running() -> (StatusBoard, ModuleBoard) {
    let board = board();
    let orders = board.module("orders");
    orders.set_source("ORDERS", "slipring-orders", "NATS");
    orders.set_state(State::Running, None);
    (board, orders)
}

fn kinds(board: &StatusBoard) -> Vec<Kind> {
    board.findings().into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_stall_is_told_unless_the_reason_is_known() {
    let (board, orders) = running();
    let now = Instant::now();
    let stalled = |orders: &ModuleBoard| {
        let waiting = Consumer {
            pending: 200,
            ..Consumer::default()
        };
        orders.inspected(now.checked_sub(STALL).unwrap(), waiting);
        orders.inspected(now, waiting);
    };
    stalled(&orders);
    let found = obstacles(&board);
    assert!(
        found[0].starts_with(
            "orders has stalled: for 30 s nothing has been delivered or acknowledged, while 200 messages wait"
        ),
        "{found:?}"
    );
    assert_eq!(board.status().modules[0].backlog.as_ref().unwrap().pending, 200);
    orders.set_trouble(Some("connection refused".to_owned()));
    assert_eq!(kinds(&board), [Kind::Centrifugo]);
    orders.set_trouble(None);
    orders.set_state(State::Halted, None);
    assert_eq!(kinds(&board), [Kind::Halted]);
    orders.set_state(State::Standby, None);
    assert_eq!(kinds(&board), []);
    assert_eq!(
        board.status().modules[0].lag_messages,
        Some(200),
        "the backlog is known all the same"
    );
}

#[test]
fn a_stall_in_redis_is_told_without_the_tools_of_nats() {
    let (board, orders) = running();
    let stalled = || {
        let now = Instant::now();
        let waiting = Consumer {
            pending: 200,
            ..Consumer::default()
        };
        orders.inspected(now.checked_sub(STALL).unwrap(), waiting);
        orders.inspected(now, waiting);
        obstacles(&board).join("\n")
    };
    let found = stalled();
    assert!(found.contains("`nats consumer info ORDERS slipring-orders`"), "{found}");
    orders.set_source("orders", "slipring-orders", "Redis");
    let found = stalled();
    assert!(found.contains("200 messages wait in `orders`"), "{found}");
    assert!(!found.contains("nats"), "{found}");
}

#[test]
fn a_missing_permission_is_told_of_the_module_and_explains_the_silence() {
    let (board, orders) = running();
    let now = Instant::now();
    for seconds in [20, 10, 0] {
        orders.not_inspected(
            now.checked_sub(Duration::from_secs(seconds)).unwrap(),
            "late".to_owned(),
        );
    }
    let found = obstacles(&board).join("\n");
    assert!(found.contains("how many messages of `ORDERS` wait (late)"), "{found}");
    assert_eq!(kinds(&board), [Kind::NoAnswer]);
    let denied = |module: Option<&str>| (module.map(str::to_owned), "lacks a permission: …".to_owned());
    board.set_denied(&[denied(Some("orders"))]);
    assert_eq!(obstacles(&board), ["orders lacks a permission: …"]);
    board.set_denied(&[denied(None)]);
    assert_eq!(kinds(&board), [Kind::Permission, Kind::NoAnswer]);
    assert_eq!(obstacles(&board)[0], "the relay lacks a permission: …");
    board.set_denied(&[]);
    assert_eq!(kinds(&board), [Kind::NoAnswer]);
}

#[test]
fn the_trouble_of_a_run_ends_with_it() {
    let (board, orders) = running();
    orders.set_trouble(Some("connection refused".to_owned()));
    assert_eq!(kinds(&board), [Kind::Centrifugo]);
    // It stands by now, and another relay publishes.
    orders.no_run();
    orders.set_state(State::Standby, None);
    assert_eq!(kinds(&board), []);
}

#[test]
fn a_module_without_its_files_does_not_run() {
    let board = board();
    board.module("orders").set_state(State::Failed, None);
    board
        .module("bills")
        .set_state(State::Waiting, Some("waiting for bills.toml".to_owned()));
    assert_eq!(kinds(&board), [Kind::Failed]);
    board.module("mails").set_state(State::Running, None);
    assert_eq!(kinds(&board), [Kind::FailedAmongOthers]);
}

#[test]
fn a_dead_letter_is_missed_until_it_is_stored_or_given_up() {
    let (board, orders) = running();
    orders.letter_not_stored(7.into(), "no space".to_owned());
    orders.letter_not_stored(7.into(), "no space".to_owned());
    orders.letter_not_stored(9.into(), "no space".to_owned());
    let found = obstacles(&board);
    assert!(
        found[0].contains("(2 waiting, the first for message 7)") && found[0].ends_with("no space"),
        "{found:?}"
    );
    orders.letter_stored(7.into());
    assert_eq!(kinds(&board), [Kind::DeadLetters]);
    orders.no_run();
    assert_eq!(kinds(&board), []);
    let text = board.metrics.encode(Format::Text);
    assert!(
        text.contains("slipring_dead_letter_store_failures_total{module=\"orders\"} 3\n"),
        "{text}"
    );
}

#[test]
fn the_metrics_say_whether_the_relay_is_ready() {
    let (board, orders) = running();
    let ready = |board: &StatusBoard, expected: u8| {
        board.measure();
        let text = board.metrics.encode(Format::Text);
        assert!(text.contains(&format!("\nslipring_ready {expected}\n")), "{text}");
    };
    ready(&board, 1);
    orders.set_trouble(Some("connection refused".to_owned()));
    ready(&board, 0);
    assert!(
        board
            .metrics
            .encode(Format::Text)
            .contains("\nslipring_centrifugo_up 0\n")
    );
    orders.set_trouble(None);
    ready(&board, 1);
    board.nats_disconnected(None);
    ready(&board, 0);
    assert!(
        board
            .metrics
            .encode(Format::Text)
            .contains("\nslipring_nats_connected 0\n")
    );
}

#[test]
fn a_state_begins_when_it_changes() {
    let board = board();
    let orders = board.module("orders");
    orders.facts().since = "before".to_owned();
    orders.set_state(State::Starting, Some("the stream ORDERS does not exist".to_owned()));
    assert_eq!(board.status().modules[0].since, "before");
    orders.set_state(State::Halted, None);
    assert_ne!(board.status().modules[0].since, "before");
    assert!(
        board
            .metrics
            .encode(Format::OpenMetrics)
            .contains("slipring_halted{module=\"orders\"} 1\n")
    );
    orders.set_state(State::Running, None);
    assert!(
        board
            .metrics
            .encode(Format::OpenMetrics)
            .contains("slipring_halted{module=\"orders\"} 0\n")
    );
}
