//! Tests how a halted pipeline tries again. Whatever is refused and in whatever chunks messages come, a known problem
//! creates no dead letters, and nothing overtakes the message that halted the pipeline.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Namespaces of the channels, by index.
const NAMESPACES: [&str; 3] = ["a", "b", "c"];

/// The result of a run.
#[derive(Debug, Default)]
struct Told {
    /// Sequences in the order of the requests, and whether Centrifugo accepted each.
    sent: Vec<(u64, bool)>,
    dead: Vec<u64>,
    halted: bool,
}

/// Runs a flow over the messages from `next` on until nothing more happens. Each message becomes one publication in the
/// namespace of its index. `chunk` messages are delivered at once even without room, as a server that cannot be reset
/// does.
fn run(
    messages: &[usize],
    next: &mut u64,
    known: &[bool; 3],
    trying: Option<Place>,
    chunk: usize,
) -> (Told, Flow<String>) {
    let mut config = Settings::plain();
    config.max_consecutive_rejects = 2;
    let mut flow = flow_with(config);
    if let Some(place) = trying {
        flow.try_through(place);
    }
    let (mut told, mut delivered, now) = (Told::default(), *next, Now::read());
    let mut acked = *next;
    loop {
        let room = flow.room(now.instant).messages;
        let last = messages.len() as u64;
        if !flow.halting && delivered <= last && room > 0 {
            let until = last.min(delivered + chunk.max(1) as u64 - 1);
            let (mut first, mut came) = (true, Vec::new());
            while delivered <= until {
                came.push((delivered, first));
                first = false;
                delivered += 1;
            }
            for (sequence, _) in came {
                let channel = format!("{}:{}", NAMESPACES[messages[sequence as usize - 1]], sequence % 2);
                let publication = Publication::new(
                    vec![channel.as_str().into()],
                    Body::Binary(sequence.to_le_bytes().to_vec()),
                );
                let transformed = Transformed {
                    ticket: deliver(&mut flow, sequence),
                    outcome: Outcome::Publish(vec![publication]),
                    by: load(1),
                };
                flow.transformed(now, transformed);
            }
        }
        let request = flow.next_request(now);
        if let Some(request) = &request {
            let mut replies = Vec::new();
            for command in request.commands() {
                let Body::Binary(bytes) = &command.publication().body else {
                    panic!("it is binary")
                };
                let sequence = u64::from_le_bytes(bytes.as_slice().try_into().unwrap());
                let channel = &command.channels()[0];
                let index = NAMESPACES.iter().position(|name| channel.starts_with(name)).unwrap();
                told.sent.push((sequence, known[index]));
                replies.push(match known[index] {
                    true => Reply::Confirmed(None),
                    false => Reply::Failed {
                        code: 102,
                        message: "unknown channel".into(),
                    },
                });
            }
            flow.answered(now, request.id(), Answer::Replies(replies));
        }
        let effects = flow.take_effects();
        let quiet = effects.is_empty() && request.is_none();
        for effect in effects {
            match effect {
                Effect::Ack(reply) => {
                    acked = acked.max(reply.strip_prefix("ack.").unwrap().parse::<u64>().unwrap() + 1)
                }
                Effect::DeadLetter(ticket, message, ..) => {
                    told.dead.push(message.sequence());
                    flow.dead_lettered(now, ticket);
                }
                Effect::Halt(..) => told.halted = true,
                _ => {}
            }
        }
        if quiet && (delivered > last || flow.halting || flow.room(now.instant).messages == 0) {
            flow.tick(now);
            if flow.take_effects().is_empty() && flow.next_request(now).is_none() {
                break;
            }
        }
    }
    *next = acked;
    (told, flow)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_try_adds_no_dead_letter_and_overtakes_nothing(
        messages in prop::collection::vec(0_usize..3, 1..60),
        missing in 1_usize..7,
        tries in 1_usize..4,
        chunk in 1_usize..9,
    ) {
        let mut known = [true; 3];
        for (index, known) in known.iter_mut().enumerate() {
            *known = missing >> index & 1 == 0;
        }
        let (mut next, mut dead, mut first_shown) = (1, Vec::new(), BTreeMap::<(usize, u64), Vec<u64>>::new());
        let mut note = |told: &Told| {
            for (sequence, shown) in &told.sent {
                let channel = (messages[*sequence as usize - 1], sequence % 2);
                let shown_before = first_shown.entry(channel).or_default();
                if *shown && !shown_before.contains(sequence) {
                    shown_before.push(*sequence);
                }
            }
        };
        let (told, flow) = run(&messages, &mut next, &known, None, chunk);
        note(&told);
        dead.extend(told.dead);
        let mut again = flow.again().filter(|_| told.halted);
        for attempt in 0..tries {
            let Some(halted) = again else { break };
            let last = attempt + 1 == tries;
            if last {
                known = [true; 3];
            }
            let (told, flow) = run(&messages, &mut next, &known, Some(halted), chunk);
            note(&told);
            if last {
                prop_assert!(!told.halted && told.dead.is_empty(), "{:?}", told);
                prop_assert_eq!(flow.trying(), None);
                again = None;
            } else {
                // All namespaces are still refused.
                prop_assert!(told.halted && told.dead.is_empty(), "{:?}", told);
                prop_assert_eq!(flow.trying(), Some(halted));
                let refused = told.sent.iter().position(|(_, shown)| !shown).unwrap();
                prop_assert_eq!(refused + 1, told.sent.len(), "something follows: {:?}", &told.sent);
                prop_assert!(told.sent.is_sorted(), "{:?}", &told.sent);
                again = flow.again();
                prop_assert_eq!(again, Some(halted));
            }
        }
        if again.is_none() {
            prop_assert_eq!(next as usize, messages.len() + 1, "all is settled");
            // A dead letter above the ack floor comes again after the halt and may then be published.
            let shown = first_shown.values().flatten();
            let done: BTreeSet<&u64> = shown.chain(&dead).collect();
            prop_assert_eq!(done.len(), messages.len(), "all is shown or a dead letter");
        }
        for (channel, shown) in &first_shown {
            prop_assert!(shown.is_sorted(), "{:?}: {:?}", channel, shown);
        }
    }
}
