use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::message::Stage;

const LIMITS: Limits = Limits {
    messages: 64,
    bytes: 1 << 20,
    age: Duration::from_secs(300),
};

fn message(sequence: u64) -> Arc<Message> {
    Arc::new(Message {
        subject: "orders.1".into(),
        payload: Bytes::from_static(b"{}"),
        headers: Vec::new(),
        stream: "ORDERS".into(),
        place: sequence.into(),
        timestamp: sequence,
        deliveries: 1,
        unreadable: None,
    })
}

fn reply(text: &str) -> String {
    text.to_owned()
}

/// An arbitrary load of a module.
fn any() -> Load {
    Load {
        id: crate::load::LoadId(1),
        sha256: "any".into(),
    }
}

fn arrive(window: &mut Window<String>, sequence: u64) -> Arrival<String> {
    window.arrive(&message(sequence), reply(&format!("ack.{sequence}")), Instant::now())
}

fn new(window: &mut Window<String>, sequence: u64) -> Ticket {
    match arrive(window, sequence) {
        Arrival::New(ticket) => ticket,
        other => panic!("{sequence} is new, not {other:?}"),
    }
}

fn refusal(reason: &str) -> Rejection {
    Rejection {
        stage: Stage::Publish,
        code: "102".into(),
        channel: None,
        reason: reason.into(),
    }
}

#[test]
fn a_message_is_concluded_with_its_last_publication() {
    let mut window = Window::new(LIMITS);
    let ticket = new(&mut window, 7);
    window.expect(ticket, 2, 0, any());
    assert!(window.conclude(ticket, Ok(())).is_none());
    assert!(matches!(window.conclude(ticket, Ok(())), Some(Conclusion::Confirmed)));
}

#[test]
fn one_refused_publication_rejects_the_message_and_the_first_reason_is_told() {
    let mut window = Window::new(LIMITS);
    let ticket = new(&mut window, 7);
    window.expect(ticket, 3, 0, any());
    assert!(window.conclude(ticket, Err(refusal("first"))).is_none());
    assert!(window.conclude(ticket, Ok(())).is_none());
    let Some(Conclusion::Rejected(message, rejection, by)) = window.conclude(ticket, Err(refusal("second"))) else {
        panic!("the message is rejected");
    };
    assert_eq!((message.sequence(), by), (7, any()));
    assert_eq!(
        rejection.reason,
        "first (the first of 2 refused publications of this message)"
    );
}

#[test]
fn a_single_refusal_is_told_as_it_is() {
    let mut window = Window::new(LIMITS);
    let ticket = new(&mut window, 7);
    window.expect(ticket, 2, 0, any());
    assert!(window.conclude(ticket, Ok(())).is_none());
    let Some(Conclusion::Rejected(_, rejection, _)) = window.conclude(ticket, Err(refusal("the only one"))) else {
        panic!("the message is rejected");
    };
    assert_eq!(rejection.reason, "the only one");
}

#[test]
fn publications_take_room_until_their_message_is_settled() {
    let mut window = Window::new(LIMITS);
    let first = new(&mut window, 7);
    let second = new(&mut window, 8);
    let empty = window.bytes();
    window.expect(first, 1, 1000, any());
    window.expect(second, 1, 200, any());
    assert_eq!(window.bytes(), empty + 1200);
    window.settle(second);
    assert_eq!(
        window.bytes(),
        empty + 1000,
        "the second message is held by the first one, its publications are gone"
    );
    window.settle(first);
    assert_eq!(window.bytes(), 0);
}

#[test]
fn what_publications_take_is_counted_apart() {
    let mut window = Window::new(LIMITS);
    assert!(window.is_empty());
    let ticket = new(&mut window, 7);
    let empty = window.bytes();
    assert_eq!((window.len(), window.is_empty(), window.made()), (1, false, 0));
    assert_eq!(window.room_message_bytes(), LIMITS.bytes - empty);
    window.expect(ticket, 2, 1_000, any());
    window.hold(ticket, 30);
    assert_eq!((window.bytes(), window.made()), (empty + 1_030, 1_030));
    assert_eq!(window.room_bytes(), LIMITS.bytes - empty - 1_030);
    assert_eq!(window.room_message_bytes(), LIMITS.bytes - empty);
    window.settle(ticket);
    assert_eq!((window.len(), window.bytes(), window.made()), (0, 0, 0));
    window.hold(ticket, 30);
    assert_eq!(window.bytes(), 0, "it has left the window");
}

/// A consumer with a filter skips messages, and the ack floor stays at the last one that was acked.
#[test]
fn what_is_settled_ends_with_a_message_and_not_before_the_next_one() {
    let mut window = Window::new(LIMITS);
    assert_eq!(window.settled_through(), None);
    let (first, second, third) = (new(&mut window, 10), new(&mut window, 100), new(&mut window, 101));
    assert_eq!(window.settled_through(), None);
    window.settle(first);
    assert_eq!(
        (window.settled_through(), window.resume_at()),
        (Some(10.into()), Some(100.into()))
    );
    window.settle(third);
    assert_eq!(window.settled_through(), Some(10.into()));
    window.settle(second);
    assert_eq!(
        (window.settled_through(), window.resume_at()),
        (Some(101.into()), Some(102.into()))
    );
}

#[test]
fn results_are_kept_if_there_is_more_to_tell_than_one_confirmation() {
    let share = |number: u64, refused: &[&str]| Share {
        number,
        channels: vec!["a".into()],
        refused: refused.iter().map(|&channel| channel.into()).collect(),
    };
    let kept = |publications: usize, shares: &[Share]| {
        let mut window = Window::new(LIMITS);
        let ticket = new(&mut window, 7);
        window.expect(ticket, publications, 0, any());
        for share in shares {
            window.keep(ticket, share.clone());
            window.conclude(ticket, Ok(()));
        }
        let results = window
            .results(ticket)
            .map(|results| serde_json::to_string(&results).unwrap());
        window.settle(ticket);
        assert!(window.results(ticket).is_none(), "a settled message has none");
        results
    };
    assert_eq!(kept(1, &[]), None);
    assert_eq!(kept(1, &[share(0, &[])]), None, "a single one that was confirmed");
    assert_eq!(kept(1, &[share(0, &["a"])]).as_deref(), Some(r#"{"a":"-"}"#));
    assert_eq!(kept(2, &[share(0, &[])]).as_deref(), Some(r#"{"a":"+"}"#));
    // The last one is kept because of those before it.
    let both = [share(0, &["a"]), share(1, &[])];
    assert_eq!(kept(2, &both).as_deref(), Some(r#"{"a":"-+"}"#));
    let mut window = Window::new(LIMITS);
    let ticket = new(&mut window, 7);
    window.keep(ticket, share(0, &["a"]));
    assert!(window.results(ticket).is_none(), "nothing was made of it yet");
}

#[test]
fn the_window_counts_from_the_floor() {
    let mut window = Window::new(Limits {
        messages: 4,
        bytes: 10_000,
        ..LIMITS
    });
    let tickets: Vec<_> = (1..=4).map(|sequence| new(&mut window, sequence)).collect();
    let size = message(1).size();
    assert_eq!(
        (window.room_messages(Instant::now()), window.room_bytes()),
        (0, 10_000 - 4 * size)
    );

    // A message settled above the floor still counts, because a crash would deliver it again.
    window.settle(tickets[1]);
    assert_eq!(
        (window.room_messages(Instant::now()), window.unsettled()),
        (0, Some((3, 1.into(), 4.into())))
    );

    window.settle(tickets[0]);
    assert_eq!((window.room_messages(Instant::now()), window.bytes()), (2, 2 * size));
}

#[test]
fn acks_go_out_in_the_order_of_the_stream() {
    let mut window = Window::new(LIMITS);
    let tickets: Vec<_> = (1..=4).map(|sequence| new(&mut window, sequence)).collect();
    assert!(window.settle(tickets[1]).is_empty(), "the first one is open");
    assert!(window.settle(tickets[2]).is_empty());
    assert_eq!(window.settle(tickets[0]), ["ack.1", "ack.2", "ack.3"].map(reply));
    assert!(window.settle(tickets[0]).is_empty(), "it was acked before");
    assert_eq!(window.settle(tickets[3]), [reply("ack.4")]);
}

#[test]
fn after_a_reset_what_is_settled_is_acked_again_and_what_is_open_goes_on() {
    let mut window = Window::new(LIMITS);
    let tickets: Vec<_> = (1..=4).map(|sequence| new(&mut window, sequence)).collect();
    window.settle(tickets[0]);
    window.settle(tickets[2]);

    window.begin_epoch();
    assert_eq!(
        arrive(&mut window, 1),
        Arrival::Settled(reply("ack.1")),
        "it left the window"
    );
    let again = |window: &mut Window<String>, sequence| {
        window.arrive(&message(sequence), reply(&format!("again.{sequence}")), Instant::now())
    };
    assert_eq!(again(&mut window, 2), Arrival::Pending);
    assert_eq!(
        again(&mut window, 3),
        Arrival::Pending,
        "it is settled, and not at the front"
    );
    // The message is settled between the reset and its own redelivery. The receipt of the old epoch must not be used.
    window.settle(tickets[3]);
    assert_eq!(window.settle(tickets[1]), ["again.2", "again.3"].map(reply));
    assert!(window.is_empty());
    assert_eq!(arrive(&mut window, 4), Arrival::Settled(reply("ack.4")));
    assert!(matches!(arrive(&mut window, 5), Arrival::New(_)));
}

#[test]
fn a_message_between_two_known_ones_is_misplaced() {
    let mut window = Window::new(LIMITS);
    new(&mut window, 1);
    new(&mut window, 3);
    assert_eq!(arrive(&mut window, 2), Arrival::Misplaced);
}

/// A stream that was rolled back, or restored from a copy, has other messages with known sequences.
#[test]
fn a_sequence_with_another_time_is_another_message() {
    let mut window = Window::new(LIMITS);
    for sequence in 1..=3 {
        let ticket = new(&mut window, sequence);
        if sequence < 3 {
            window.settle(ticket);
        }
    }
    let again = |window: &mut Window<String>, sequence, timestamp| {
        let mut message = (*message(sequence)).clone();
        message.timestamp = timestamp;
        window.arrive(&Arc::new(message), reply("ack"), Instant::now())
    };
    assert_eq!(again(&mut window, 1, 1), Arrival::Settled(reply("ack")));
    assert_eq!(again(&mut window, 1, 50), Arrival::Reused, "its ack would lose it");
    assert_eq!(again(&mut window, 3, 3), Arrival::Pending);
    assert_eq!(again(&mut window, 3, 50), Arrival::Reused);
}

#[test]
fn there_is_no_room_while_the_oldest_message_is_too_old() {
    let mut window = Window::new(LIMITS);
    let start = Instant::now();
    for sequence in 1..=2 {
        window.arrive(&message(sequence), reply("ack"), start);
    }
    let late = start + LIMITS.age;
    assert_eq!(window.room_messages(late - Duration::from_millis(1)), 62);
    assert_eq!(window.room_messages(late), 0);
    window.settle(1);
    assert_eq!(window.room_messages(late), 0, "the settled one is above the floor");
    window.settle(0);
    assert_eq!(window.room_messages(late), 64);
}

#[test]
fn reading_goes_on_at_the_oldest_that_is_not_settled() {
    let mut window = Window::new(LIMITS);
    assert_eq!(window.resume_at(), None);
    let (first, second) = (new(&mut window, 7), new(&mut window, 9));
    window.settle(second);
    assert_eq!(window.resume_at(), Some(7.into()));
    window.settle(first);
    assert_eq!(window.resume_at(), Some(10.into()));
}

#[test]
fn what_is_not_acked_is_in_progress_when_it_is_time() {
    let start = Instant::now();
    let interval = Duration::from_secs(20);
    let mut window = Window::new(LIMITS);
    for sequence in 1..=3 {
        window.arrive(&message(sequence), reply(&format!("ack.{sequence}")), start);
    }
    window.settle(1);
    assert!(window.in_progress(start + Duration::from_secs(19), interval).is_empty());
    assert_eq!(
        window.in_progress(start + interval, interval),
        ["ack.1", "ack.2", "ack.3"].map(reply)
    );
    assert!(
        window.in_progress(start + interval, interval).is_empty(),
        "JetStream has just heard of them"
    );
    window.begin_epoch();
    assert!(
        window.in_progress(start + interval * 3, interval).is_empty(),
        "their epoch is over"
    );
}

/// A step in which a model of JetStream or a careless user acts on a window.
#[derive(Debug, Clone)]
enum Step {
    Deliver,
    /// Settles the open message at this position among the open ones.
    Settle(usize),
    /// Loses the acks of this many of the most recently acked messages, then resets the consumer.
    Reset {
        lost: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => Just(Step::Deliver),
        5 => (0usize..64).prop_map(Step::Settle),
        1 => (0usize..8).prop_map(|lost| Step::Reset { lost }),
    ];
    prop::collection::vec(step, 1..200)
}

/// JetStream as far as one consumer with explicit acks needs it. A reset forgets acks above the floor.
#[derive(Default)]
struct Server {
    acked: BTreeSet<u64>,
    recent: Vec<u64>,
    next: u64,
}

impl Server {
    fn floor(&self) -> u64 {
        (1..).find(|sequence| !self.acked.contains(sequence)).unwrap_or(1) - 1
    }

    fn ack(&mut self, subject: &str, settled: &BTreeSet<u64>) {
        let sequence = subject
            .rsplit('.')
            .next()
            .and_then(|last| last.parse().ok())
            .expect("an ack names its message");
        let open = (1..=sequence).find(|older| !settled.contains(older));
        assert_eq!(open, None, "{sequence} is acked while this one is not settled");
        self.acked.insert(sequence);
        self.recent.push(sequence);
    }

    fn reset(&mut self, lost: usize) {
        for sequence in self.recent.split_off(self.recent.len().saturating_sub(lost)) {
            self.acked.remove(&sequence);
        }
        let floor = self.floor();
        self.acked.retain(|sequence| *sequence <= floor);
        self.next = floor;
    }
}

proptest! {
    /// Whatever is lost, nothing is acked before everything up to it is settled, and nothing is transformed twice. Once
    /// everything is settled and redelivered, everything is acked.
    #[test]
    fn acks_follow_settling_and_nothing_is_worked_on_twice(steps in steps()) {
        let mut window = Window::new(LIMITS);
        let mut server = Server::default();
        let mut epoch = 0;
        let mut open: Vec<(Ticket, u64)> = Vec::new();
        let mut settled = BTreeSet::new();
        let mut seen = BTreeSet::new();

        let mut deliver = |window: &mut Window<String>, server: &mut Server, epoch: u32, open: &mut Vec<(Ticket, u64)>, settled: &BTreeSet<u64>| {
            server.next += 1;
            let sequence = server.next;
            let at = reply(&format!("{epoch}.{sequence}"));
            match window.arrive(&message(sequence), at.clone(), Instant::now()) {
                Arrival::New(ticket) => {
                    assert!(seen.insert(sequence), "{sequence} is transformed twice");
                    open.push((ticket, sequence));
                }
                Arrival::Pending => {}
                Arrival::Settled(_) => server.ack(&at, settled),
                Arrival::Misplaced | Arrival::Reused => panic!("{sequence} was delivered in order"),
            }
        };

        for step in steps {
            match step {
                Step::Deliver if window.room_messages(Instant::now()) > 0 => {
                    deliver(&mut window, &mut server, epoch, &mut open, &settled);
                }
                Step::Deliver => {}
                Step::Settle(_) if open.is_empty() => {}
                Step::Settle(position) => {
                    let (ticket, sequence) = open.remove(position % open.len());
                    settled.insert(sequence);
                    for at in window.settle(ticket) {
                        prop_assert!(at.starts_with(&format!("{epoch}.")), "{at} is an ack of an epoch that is over");
                        server.ack(&at, &settled);
                    }
                }
                Step::Reset { lost } => {
                    server.reset(lost);
                    window.begin_epoch();
                    epoch += 1;
                }
            }
        }

        let newest = server.next.max(seen_newest(&open, &settled));
        for (ticket, sequence) in open.split_off(0) {
            settled.insert(sequence);
            for at in window.settle(ticket) {
                server.ack(&at, &settled);
            }
        }
        server.reset(0);
        window.begin_epoch();
        while server.next < newest {
            deliver(&mut window, &mut server, epoch + 1, &mut open, &settled);
        }
        prop_assert_eq!(server.floor(), newest);
        prop_assert!(window.is_empty());
    }
}

fn seen_newest(open: &[(Ticket, u64)], settled: &BTreeSet<u64>) -> u64 {
    let open = open.iter().map(|(_, sequence)| *sequence).max().unwrap_or(0);
    open.max(settled.last().copied().unwrap_or(0))
}
