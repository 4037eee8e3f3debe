//! Reads the settings of a module's `.toml`, so a native test can use those that the module is deployed with.

use serde::de::DeserializeOwned;
use serde_json::Map;

use crate::{Context as _, Error, Result, Value, json};

/// Returns the `[settings]` of a module's `.toml`, as the transform gets them. The function is for tests, and exists
/// only in native builds.
///
/// ```
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Settings {
///     room: String,
/// }
///
/// # let text = "stream = 'CHAT'\n[settings]\nroom = 'lobby'";
/// # /*
/// let text = include_str!("../chat.toml");
/// # */
/// let settings: Settings = slipring_sdk::settings(text)?;
/// assert_eq!(settings.room, "lobby");
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// A function with `#[init]` takes them as they are: `prepare(slipring_sdk::settings(text)?)?`.
///
/// # Errors
/// If the text is not TOML, or its settings are not those that `T` expects. As in the relay, the error names the key.
pub fn settings<T: DeserializeOwned>(toml: &str) -> Result<T> {
    let mut file: toml::Table = toml.parse().context("the text is not TOML")?;
    let settings = file.remove("settings").unwrap_or_else(|| toml::Table::new().into());
    if !settings.is_table() {
        return Err("`settings` is not a table: [settings]".into());
    }
    json::read_settings(&to_json(settings, "settings")?.to_string())
}

/// Dates become strings, and what JSON cannot express is refused, as in the relay.
fn to_json(value: toml::Value, key: &str) -> Result<Value> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(boolean) => boolean.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Float(float) if !float.is_finite() => {
            return Err(Error::msg(format_args!(
                "{key} is {float}: JSON has neither nan nor inf"
            )));
        }
        toml::Value::Float(float) => float.into(),
        toml::Value::Array(values) => {
            let element = |(index, value)| to_json(value, &format!("{key}[{index}]"));
            values.into_iter().enumerate().map(element).collect::<Result<_>>()?
        }
        toml::Value::Table(table) => {
            let mut object = Map::new();
            for (name, value) in table {
                let json = to_json(value, &format!("{key}.{name}"))?;
                object.insert(name, json);
            }
            object.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn settings_are_those_of_the_relay() {
        let text = "stream = 'S'\n[settings]\nday = 2026-11-01\nlist = [1, 2.5, true, 'x']\n[settings.a]\nb = {}";
        assert_eq!(
            settings::<Value>(text).unwrap(),
            json!({ "day": "2026-11-01", "list": [1, 2.5, true, "x"], "a": { "b": {} } })
        );
        assert_eq!(settings::<Value>("stream = 'S'").unwrap(), json!({}));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let error = |text| {
            settings::<std::collections::BTreeMap<String, u8>>(text)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("[settings]\nretries = 300"),
            "settings.retries: invalid value: integer `300`, expected u8"
        );
        assert_eq!(
            error("[settings]\na = [nan]"),
            "settings.a[0] is NaN: JSON has neither nan nor inf"
        );
        assert_eq!(error("settings = 7"), "`settings` is not a table: [settings]");
        assert!(error("[settings").starts_with("the text is not TOML: "));
    }
}
