use bytes::Bytes;

use super::*;
use crate::admin::StatusBoard;
use crate::config::Order;
use crate::metrics::Metrics;

fn flow() -> Flow {
    let publish = config::Publish {
        order: Order::Strict,
        idempotency: true,
        max_batch: 512,
        max_in_flight: 8,
    };
    let board = StatusBoard::new(Metrics::default()).module("orders");
    let mut flow = Flow::new(board, Arc::new(ModuleConfig::new("orders", "ORDERS")), &publish, 1);
    assert!(flow.begin(StreamIdentity { created: 1 }, Again::default()));
    flow
}

/// Delivers a message. Answers what is to be transformed.
fn deliver(flow: &mut Flow, sequence: u64) -> Ticket {
    let message = Message {
        subject: "orders.1".into(),
        payload: Bytes::new(),
        headers: Vec::new(),
        stream: "ORDERS".into(),
        sequence,
        timestamp: sequence,
        deliveries: 1,
    };
    let delivery = Delivery {
        message: Arc::new(message),
        reply: format!("ack.{sequence}").into(),
        pending: 0,
    };
    let chunk = flow.deliver(Instant::now(), vec![delivery]);
    let [(ticket, _)] = chunk.as_slice() else {
        panic!("it is new")
    };
    *ticket
}

/// Delivers a message that the module drops, so that it is settled at once.
fn settle(flow: &mut Flow, sequence: u64) {
    let transformed = Transformed {
        ticket: deliver(flow, sequence),
        outcome: Outcome::Drop,
        took: Duration::ZERO,
    };
    flow.transformed(Instant::now(), transformed);
}

fn acks(flow: &mut Flow) -> usize {
    let effects = flow.take_effects();
    effects.iter().filter(|effect| matches!(effect, Effect::Ack(_))).count()
}

#[test]
fn who_yields_acks_nothing_not_even_what_was_settled_before() {
    let mut flow = flow();
    settle(&mut flow, 1);
    assert_eq!(acks(&mut flow), 1);
    settle(&mut flow, 2);
    flow.yield_to_others();
    assert_eq!(acks(&mut flow), 0);
    assert!(flow.is_drained(), "and the run can end");
}

#[test]
fn who_yields_reports_nothing_as_in_progress() {
    let late = Instant::now() + 2 * PROGRESS_INTERVAL;
    for (yields, reports) in [(false, 1), (true, 0)] {
        let mut flow = flow();
        deliver(&mut flow, 1);
        if yields {
            flow.yield_to_others();
        }
        flow.tick(late);
        assert_eq!(flow.take_effects().len(), reports);
    }
}
