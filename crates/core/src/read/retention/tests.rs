use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A stream of at most ten messages, all of which the module reads.
const LIMITED: Keeps = Keeps {
    max_messages: Some(10),
    max_bytes: None,
    max_age: None,
    largest: LARGEST_MESSAGE,
    all: true,
};

fn held(first: u64, last: u64) -> Held {
    Held {
        first,
        last,
        messages: last + 1 - first,
        bytes: 100 * (last + 1 - first),
        deleted: 0,
        newest: 0,
    }
}

fn number(place: Place) -> u64 {
    place.number().unwrap()
}

fn gap(first: u64, last: u64) -> Gap {
    Gap {
        first,
        last,
        after: None,
        unread: true,
        likely: true,
    }
}

#[test]
fn only_what_the_front_of_the_stream_lost_counts() {
    let keeps = LIMITED;
    let judge = |gap: Gap, held: Held| {
        keeps
            .judge(gap, held, Seen::default(), 0)
            .map(|missed| (number(missed.first), number(missed.last), missed.exact))
    };
    assert_eq!(judge(gap(13, 19), held(20, 29)), Some((13, 19, true)));
    assert_eq!(
        judge(gap(13, 19), held(17, 26)),
        Some((13, 16, true)),
        "the rest was deleted"
    );
    assert_eq!(judge(gap(13, 19), held(1, 29)), None, "somebody deleted them");
    assert_eq!(
        judge(gap(13, 19), held(20, 24)),
        None,
        "it is not full: somebody purged it"
    );
    let with_holes = Held {
        messages: 9,
        deleted: 1,
        ..held(20, 29)
    };
    assert_eq!(
        judge(gap(13, 19), with_holes),
        Some((13, 19, false)),
        "some may have been deleted"
    );
    let seen = Seen {
        first: 1,
        uncertain_through: 15,
    };
    let missed = keeps.judge(gap(13, 19), held(20, 29), seen, 0).unwrap();
    assert!(!missed.exact, "some of them were seen to be deleted");
}

#[test]
fn what_is_younger_than_max_age_was_not_removed_for_its_age() {
    let keeps = Keeps {
        max_messages: None,
        max_age: Some(Duration::from_secs(60)),
        ..LIMITED
    };
    let after = |seconds: u64| Gap {
        after: Some(seconds * SECOND),
        ..gap(13, 19)
    };
    let judge = |gap: Gap, now: u64| keeps.judge(gap, held(20, 20), Seen::default(), now * SECOND).is_some();
    assert!(judge(after(1_000), 1_060));
    assert!(!judge(after(1_000), 1_050), "they were purged");
    assert!(judge(gap(13, 19), 1_050), "it is not known how old they were");
}

#[test]
fn the_bytes_of_a_full_stream_are_less_than_a_message_below_the_limit() {
    let keeps = Keeps {
        max_messages: None,
        max_bytes: Some(10 << 20),
        ..LIMITED
    };
    let judge = |bytes: u64| {
        let held = Held { bytes, ..held(20, 29) };
        keeps.judge(gap(13, 19), held, Seen::default(), 0).is_some()
    };
    assert!(judge(10 << 20) && judge(9 << 20));
    assert!(!judge(5 << 20), "it was purged");
}

#[test]
fn gaps_show_at_deliveries_and_at_the_beginning() {
    let all = LIMITED;
    let mut retention = Retention::new(Some(all), Some(10), false);
    assert_eq!(retention.begin(10, held(5, 20)), [None, None]);
    let mut deliver = |sequence: u64| retention.delivered(sequence, sequence * SECOND, 1);
    assert_eq!((deliver(11), deliver(12)), (None, None));
    let expected = Gap {
        after: Some(12 * SECOND),
        ..gap(13, 19)
    };
    assert_eq!(deliver(20), Some(expected));
    assert_eq!((deliver(13), deliver(21)), (None, None), "a redelivery is no gap");

    let mut late = Retention::new(Some(all), Some(10), false);
    let unacknowledged = Gap {
        unread: false,
        ..gap(8, 10)
    };
    let gaps = late.begin(7, held(31, 40));
    assert_eq!(gaps, [Some(unacknowledged), Some(gap(11, 30))]);
    assert_eq!(late.delivered(31, 0, 0), None, "it is told once");
    let missed = all.judge(unacknowledged, held(31, 40), Seen::default(), 0).unwrap();
    assert!(!missed.exact, "whoever got them may have published them");
    let mut fresh = Retention::new(Some(all), None, false);
    assert_eq!(
        fresh.begin(0, held(31, 40)),
        [None, None],
        "a new consumer has missed nothing"
    );
    assert_eq!(fresh.delivered(100, 0, 0), None);
    let expected = Gap {
        after: Some(0),
        ..gap(101, 101)
    };
    assert_eq!(fresh.delivered(102, 0, 0), Some(expected));
}

#[test]
fn for_one_who_reads_some_subjects_a_gap_is_one_only_if_something_waited() {
    let some = Keeps { all: false, ..LIMITED };
    let mut retention = Retention::new(Some(some), Some(0), false);
    let found: Vec<_> = [(5, 2), (9, 0), (40, 7), (60, 0), (70, 0)]
        .into_iter()
        .filter_map(|(sequence, pending)| retention.delivered(sequence, 0, pending))
        .map(|gap| (gap.first, gap.last, gap.likely))
        .collect();
    assert_eq!(found, [(6, 8, false), (41, 59, false)]);
    let gap = Gap {
        likely: false,
        ..gap(41, 59)
    };
    let judge = |held: Held| some.judge(gap, held, Seen::default(), 0);
    assert_eq!(judge(held(30, 70)), None, "those are messages of other subjects");
    let missed = judge(held(51, 70)).unwrap();
    assert_eq!(
        (number(missed.first), number(missed.last), missed.exact),
        (41, 50, false)
    );
}

/// An event of a stream with a message limit, or of its reader.
#[derive(Debug, Clone, Copy)]
enum Event {
    Store {
        ours: bool,
    },
    /// A message that the stream holds is deleted by hand.
    Delete(prop::sample::Index),
    /// A message expires through its own time-to-live.
    Expire(prop::sample::Index),
    Purge,
    Read,
    /// The relay continues after a time in which it did not run.
    Begin,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => any::<bool>().prop_map(|ours| Event::Store { ours }),
        1 => any::<prop::sample::Index>().prop_map(Event::Delete),
        1 => any::<prop::sample::Index>().prop_map(Event::Expire),
        1 => Just(Event::Purge),
        6 => Just(Event::Read),
        1 => Just(Event::Begin),
    ];
    prop::collection::vec(event, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A message is counted only if it was stored, is one of the module's, was never read, was not deleted and did not
    /// expire, and the limit removed it. None is counted twice. If every message is the module's and nobody deletes
    /// any, each message that the limit removed before a later one was read is counted.
    #[test]
    fn what_is_counted_was_lost_to_the_limits(
        events in events(),
        max in 1..12_u64,
        filtered in any::<bool>(),
        by_hand in any::<bool>(),
        expires in any::<bool>(),
        purges in any::<bool>(),
    ) {
        let keeps = Keeps {
            max_messages: Some(max),
            all: !filtered && !expires,
            ..LIMITED
        };
        let mut stream: BTreeSet<u64> = BTreeSet::new();
        let (mut ours, mut read, mut removed): (BTreeSet<u64>, BTreeSet<u64>, BTreeSet<u64>) = Default::default();
        let (mut counted, mut ever_counted, mut lost) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut first, mut last, mut floor) = (1_u64, 0_u64, 0_u64);
        let mut seen_so_far = Seen::default();
        let mut retention = Retention::new(Some(keeps), Some(0), true);
        for event in events {
            let mut gap = None;
            match event {
                Event::Store { ours: wanted } => {
                    last += 1;
                    stream.insert(last);
                    if wanted || !filtered {
                        ours.insert(last);
                    }
                    while stream.len() as u64 > max {
                        let oldest = stream.pop_first().unwrap();
                        if ours.contains(&oldest) && !read.contains(&oldest) {
                            lost.insert(oldest);
                        }
                    }
                }
                Event::Delete(index) if by_hand && !stream.is_empty() => {
                    let sequence = *stream.iter().nth(index.index(stream.len())).unwrap();
                    stream.remove(&sequence);
                    removed.insert(sequence);
                }
                Event::Expire(index) if expires && !stream.is_empty() => {
                    let sequence = *stream.iter().nth(index.index(stream.len())).unwrap();
                    stream.remove(&sequence);
                    removed.insert(sequence);
                }
                // A purge also moves the consumer.
                Event::Purge if purges => {
                    stream.clear();
                    floor = last;
                }
                _ => {}
            }
            first = stream.first().copied().unwrap_or(last + 1).max(first);
            let held = Held {
                first,
                last,
                messages: stream.len() as u64,
                bytes: 0,
                deleted: (last + 1 - first) - stream.len() as u64,
                newest: 0,
            };
            match event {
                Event::Read => {
                    let next = stream.range(floor + 1..).find(|sequence| ours.contains(sequence)).copied();
                    if let Some(sequence) = next {
                        floor = sequence;
                        read.insert(sequence);
                        let pending = stream.range(sequence + 1..).filter(|other| ours.contains(other)).count();
                        gap = retention.delivered(sequence, 0, pending as u64);
                    }
                }
                Event::Begin => {
                    retention = Retention::new(Some(keeps), Some(floor), true);
                    [_, gap] = retention.begin(floor, held);
                    // The counts start again as well.
                    ever_counted.append(&mut counted);
                }
                _ => {}
            }
            if let Some(missed) = gap.and_then(|gap| keeps.judge(gap, held, seen_so_far, 0)).filter(|missed| missed.exact) {
                prop_assert_eq!(missed.messages, number(missed.last) + 1 - number(missed.first));
                for sequence in number(missed.first)..=number(missed.last) {
                    prop_assert!(ours.contains(&sequence), "{sequence} was not for the module");
                    prop_assert!(!read.contains(&sequence), "{sequence} was read");
                    prop_assert!(!removed.contains(&sequence), "{sequence} was deleted, or expired");
                    prop_assert!(sequence + max <= last, "the limit would have kept {sequence}");
                    prop_assert!(counted.insert(sequence), "{sequence} was counted before");
                }
            }
            // The relay looks at the stream before the limit passes the messages that were deleted since the last look.
            seen_so_far.look(keeps, held);
        }
        if !filtered && !by_hand && !expires && !purges {
            let seen: BTreeSet<u64> = lost.iter().copied().filter(|sequence| *sequence <= floor).collect();
            ever_counted.append(&mut counted);
            prop_assert!(seen.is_subset(&ever_counted), "{:?} were lost and not counted", seen.difference(&ever_counted));
        }
    }
}

#[test]
fn only_a_front_that_moves_without_a_limit_is_uncertain() {
    let mut seen = Seen::default();
    // Five messages of ten: nothing is pushed out.
    seen.look(LIMITED, held(5, 9));
    assert_eq!(seen.uncertain_through, 0, "the first look");
    seen.look(LIMITED, held(5, 9));
    assert_eq!(seen.uncertain_through, 0, "it did not move");
    seen.look(LIMITED, held(8, 12));
    assert_eq!(seen.uncertain_through, 7, "somebody removed 5 to 7");
    seen.look(LIMITED, held(20, 29));
    assert_eq!(seen.uncertain_through, 7, "it is full");
    let aging = Keeps {
        max_age: Some(Duration::from_secs(60)),
        ..LIMITED
    };
    seen.look(aging, held(25, 29));
    assert_eq!(seen.uncertain_through, 7, "they became too old");
}

#[test]
fn the_part_of_a_loss_that_is_known_is_left_out() {
    let of = |first: Place, last: Place, messages| Missed {
        first,
        last,
        messages,
        exact: true,
    };
    let known = of(5.into(), 9.into(), 5).after(6.into());
    assert_eq!(known, of(7.into(), 9.into(), 3));
    // Nobody knows how many IDs were between two others.
    let known = of(Place::Id(5, 0), Place::Id(9, 0), 5).after(Place::Id(6, 1));
    assert_eq!(known, of(Place::Id(6, 2), Place::Id(9, 0), 5));
    let all = of(Place::Id(5, 0), Place::Id(9, 0), 5);
    assert_eq!(all.after(Place::default()), all);
}
