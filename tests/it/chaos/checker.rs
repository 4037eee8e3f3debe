//! Combines what the witnesses saw into what was shown on each channel, and judges it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How long Centrifugo remembers an idempotency key.
const KEYS_LIVE: Duration = Duration::from_secs(300);

/// Examples of each mistake in an error's text.
const EXAMPLES: usize = 5;

/// The numbers that each channel should show, in order.
pub type Expected = BTreeMap<String, Vec<u64>>;

#[derive(Debug, Default)]
pub struct Record {
    channels: BTreeMap<String, BTreeMap<Place, Shown>>,
    contradictions: Vec<String>,
}

/// Centrifugo's own order on a channel. Its offsets restart with each life.
type Place = (u64, u64);

#[derive(Debug, Clone, Copy)]
struct Shown {
    number: u64,
    /// The time, if a witness knows it.
    at: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Judgement {
    pub lost: Vec<String>,
    /// First appearances after one that is later in the stream.
    pub inversions: Vec<String>,
    /// Shown, but not in the stream, or not for that channel.
    pub strangers: Vec<String>,
    /// Two witnesses saw different numbers at the same place, so one of them cannot be trusted.
    pub contradictions: Vec<String>,
    pub unexplained: Vec<String>,
    /// Repeats after Centrifugo lost its memory.
    pub forgotten: usize,
    /// Repeats after older numbers that came again in this life of Centrifugo because it had forgotten them: 3, then 1
    /// and 2 that the life before had shown, then 3. The relay repeats the last one on purpose, or a channel would end
    /// with an older state.
    pub restored: usize,
    /// Repeats after the key had expired.
    pub expired: usize,
    pub shown: usize,
}

impl Record {
    /// Records that a witness saw this number on the channel.
    pub fn saw(&mut self, (life, offset): Place, channel: &str, number: u64, at: Option<Instant>) {
        let places = match self.channels.get_mut(channel) {
            Some(places) => places,
            None => self.channels.entry(channel.to_owned()).or_default(),
        };
        let shown = places.entry((life, offset)).or_insert(Shown { number, at });
        if shown.number != number {
            let before = shown.number;
            let contradiction = format!("{channel}: {before} and {number} at offset {offset} of life {life}");
            self.contradictions.push(contradiction);
        }
        shown.at = shown.at.or(at);
    }

    pub fn judge(&self, expected: &Expected) -> Judgement {
        let mut judgement = Judgement {
            contradictions: self.contradictions.clone(),
            ..Judgement::default()
        };
        let nothing = BTreeMap::new();
        for (channel, numbers) in expected {
            let places = self.channels.get(channel).unwrap_or(&nothing);
            judge_channel(&mut judgement, channel, numbers, places);
        }
        for (channel, places) in &self.channels {
            if !expected.contains_key(channel) {
                judge_channel(&mut judgement, channel, &[], places);
            }
        }
        judgement
    }
}

fn judge_channel(judgement: &mut Judgement, channel: &str, expected: &[u64], places: &BTreeMap<Place, Shown>) {
    let positions: BTreeMap<u64, usize> = expected.iter().copied().zip(0..).collect();
    // Where each number was last shown so far.
    let mut last: BTreeMap<u64, (Place, Shown)> = BTreeMap::new();
    // Where a number of an earlier life came again, and its position in the stream.
    let mut recalled: Vec<(Place, usize)> = Vec::new();
    let mut furthest = None;
    for (&place, &shown) in places {
        judgement.shown += 1;
        let number = shown.number;
        let Some(&position) = positions.get(&number) else {
            judgement.strangers.push(format!("{channel}: {number}"));
            continue;
        };
        match last.insert(number, (place, shown)) {
            Some((before, _)) if before.0 != place.0 => {
                judgement.forgotten += 1;
                recalled.push((place, position));
            }
            Some((before, _))
                if recalled
                    .iter()
                    .any(|&(between, older)| between > before && between.0 == place.0 && older < position) =>
            {
                judgement.restored += 1;
            }
            Some(before) => judge_repeat(judgement, channel, before, (place, shown)),
            None if furthest > Some(position) => {
                let ahead = furthest.map_or(0, |furthest| expected[furthest]);
                judgement
                    .inversions
                    .push(format!("{channel}: {number} came after {ahead}"));
            }
            None => furthest = Some(position),
        }
    }
    let lost = expected.iter().filter(|number| !last.contains_key(number));
    judgement.lost.extend(lost.map(|number| format!("{channel}: {number}")));
}

/// Judges a repeat in one life of Centrifugo.
fn judge_repeat(judgement: &mut Judgement, channel: &str, before: (Place, Shown), again: (Place, Shown)) {
    let ((life, offset), earlier) = before;
    let ((_, offset_again), later) = again;
    let apart = earlier.at.zip(later.at).map(|(earlier, later)| later - earlier);
    if apart.is_some_and(|apart| apart > KEYS_LIVE) {
        judgement.expired += 1;
    } else {
        let number = later.number;
        let apart = apart.map_or("at an unknown time".to_owned(), |apart| format!("{apart:.1?} later"));
        judgement.unexplained.push(format!(
            "{channel}: {number} at offset {offset} of life {life}, and again at offset {offset_again}, {apart}"
        ));
    }
}

impl Judgement {
    fn mistakes(&self) -> [(&'static str, &Vec<String>); 5] {
        [
            ("lost", &self.lost),
            ("inversions", &self.inversions),
            ("unexplained repeats", &self.unexplained),
            ("strangers", &self.strangers),
            ("contradictions", &self.contradictions),
        ]
    }

    pub fn is_good(&self) -> bool {
        self.mistakes().iter().all(|(_, mistakes)| mistakes.is_empty())
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repeats = self.forgotten + self.restored + self.expired + self.unexplained.len();
        write!(
            f,
            "{} publications shown; {repeats} repeats: {} after Centrifugo lost its memory, {} behind such ones, {} after \
             its keys expired",
            self.shown, self.forgotten, self.restored, self.expired
        )?;
        for (name, mistakes) in self.mistakes() {
            write!(f, "; {} {name}", mistakes.len())?;
            if !mistakes.is_empty() {
                write!(f, ", such as {}", mistakes[..mistakes.len().min(EXAMPLES)].join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = "room";

    fn expected() -> Expected {
        [(ROOM.to_owned(), vec![1, 2, 3, 4])].into()
    }

    /// Judges what was shown, life by life.
    fn judge(lives: &[&[u64]]) -> Judgement {
        let mut record = Record::default();
        for (numbers, life) in lives.iter().zip(0..) {
            for (number, offset) in numbers.iter().zip(1..) {
                record.saw((life, offset), ROOM, *number, None);
            }
        }
        record.judge(&expected())
    }

    #[test]
    fn all_of_it_once_and_in_order_is_good() {
        let judgement = judge(&[&[1, 2], &[3, 4]]);
        assert!(judgement.is_good(), "{judgement}");
        assert_eq!(judgement.shown, 4);
    }

    #[test]
    fn a_loss_is_found() {
        let judgement = judge(&[&[1, 2, 4]]);
        assert!(!judgement.is_good());
        assert_eq!(judgement.lost, ["room: 3"]);
        assert!(judgement.inversions.is_empty());
    }

    #[test]
    fn a_channel_that_shows_nothing_has_lost_all() {
        assert_eq!(Record::default().judge(&expected()).lost.len(), 4);
    }

    #[test]
    fn an_inversion_is_found_within_a_life_and_over_the_end_of_one() {
        for lives in [&[&[1, 3, 2, 4][..]][..], &[&[1, 3], &[2, 4]], &[&[1, 3], &[1, 2, 3, 4]]] {
            let judgement = judge(lives);
            assert!(!judgement.is_good(), "{lives:?}");
            assert_eq!(judgement.inversions, ["room: 2 came after 3"], "{lives:?}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_stream_whatever_the_numbers_are() {
        let mut record = Record::default();
        for (number, offset) in [8, 3, 5].into_iter().zip(1..) {
            record.saw((0, offset), ROOM, number, None);
        }
        assert!(record.judge(&[(ROOM.to_owned(), vec![8, 3, 5])].into()).is_good());
        assert_eq!(
            record.judge(&[(ROOM.to_owned(), vec![3, 8, 5])].into()).inversions,
            ["room: 3 came after 8"]
        );
    }

    #[test]
    fn a_repeat_after_centrifugo_lost_its_memory_is_explained() {
        let judgement = judge(&[&[1, 2, 3], &[2, 3, 4]]);
        assert!(judgement.is_good(), "{judgement}");
        assert_eq!(judgement.forgotten, 2);
    }

    #[test]
    fn a_repeat_behind_older_ones_that_came_again_is_explained() {
        let judgement = judge(&[&[1, 2], &[3, 1, 2, 3, 4]]);
        assert!(judgement.is_good(), "{judgement}");
        assert_eq!((judgement.forgotten, judgement.restored), (2, 1));
        // The older numbers have to come in between, and they have to be older.
        for life in [&[1, 3, 3, 4][..], &[3, 3, 1, 4], &[1, 2, 1, 3, 4]] {
            let judgement = judge(&[&[1, 2], life]);
            assert_eq!(judgement.unexplained.len(), 1, "{life:?}: {judgement}");
        }
    }

    #[test]
    fn a_repeat_in_the_same_life_is_not() {
        let judgement = judge(&[&[1, 2, 3, 2, 3, 4]]);
        assert!(!judgement.is_good());
        assert_eq!(judgement.unexplained.len(), 2, "{judgement}");
        assert!(judgement.lost.is_empty() && judgement.inversions.is_empty());
    }

    #[test]
    fn a_repeat_that_is_older_than_the_keys_is_explained_and_a_younger_one_is_not() {
        let start = Instant::now();
        for (apart, explained) in [(301, true), (299, false)] {
            let mut record = Record::default();
            for (number, offset) in [1, 2, 3, 4].into_iter().zip(1..) {
                record.saw((0, offset), ROOM, number, Some(start));
            }
            record.saw((0, 5), ROOM, 4, Some(start + Duration::from_secs(apart)));
            let judgement = record.judge(&expected());
            assert_eq!(judgement.is_good(), explained, "{judgement}");
            assert_eq!(judgement.expired, usize::from(explained));
        }
    }

    #[test]
    fn what_several_witnesses_saw_is_counted_once_and_must_be_the_same() {
        let mut record = Record::default();
        for _ in 0..2 {
            for (number, offset) in (1..=4).zip(1..) {
                record.saw((0, offset), ROOM, number, None);
            }
        }
        assert!(record.judge(&expected()).is_good());
        record.saw((0, 4), ROOM, 3, None);
        let judgement = record.judge(&expected());
        assert!(!judgement.is_good());
        assert_eq!(judgement.contradictions, ["room: 4 and 3 at offset 4 of life 0"]);
    }

    #[test]
    fn what_was_meant_for_nobody_is_found() {
        let mut record = Record::default();
        record.saw((0, 1), "elsewhere", 1, None);
        record.saw((0, 1), ROOM, 9, None);
        assert_eq!(record.judge(&expected()).strangers, ["room: 9", "elsewhere: 1"]);
    }
}
