//! Takes out of messages what must not lie in a repository. A value keeps its type, so that a module can read what is left.

use serde_json::Value;

use super::super::sample::Sample;

/// What stands where a text was.
const PLACEHOLDER: &str = "redacted";

/// The fields to redact, and what they were found in.
#[derive(Debug)]
pub struct Redaction {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    path: String,
    values: usize,
    messages: usize,
}

impl Redaction {
    /// A path is the keys that lead to a value, with dots between them: `customer.email`.
    pub fn new(paths: &[String]) -> Self {
        let field = |path: &String| Field {
            path: path.clone(),
            values: 0,
            messages: 0,
        };
        Self {
            fields: paths.iter().map(field).collect(),
        }
    }

    /// Whether the message may be kept: only an object or a list that is held without loss can be searched, and anything else
    /// could hold any of the fields.
    pub fn apply(&mut self, sample: &mut Sample) -> bool {
        // Its bytes could hold any of the fields.
        if !self.fields.is_empty() && sample.is_raw() {
            return false;
        }
        let searchable = |data: &mut Value| data.is_object() || data.is_array();
        if !self.fields.is_empty() && !sample.data_mut().is_some_and(searchable) {
            return false;
        }
        for field in &mut self.fields {
            let in_headers = redact_headers(sample, &field.path);
            let in_data = sample.data_mut().map_or(0, |data| {
                let keys: Vec<&str> = field.path.split('.').collect();
                redact(data, &keys)
            });
            field.values += in_headers + in_data;
            field.messages += usize::from(in_headers + in_data > 0);
        }
        true
    }

    /// What was redacted, a line each, and warnings of what was not found.
    pub fn tell(&self, messages: usize) -> Vec<String> {
        let line = |field: &Field| {
            let Field {
                path,
                values,
                messages: of,
            } = field;
            match values {
                0 => format!("warning: none of the messages has a `{path}`, so it redacted nothing"),
                _ => format!("redacted `{path}` in {of} of {messages} messages, values: {values}"),
            }
        };
        self.fields.iter().map(line).collect()
    }
}

/// Names of headers are told apart by case in NATS, not by people.
fn redact_headers(sample: &mut Sample, name: &str) -> usize {
    let found = sample
        .headers_mut()
        .iter_mut()
        .filter(|(header, _)| header.eq_ignore_ascii_case(name));
    found.map(|(_, value)| blank(value)).sum()
}

/// Wherever the keys follow one another, at any depth. A list counts as each of its elements. Returns how many values were
/// replaced.
fn redact(value: &mut Value, keys: &[&str]) -> usize {
    match value {
        Value::Array(values) => values.iter_mut().map(|value| redact(value, keys)).sum(),
        Value::Object(object) => {
            let here = object
                .get_mut(keys[0])
                .map_or(0, |found| redact_below(found, &keys[1..]));
            here + object.values_mut().map(|value| redact(value, keys)).sum::<usize>()
        }
        _ => 0,
    }
}

/// The same, where the keys must follow at once.
fn redact_below(value: &mut Value, keys: &[&str]) -> usize {
    let Some((first, rest)) = keys.split_first() else {
        return blank(value);
    };
    match value {
        Value::Array(values) => values.iter_mut().map(|value| redact_below(value, keys)).sum(),
        Value::Object(object) => object.get_mut(*first).map_or(0, |found| redact_below(found, rest)),
        _ => 0,
    }
}

/// It becomes a fixed value of its own type, a list one of each element. An object is emptied, because its keys may be what
/// nobody may read: `{"alice@example.org": {}}`. Returns how many values were replaced.
fn blank(value: &mut Value) -> usize {
    match value {
        Value::Array(values) => return values.iter_mut().map(blank).sum::<usize>().max(1),
        Value::Object(object) => object.clear(),
        Value::Null => {}
        Value::String(text) => PLACEHOLDER.clone_into(text),
        Value::Number(number) => *number = 0.into(),
        Value::Bool(bool) => *bool = false,
    }
    1
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;
    use crate::message::Message;

    fn sample(payload: &str) -> Sample {
        let headers = [("Trace", "a"), ("Trace", "b"), ("Kind", "order")];
        let message = Message {
            subject: "orders.7".to_owned(),
            payload: payload.to_owned().into(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            stream: "ORDERS".into(),
            sequence: 42,
            timestamp: 0,
            deliveries: 1,
            unreadable: None,
        };
        Sample::of(&message, "ORDERS")
    }

    /// The message, what is said of it, and whether it may be kept.
    fn check(payload: &str, paths: &[&str]) -> String {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut redaction = Redaction::new(&paths);
        let mut sample = sample(payload);
        let kept = redaction.apply(&mut sample);
        let text = serde_json::to_string(&sample).unwrap();
        format!("{text}\n{}\nkept: {kept}", redaction.tell(1).join("\n"))
    }

    #[test]
    fn a_path_is_found_at_any_depth_and_through_lists() {
        let payload = json!({
            "email": "a@example.org",
            "customer": { "email": "b@example.org", "name": "B", "age": 7, "vip": true, "note": null },
            "lines": [{ "customer": { "email": "c@example.org" } }, { "price": 5, "tags": ["x", 1] }],
        });
        let payload = payload.to_string();
        assert_snapshot!(check(&payload, &["customer.email"]), @r#"
        {"subject":"orders.7","data":{"customer":{"age":7,"email":"redacted","name":"B","note":null,"vip":true},"email":"a@example.org","lines":[{"customer":{"email":"redacted"}},{"price":5,"tags":["x",1]}]},"headers":{"Kind":"order","Trace":["a","b"]},"sequence":42,"timestamp":"1970-01-01T00:00:00Z"}
        redacted `customer.email` in 1 of 1 messages, values: 2
        kept: true
        "#);
        assert_snapshot!(check(&payload, &["email", "lines.price", "tags"]), @r#"
        {"subject":"orders.7","data":{"customer":{"age":7,"email":"redacted","name":"B","note":null,"vip":true},"email":"redacted","lines":[{"customer":{"email":"redacted"}},{"price":0,"tags":["redacted",0]}]},"headers":{"Kind":"order","Trace":["a","b"]},"sequence":42,"timestamp":"1970-01-01T00:00:00Z"}
        redacted `email` in 1 of 1 messages, values: 3
        redacted `lines.price` in 1 of 1 messages, values: 1
        redacted `tags` in 1 of 1 messages, values: 2
        kept: true
        "#);
        assert_snapshot!(check(&payload, &["customer"]), @r#"
        {"subject":"orders.7","data":{"customer":{},"email":"a@example.org","lines":[{"customer":{}},{"price":5,"tags":["x",1]}]},"headers":{"Kind":"order","Trace":["a","b"]},"sequence":42,"timestamp":"1970-01-01T00:00:00Z"}
        redacted `customer` in 1 of 1 messages, values: 2
        kept: true
        "#);
    }

    #[test]
    fn headers_are_fields_too_and_what_is_not_found_is_a_warning() {
        assert!(
            check(r#"{"a":false,"b":null,"c":{}}"#, &["a", "b", "c"])
                .find("warning")
                .is_none()
        );
        assert_snapshot!(check("{}", &["trace", "mail"]), @r#"
        {"subject":"orders.7","data":{},"headers":{"Kind":"order","Trace":["redacted","redacted"]},"sequence":42,"timestamp":"1970-01-01T00:00:00Z"}
        redacted `trace` in 1 of 1 messages, values: 2
        warning: none of the messages has a `mail`, so it redacted nothing
        kept: true
        "#);
    }

    #[test]
    fn no_key_of_what_is_redacted_stays() {
        let payload = r#"{"customers":{"alice@example.org":{"age":7}},"lists":[[{"bob@example.org":1},7]]}"#;
        let shown = check(payload, &["customers", "lists"]);
        assert!(shown.contains(r#""data":{"customers":{},"lists":[[{},0]]}"#), "{shown}");
    }

    #[test]
    fn what_cannot_be_searched_is_not_kept() {
        // The last two hold more than can be taken apart and put together again.
        let payloads = [
            "hello a@example.org",
            r#""a@example.org""#,
            "491701234567",
            "null",
            r#"{"email":"a@example.org","email":""}"#,
            r#"{"email":"a@example.org","wei":1000000000000000000000}"#,
        ];
        for payload in payloads {
            assert!(check(payload, &["email"]).ends_with("kept: false"), "{payload}");
            let with_header = check(payload, &["trace"]);
            assert!(with_header.ends_with("kept: false"), "{with_header}");
            assert!(check(payload, &[]).ends_with("kept: true"), "{payload}");
        }
        assert!(check("[]", &["email"]).ends_with("kept: true"));
    }
}
