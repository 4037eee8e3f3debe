//! Summarizes several rounds.

use std::collections::BTreeSet;
use std::fmt;

/// The spread of at least one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let upper = *numbers.get(middle)?;
        let lower = numbers[(numbers.len() - 1) / 2];
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: numbers[0],
            max: numbers[numbers.len() - 1],
        })
    }
}

/// Returns the different numbers, in ascending order.
pub fn distinct(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    numbers.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the ratio of one thing to another in each round that has both. Rounds are minutes apart, and the speed of a
/// shared machine may change meanwhile. Within a round it mostly stays the same.
pub fn ratios(of: &[(usize, f64)], to: &[(usize, f64)]) -> Option<Spread> {
    Spread::of(ratios_by_round(of, to))
}

/// Formats the median of [`ratios`], and their spread if there are several.
pub fn ratios_in_words(of: &[(usize, f64)], to: &[(usize, f64)]) -> String {
    let ratio = |ratio: f64| match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    };
    match ratios(of, to) {
        None => "–".to_owned(),
        Some(Spread { median, .. }) if of.len() == 1 => ratio(median),
        Some(Spread { median, min, max }) => format!("{} ({}–{})", ratio(median), ratio(min), ratio(max)),
    }
}

/// Returns the standard deviation of these ratios, if there are at least two.
pub fn deviation(of: &[(usize, f64)], to: &[(usize, f64)]) -> Option<f64> {
    let ratios: Vec<f64> = ratios_by_round(of, to).collect();
    let count = ratios.len() as f64;
    let mean = ratios.iter().sum::<f64>() / count;
    let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
    (ratios.len() > 1).then(|| (squares / (count - 1.0)).sqrt())
}

fn ratios_by_round(of: &[(usize, f64)], to: &[(usize, f64)]) -> impl Iterator<Item = f64> {
    let in_round = |round: usize| to.iter().find(|(other, _)| *other == round).map(|(_, number)| *number);
    of.iter()
        .filter_map(move |(round, number)| Some(number / in_round(*round)?))
}

/// Returns what is measured in a round: from first to last, and in the next round from last to first. A drift within
/// rounds then favours nobody.
pub fn in_turn<T>(round: usize, things: &[T]) -> impl Iterator<Item = &T> {
    let last = things.len().saturating_sub(1);
    (0..things.len()).map(move |index| &things[if round.is_multiple_of(2) { last - index } else { index }])
}

/// Prints the smallest and the largest number, with separators for thousands.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", thousands(self.min), thousands(self.max))
    }
}

/// Returns the number that this share (0.99) of the sorted numbers does not exceed, or 0 if there are none.
pub fn percentile(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Formats microseconds as milliseconds: `1.23`.
pub fn milliseconds(micros: f64) -> String {
    format!("{:.2}", micros / 1_000.0)
}

/// `12,345`
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let median = |numbers: &[f64]| Spread::of(numbers.iter().copied()).map(|spread| spread.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        // In the second round, everything is half as fast.
        let ours = [(1, 90.0), (2, 50.0), (3, 80.0), (4, 70.0)];
        let theirs = [(2, 50.0), (1, 100.0), (3, 100.0)];
        let ratios = ratios(&ours, &theirs).unwrap();
        assert_eq!((ratios.min, ratios.median, ratios.max), (0.8, 0.9, 1.0));
        assert_eq!(super::ratios(&ours, &[]), None);
        let deviation = deviation(&ours, &theirs).unwrap();
        // Of 0.9, 1.0 and 0.8.
        assert!((deviation - 0.1).abs() < 1e-9, "{deviation}");
        assert_eq!(super::deviation(&ours[..1], &theirs), None);
    }

    #[test]
    fn ratios_are_written_with_their_spread() {
        let twice = |one, other| [(1, one), (2, other)];
        let words = |of: &[(usize, f64)], to: &[(usize, f64)]| ratios_in_words(of, to);
        assert_eq!(words(&twice(8.0, 9.0), &twice(10.0, 10.0)), "0.85 (0.80–0.90)");
        assert_eq!(words(&twice(123.0, 5.0), &twice(10.0, 1_000.0)), "6.15 (0.005–12)");
        assert_eq!(words(&[(1, 8.0)], &twice(10.0, 10.0)), "0.80");
        assert_eq!(words(&[(3, 8.0)], &twice(10.0, 10.0)), "–");
    }

    #[test]
    fn every_other_round_goes_backwards() {
        let turns = |round| in_turn(round, &["a", "b", "c"]).copied().collect::<String>();
        assert_eq!([1, 2, 3].map(turns), ["abc", "cba", "abc"]);
        assert_eq!(in_turn(2, &[0_u8; 0]).count(), 0);
    }

    #[test]
    fn a_percentile_is_one_of_the_numbers() {
        let hundred: Vec<u32> = (1..=100).collect();
        let percentiles = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| percentile(&hundred, share));
        assert_eq!(percentiles, [1, 50, 99, 100, 100]);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn numbers_are_written_for_people() {
        let spread = Spread::of([999.6, 1_234_567.0]).unwrap();
        assert_eq!(spread.to_string(), "1,000–1,234,567");
        assert_eq!(thousands(-123.0), "-123");
        assert_eq!(milliseconds(1_234.0), "1.23");
    }
}
