//! The reason why a message was rejected or the settings were refused. It leaves the module as text, so it keeps no
//! types.

use std::error::Error as StdError;
use std::fmt;

/// `Result` with this crate's [`Error`] as the default error type.
///
/// ```
/// fn quantity(text: &str) -> slipring_sdk::Result<u32> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(quantity("12").unwrap(), 12);
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a message was rejected, or why the settings were refused.
///
/// People read its text in the dead letter and in the relay's log, so say what you expected and what you found. `?`
/// converts any `std::error::Error`, and keeps the text of its sources:
///
/// ```
/// use slipring_sdk::Result;
///
/// fn port(text: &str) -> Result<u16> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(port("http").unwrap_err().to_string(), "invalid digit found in string");
/// ```
///
/// Like `anyhow::Error`, it is not a `std::error::Error` itself. Otherwise the conversion would be impossible.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    text: String,
}

impl Error {
    /// Returns an error with a text of your own. [`bail!`](crate::bail) returns from the function with one.
    ///
    /// ```
    /// use slipring_sdk::{Error, Message, Result};
    ///
    /// fn tenant(message: &Message) -> Result<&str> {
    ///     message.header("Tenant").ok_or_else(|| Error::msg("the header Tenant is missing"))
    /// }
    /// assert_eq!(tenant(&Message::new("a", "")).unwrap_err().to_string(), "the header Tenant is missing");
    /// ```
    pub fn msg(text: impl fmt::Display) -> Self {
        Self { text: text.to_string() }
    }

    /// Returns the same error with a prefix that says what you were doing.
    ///
    /// ```
    /// use slipring_sdk::{Error, Result};
    ///
    /// fn price(text: &str) -> Result<u32> {
    ///     text.parse().map_err(|error| Error::from(error).context(format!("price {text:?}")))
    /// }
    /// assert_eq!(price("1.5").unwrap_err().to_string(), "price \"1.5\": invalid digit found in string");
    /// ```
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self {
            text: format!("{doing}: {}", self.text),
        }
    }
}

impl<E: StdError> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors repeat their source in their own text.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self { text }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The same as [`Display`](fmt::Display), so a test that returns a [`Result`] fails with a readable text.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns early with an [`Error`]. The arguments are those of [`format!`].
///
/// ```
/// use slipring_sdk::{Message, Output, Result, bail};
///
/// fn readings(message: &Message) -> Result<Output> {
///     if message.payload.len() % 4 != 0 {
///         bail!("{} bytes are not a whole number of readings", message.payload.len());
///     }
///     Ok(Output::drop())
/// }
/// let error = readings(&Message::new("telemetry.a", [1, 2, 3])).unwrap_err();
/// assert_eq!(error.to_string(), "3 bytes are not a whole number of readings");
/// ```
#[macro_export]
macro_rules! bail {
    ($($argument:tt)+) => {
        return ::core::result::Result::Err($crate::Error::msg(::std::format!($($argument)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().expect("a text at least");
        Layer(first, (!rest.is_empty()).then(|| Box::new(chain(rest))))
    }

    #[test]
    fn the_text_of_every_source_is_kept() {
        let error = Error::from(chain(&["no price", "no table", "no key"]));
        assert_eq!(error.to_string(), "no price: no table: no key");
        assert_eq!(format!("{error:?}"), error.to_string());
    }

    #[test]
    fn a_source_that_was_said_already_is_not_repeated() {
        let error = Error::from(chain(&["no price: no table", "no table", "no key"]));
        assert_eq!(error.to_string(), "no price: no table: no key");
    }

    #[test]
    fn an_error_of_our_own_passes_through_unchanged() {
        fn inner() -> Result<()> {
            bail!("no {}", "price")
        }
        fn outer() -> Result<()> {
            inner()?;
            bail!("not reached")
        }
        assert_eq!(
            outer().unwrap_err().context("order 17").to_string(),
            "order 17: no price"
        );
    }
}
