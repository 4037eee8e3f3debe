//! Says what was being done when something failed.

use std::fmt::Display;

use crate::{Error, Result};

/// Adds what was being done to the error of a `Result`, or makes an error of the `None` of an `Option`.
///
/// ```
/// use slipring_sdk::{Context, Message, Result};
///
/// fn price(message: &Message) -> Result<u32> {
///     let text = message.header("Price").context("the header Price is missing")?;
///     text.parse().with_context(|| format!("the header Price is {text:?}"))
/// }
/// let error = |message: &Message| price(message).unwrap_err().to_string();
/// let message = Message::new("orders.paid", "");
/// assert_eq!(error(&message), "the header Price is missing");
/// let message = message.with_header("Price", "1.5");
/// assert_eq!(error(&message), "the header Price is \"1.5\": invalid digit found in string");
/// ```
pub trait Context<T>: sealed::Sealed {
    /// Puts `doing` before the error's text.
    ///
    /// # Errors
    /// If there is no value.
    fn context(self, doing: impl Display) -> Result<T>;

    /// The same with a text that is only made if it is needed.
    ///
    /// # Errors
    /// If there is no value.
    fn with_context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn with_context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(doing()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::msg(doing))
    }

    fn with_context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.ok_or_else(|| Error::msg(doing()))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
    impl<T> Sealed for Option<T> {}
}
