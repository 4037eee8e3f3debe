//! Which letters to replay or to remove, as the body of a request says.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::dead_letter::{self, Filter, Reason};

/// The most numbers. Each takes a request to the server.
const MOST_NUMBERS: usize = 1_000;

/// How many numbers the log names.
const NAMED: usize = 10;

/// By number, by what letters have in common, or all: one of these, so that nothing is chosen by mistake.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::admin::routes) struct Selection {
    /// Letters with these numbers, at most 1000.
    numbers: Option<Vec<u64>>,
    /// Letters of this module. All of this and the next three that are set must hold.
    module: Option<String>,
    stage: Option<String>,
    code: Option<String>,
    /// The whole reason.
    reason: Option<String>,
    /// `true` means all letters.
    all: Option<bool>,
}

/// Reads the body of a request. The error is a sentence.
pub(super) fn read(body: &[u8]) -> Result<dead_letter::Selection, String> {
    let selection: Selection = serde_json::from_slice(body).map_err(|error| {
        format!(
            "The body must be JSON such as {{\"numbers\": [17, 18]}}, {{\"module\": \"orders\", \"code\": \"rejected\"}} or \
             {{\"all\": true}}: {error}."
        )
    })?;
    selection.chosen()
}

impl Selection {
    fn chosen(self) -> Result<dead_letter::Selection, String> {
        let filter = Filter {
            module: self.module,
            stage: self.stage,
            code: self.code,
            reason: self.reason.map(Reason::Is),
            ..Filter::default()
        };
        let is_filtered = filter != Filter::default();
        match (self.numbers, is_filtered, self.all) {
            (Some(numbers), false, None) => {
                if numbers.is_empty() || numbers.len() > MOST_NUMBERS {
                    let count = numbers.len();
                    return Err(format!("`numbers` has {count} numbers; it must have from 1 to {MOST_NUMBERS}."));
                }
                Ok(dead_letter::Selection::Numbers(numbers))
            }
            (None, true, None) | (None, false, Some(true)) => Ok(dead_letter::Selection::Matching(filter)),
            (None, false, Some(false)) => Err("`all` is `false`; it must be `true`, or be left out.".to_owned()),
            (None, false, None) => Err(
                "No dead letters are selected: give their `numbers`, or some of `module`, `stage`, `code` and `reason`, or \
                 `all`."
                    .to_owned(),
            ),
            _ => Err(
                "Give only one of these: `numbers`; some of `module`, `stage`, `code` and `reason`; or `all`.".to_owned(),
            ),
        }
    }
}

/// Says in the log which letters are meant. A reason may quote a message, so the log does not quote it.
pub(super) fn describe(selection: &dead_letter::Selection) -> String {
    let filter = match selection {
        dead_letter::Selection::Numbers(numbers) => {
            let named: Vec<String> = numbers.iter().take(NAMED).map(ToString::to_string).collect();
            let others = match numbers.len().saturating_sub(NAMED) {
                0 => String::new(),
                others => format!(" and {others} others"),
            };
            return format!("{}{others}", named.join(", "));
        }
        dead_letter::Selection::Matching(filter) => filter,
    };
    let set = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value:?}"));
    let mut parts: Vec<String> = [
        set("module", &filter.module),
        set("stage", &filter.stage),
        set("code", &filter.code),
    ]
    .into_iter()
    .flatten()
    .collect();
    if filter.reason.is_some() {
        parts.push("one reason".to_owned());
    }
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(body: &str) -> Result<String, String> {
        read(body.as_bytes()).map(|selection| describe(&selection))
    }

    #[test]
    fn one_way_of_choosing_is_needed_and_no_more() {
        for (body, expected) in [
            (r#"{"numbers": [17, 18]}"#, "17, 18"),
            (r#"{"all": true, "module": null}"#, "all"),
            (r#"{"module": "orders"}"#, "module \"orders\""),
            (
                r#"{"module": "orders", "stage": "publish", "code": "102", "reason": "secret"}"#,
                "module \"orders\", stage \"publish\", code \"102\", one reason",
            ),
            // A letter that no relay stored.
            (r#"{"stage": ""}"#, "stage \"\""),
        ] {
            assert_eq!(described(body).as_deref(), Ok(expected), "{body}");
        }
        let numbers: Vec<u64> = (1..=12).collect();
        let many = serde_json::json!({ "numbers": numbers }).to_string();
        assert_eq!(described(&many).unwrap(), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 others");
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let numbers: Vec<u64> = (0..=1_000).collect();
        let many = serde_json::json!({ "numbers": numbers }).to_string();
        for (body, words) in [
            ("", "must be JSON such as"),
            ("[]", "No dead letters are selected"),
            ("{}", "No dead letters are selected"),
            (r#"{"all": null}"#, "No dead letters are selected"),
            (r#"{"all": false}"#, "`all` is `false`"),
            (r#"{"numbers": []}"#, "`numbers` has 0 numbers"),
            (&many, "`numbers` has 1001 numbers"),
            (r#"{"numbers": [-1]}"#, "invalid value"),
            (r#"{"numbers": [1], "all": true}"#, "only one of these"),
            (r#"{"numbers": [1], "code": "102"}"#, "only one of these"),
            (r#"{"all": true, "code": "102"}"#, "only one of these"),
            (r#"{"all": false, "code": "102"}"#, "only one of these"),
            (r#"{"name": "orders"}"#, "unknown field `name`"),
            (r#"{"module": "a", "module": "b"}"#, "duplicate field `module`"),
        ] {
            let text = described(body).unwrap_err();
            assert!(text.contains(words), "{body}: {text}");
        }
    }

    #[test]
    fn a_reason_is_the_whole_reason() {
        let Ok(dead_letter::Selection::Matching(filter)) = read(br#"{"reason": "no"}"#) else {
            panic!("a filter");
        };
        assert_eq!(filter.reason, Some(Reason::Is("no".to_owned())));
    }
}
