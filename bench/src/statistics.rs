//! What several rounds have in common.

use std::fmt;

/// Of at least one number.
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

/// The smallest and the largest, with thousands kept apart.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", thousands(self.min), thousands(self.max))
    }
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
    fn numbers_are_written_for_people() {
        let spread = Spread::of([999.6, 1_234_567.0]).unwrap();
        assert_eq!(spread.to_string(), "1,000–1,234,567");
        assert_eq!(thousands(-123.0), "-123");
    }
}
