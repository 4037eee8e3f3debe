//! The code that the attributes expand to. Not for direct use, and not stable: it must have the same version as
//! `#[transform]`.

use std::cell::OnceCell;

use serde::de::DeserializeOwned;

use crate::json;
pub use crate::{Error, Message, Output, Result};

#[cfg(target_family = "wasm")]
pub use crate::__slipring_sdk_export as export;
#[cfg(target_family = "wasm")]
pub use crate::guest;

/// The trait that `#[transform]` implements. It does so in every build, so `cargo test` finds mistakes too.
pub trait Transform {
    fn init(settings: &str) -> Result<()>;
    fn transform(message: &Message) -> Result<Output>;
}

/// The module's two functions.
pub type Entry = (fn(&str) -> Result<()>, fn(&Message) -> Result<Output>);

pub const fn entry<T: Transform>() -> Entry {
    (T::init, T::transform)
}

/// What a transform may return.
#[diagnostic::on_unimplemented(
    message = "a transform cannot return `{Self}`",
    label = "this is not an output",
    note = "it returns `Result<Output>`; or, with or without `Result`, what becomes an output: a `Publication`, an \
            `Option`, a `Vec` or an array of publications",
    note = "the error of the `Result` is any that `?` converts: `slipring_sdk::Error`, or that of another crate"
)]
pub trait Returned {
    fn into_result(self) -> Result<Output>;
}

// Otherwise an error would say that `Output: From<…>` is missing.
#[diagnostic::do_not_recommend]
impl<T: Into<Output>> Returned for T {
    fn into_result(self) -> Result<Output> {
        Ok(self.into())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Into<Output>, E: Into<Error>> Returned for Result<T, E> {
    fn into_result(self) -> Result<Output> {
        self.map(Into::into).map_err(Into::into)
    }
}

/// Converts what the user's function returned.
pub fn returned(value: impl Returned) -> Result<Output> {
    value.into_result()
}

/// The value that the transform's second parameter refers to, once `init` has made it. Each instance is
/// single-threaded and has one.
#[derive(Debug)]
pub struct Prepared<T>(OnceCell<T>);

impl<T> Prepared<T> {
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    pub fn set(&self, value: T) -> Result<()> {
        self.0
            .set(value)
            .map_err(|_| Error::msg("init was called twice on one instance"))
    }

    pub fn get(&self) -> Result<&T> {
        self.0
            .get()
            .ok_or_else(|| Error::msg("transform was called before init"))
    }
}

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Prepares the settings if there is no `#[init]`: serde reads them. `#[init]` adds an inherent function of the same
/// name, which Rust prefers.
pub trait PrepareBySerde {
    fn prepare<S: DeserializeOwned>(settings: &str) -> Result<S> {
        json::read_settings(settings)
    }
}

impl<T: Transform> PrepareBySerde for T {}

/// The same for a transform without a parameter for settings: it ignores them.
pub trait PrepareNothing {
    fn prepare(_settings: &str) -> Result<()> {
        Ok(())
    }
}

impl<T: Transform> PrepareNothing for T {}

/// Reads the parameter of `#[init]`.
pub fn read_settings<S: DeserializeOwned>(settings: &str) -> Result<S> {
    json::read_settings(settings)
}
