//! JSON in its original text. A [`Value`] rounds numbers, drops the first of two equal keys, and cannot hold values
//! that are too large or too deep. Where this matters, the text counts.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::outcome::on_one_line;

/// Compared with [`is_same`], and written in the plain form of a [`Value`] if that loses nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Returns the text as JSON. `None` if it is not JSON or a [`Value`] would lose part of it.
    pub fn held(text: &str) -> Option<Self> {
        held(text)?;
        RawValue::from_string(text.to_owned()).ok().map(Self)
    }

    /// Returns the JSON without spaces. It is in the plain form of a [`Value`] if that loses nothing.
    pub fn compact(&self) -> String {
        match held(self.0.get()) {
            Some(value) => value.to_string(),
            None => without_spaces(self.0.get()).collect(),
        }
    }
}

impl From<Box<RawValue>> for Json {
    fn from(json: Box<RawValue>) -> Self {
        Self(json)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.0.get(), other.0.get())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match held(self.0.get()) {
            Some(value) => value.serialize(serializer),
            None => on_one_line(&self.0).serialize(serializer),
        }
    }
}

/// Compares by value, so spaces and the order of keys do not count. JSON that a [`Value`] cannot hold is compared as
/// text, ignoring only spaces.
pub fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (held(one), held(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => without_spaces(one).eq(without_spaces(other)),
        _ => false,
    }
}

/// Returns the value of the text. `None` if it is not JSON or a value would lose part of it.
pub fn held(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let structure: String = parts(text).filter(|(_, quoted)| !quoted).map(|(c, _)| c).collect();
    // A value has only one of two equal keys.
    let has_all_keys = structure.matches(':').count() == keys(&value);
    let mut words = structure.split(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let has_all_numbers =
        words.all(|word| !word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) || is_held(word));
    (has_all_keys && has_all_numbers).then_some(value)
}

fn keys(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(keys).sum(),
        Value::Object(object) => object.len() + object.values().map(keys).sum::<usize>(),
        _ => 0,
    }
}

/// A whole number also has to stay whole, because readers expect no `1e21`.
fn is_held(number: &str) -> bool {
    let Ok(held) = number.parse::<Number>() else {
        return false;
    };
    let becomes_a_float = held.is_f64() && !number.contains(['.', 'e', 'E']);
    let written = decimal(number);
    !becomes_a_float && written.is_some() && written == decimal(&held.to_string())
}

/// Returns the sign, the significant digits, and the power of ten to multiply them with. `None` if the power is
/// absurdly large.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) = mantissa
        .strip_prefix('-')
        .map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - digits.len()).ok()?;
    let digits = digits.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some((negative, digits, 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    Some((negative, digits, exponent.checked_add(zeros)?))
}

fn without_spaces(text: &str) -> impl Iterator<Item = char> {
    let kept = |&(c, quoted): &(char, bool)| quoted || !c.is_ascii_whitespace();
    parts(text).filter(kept).map(|(c, _)| c)
}

/// Returns the characters of JSON, each with a flag that is set inside a string and for its quotes.
fn parts(text: &str) -> impl Iterator<Item = (char, bool)> {
    let (mut inside, mut escaped) = (false, false);
    text.chars().map(move |c| {
        let was_inside = inside;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = inside,
            '"' => inside = !inside,
            _ => {}
        }
        (c, was_inside || inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_value_holds_is_compared_by_value() {
        for (one, other) in [
            (r#"{"a": [1, 2.50, "x"], "b": -7}"#, r#"{"b":-7,"a":[1,2.5,"\u0078"]}"#),
            (r#"{"a:\"{":"1e999, 1:2","b":1}"#, r#"{"b":1,"a:\"{":"1e999, 1:2"}"#),
            ("1e3", "1000.0"),
            ("18446744073709551615", " 18446744073709551615"),
            ("[0.0, -0.0, 1E-2]", "[0e9, 0.00, 0.01]"),
        ] {
            assert!(held(one).is_some() && is_same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("1", "1.0"),
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("0.1", "0.2"),
            ("\"a b\"", "\"ab\""),
        ] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_a_value_does_not_hold_is_compared_as_text() {
        let (deep, deeper) = (nested(200), nested(201));
        for (one, other) in [
            ("1000000000000000000001", "1000000000000000000000"),
            ("1000000000000000000000", "1e21"),
            ("[0.12345678901234567890]", "[0.12345678901234567891]"),
            ("1e999", "1e998"),
            ("1e-999", "0.0"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":3,"a":2}"#),
            (r#""\ud800""#, r#""\ud801""#),
            (deep.as_str(), deeper.as_str()),
        ] {
            assert!(held(one).is_none(), "{one}");
            assert!(!is_same(one, other), "{one} {other}");
            assert!(is_same(one, &format!(" {one}\n")), "{one}");
        }
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn it_is_written_as_it_was_where_a_value_would_say_less() {
        let written =
            |text: &str| serde_json::to_string(&Json(RawValue::from_string(text.to_owned()).unwrap())).unwrap();
        assert_eq!(written(r#"{"b": 1.50, "a": 2}"#), r#"{"a":2,"b":1.5}"#);
        assert_eq!(written(r#"{"b": 1.50, "a": 1e999}"#), r#"{"b": 1.50, "a": 1e999}"#);
        let shown = written("[1e999,\r\n2]");
        assert!(serde_json::from_str::<&RawValue>(&shown).is_ok(), "{shown:?}");
        assert!(!shown.contains(['\r', '\n']), "{shown:?}");
    }
}
