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
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..400)
}

struct Sut {
    flow: Flow<String>,
    now: Now,
    load: Load,
    namespace: u8,
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
            load: load(1),
            namespace: 1,
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
                self.load = load(self.load.id.0 + 1);
                self.namespace = *namespace;
                let settings = Settings {
                    max_consecutive_rejects: 3,
                    ..Settings::plain()
                };
                self.flow.configure(self.now.instant, settings);
            }
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
