//! The results, in the form that is written to a file and the form that is printed.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::paced::{Delivery, KEYS, Observed, SIZE, at_most, longest_gap, micros};
use crate::statistics::{Spread, milliseconds, thousands};
use crate::table::table;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub message_bytes: usize,
    pub channels: u32,
    /// Messages a second.
    pub rate: u32,
    pub swaps: Vec<Swap>,
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Swap {
    /// From the file's replacement until the status showed the new module. The status is polled every 50 ms.
    pub took: u32,
    /// From the replacement until shortly after that.
    pub with: Window,
    /// The same length of time, just before.
    pub without: Window,
}

/// What was received in a period.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Window {
    pub messages: usize,
    /// Between two receipts on any channels.
    pub longest_gap: u32,
    /// Between two publishes. This shows the machine's share, because the publisher runs on it too.
    pub longest_gap_of_publisher: u32,
    pub p50: u32,
    pub p99: u32,
}

impl Results {
    pub fn new(rate: u32, swaps: Vec<Swap>) -> Self {
        Self {
            message_bytes: SIZE,
            channels: KEYS,
            rate,
            swaps,
        }
    }
}

impl Swap {
    pub fn new(observed: &Observed, replaced: Instant, taken_over: Instant, over: Instant) -> Self {
        Self {
            took: micros(taken_over - replaced),
            with: Window::of(observed.between(replaced, over)),
            without: Window::of(observed.between(replaced - (over - replaced), replaced)),
        }
    }
}

impl Window {
    fn of(deliveries: &[Delivery]) -> Self {
        Self {
            messages: deliveries.len(),
            longest_gap: micros(longest_gap(deliveries, |delivery| delivery.received)),
            longest_gap_of_publisher: micros(longest_gap(deliveries, |delivery| delivery.sent)),
            p50: at_most(deliveries, 0.5, Delivery::latency),
            p99: at_most(deliveries, 0.99, Delivery::latency),
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = |number: &dyn Fn(&Swap) -> u32| Spread::of(self.swaps.iter().map(|swap| number(swap).into()));
        let cells = |number: &dyn Fn(&Swap) -> u32| {
            spread(number).map_or_else(
                || [String::new(), String::new()],
                |spread| [milliseconds(spread.median), milliseconds(spread.max)],
            )
        };
        type Get = fn(&Window) -> u32;
        let numbers: [(&str, Get); 4] = [
            ("longest gap between receipts, ms", |window| window.longest_gap),
            ("longest gap between publishes, ms", |window| {
                window.longest_gap_of_publisher
            }),
            ("latency p50, ms", |window| window.p50),
            ("latency p99, ms", |window| window.p99),
        ];
        let rows = numbers.map(|(name, get)| {
            let [median, worst] = cells(&|swap| get(&swap.with));
            let [median_without, worst_without] = cells(&|swap| get(&swap.without));
            [name.to_owned(), median, worst, median_without, worst_without]
        });
        let head = ["", "swap: median", "worst", "no swap: median", "worst"];
        let [took, longest] = cells(&|swap| swap.took);
        write!(
            f,
            "\n## Swap\n\n{} swaps under {} messages/s of {} bytes on {} channels; from the file's replacement until the new module \
             works {took} ms (median; at most {longest}), in which it is compiled. Each is compared with the same time just before it.\n\n{}",
            self.swaps.len(),
            thousands(self.rate.into()),
            self.message_bytes,
            thousands(self.channels.into()),
            table(head, &rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_swap_is_compared_with_the_time_before_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        // One delivery each millisecond, except for a period whose deliveries all come at its end.
        let delivery = |millis| Delivery {
            due: at(millis),
            sent: at(millis),
            received: at(if (1_100..1_130).contains(&millis) {
                1_130
            } else {
                millis + 1
            }),
        };
        let observed = Observed((0..2_000).map(delivery).collect());
        let swap = Swap::new(&observed, at(1_000), at(1_200), at(1_250));
        assert_eq!(swap.took, 200_000);
        assert_eq!((swap.with.messages, swap.without.messages), (250, 250));
        assert_eq!((swap.with.longest_gap, swap.without.longest_gap), (30_000, 1_000));
        assert_eq!((swap.with.longest_gap_of_publisher, swap.with.p99), (1_000, 28_000));

        let text = Results::new(1_000, vec![swap]).to_string();
        let line = "| longest gap between receipts, ms  |        30.00 | 30.00 |            1.00 |  1.00 |";
        assert!(text.contains(line), "{text}");
    }
}
