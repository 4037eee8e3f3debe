//! Write a transform for Slipring: a function that turns a message from NATS JetStream or Redis into publications for
//! Centrifugo channels. It runs as WebAssembly inside the relay, and you can swap it while the relay runs.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use slipring_sdk::prelude::*;
//!
//! #[derive(Deserialize, Serialize)]
//! struct Order {
//!     id: u64,
//!     revision: u64,
//!     status: String,
//! }
//!
//! #[transform]
//! fn orders(message: &Message) -> Result<Output> {
//!     let order: Order = message.json()?;
//!     if order.status == "draft" {
//!         return Ok(Output::drop());
//!     }
//!     Ok(Publication::json(format!("orders:{}", order.id), &order)?.version(order.revision).into())
//! }
//!
//! // The function stays an ordinary one, so a test calls it natively, with `cargo test`.
//! # fn main() -> Result<()> {
//! let message = Message::new("orders.paid", r#"{"id":17,"revision":3,"status":"paid"}"#);
//! let output = orders(&message)?;
//! assert_eq!(output.publications()[0].channels, ["orders:17"]);
//! # Ok(())
//! # }
//! ```
//!
//! # A crate of your own
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]        # cdylib: the wasm file; rlib: for tests outside src/
//!
//! [dependencies]
//! serde = { version = "1", features = ["derive"] }
//! slipring-sdk = { path = "../slipring/guest-sdk" }   # in a clone of Slipring
//! ```
//!
//! Run `rustup target add wasm32-wasip2` once. Then `cargo build --release --target wasm32-wasip2` builds the
//! `.wasm` file for the relay's modules directory. You need no other tool. The relay also accepts the target
//! `wasm32-unknown-unknown`, whose files are smaller.
//!
//! # What a transform returns
//!
//! [`Output`], or whatever becomes one: a [`Publication`], an `Option`, a `Vec` or an array of publications. It may be in
//! a `Result`. `?` and [`Context`] make an [`Error`] of every error and of texts, which rejects the message:
//!
//! ```
//! use slipring_sdk::prelude::*;
//!
//! #[transform]
//! fn feed(message: &Message) -> Result<Publication> {
//!     ensure!(!message.payload.is_empty(), "the event is empty");
//!     let user: u64 = message.token(1)?.parse().context("the user in the subject")?;
//!     Ok(Publication::json_text(Channel::user("feed", user)?, message.text()?))
//! }
//!
//! # fn main() -> Result<()> {
//! assert_eq!(feed(&Message::new("feed.42", "{}"))?.channels, ["feed:#42"]);
//! let error = feed(&Message::new("feed.ada", "{}")).unwrap_err().to_string();
//! assert_eq!(error, "the user in the subject: invalid digit found in string");
//! # Ok(())
//! # }
//! ```
//!
//! # Events in known envelopes
//!
//! With the feature `cloudevents`, `Message::cloud_event` reads a CloudEvent in both of its modes. With the feature
//! `debezium`, `Message::change` reads the change of a row that Debezium captured.
//!
//! # The environment of a transform
//!
//! A transform sees its message and its settings, and nothing else. The same message gives the same publications at
//! any time and on any machine. So a retry is harmless, and a replay is repeatable. These rules make that possible:
//!
//! - **The clock stands still at the message's timestamp.** `SystemTime::now()` and [`Message::timestamp`] agree. On
//!   `wasm32-unknown-unknown` there is no clock at all: use [`Message::timestamp`].
//! - **Random numbers are seeded from the message.** A replay draws the same ones. Don't use them for secrets.
//! - **There is no sleeping, no file, no network and no environment.** A transform that sleeps fails at
//!   once. One that loops is cut off after the module's `timeout`, which is 100 ms per message unless its `.toml` sets
//!   another.
//! - **Statics do not last.** There are several instances, and a new one may take over at any message. If something
//!   must be computed once, compute it in [`init`].
//! - **A `HashMap`'s order can differ** between two instances, because each instance draws its own seed. Use a
//!   `BTreeMap` wherever the order of iteration reaches the output.
//! - **A message may have no payload.** A stream whose keys are deleted or expire holds markers, for example a
//!   key-value bucket. [`Message::marker`] detects them.
//! - **A panic costs one message.** The message is tried once more in a fresh instance, and then becomes a dead
//!   letter with the panic's text. If you cannot use a message, return an [`Error`]: that is cheaper, and you choose
//!   the text.
//!
//! Standard output and standard error become log lines of the module, at a limited rate. `wasm32-unknown-unknown`
//! has neither.

#![warn(missing_docs)]

#[cfg(any(target_family = "wasm", test))]
mod batch;
mod channel;
#[cfg(feature = "cloudevents")]
mod cloud_event;
mod context;
#[cfg(feature = "debezium")]
mod debezium;
mod error;
#[doc(hidden)]
pub mod expansion;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
mod json;
mod message;
mod output;
pub mod prelude;
mod publication;
#[cfg(not(target_family = "wasm"))]
mod samples;
#[cfg(not(target_family = "wasm"))]
mod settings;
mod time;

pub use channel::{Channel, Channels};
#[cfg(feature = "cloudevents")]
pub use cloud_event::CloudEvent;
pub use context::Context;
#[cfg(feature = "debezium")]
pub use debezium::{Change, Operation, Origin};
pub use error::{Error, Result};
pub use json::from_json;
pub use message::{Marker, Message};
pub use output::Output;
pub use publication::{Body, Publication};
#[cfg(not(target_family = "wasm"))]
pub use samples::samples;
/// For transforms that change a few fields of JSON and don't know the rest. See [`serde_json`].
///
/// ```
/// use slipring_sdk::{Message, Publication, Result, Value, json};
///
/// # fn main() -> Result<()> {
/// let message = Message::new("orders.paid", r#"{"id":17,"secret":"x"}"#);
/// let order: Value = message.json()?;
/// let publication = Publication::json("orders:17", &json!({ "id": order["id"] }))?;
/// assert_eq!(publication.body.text(), Some(r#"{"id":17}"#));
/// # Ok(())
/// # }
/// ```
///
/// A text that is read into a [`Value`] and written again changes: keys are sorted alphabetically, and a number that
/// fits neither 64 bits nor a double is rounded. If every digit counts, as in amounts or long ids, pass the text on
/// with [`Publication::json_text`]. Or read the fields into your own types with [`serde_json::value::RawValue`],
/// which keeps the original text.
///
/// ```
/// use slipring_sdk::{Message, Publication, Result, Value};
///
/// # fn main() -> Result<()> {
/// let message = Message::new("orders.paid", r#"{"id":10000000000000000000001,"at":1.10}"#);
/// let value: Value = message.json()?;
/// // Something like `{"at":1.1,"id":1e+22}`.
/// let rounded = Publication::json("orders:17", &value)?;
/// assert!(rounded.body.text().is_some_and(|text| text.starts_with(r#"{"at":1.1,"id":1e"#)));
/// let kept = Publication::json_text("orders:17", message.text()?);
/// assert_eq!(kept.body.text(), Some(r#"{"id":10000000000000000000001,"at":1.10}"#));
/// # Ok(())
/// # }
/// ```
pub use serde_json::{Value, json};
#[cfg(not(target_family = "wasm"))]
pub use settings::settings;
pub use slipring_sdk_macros::{init, transform};
