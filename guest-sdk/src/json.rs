//! Reads JSON. Its errors name the key, which is the first thing to look for in a dead letter.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads a JSON text that is not the payload itself: a string inside it, or the value of a header. `what` is its name
/// in an error. The value may borrow from the text, as with [`Message::json`](crate::Message::json).
///
/// ```
/// use serde::Deserialize;
/// use slipring_sdk::{Message, Result, from_json};
///
/// /// An outbox table holds its events as text.
/// #[derive(Deserialize)]
/// struct Row {
///     payload: String,
/// }
///
/// #[derive(Debug, Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// fn order(message: &Message) -> Result<Order> {
///     let row: Row = message.json()?;
///     from_json("the row's `payload`", &row.payload)
/// }
/// assert_eq!(order(&Message::new("outbox", r#"{"payload":"{\"id\":17}"}"#))?.id, 17);
/// let error = order(&Message::new("outbox", r#"{"payload":"{\"id\":\"x\"}"}"#)).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the row's `payload` is not the JSON that was expected: id: invalid type: string \"x\", expected u64 at line 1 \
///      column 9"
/// );
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// # Errors
/// If the text is empty, is not JSON, or is not the JSON that `T` expects. The error names the key and the position.
pub fn from_json<'de, T: Deserialize<'de>>(what: &str, text: &'de (impl AsRef<[u8]> + ?Sized)) -> Result<T> {
    read(what, text.as_ref())
}

/// Reads `bytes`. `what` is their name in an error, for example "the payload".
pub(crate) fn read<'de, T: Deserialize<'de>>(what: &str, bytes: &'de [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        if bytes.is_empty() {
            return Error::msg(format_args!("{what} is empty, but must be JSON"));
        }
        if let Some(mark) = byte_order_mark(bytes) {
            return Error::msg(format_args!("{what} is not JSON: it begins with {mark}"));
        }
        if !error.is_data() {
            return Error::msg(format_args!("{what} is not JSON: {error}"));
        }
        // Tracking the path costs time, so read again with it only for the error.
        let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
        let with_path = serde_path_to_error::deserialize::<_, T>(deserializer)
            .err()
            .map(|error| error.to_string());
        let error = with_path.unwrap_or_else(|| error.to_string());
        Error::msg(format_args!("{what} is not the JSON that was expected: {error}"))
    })
}

/// Returns an error text if `bytes` begin with a byte order mark, which some editors and libraries write. JSON must
/// not begin with one (RFC 8259, section 8.1).
fn byte_order_mark(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some("a byte order mark (ef bb bf), which must be removed"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("a UTF-16 byte order mark, but JSON must be UTF-8"),
        _ => None,
    }
}

/// Reads settings. The error omits line and column, because the user wrote TOML and never sees this JSON.
pub(crate) fn read_settings<T: DeserializeOwned>(text: &str) -> Result<T> {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let text = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        let text = text.strip_suffix(&position).unwrap_or(&text);
        match path.as_str() {
            // The path of the root. The text of the error names a missing field.
            "." => Error::msg(format_args!("settings: {text}")),
            path => Error::msg(format_args!("settings.{path}: {text}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the way there is of interest")]
    struct Basket {
        lines: Vec<BTreeMap<String, u32>>,
    }

    fn check(bytes: &str, expected: &str) {
        assert_eq!(
            read::<Basket>("the payload", bytes.as_bytes()).unwrap_err().to_string(),
            expected
        );
    }

    #[test]
    fn an_error_in_a_payload_names_the_key_and_the_place() {
        check("", "the payload is empty, but must be JSON");
        check("lines", "the payload is not JSON: expected value at line 1 column 1");
        check(
            "\u{feff}{}",
            "the payload is not JSON: it begins with a byte order mark (ef bb bf), which must be removed",
        );
        check(
            "{}",
            "the payload is not the JSON that was expected: missing field `lines` at line 1 column 2",
        );
        check(
            r#"{"lines":[{"price":1},{"price":-1}]}"#,
            "the payload is not the JSON that was expected: lines[1].price: invalid value: integer `-1`, expected u32 at \
             line 1 column 33",
        );
    }

    #[test]
    fn an_error_in_settings_names_the_key_as_the_user_wrote_it() {
        let error = |text: &str| read_settings::<Basket>(text).unwrap_err().to_string();
        assert_eq!(error("{}"), "settings: missing field `lines`");
        assert_eq!(
            error(r#"{"lines":7}"#),
            "settings.lines: invalid type: integer `7`, expected a sequence"
        );
        assert_eq!(
            error(r#"{"lines":[{"price":"x"}]}"#),
            "settings.lines[0].price: invalid type: string \"x\", expected u32"
        );
        assert_eq!(
            error(r#"{"line":[]}"#),
            "settings.line: unknown field `line`, expected `lines`"
        );
    }
}
