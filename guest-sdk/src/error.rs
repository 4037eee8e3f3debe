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
/// and `into` make one of a text, of any `std::error::Error`, of a `Box<dyn Error>` and of an `anyhow::Error`. The
/// texts of its sources are kept:
///
/// ```
/// use slipring_sdk::{Context, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     if text.is_empty() {
///         return Err("the port is empty".into());
///     }
///     let (_, port) = text.split_once(':').ok_or("the port is missing")?;
///     Ok(port.parse()?)
/// }
/// let error = |text| port(text).unwrap_err().to_string();
/// assert_eq!(error(""), "the port is empty");
/// assert_eq!(error("localhost"), "the port is missing");
/// assert_eq!(error("localhost:http"), "invalid digit found in string");
/// ```
///
/// [`Context`](crate::Context) adds what was being done, and [`ensure!`](crate::ensure) checks a condition.
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
    /// use slipring_sdk::Error;
    ///
    /// let missing = ["Tenant", "Trace"];
    /// let error = Error::msg(format_args!("the headers {missing:?} are missing"));
    /// assert_eq!(error.to_string(), "the headers [\"Tenant\", \"Trace\"] are missing");
    /// ```
    pub fn msg(text: impl fmt::Display) -> Self {
        Self { text: text.to_string() }
    }

    /// Returns the same error with a prefix that says what you were doing. For a `Result` or an `Option`, there is
    /// [`Context`](crate::Context).
    ///
    /// ```
    /// use slipring_sdk::Error;
    ///
    /// let error = Error::msg("it is negative").context("the price");
    /// assert_eq!(error.to_string(), "the price: it is negative");
    /// ```
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self {
            text: format!("{doing}: {}", self.text),
        }
    }
}

/// Everything that becomes a boxed error: texts, errors of the standard library and of other crates.
impl<'a, E: Into<Box<dyn StdError + 'a>>> From<E> for Error {
    fn from(error: E) -> Self {
        let error = error.into();
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

/// Returns early with an [`Error`] if a condition is false. Without a text of your own, the error shows the
/// condition.
///
/// ```
/// use slipring_sdk::{Message, Output, Result, ensure};
///
/// fn readings(message: &Message) -> Result<Output> {
///     ensure!(!message.payload.is_empty());
///     let len = message.payload.len();
///     ensure!(len % 4 == 0, "{len} bytes are not a whole number of readings");
///     Ok(Output::drop())
/// }
/// let error = |payload: &[u8]| readings(&Message::new("telemetry.a", payload)).unwrap_err().to_string();
/// assert_eq!(error(&[]), "this is not so: !message.payload.is_empty()");
/// assert_eq!(error(&[1, 2, 3]), "3 bytes are not a whole number of readings");
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr $(,)?) => {
        if !$condition {
            $crate::bail!("this is not so: {}", ::core::stringify!($condition))
        }
    };
    ($condition:expr, $($argument:tt)+) => {
        if !$condition {
            $crate::bail!($($argument)+)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;

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

    #[test]
    fn errors_of_other_crates_and_texts_become_one() {
        fn anyhow() -> Result<()> {
            Err(anyhow::anyhow!("no key").context("no table"))?;
            Ok(())
        }
        fn boxed() -> Result<()> {
            let boxed: Box<dyn StdError> = Box::new(chain(&["no price", "no table"]));
            Err(boxed)?
        }
        /// Its error borrows from the text.
        fn borrowed(text: &str) -> Result<()> {
            #[derive(Debug)]
            struct At<'a>(&'a str);
            impl fmt::Display for At<'_> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "at {}", self.0)
                }
            }
            impl StdError for At<'_> {}
            Err(At(text))?
        }
        assert_eq!(anyhow().unwrap_err().to_string(), "no table: no key");
        assert_eq!(boxed().unwrap_err().to_string(), "no price: no table");
        assert_eq!(borrowed("{").unwrap_err().to_string(), "at {");
        assert_eq!(Error::from("no price").to_string(), "no price");
        assert_eq!(Error::from(String::from("no price")).to_string(), "no price");
    }

    #[test]
    fn context_is_for_all_of_them() {
        let text = |result: Result<u8>| result.unwrap_err().to_string();
        assert_eq!(
            text("x".parse().context("price")),
            "price: invalid digit found in string"
        );
        assert_eq!(
            text(Err(Error::msg("no price")).context("order 17")),
            "order 17: no price"
        );
        assert_eq!(
            text(Err(anyhow::anyhow!("no price")).context("order 17")),
            "order 17: no price"
        );
        assert_eq!(text(Err("no price").context("order 17")), "order 17: no price");
        assert_eq!(text(None.context("no price")), "no price");
        assert_eq!(text(None.with_context(|| format!("no {}", "price"))), "no price");
        assert_eq!(Some(7).context("not needed").unwrap(), 7);
        let not_called = || -> String { unreachable!("there is no error") };
        assert_eq!(Ok::<_, Error>(7).with_context(not_called).unwrap(), 7);
    }
}
