//! Compares a part of a publication with the whole of it.

use serde_json::Value;

use super::JSON_AGAIN;
use super::expectation::Fields;
use crate::json::{Json, held, is_same};

/// The field with the channels.
const CHANNELS: &str = "channels";

/// Returns true if the publication has everything that `part` has. Of `channels`, it may have more. Of JSON objects, too.
pub fn is_met(part: &Fields, publication: &Fields) -> bool {
    part.iter().all(|(name, wanted)| {
        let wanted = text(wanted);
        match (publication.get(name), held(&wanted)) {
            (Some(found), Some(Value::Array(wanted))) if name == CHANNELS => {
                let found = held(&text(found));
                let has = |channel| {
                    found
                        .as_ref()
                        .and_then(Value::as_array)
                        .is_some_and(|all| all.contains(channel))
                };
                wanted.iter().all(has)
            }
            (Some(found), Some(wanted)) => held(&text(found)).is_some_and(|found| is_part(&wanted, &found)),
            (Some(found), None) => is_same(&wanted, &text(found)),
            // The default is left out of an outcome.
            (None, wanted) => wanted.is_some_and(|wanted| is_default(&wanted)),
        }
    })
}

/// Returns true if the publication goes to a channel of `part`, or if the part names none.
pub fn is_on_the_same_channel(part: &Fields, publication: &Fields) -> bool {
    let channels = |fields: &Fields| fields.get(CHANNELS).and_then(|channels| held(&text(channels)));
    match (channels(part), channels(publication)) {
        (Some(Value::Array(wanted)), Some(Value::Array(found))) => wanted.iter().any(|channel| found.contains(channel)),
        _ => true,
    }
}

/// Returns the fields of the publication that `part` has too.
pub fn shown(part: &Fields, publication: &Fields) -> Fields {
    let mut shown = Fields::new();
    for (name, wanted) in part {
        let wanted_text = text(wanted);
        let Some(found) = publication.get(name) else {
            if held(&wanted_text).is_some_and(|wanted| is_default(&wanted)) {
                shown.insert(name.clone(), wanted.clone());
            }
            continue;
        };
        let projected = match (held(&wanted_text), held(&text(found))) {
            (Some(Value::Array(wanted)), Some(Value::Array(found))) if name == CHANNELS => {
                let kept: Vec<Value> = wanted.into_iter().filter(|channel| found.contains(channel)).collect();
                Some(Value::Array(if kept.is_empty() { found } else { kept }))
            }
            (Some(wanted), Some(found)) => Some(project(&wanted, found)),
            _ => None,
        };
        let json = projected.map_or_else(|| found.clone(), |value| json(&value));
        shown.insert(name.clone(), json);
    }
    shown
}

/// Of an object, only the wanted keys count, on every level. A list counts as a whole.
fn is_part(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| is_part(wanted, found))),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| is_part(wanted, found))
        }
        (wanted, found) => wanted == found,
    }
}

fn project(wanted: &Value, found: Value) -> Value {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let kept = found.into_iter().filter_map(|(key, value)| {
                let wanted = wanted.get(&key)?;
                Some((key, project(wanted, value)))
            });
            Value::Object(kept.collect())
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let elements = wanted.iter().zip(found);
            Value::Array(elements.map(|(wanted, found)| project(wanted, found)).collect())
        }
        (_, found) => found,
    }
}

fn is_default(value: &Value) -> bool {
    *value == Value::Bool(false) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn text(json: &Json) -> String {
    serde_json::to_string(json).expect(JSON_AGAIN)
}

fn json(value: &Value) -> Json {
    serde_json::value::to_raw_value(value).expect(JSON_AGAIN).into()
}
