//! Tests how one load of a module follows another. Each load has channels of its own, and whatever Centrifugo refuses
//! and whenever the pipeline halts, the messages of each channel are shown in their order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::Just;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Deliver,
    /// The module returns its oldest message.
    Transform,
    Send,
    /// Centrifugo answers one of the requests.
    Answer(prop::sample::Index),
    Store,
    /// Another load takes over, with channels in this namespace.
    Swap(u8),
    /// The load has failed its trial. The one before it gets the next messages. Of those that the module has, other
    /// workers may have called the failed load for some: the bits say which.
    Fail(u64),
    /// The pipeline hears of the rollback.
    RollBack,
    /// The process is killed.
    Kill,
}

/// Centrifugo does not know this one.
const UNKNOWN: u8 = 0;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Deliver),
        12 => Just(Step::Transform),
        8 => Just(Step::Send),
        8 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(Step::Answer),
        4 => Just(Step::Store),
        3 => (0_u8..3).prop_map(Step::Swap),
        2 => proptest::arbitrary::any::<u64>().prop_map(Step::Fail),
        2 => Just(Step::RollBack),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..400)
}

struct Sut {
    flow: Flow<String>,
    now: Now,
    /// How many there were.
    loads: u64,
    load: Load,
    namespace: u8,
    /// The load before, and its namespace.
    before: Option<(Load, u8)>,
    /// The sequence of the next message that the flow gets.
    next: u64,
    acked: u64,
    /// Messages with the module, and the load and the namespace that they get there.
    working: VecDeque<(Ticket, u64, Load, u8)>,
    requests: Vec<Request>,
    letters: VecDeque<Ticket>,
    shown: BTreeMap<String, Vec<u64>>,
}

impl Sut {
    fn new() -> Self {
        Self {
            flow: Self::flow(),
            now: Now::read(),
            loads: 1,
            load: load(1),
            namespace: 1,
            before: None,
            next: 1,
            acked: 0,
            working: VecDeque::new(),
            requests: Vec::new(),
            letters: VecDeque::new(),
            shown: BTreeMap::new(),
        }
    }

    fn flow() -> Flow<String> {
        let mut settings = Settings::plain();
        settings.max_consecutive_rejects = 3;
        flow_with(settings)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Deliver => {
                if self.flow.room(self.now.instant).messages > 0 && !self.flow.is_halting() {
                    let ticket = deliver(&mut self.flow, self.next);
                    self.working
                        .push_back((ticket, self.next, self.load.clone(), self.namespace));
                    self.next += 1;
                }
            }
            Step::Transform => {
                if let Some((ticket, sequence, by, namespace)) = self.working.pop_front() {
                    let channel = format!("{namespace}:{}", sequence % 2);
                    let body = Body::Binary(sequence.to_le_bytes().to_vec());
                    let publication = Publication::new(vec![channel.as_str().into()], body);
                    let outcome = Outcome::Publish(vec![publication]);
                    self.flow.transformed(self.now, Transformed { ticket, outcome, by });
                }
            }
            Step::Send => self.requests.extend(self.flow.next_request(self.now)),
            Step::Answer(index) => {
                if !self.requests.is_empty() {
                    let request = self.requests.swap_remove(index.index(self.requests.len()));
                    let replies = request.commands().iter().map(|command| self.reply(command)).collect();
                    self.flow.answered(self.now, request.id(), Answer::Replies(replies));
                }
            }
            Step::Store => {
                if let Some(ticket) = self.letters.pop_front() {
                    self.flow.dead_lettered(self.now, ticket);
                }
            }
            Step::Swap(namespace) => {
                self.loads += 1;
                let old = std::mem::replace(&mut self.load, load(self.loads));
                self.before = Some((old, self.namespace));
                self.namespace = *namespace;
                self.configure();
            }
            Step::Fail(called) => {
                if let Some((load, namespace)) = self.before.take() {
                    for (number, (_, _, by, of)) in self.working.iter_mut().enumerate() {
                        if *by == self.load && called >> (number % 64) & 1 == 0 {
                            (*by, *of) = (load.clone(), namespace);
                        }
                    }
                    (self.load, self.namespace) = (load, namespace);
                }
            }
            Step::RollBack => self.configure(),
            Step::Kill => self.restart(),
        }
        for effect in self.flow.take_effects() {
            match effect {
                Effect::Ack(receipt) => {
                    let sequence: u64 = receipt.strip_prefix("ack.").unwrap().parse().unwrap();
                    self.acked = self.acked.max(sequence);
                }
                Effect::DeadLetter(ticket, ..) => self.letters.push_back(ticket),
                _ => {}
            }
        }
    }

    fn configure(&mut self) {
        let settings = Settings {
            max_consecutive_rejects: 3,
            ..Settings::plain()
        };
        self.flow.configure(self.now.instant, settings);
    }

    fn reply(&mut self, command: &crate::publish::Command) -> Reply {
        let Body::Binary(bytes) = &command.publication().body else {
            panic!("it is binary")
        };
        let channel = command.channels()[0].to_string();
        if channel.starts_with(&UNKNOWN.to_string()) {
            return Reply::Failed {
                code: 102,
                message: "unknown channel".to_owned(),
            };
        }
        let sequence = u64::from_le_bytes(bytes.as_slice().try_into().unwrap());
        let shown = self.shown.entry(channel).or_default();
        if !shown.contains(&sequence) {
            shown.push(sequence);
        }
        Reply::Confirmed(None)
    }

    /// A new flow begins at the ack floor.
    fn restart(&mut self) {
        self.flow = Self::flow();
        self.next = self.acked + 1;
        self.working.clear();
        self.requests.clear();
        self.letters.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn each_channel_is_shown_in_order_whatever_load_fills_it(steps in steps()) {
        let mut sut = Sut::new();
        for step in &steps {
            sut.step(step);
            // After a halt, the pipeline resumes once everything sent is answered and stored.
            if sut.flow.is_halting() && sut.requests.is_empty() && sut.letters.is_empty() {
                sut.restart();
            }
        }
        for (channel, shown) in &sut.shown {
            prop_assert!(shown.is_sorted(), "{}: {:?}", channel, shown);
        }
    }
}

#[test]
fn a_load_gets_messages_once_those_of_the_load_before_are_settled() {
    let (mut flow, now) = (flow(), Now::read());
    let room = |flow: &Flow<String>| flow.room(now.instant).messages > 0;
    flow.configure(now.instant, Settings::plain());
    assert!(room(&flow), "there are none");
    publish(&mut flow, "orders:1", 1..=1, 0);
    let held_back = deliver(&mut flow, 2);
    flow.configure(now.instant, Settings::plain());
    assert_eq!(sends(&mut flow, now), 1);
    assert!(!room(&flow), "the module still has a message");
    let transformed = Transformed {
        ticket: held_back,
        outcome: Outcome::Drop,
        by: any(),
    };
    flow.transformed(now, transformed);
    assert!(room(&flow));
}

#[test]
fn a_publication_that_is_never_answered_keeps_the_next_loads_out_for_a_bounded_time() {
    let (mut flow, now) = (flow(), Now::read());
    publish(&mut flow, "orders:1", 1..=1, 0);
    let room = |flow: &mut Flow<String>, later: Duration| {
        let now = after(now, later);
        let _ = flow.next_request(now);
        flow.room(now.instant).messages > 0
    };
    flow.configure(now.instant, Settings::plain());
    let half = MAX_HANDOVER / 2;
    assert!(!room(&mut flow, half));
    assert_eq!(flow.next_wakeup(), Some(now.instant + MAX_HANDOVER));
    flow.configure(now.instant + half, Settings::plain());
    assert!(room(&mut flow, MAX_HANDOVER), "quick swaps share the time");
    assert_eq!(flow.next_wakeup(), None);
    flow.configure(now.instant + MAX_HANDOVER, Settings::plain());
    assert!(!room(&mut flow, MAX_HANDOVER));
}

#[test]
fn a_flow_that_conflates_hands_over_at_once() {
    let (mut flow, now) = (conflating(), Now::read());
    publish(&mut flow, "orders:1", 1..=1, 0);
    let settings = flow.settings;
    flow.configure(now.instant, settings);
    assert!(flow.room(now.instant).messages > 0);
}

/// What a worker makes with the load before, once a trial has failed.
#[test]
fn outcomes_of_another_load_wait_until_those_before_them_are_settled() {
    let (mut flow, now) = (flow(), Now::read());
    let tickets: Vec<Ticket> = (1..=3).map(|sequence| deliver(&mut flow, sequence)).collect();
    let outcome = |channel: &str| Outcome::Publish(vec![Publication::new(vec![channel.into()], Body::Binary(vec![0]))]);
    let transformed = |flow: &mut Flow<String>, number: usize, channel: &str, by: Load| {
        let (ticket, outcome) = (tickets[number], outcome(channel));
        flow.transformed(now, Transformed { ticket, outcome, by });
    };
    transformed(&mut flow, 0, "bad:1", load(2));
    let before = flow.held();
    transformed(&mut flow, 1, "good:1", load(1));
    transformed(&mut flow, 2, "good:2", load(1));
    assert!(flow.held() > before, "what waits takes memory");
    assert_eq!(flow.room(now.instant).messages, 0, "and nothing more is taken in");
    let request = flow.next_request(now).unwrap();
    assert_eq!((request.commands().len(), flow.next_request(now).is_none()), (1, true));
    flow.answered(now, request.id(), Answer::Replies(vec![Reply::Confirmed(None)]));
    let request = flow.next_request(now).unwrap();
    assert_eq!(request.commands().len(), 2);
    let replies = vec![Reply::Confirmed(None), Reply::Confirmed(None)];
    flow.answered(now, request.id(), Answer::Replies(replies));
    assert!(flow.is_idle() && flow.is_drained() && flow.held() == 0);
    assert!(flow.room(now.instant).messages > 0);
}

#[test]
fn outcomes_of_another_load_wait_for_a_bounded_time() {
    let (mut flow, now) = (flow(), Now::read());
    let tickets: Vec<Ticket> = (1..=3).map(|sequence| deliver(&mut flow, sequence)).collect();
    let published = |flow: &mut Flow<String>, now: Now, number: usize, by: u64| {
        let channel = format!("{by}:1");
        let publication = Publication::new(vec![channel.as_str().into()], Body::Binary(vec![0]));
        let transformed = Transformed {
            ticket: tickets[number],
            outcome: Outcome::Publish(vec![publication]),
            by: load(by),
        };
        flow.transformed(now, transformed);
    };
    published(&mut flow, now, 0, 2);
    published(&mut flow, now, 1, 1);
    assert_eq!(
        flow.next_request(now).unwrap().commands().len(),
        1,
        "it is never answered"
    );
    assert_eq!(flow.next_wakeup(), Some(now.instant + MAX_HANDOVER));
    let later = after(now, MAX_HANDOVER);
    assert_eq!(flow.next_request(later).unwrap().commands().len(), 1);
    // A load that comes back later waits again.
    published(&mut flow, later, 2, 3);
    assert!(flow.next_request(later).is_none());
    assert_eq!(flow.next_wakeup(), Some(later.instant + MAX_HANDOVER));
}
