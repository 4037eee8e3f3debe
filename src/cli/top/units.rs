//! Numbers in a few characters.

/// Formats a rate, or `-` if it is unknown.
pub fn rate(rate: Option<f32>) -> String {
    match rate.map(f64::from) {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => short(rate),
    }
}

/// Formats a number of things, or `-` if it is unknown.
pub fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| short(count as f64))
}

/// Returns at most five characters.
fn short(number: f64) -> String {
    match number {
        ..99_999.5 => format!("{number:.0}"),
        ..9_999_500.0 => format!("{:.0}k", number / 1e3),
        ..9_999_500_000.0 => format!("{:.0}M", number / 1e6),
        ..9_999_500_000_000.0 => format!("{:.0}G", number / 1e9),
        _ => "many".to_owned(),
    }
}

/// Formats a duration in seconds, or `-` if it is unknown.
pub fn seconds(seconds: Option<f64>) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    match seconds {
        None => "-".to_owned(),
        Some(seconds) => match seconds {
            ..9.95 => format!("{seconds:.1}s"),
            ..99.5 => format!("{seconds:.0}s"),
            ..5_970.0 => format!("{:.0}m", seconds / MINUTE),
            ..172_800.0 => format!("{:.0}h", seconds / HOUR),
            ..863_956_800.0 => format!("{:.0}d", seconds / DAY),
            _ => "ages".to_owned(),
        },
    }
}

/// Formats a latency in milliseconds, or `-` if it is unknown.
pub fn milliseconds(latency: Option<f32>) -> String {
    match latency.map(f64::from) {
        None => "-".to_owned(),
        Some(latency) if latency < 9.95 => format!("{latency:.1}ms"),
        Some(latency) if latency < 9_999.5 => format!("{latency:.0}ms"),
        Some(latency) => seconds(Some(latency / 1e3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_as_exact_as_there_is_room() {
        assert_eq!(
            [None, Some(0.0), Some(0.04), Some(9.94), Some(9.96), Some(812.4)].map(rate),
            ["-", "0", "0.0", "9.9", "10", "812"]
        );
        assert_eq!([Some(99_999.0), Some(123_456.0)].map(rate), ["99999", "123k"]);
        assert_eq!(
            [None, Some(7), Some(9_999_000), Some(12_345_678), Some(u64::MAX)].map(count),
            ["-", "7", "9999k", "12M", "many"]
        );
    }

    #[test]
    fn a_duration_has_the_unit_that_fits() {
        assert_eq!(
            [None, Some(0.44), Some(9.96), Some(99.0), Some(100.0)].map(seconds),
            ["-", "0.4s", "10s", "99s", "2m"]
        );
        assert_eq!(
            [
                Some(5_969.0),
                Some(5_971.0),
                Some(86_400.0 * 2.0),
                Some(86_400.0 * 400.0)
            ]
            .map(seconds),
            ["99m", "2h", "2d", "400d"]
        );
        assert_eq!(
            [None, Some(0.84), Some(9.96), Some(9_999.0), Some(12_000.0)].map(milliseconds),
            ["-", "0.8ms", "10ms", "9999ms", "12s"]
        );
    }

    #[test]
    fn nothing_is_wider_than_its_column() {
        let mut number = 0.001_f64;
        while number < 1e18 {
            for (text, width) in [
                (rate(Some(number as f32)), 5),
                (count(Some(number as u64)), 5),
                (seconds(Some(number)), 5),
                (milliseconds(Some(number as f32)), 6),
            ] {
                assert!(text.len() <= width, "{number}: {text}");
            }
            number *= 1.07;
        }
    }
}
