//! Tests the code that the attributes expand to. The tests call it natively, in the same order as the relay does.

use slipring_sdk::expansion::Transform;
use slipring_sdk::{Message, Output, Publication, Result};

/// Calls `init` with settings and then `transform` with one message. Returns the text of the publication or of the
/// first error.
fn run<T: Transform>(settings: &str) -> String {
    match T::init(settings).and_then(|()| T::transform(&Message::new("test", "payload"))) {
        Ok(output) => output.publications()[0].body.text().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn publish(text: impl Into<String>) -> Result<Output> {
    Ok(Publication::json_text("test", text).into())
}

mod without_settings {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(message: &Message) -> Result<Output> {
        publish(message.text()?)
    }

    #[test]
    fn settings_are_ignored() {
        assert_eq!(run::<TheTransformOfThisModule>(r#"{"room":"lobby"}"#), "payload");
    }
}

mod settings_by_serde {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Settings {
        room: String,
    }

    #[slipring_sdk::transform]
    fn transform(_message: &Message, settings: &Settings) -> Result<Output> {
        publish(&settings.room)
    }

    #[test]
    fn they_reach_the_transform() {
        assert_eq!(run::<TheTransformOfThisModule>(r#"{"room":"lobby"}"#), "lobby");
    }

    #[test]
    fn an_error_names_the_key() {
        assert_eq!(
            run::<TheTransformOfThisModule>(r#"{"room":7}"#),
            "settings.room: invalid type: integer `7`, expected a string"
        );
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "settings: missing field `room`");
    }

    #[test]
    fn a_transform_before_its_init_is_refused() {
        let error = TheTransformOfThisModule::transform(&Message::new("test", "")).unwrap_err();
        assert_eq!(error.to_string(), "transform was called before init");
    }
}

/// Serde could read the return type of `#[init]` as well, but the function must win.
mod settings_by_init {
    use std::collections::BTreeMap;

    use super::*;

    #[slipring_sdk::init]
    fn prepare(numbers: BTreeMap<String, u32>) -> Result<u32> {
        if numbers.is_empty() {
            slipring_sdk::bail!("no numbers to add");
        }
        Ok(numbers.into_values().sum())
    }

    #[slipring_sdk::transform]
    fn transform(_message: &Message, sum: &u32) -> Result<Output> {
        publish(sum.to_string())
    }

    #[test]
    fn the_transform_gets_what_init_made() {
        assert_eq!(run::<TheTransformOfThisModule>(r#"{"a":1,"b":2,"c":3}"#), "6");
    }

    #[test]
    fn what_init_refuses_is_refused() {
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "no numbers to add");
        assert_eq!(
            run::<TheTransformOfThisModule>(r#"{"a":-1}"#),
            "settings.a: invalid value: integer `-1`, expected u32"
        );
    }
}

mod init_without_a_use_for_its_result {
    use slipring_sdk::Value;

    use super::*;

    #[slipring_sdk::init]
    fn check(settings: Value) -> Result<Value> {
        if settings["room"].is_null() {
            Err(slipring_sdk::Error::msg("no room"))
        } else {
            Ok(settings)
        }
    }

    #[slipring_sdk::transform]
    fn transform(message: &Message) -> Result<Output> {
        publish(message.text()?)
    }

    #[test]
    fn it_is_called_all_the_same() {
        assert_eq!(run::<TheTransformOfThisModule>(r#"{"room":"lobby"}"#), "payload");
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "no room");
    }
}

/// The names in the expansion must not clash with names that a user is likely to choose.
mod names {
    use super::*;

    #[slipring_sdk::init]
    fn settings(settings: u32) -> Result<u32> {
        Ok(settings)
    }

    #[slipring_sdk::transform]
    fn message(_message: &Message, slot: &u32) -> Result<Output> {
        publish(slot.to_string())
    }

    #[test]
    fn functions_may_have_the_names_of_our_variables() {
        assert_eq!(run::<TheTransformOfThisModule>("7"), "7");
    }
}

mod errors_of_other_types {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(message: &Message) -> Result<Output, std::num::ParseIntError> {
        let number: u32 = String::from_utf8_lossy(&message.payload).parse()?;
        Ok(Publication::json_text("test", number.to_string()).into())
    }

    #[test]
    fn they_become_the_reason() {
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "invalid digit found in string");
    }
}

/// Returns nothing but a publication.
mod a_publication {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(message: &Message) -> Result<Publication> {
        Ok(Publication::json_text("test", message.text()?))
    }

    #[test]
    fn it_becomes_an_output() {
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "payload");
    }
}

mod an_output {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(message: &Message) -> Output {
        Publication::json_text("test", message.subject.as_str()).into()
    }

    #[test]
    fn it_becomes_an_output() {
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "test");
    }
}

mod what_becomes_an_output {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(_message: &Message) -> impl Into<Output> {
        [Publication::json_text("test", "an array")]
    }

    #[test]
    fn it_becomes_an_output() {
        assert_eq!(run::<TheTransformOfThisModule>("{}"), "an array");
    }
}

mod an_option_or_a_text {
    use super::*;

    #[slipring_sdk::transform]
    fn transform(_message: &Message, number: &u32) -> Result<Option<Publication>, String> {
        match number {
            0 => Err("there is no number".to_owned()),
            number => Ok(Some(Publication::json_text("test", number.to_string()))),
        }
    }

    #[test]
    fn it_becomes_an_output() {
        assert_eq!(run::<TheTransformOfThisModule>("7"), "7");
    }

    #[test]
    fn the_text_is_the_reason() {
        assert_eq!(run::<TheTransformOfThisModule>("0"), "there is no number");
    }
}

/// Whatever a function may have before its name and in its parameters.
mod forms {
    use super::*;

    pub mod settings {
        #[derive(serde::Deserialize)]
        pub struct Room {
            pub room: String,
        }
    }

    /// Documented.
    #[slipring_sdk::transform]
    pub(crate) fn transform<'a>(
        _: &'a Message,
        self::settings::Room { room }: &'a self::settings::Room,
    ) -> Result<Output>
    where
        'a: 'a,
    {
        publish(room)
    }

    #[test]
    fn they_are_read() {
        assert_eq!(run::<TheTransformOfThisModule>(r#"{"room":"lobby"}"#), "lobby");
    }
}
