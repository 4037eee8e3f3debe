//! Dates, without a crate for them, which would take longer to compile than the rest of the SDK.

const NANOSECONDS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Returns nanoseconds since 1970 as in RFC 3339, in UTC.
pub fn rfc3339(nanoseconds: u64) -> String {
    let (seconds, fraction) = (nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS);
    let (year, month, day) = date(seconds / DAY);
    let second = seconds % DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{fraction:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Returns year, month and day of a number of days since 1970. This is `civil_from_days` of
/// <https://howardhinnant.github.io/date_algorithms.html>: years begin in March, so that a leap day is the last day.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

/// Returns the number of days from 1970 to a date: `days_from_civil` of the same page.
#[cfg(not(target_family = "wasm"))]
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + 365 * year + year / 4 - year / 100 + day - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nanoseconds: u64) {
        let expected = jiff::Timestamp::from_nanosecond(nanoseconds.into()).expect("a time before the year 9999");
        assert_eq!(rfc3339(nanoseconds), expected.to_string());
    }

    #[test]
    fn every_day_of_all_years_is_right() {
        // 2554 is the last year of a timestamp.
        (0..u64::MAX / NANOSECONDS / DAY).for_each(|day| check(day * DAY * NANOSECONDS));
        check(u64::MAX);
    }

    #[test]
    fn a_second_has_as_many_digits_as_it_needs() {
        let day = 20_758 * DAY * NANOSECONDS;
        for nanoseconds in [
            0,
            1,
            10,
            999_999_999,
            250_000_000,
            59 * NANOSECONDS + 1_000,
            3_599 * NANOSECONDS,
        ] {
            check(day + nanoseconds);
        }
        assert_eq!(rfc3339(day + 1_500_000), "2026-11-01T00:00:00.0015Z");
    }
}
