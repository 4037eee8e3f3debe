//! Settings of a module from the command line: `--set limits.max=5`.

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// A key of `[settings]`, with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The tables that lead to it, and its own name.
    path: Vec<String>,
    value: Value,
}

impl Setting {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("it must be KEY=VALUE, such as currency=EUR or limits.max=5")?;
        let path: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err("its key must be names separated by dots, such as limits.max=5".to_owned());
        }
        let value = value.trim();
        Ok(Self {
            path,
            value: of_toml(value).unwrap_or_else(|| value.into()),
        })
    }
}

/// Returns a value that is written as in a `.toml`. Neither a word nor a text with spaces is one.
fn of_toml(text: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {text}").parse().ok()?;
    match (table.len(), table.get("value")) {
        (1, Some(value)) => json(value),
        _ => None,
    }
}

fn json(value: &toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        toml::Value::Boolean(boolean) => (*boolean).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        toml::Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| Some((key.clone(), json(value)?)));
            Value::Object(entries.collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// Returns the settings, a JSON object, with these keys set.
pub fn apply(settings: &str, set: &[Setting]) -> anyhow::Result<String> {
    if set.is_empty() {
        return Ok(settings.to_owned());
    }
    let mut settings: Value = serde_json::from_str(settings).context("the settings of the module are not JSON")?;
    for Setting { path, value } in set {
        let mut place = &mut settings;
        for (depth, name) in path.iter().enumerate() {
            let Value::Object(table) = place else {
                bail!("--set {}: `{}` is not a table", path.join("."), path[..depth].join("."));
            };
            let empty = || Value::Object(Map::new());
            place = table.entry(name.clone()).or_insert_with(empty);
        }
        place.clone_from(value);
    }
    Ok(settings.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(settings: &str, set: &[&str]) -> String {
        let set: Vec<Setting> = set.iter().map(|text| Setting::parse(text).unwrap()).collect();
        apply(settings, &set).unwrap_or_else(|error| format!("{error:#}"))
    }

    #[test]
    fn values_are_toml_or_else_texts() {
        let value = |text: &str| Setting::parse(&format!("key={text}")).unwrap().value;
        for (text, expected) in [
            ("5", json!(5)),
            ("0.5", json!(0.5)),
            ("true", json!(true)),
            ("\"5\"", json!("5")),
            ("[1, \"a\"]", json!([1, "a"])),
            ("{ a = 1 }", json!({"a": 1})),
            ("2026-11-01", json!("2026-11-01")),
            ("EUR", json!("EUR")),
            ("two words", json!("two words")),
            ("a=b", json!("a=b")),
            ("1\nother = 2", json!("1\nother = 2")),
            ("", json!("")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_added_or_replaced() {
        assert_eq!(applied(r#"{"a":1}"#, &["a=2", "b.c=x"]), r#"{"a":2,"b":{"c":"x"}}"#);
        assert_eq!(applied("{}", &[]), "{}");
        assert_eq!(applied(r#"{"a":1}"#, &["a.b=2"]), "--set a.b: `a` is not a table");
        for wrong in ["a", "=1", "a..b=1", ".a=1"] {
            assert!(Setting::parse(wrong).is_err(), "{wrong}");
        }
    }
}
