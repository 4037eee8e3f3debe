//! Removes values from messages that must not be in a repository. A value keeps its type, so the module can read the
//! rest.

mod existing;
mod search;

use std::collections::BTreeSet;

use self::search::{Field, Found, Search, Unsearchable};
use crate::message::Message;

/// The fields to redact, and the messages in which they were found.
#[derive(Debug)]
pub struct Redaction {
    fields: Vec<Field>,
    /// For each field, true if no message has to contain it.
    optional: Vec<bool>,
    /// For each field, the number of messages that contained it, whether they were kept or not.
    seen: Vec<usize>,
    /// Keys of the messages, to suggest in place of a field that is in none.
    keys: BTreeSet<String>,
    searched: usize,
}

/// A message without the redacted values.
#[derive(Debug)]
pub struct Redacted {
    pub message: Message,
    found: Vec<Found>,
    secrets: Vec<(usize, String)>,
}

/// Counts what was redacted in the messages that became cases.
#[derive(Debug, Default)]
pub struct Tally(Vec<Count>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    messages: usize,
    values: usize,
}

/// The most keys that are kept for suggestions.
const MAX_KEYS: usize = 1_000;

/// Checks the name of a field to redact.
pub fn field(text: &str) -> Result<String, String> {
    match text.split('.').any(str::is_empty) {
        true => Err("it must be keys separated by dots, such as customer.email".to_owned()),
        false => Ok(text.to_owned()),
    }
}

impl Redaction {
    /// A path consists of the keys that lead to a value, separated by dots: `customer.email`. The fields in `if_there`
    /// may be missing from all messages.
    pub fn new(paths: &[String], if_there: &[String]) -> Self {
        let fields: Vec<Field> = paths.iter().chain(if_there).map(|path| Field::new(path)).collect();
        Self {
            optional: paths
                .iter()
                .map(|_| false)
                .chain(if_there.iter().map(|_| true))
                .collect(),
            seen: vec![0; fields.len()],
            keys: BTreeSet::new(),
            searched: 0,
            fields,
        }
    }

    /// Returns the message without the fields. Returns an error if it cannot be searched, because it could then hold
    /// any of them.
    pub fn apply(&mut self, message: &Message) -> Result<Redacted, Unsearchable> {
        let mut search = Search::new(&self.fields);
        let mut message = message.clone();
        if !self.fields.is_empty() {
            if message.unreadable.is_some() {
                return Err(Unsearchable::Unreadable);
            }
            for (name, value) in &mut message.headers {
                *value = search.header(name, value)?;
            }
            let payload = std::str::from_utf8(&message.payload).map_err(|_| Unsearchable::Binary)?;
            message.payload = search.payload(payload)?.into();
        }
        let Search {
            found, secrets, keys, ..
        } = search;
        for (seen, found) in self.seen.iter_mut().zip(&found) {
            *seen += usize::from(found.values > 0);
        }
        let names = message.headers.iter().map(|(name, _)| name.clone());
        let room = MAX_KEYS.saturating_sub(self.keys.len());
        self.keys.extend(keys.into_iter().chain(names).take(room));
        self.searched += 1;
        Ok(Redacted {
            message,
            found,
            secrets,
        })
    }

    /// Checks after all messages that each required field was in at least one. Otherwise its name may be wrong, and the
    /// messages may be full of the values that it was meant for.
    pub fn check(&self) -> anyhow::Result<()> {
        let nowhere = |index: &usize| self.seen[*index] == 0 && !self.optional[*index];
        let missing: Vec<usize> = (0..self.fields.len()).filter(nowhere).collect();
        let Some(&first) = missing.first() else { return Ok(()) };
        if self.searched == 0 {
            anyhow::bail!("nothing was written: none of the messages can be searched for fields to redact");
        }
        let names: Vec<String> = missing
            .iter()
            .map(|&index| format!("`{}`", self.fields[index].path))
            .collect();
        anyhow::bail!(
            "nothing was written: none of the messages has a {}{} For a field that may be missing from all of them, \
             use --redact-if-there",
            names.join(" or a "),
            suggestion(&self.keys, &self.fields[first].path)
        )
    }

    /// Returns the fields that the text of a case still holds.
    pub fn left_in(&self, case: &str, of: Option<&Redacted>) -> anyhow::Result<Vec<&str>> {
        let mut search = Search::new(&self.fields);
        existing::search(case, &mut search)?;
        let in_text = |index: usize| of.is_some_and(|redacted| redacted.has_secret_in(index, case));
        let left = |index: &usize| search.found[*index].told > 0 || in_text(*index);
        Ok((0..self.fields.len())
            .filter(left)
            .map(|index| self.fields[index].path.as_str())
            .collect())
    }

    /// Returns an error if a required field is missing from the text of a case. Its name may be wrong then.
    pub fn check_case(&self, case: &str) -> anyhow::Result<()> {
        let mut search = Search::new(&self.fields);
        existing::search(case, &mut search)?;
        let Search { found, keys, .. } = search;
        let mut missing = self.fields.iter().zip(&found).zip(&self.optional);
        match missing.find(|((_, found), optional)| found.values == 0 && !**optional) {
            None => Ok(()),
            Some(((field, _), _)) => anyhow::bail!(
                "the case has no `{}`{} For a field that may be missing, use --redact-if-there",
                field.path,
                suggestion(&keys, &field.path)
            ),
        }
    }

    /// Returns the fields that were redacted in this message.
    pub fn redacted_in(&self, redacted: &Redacted) -> Vec<&str> {
        let fields = self.fields.iter().zip(&redacted.found);
        let redacted = fields.filter(|(_, found)| found.values > 0);
        redacted.map(|(field, _)| field.path.as_str()).collect()
    }

    /// Returns a line for each place where a new case repeats a removed value.
    pub fn elsewhere(&self, redacted: &Redacted) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, field) in self.fields.iter().enumerate() {
            let message = &redacted.message;
            let mut places = Vec::new();
            if redacted.has_secret_in(index, &message.subject) {
                places.push("the subject, which is never redacted".to_owned());
            }
            for (name, value) in &message.headers {
                if redacted.has_secret_in(index, value) {
                    places.push(format!("the header {name}"));
                }
            }
            if std::str::from_utf8(&message.payload).is_ok_and(|payload| redacted.has_secret_in(index, payload)) {
                places.push("the payload, under another key".to_owned());
            }
            lines.extend(
                places
                    .into_iter()
                    .map(|place| format!("the value of `{}` is also in {place}", field.path)),
            );
        }
        lines
    }

    /// Reports what was redacted, one line per field.
    pub fn tell(&self, tally: &Tally, messages: usize) -> Vec<String> {
        let line = |(index, field): (usize, &Field)| {
            let Count { messages: of, values } = tally.0.get(index).copied().unwrap_or_default();
            match (values, self.seen[index]) {
                (0, 0) => Some(format!("none of the messages has a `{}`", field.path)),
                // Cases that stay as they are were already reported.
                (0, _) => None,
                _ => Some(format!(
                    "redacted `{}` in {of} of {messages} messages, values: {values}",
                    field.path
                )),
            }
        };
        self.fields.iter().enumerate().filter_map(line).collect()
    }
}

/// Returns the end of the sentence, with the key most similar to the last one of the path, if one is similar.
fn suggestion<'a>(keys: impl IntoIterator<Item = &'a String>, path: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or(path);
    let likeness = |key: &String| strsim::jaro_winkler(&last.to_lowercase(), &key.to_lowercase());
    let nearest = keys
        .into_iter()
        .map(|key| (likeness(key), key))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, key)) if likeness > 0.8 => format!("; did you mean `{key}`?"),
        _ => ".".to_owned(),
    }
}

impl Redacted {
    /// Returns true if the text contains one of the field's values, plain or escaped.
    fn has_secret_in(&self, field: usize, text: &str) -> bool {
        let escaped = |text: &str| {
            let literal = serde_json::Value::from(text).to_string();
            literal[1..literal.len() - 1].to_owned()
        };
        let secrets = self.secrets.iter().filter(|(of, _)| *of == field);
        secrets.into_iter().any(|(_, secret)| {
            let (once, twice) = (escaped(secret), escaped(&escaped(secret)));
            [secret, &once, &twice].iter().any(|form| text.contains(form.as_str()))
        })
    }
}

impl Tally {
    pub fn add(&mut self, redacted: &Redacted) {
        self.0.resize(redacted.found.len(), Count::default());
        for (count, found) in self.0.iter_mut().zip(&redacted.found) {
            count.values += found.values;
            count.messages += usize::from(found.values > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::message::Unreadable;

    fn message(subject: &str, payload: &str) -> Message {
        let headers = [("Trace", "a"), ("Trace", "b"), ("Kind", "order")];
        Message {
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Message::new("ORDERS", 42, subject, payload.to_owned())
        }
    }

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    /// Returns the redacted payloads and headers, and the report.
    fn check(payloads: &[&str], fields: &[&str], if_there: &[&str]) -> String {
        let mut redaction = Redaction::new(&paths(fields), &paths(if_there));
        let (mut tally, mut shown) = (Tally::default(), Vec::new());
        for payload in payloads {
            match redaction.apply(&message("orders.7", payload)) {
                Ok(redacted) => {
                    let headers = redacted
                        .message
                        .headers
                        .iter()
                        .map(|(name, value)| format!("{name}={value} "));
                    shown.push(headers.collect::<String>() + &String::from_utf8_lossy(&redacted.message.payload));
                    tally.add(&redacted);
                }
                Err(why) => shown.push(format!("left out: {why}")),
            }
        }
        match redaction.check() {
            Ok(()) => shown.extend(redaction.tell(&tally, payloads.len())),
            Err(error) => shown.push(error.to_string()),
        }
        shown.join("\n")
    }

    #[test]
    fn it_says_what_it_redacted() {
        assert_snapshot!(check(&[r#"{"a":1,"b":[2,3]}"#, r#"{"a":4}"#, "5"], &["a", "b", "trace"], &["c"]), @r#"
        Trace=redacted Trace=redacted Kind=order {"a":0,"b":[0,0]}
        Trace=redacted Trace=redacted Kind=order {"a":0}
        left out: it is a single value, not an object or a list
        redacted `a` in 2 of 3 messages, values: 2
        redacted `b` in 1 of 3 messages, values: 2
        redacted `trace` in 2 of 3 messages, values: 4
        none of the messages has a `c`
        "#);
        assert_snapshot!(check(&["5"], &[], &[]), @"Trace=a Trace=b Kind=order 5");
    }

    #[test]
    fn a_message_that_cannot_be_read_is_not_kept() {
        let mut unreadable = message("orders.7", "{}");
        unreadable.unreadable = Some(Box::new(Unreadable {
            reason: "its subject is not UTF-8".to_owned(),
            subject: "orders.7".into(),
            headers: "".into(),
        }));
        let apply = |fields: &[&str]| Redaction::new(&paths(fields), &[]).apply(&unreadable).is_ok();
        assert!(!apply(&["email"]) && apply(&[]));
    }

    #[test]
    fn a_field_that_is_nowhere_stops_it() {
        assert_snapshot!(check(&[r#"{"customer":"x","note":"y"}"#], &["nope", "customer"], &[]), @r#"
        Trace=a Trace=b Kind=order {"customer":"redacted","note":"y"}
        nothing was written: none of the messages has a `nope`; did you mean `note`? For a field that may be missing from all of them, use --redact-if-there
        "#);
        assert_snapshot!(check(&["{}"], &["a.costumer", "b"], &["c"]), @r"
        Trace=a Trace=b Kind=order {}
        nothing was written: none of the messages has a `a.costumer` or a `b`. For a field that may be missing from all of them, use --redact-if-there
        ");
        assert_snapshot!(check(&["5", "{"], &["a"], &[]), @r"
        left out: it is a single value, not an object or a list
        left out: it is not JSON, or is incomplete
        nothing was written: none of the messages can be searched for fields to redact
        ");
    }

    #[test]
    fn what_says_it_again_is_told() {
        let mut redaction = Redaction::new(&paths(&["email", "id"]), &[]);
        let payload = r#"{"email":"ann@example.org","to":["ann@example.org"],"id":7,"other":7}"#;
        let mut message = message("orders.ann@example.org.7", payload);
        message
            .headers
            .push(("To".to_owned(), "Ann <ann@example.org>".to_owned()));
        let redacted = redaction.apply(&message).unwrap();
        assert_eq!(
            redaction.elsewhere(&redacted),
            [
                "the value of `email` is also in the subject, which is never redacted",
                "the value of `email` is also in the header To",
                "the value of `email` is also in the payload, under another key",
            ]
        );
    }

    #[test]
    fn a_field_that_a_case_does_not_have_is_reported() {
        let case = r#"{"message":{"subject":"s","data":{"customer":{"email":"redacted"}},"headers":{"Trace":"1"}}}"#;
        let check = |required: &[&str], optional: &[&str]| {
            let checked = Redaction::new(&paths(required), &paths(optional)).check_case(case);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&["customer.email", "trace"], &["other"]), Ok(()));
        assert_snapshot!(check(&["customer.e_mail"], &[]).unwrap_err(), @"the case has no `customer.e_mail`; did you mean `email`? For a field that may be missing, use --redact-if-there");
        assert_snapshot!(check(&["other"], &[]).unwrap_err(), @"the case has no `other`. For a field that may be missing, use --redact-if-there");
    }

    #[test]
    fn a_case_that_is_there_is_looked_at() {
        let mut redaction = Redaction::new(&paths(&["email"]), &[]);
        let redacted = redaction
            .apply(&message("s", r#"{"email":"ann@example.org"}"#))
            .unwrap();
        let left = |case: &str| {
            redaction
                .left_in(case, Some(&redacted))
                .map_err(|error| error.to_string())
        };
        for holds in [
            r#"{"message":{"subject":"s","data":{"email":"other"}}}"#,
            r#"{"message":{"subject":"s","data":[{"EMAIL":1}]}}"#,
            r#"{"message":{"subject":"s","payload":"{\"email\":\"x\",\"email\":\"y\"}"}}"#,
            r#"{"message":{"subject":"s","payload":"email=x"}}"#,
            r#"{"message":{"subject":"s","payload_base64":"eyJlbWFpbCI6ImEifQ=="}}"#,
            r#"{"message":{"subject":"s","data":1,"headers":{"Email":["redacted","x"]}}}"#,
            r#"{"message":{"subject":"s","data":1},"expect":{"outcome":"publish","publications":[{"channels":["c"],"data":{"email":"x"}}]}}"#,
            r#"{"message":{"subject":"s","data":1},"expect":{"outcome":"publish","publications":[{"channels":["c"],"binary_base64":"eyJlbWFpbCI6ImEifQ=="}]}}"#,
            r#"{"message":{"subject":"s","data":1},"expect":{"outcome":"publish","publications":[{"channels":["c"],"data":1,"tags":{"email":"x"}}]}}"#,
            r#"{"message":{"subject":"s","data":{"to":"ann@example.org"}}}"#,
            r#"{"message":{"subject":"s","data":1},"expect":{"outcome":"reject","reason":"no ann@example.org"}}"#,
        ] {
            assert_eq!(left(holds), Ok(vec!["email"]), "{holds}");
        }
        for good in [
            r#"{"message":{"subject":"s","data":{"email":"redacted"}},"settings":{"email":"ours"},"expect":{"outcome":"drop"}}"#,
            r#"{"message":{"subject":"s","payload":"{\"email\":\"redacted\"} "}}"#,
        ] {
            assert_eq!(left(good), Ok(vec![]), "{good}");
        }
        assert_eq!(left("{"), Err("it is not a case".to_owned()));
    }
}
