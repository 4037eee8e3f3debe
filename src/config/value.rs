//! Parsers of single values. Each says what would be right. The calling section adds the key and the place.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;
use toml::de::DeValue;
use url::Url;

pub type Parsed<T> = Result<T, Wrong>;

/// Why a value is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The value in a form that may be shown.
    found: String,
    /// Completes "it must be …".
    right: String,
    /// Completes "did you mean …?".
    meant: Option<String>,
    /// Replaces the sentence. `{key}` stands for the key.
    told: Option<String>,
}

impl Wrong {
    pub fn new(right: impl Into<String>) -> Self {
        Self {
            found: "something else".to_owned(),
            right: right.into(),
            meant: None,
            told: None,
        }
    }

    /// A mistake that is not about the value as a whole. `{key}` stands for the key.
    pub fn told(sentence: impl Into<String>) -> Self {
        Self {
            told: Some(sentence.into()),
            ..Self::new("")
        }
    }

    /// Suggests a value, as it is written in the file.
    pub fn meant(self, meant: Option<String>) -> Self {
        Self { meant, ..self }
    }

    pub fn found(self, found: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            ..self
        }
    }

    pub fn found_value(self, value: &DeValue<'_>) -> Self {
        self.found(describe(value))
    }

    pub fn sentence(&self, key: &str) -> String {
        if let Some(told) = &self.told {
            return told.replace("{key}", key);
        }
        let sentence = format!("`{key}` is {}; it must be {}", self.found, self.right);
        match &self.meant {
            Some(meant) => format!("{sentence}; did you mean {meant}?"),
            None => sentence,
        }
    }
}

/// A text that is not empty.
pub fn text(value: &DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(Wrong::new("a string that is not empty").found_value(value)),
    }
}

pub fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value
        .as_bool()
        .ok_or_else(|| Wrong::new("true or false").found_value(value))
}

pub fn number(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| {
        let number = integer(value).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            Wrong::new(format!("a whole number from {} to {}", range.start(), range.end())).found_value(value)
        })
    }
}

/// Returns the integer, which may exceed the range that TOML guarantees.
pub fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Converts a number whose range was checked.
pub fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Converts a number whose range was checked.
pub fn as_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One of a few words.
pub fn one_of<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let chosen = choices.iter().find(|(word, _)| value.as_str() == Some(word));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            Wrong::new(words.join(" or ")).found_value(value)
        })
    }
}

/// `8s`, `100ms`, `1m 30s`. If the end of the range is not self-explanatory, `why` gives the reason in the message.
pub fn duration(range: RangeInclusive<Duration>, why: &'static str) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let parsed = value.as_str().and_then(|text| text.parse::<SignedDuration>().ok());
        let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
        parsed.filter(|duration| range.contains(duration)).ok_or_else(|| {
            let (start, end) = (spell(*range.start()), spell(*range.end()));
            let meant = meant_duration(value).filter(|(_, duration)| range.contains(duration));
            Wrong::new(format!("a duration from \"{start}\" to \"{end}\"{why}"))
                .found_value(value)
                .meant(meant.map(|(meant, _)| quote(meant)))
        })
    }
}

/// Returns a duration for a number without a unit, which are seconds in most programs, and for days and weeks.
fn meant_duration(value: &DeValue<'_>) -> Option<(String, Duration)> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        _ => return None,
    };
    let (number, unit) = number_and_unit(&text)?;
    let number: u64 = number.parse().ok()?;
    let (number, unit, seconds) = match unit.to_lowercase().as_str() {
        "" => (number, "s", 1),
        "d" | "day" | "days" => (number.checked_mul(24)?, "h", 3_600),
        "w" | "week" | "weeks" => (number.checked_mul(7 * 24)?, "h", 3_600),
        _ => return None,
    };
    Some((
        format!("{number}{unit}"),
        Duration::from_secs(number.checked_mul(seconds)?),
    ))
}

/// Splits `64 MB` into its parts.
fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then_some((number, unit.trim()))
}

fn spell(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// `64MiB`, `1GiB`, `512KiB`, or a number of bytes. Decimal units are refused, because people who write MB rarely mean
/// a million.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<usize> {
    move |value| {
        let bytes = match value {
            DeValue::String(text) => parse_size(text),
            _ => integer(value).and_then(|bytes| u64::try_from(bytes).ok()),
        };
        let bytes = bytes
            .filter(|bytes| range.contains(bytes))
            .and_then(|bytes| usize::try_from(bytes).ok());
        bytes.ok_or_else(|| {
            let (start, end) = (spell_size(*range.start()), spell_size(*range.end()));
            let is_in_range = |(_, bytes): &(String, u64)| range.contains(bytes);
            Wrong::new(format!("a size from \"{start}\" to \"{end}\""))
                .found_value(value)
                .meant(meant_size(value).filter(is_in_range).map(|(meant, _)| quote(meant)))
        })
    }
}

/// Returns a size in the units that are known, for one in others. A number alone is taken for mebibytes.
fn meant_size(value: &DeValue<'_>) -> Option<(String, u64)> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        _ => return None,
    };
    let (number, unit) = number_and_unit(&text)?;
    let number: f64 = number.parse().ok()?;
    let factor = match unit.to_lowercase().as_str() {
        "k" | "kb" | "kib" | "ki" => KIB,
        "" | "m" | "mb" | "mib" | "mi" => MIB,
        "g" | "gb" | "gib" | "gi" => GIB,
        "t" | "tb" | "tib" | "ti" => 1024 * GIB,
        "b" | "byte" | "bytes" => 1,
        _ => return None,
    };
    let bytes = number * factor as f64;
    // A `f64` holds whole numbers up to here.
    let is_whole = bytes.fract() == 0.0 && (1.0..2_f64.powi(53)).contains(&bytes);
    let bytes = is_whole.then_some(bytes as u64)?;
    Some((spell_size(bytes), bytes))
}

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

const UNITS: [(&str, u64); 4] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn spell_size(bytes: u64) -> String {
    let (unit, factor) = UNITS
        .iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// A URL with one of the schemes and without parts that must not be there: a secret in a URL ends up in logs. `keys` says
/// where user and password belong.
pub fn url(
    schemes: &'static [&'static str],
    example: &'static str,
    keys: &'static str,
) -> impl Fn(&DeValue<'_>) -> Parsed<Url> {
    move |value| {
        let right = |extra: &str| Wrong::new(format!("a URL such as \"{example}\"{extra}"));
        let Some(text) = value.as_str() else {
            return Err(right("").found_value(value));
        };
        if text.contains('@') {
            return Err(right(&format!(" without user and password: set {keys} instead"))
                .found("a URL with credentials in it (not shown)"));
        }
        let url = Url::parse(text)
            .ok()
            .filter(|url| schemes.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty()));
        let url = url.ok_or_else(|| {
            // The part after a question mark may be a key.
            right("").found(quote(text.split('?').next().unwrap_or_default()))
        })?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(right(" without `?` or `#`").found("a URL with parameters (not shown)"));
        }
        Ok(url)
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.is_empty() => "empty".to_owned(),
        DeValue::String(text) => quote(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Quotes the text and shortens it to fit into a line.
pub fn quote(text: impl Display) -> String {
    const LONGEST: usize = 60;
    let text = text.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong<T: std::fmt::Debug>(parse: impl Fn(&DeValue<'_>) -> Parsed<T>, text: &str) -> String {
        let value = DeValue::parse(text).unwrap();
        parse(value.get_ref()).unwrap_err().sentence("key")
    }

    #[test]
    fn a_size_in_other_units_is_told_in_the_known_ones() {
        let size = size(MIB..=4 * GIB);
        for (written, meant) in [
            ("\"64MB\"", "64MiB"),
            ("\"64M\"", "64MiB"),
            ("\"64 mb\"", "64MiB"),
            ("\"1.5g\"", "1536MiB"),
            ("\"64\"", "64MiB"),
            ("64", "64MiB"),
        ] {
            let told = wrong(&size, written);
            assert!(told.ends_with(&format!("; did you mean \"{meant}\"?")), "{told}");
        }
        for written in ["\"8TB\"", "\"much\"", "\"64 apples\"", "\"0.3KB\"", "true"] {
            let told = wrong(&size, written);
            assert!(told.ends_with("it must be a size from \"1MiB\" to \"4GiB\""), "{told}");
        }
    }

    #[test]
    fn days_are_told_in_hours_and_a_number_in_seconds() {
        let duration = duration(Duration::from_millis(1)..=Duration::from_secs(366 * 86_400), "");
        for (written, meant) in [
            ("\"1d\"", "24h"),
            ("\"2 weeks\"", "336h"),
            ("\"30\"", "30s"),
            ("30", "30s"),
        ] {
            let told = wrong(&duration, written);
            assert!(told.ends_with(&format!("; did you mean \"{meant}\"?")), "{told}");
        }
        for written in ["\"soon\"", "\"9000d\"", "true"] {
            let told = wrong(&duration, written);
            assert!(
                told.ends_with("it must be a duration from \"1ms\" to \"8784h\""),
                "{told}"
            );
        }
    }
}
