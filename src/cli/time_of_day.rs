//! The time of day on this machine's clock, for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats seconds since 1970 in this time zone, with a format of `strftime`. Returns `-` for what is no time.
pub fn time_of_day(seconds: f64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_microsecond((seconds * 1e6).round() as i64) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime(format).to_string(),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_its_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time_of_day(1_796_083_201.25, &zone, "%H:%M:%S%.3f"), "02:00:01.250");
        assert_eq!(time_of_day(0.0, &TimeZone::UTC, "%H:%M:%S"), "00:00:00");
        assert_eq!(time_of_day(f64::INFINITY, &TimeZone::UTC, "%H:%M:%S"), "-");
    }
}
