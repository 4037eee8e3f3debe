//! Converts a module's `[settings]` into JSON. TOML's dates become strings. Values that JSON cannot express are
//! refused.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::DeValue;

use super::value::{Wrong, integer};

/// Converts a value. One that JSON cannot express is added to `unfit`, with its offset in the file and its key, and
/// becomes `null`.
pub fn to_json(value: &Spanned<DeValue<'_>>, key: &str, unfit: &mut Vec<(usize, String, Wrong)>) -> Value {
    let mut refuse = |right: &str| {
        unfit.push((
            value.span().start,
            key.to_owned(),
            Wrong::new(right).found_value(value.get_ref()),
        ));
        Value::Null
    };
    match value.get_ref() {
        DeValue::Table(table) => {
            let mut object = Map::new();
            for (name, value) in table {
                let name = name.get_ref();
                object.insert(name.to_string(), to_json(value, &format!("{key}.{name}"), unfit));
            }
            Value::Object(object)
        }
        _ if key == "settings" => refuse("a table: [settings]"),
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(boolean) => Value::from(*boolean),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Integer(_) => integer(value.get_ref())
            .and_then(Number::from_i128)
            .map_or_else(|| refuse("a 64-bit whole number"), Value::Number),
        DeValue::Float(float) => (float.as_str().parse().ok()).and_then(Number::from_f64).map_or_else(
            || refuse("a finite number: JSON has neither nan nor inf"),
            Value::Number,
        ),
        DeValue::Array(array) => {
            let element = |(index, value)| to_json(value, &format!("{key}[{index}]"), unfit);
            Value::Array(array.iter().enumerate().map(element).collect())
        }
    }
}
