//! Finds the sequence where the last matching messages begin. JetStream can count the matches from a sequence on, but
//! cannot return the sequence for a given count.

/// Returns a sequence from which at least `count` messages match, and not many more. Returns `first` if no more than
/// that match at all. The stream holds nothing outside of `first..=last`. `matching_from` returns how many match from a
/// sequence on.
pub async fn find(
    first: u64,
    last: u64,
    count: u64,
    matching_from: impl AsyncFn(u64) -> anyhow::Result<u64>,
) -> anyhow::Result<u64> {
    // Reading a few unwanted messages costs less than another request.
    let enough = count.saturating_add(count / 4).saturating_add(16);
    let end = last.saturating_add(1);
    // From `low` on there are too many, from `high` on too few.
    let mut high = end;
    let mut reach = count;
    let mut low = loop {
        let begin = end.saturating_sub(reach).max(first);
        let found = matching_from(begin).await?;
        if found > enough {
            break begin;
        }
        if found >= count || begin == first {
            return Ok(begin);
        }
        high = begin;
        // Assume that matches are spread evenly, and go a bit further. Go at least to twice as many messages, but not
        // to all at once.
        let furthest = reach.saturating_mul(64);
        reach = match found {
            0 => furthest,
            found => {
                let spread = reach.saturating_mul(count) / found;
                spread
                    .saturating_add(spread / 8)
                    .clamp(reach.saturating_mul(2), furthest)
            }
        };
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match matching_from(middle).await? {
            found if found < count => high = middle,
            found if found > enough => low = middle,
            _ => return Ok(middle),
        }
    }
    // Messages arrived during the requests.
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Returns where it begins in a stream of these matching sequences, how many match from there on, and the number of
    /// requests.
    fn found(matching: &[u64], first: u64, last: u64, count: u64) -> (u64, u64, u32) {
        let asked = Cell::new(0);
        let from = |begin: u64| matching.iter().filter(|sequence| **sequence >= begin).count() as u64;
        let matching_from = async |begin| {
            asked.set(asked.get() + 1);
            Ok(from(begin))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let begin = runtime.block_on(find(first, last, count, matching_from)).unwrap();
        (begin, from(begin), asked.get())
    }

    #[test]
    fn where_all_match_one_question_is_enough() {
        let all: Vec<u64> = (1..=100_000).collect();
        assert_eq!(found(&all, 1, 100_000, 50), (99_951, 50, 1));
        assert_eq!(found(&all, 1, 100_000, 100_000), (1, 100_000, 1));
        assert_eq!(found(&all, 1, 100_000, u64::MAX), (1, 100_000, 1));
        assert_eq!(found(&all[89_999..], 90_000, 100_000, 20_000).0, 90_000);
    }

    #[test]
    fn few_questions_find_the_begin_however_the_matching_ones_are_spread() {
        const LAST: u64 = 1_000_000;
        let evenly: Vec<u64> = (1..=LAST).step_by(1_000).collect();
        let at_the_front: Vec<u64> = (1..=2_000).collect();
        let in_bursts: Vec<u64> = (1..=LAST)
            .filter(|sequence| (sequence / 500).is_multiple_of(40))
            .collect();
        let one = [LAST / 3];
        for matching in [&evenly[..], &at_the_front, &in_bursts, &one, &[]] {
            for count in [1, 50, 999] {
                let (begin, from_there, asked) = found(matching, 1, LAST, count);
                let wanted = count.min(matching.len() as u64);
                assert!(
                    (wanted..=count + count / 4 + 16).contains(&from_there),
                    "{count}: {from_there} from {begin}"
                );
                assert!(asked <= 24, "{count} of {}: asked {asked} times", matching.len());
            }
        }
    }

    #[test]
    fn what_comes_meanwhile_does_not_keep_it_from_ending() {
        let stored = Cell::new(1_000_u64);
        let matching_from = async |begin: u64| {
            stored.set(stored.get() + 500);
            Ok(stored.get().saturating_sub(begin))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let begin = runtime.block_on(find(1, 1_000, 10, matching_from)).unwrap();
        assert!(begin <= 1_000, "{begin}");
    }
}
