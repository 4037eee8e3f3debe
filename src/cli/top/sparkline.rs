//! The course of a number in one line of text.

use std::collections::VecDeque;

/// How much of it is shown.
pub const SECONDS: usize = 60;

/// The first is for nothing, so that a silent module has a line at the bottom. Where nothing is known, there is none.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values of a number, one for each second.
#[derive(Debug, Clone, Default)]
pub struct Course {
    values: VecDeque<Option<f32>>,
    /// The second of the newest value.
    newest: u64,
}

impl Course {
    /// Sets the value of a second. A second between this one and the newest is unknown.
    pub fn set(&mut self, second: u64, value: Option<f32>) {
        let passed = match second.checked_sub(self.newest) {
            Some(passed) if !self.values.is_empty() => usize::try_from(passed).unwrap_or(SECONDS),
            // The clock was set back, or nothing is known yet.
            _ => 1,
        };
        if passed == 0 {
            self.values.pop_back();
        }
        for _ in 1..passed.min(SECONDS) {
            self.values.push_back(None);
        }
        self.values.push_back(value);
        self.values.drain(..self.values.len().saturating_sub(SECONDS));
        self.newest = second;
    }

    /// Returns one character for each of `width` spans of time, the newest last. The highest has the highest level.
    pub fn draw(&self, width: usize) -> String {
        let span = SECONDS / width;
        let missing = SECONDS - self.values.len();
        let value = |place: usize| self.values.get(place.checked_sub(missing)?).copied().flatten();
        let means: Vec<Option<f32>> = (0..width)
            .map(|at| mean((at * span..(at + 1) * span).filter_map(value)))
            .collect();
        let highest = means.iter().flatten().copied().fold(0.0, f32::max);
        let level = |mean: f32| match mean > 0.0 {
            true => (mean / highest * (LEVELS.len() - 1) as f32).ceil() as usize,
            false => 0,
        };
        means
            .into_iter()
            .map(|mean| mean.map_or(' ', |mean| LEVELS[level(mean).min(LEVELS.len() - 1)]))
            .collect()
    }
}

fn mean(values: impl Iterator<Item = f32>) -> Option<f32> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(values: impl IntoIterator<Item = (u64, f32)>) -> Course {
        let mut course = Course::default();
        for (second, value) in values {
            course.set(second, Some(value));
        }
        course
    }

    #[test]
    fn the_newest_is_at_the_right_and_the_highest_at_the_top() {
        let rising = course((0..60).map(|second| (second, second as f32)));
        assert_eq!(rising.draw(10), "▂▃▃▄▅▆▆▇██");
        assert_eq!(rising.draw(60).chars().count(), 60);
        let short = course([(7, 0.0), (8, 1.0), (9, 2.0)]);
        assert_eq!(short.draw(60).trim_start(), "▁▅█");
        assert_eq!(Course::default().draw(10), " ".repeat(10));
    }

    #[test]
    fn what_does_not_move_is_a_line() {
        assert_eq!(course((0..60).map(|second| (second, 0.0))).draw(12), "▁".repeat(12));
        assert_eq!(course((0..60).map(|second| (second, 7.0))).draw(12), "█".repeat(12));
    }

    #[test]
    fn a_missing_second_is_a_gap_and_a_repeated_one_is_replaced() {
        let gap = course([(5, 1.0), (6, 1.0), (9, 1.0)]);
        assert_eq!(gap.draw(60).trim_start(), "██  █");
        assert_eq!(course([(5, 1.0), (6, 9.0), (6, 1.0)]).draw(60).trim_start(), "██");
        let mut long = course([(5, 1.0), (1_000_000, 1.0)]);
        assert_eq!(long.draw(60).trim_start(), "█");
        long.set(3, Some(1.0));
        assert_eq!(long.draw(60).trim_start(), "██", "the clock was set back");
        assert_eq!(long.values.len(), SECONDS);
    }
}
