//! Finds messages in a stream with many gaps. A queue whose messages disappear when they are done may hold one old
//! message and then nothing for millions of sequences.

use std::ops::RangeInclusive;

/// Returns the last sequence in the range that the stream holds. `next` returns the first held sequence at or after a
/// given one. It is called about twice for each doubling of the gap.
pub async fn last_held(
    range: RangeInclusive<u64>,
    next: impl AsyncFn(u64) -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<Option<u64>> {
    let (first, last) = range.into_inner();
    let held_from = async |begin: u64| Ok::<_, anyhow::Error>(next(begin).await?.filter(|held| *held <= last));
    // Go back from the end, twice as far each time, until there is one.
    let (mut reach, mut empty_from) = (1, last.saturating_add(1));
    let mut found = loop {
        if empty_from <= first {
            return Ok(None);
        }
        let begin = empty_from.saturating_sub(reach).max(first);
        match held_from(begin).await? {
            Some(held) => break held,
            None => empty_from = begin,
        }
        reach = reach.saturating_mul(2);
    };
    // From `empty_from` on there is none.
    while empty_from - found > 1 {
        let middle = found + (empty_from - found).div_ceil(2);
        match held_from(middle).await? {
            Some(held) => found = held,
            None => empty_from = middle,
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    /// Also returns the number of requests.
    fn found(held: &[u64], range: RangeInclusive<u64>) -> (Option<u64>, u32) {
        let asked = Cell::new(0);
        let next = async |begin| {
            asked.set(asked.get() + 1);
            Ok(held.iter().copied().find(|sequence| *sequence >= begin))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(last_held(range, next)).unwrap();
        (found, asked.get())
    }

    #[test]
    fn millions_that_are_gone_take_few_questions() {
        let (last, asked) = found(&[7], 1..=5_000_000);
        assert_eq!(last, Some(7));
        assert!(asked <= 48, "{asked}");
        let (none, asked) = found(&[], 1..=u64::MAX - 1);
        assert_eq!(none, None);
        assert!(asked <= 65, "{asked}");
        assert_eq!(found(&[3, 9], 1..=9), (Some(9), 1));
    }

    proptest! {
        #[test]
        fn it_is_the_last_one_in_the_range(held in btree_set(1_u64..200, 0..20), first in 1_u64..200, length in 0_u64..200) {
            let held: Vec<u64> = held.into_iter().collect();
            let range = first..=first + length;
            let expected = held.iter().rev().copied().find(|sequence| range.contains(sequence));
            prop_assert_eq!(found(&held, range).0, expected);
        }
    }
}
