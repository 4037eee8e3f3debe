//! Write a transform for Slipring: a function that turns a message from NATS JetStream
//! into publications for Centrifugo channels. It runs as WebAssembly inside the relay and can be exchanged while that runs.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use slipring_sdk::{Message, Output, Publication, Result, transform};
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
//! `rustup target add wasm32-wasip2`, once; then `cargo build --release --target wasm32-wasip2` makes the `.wasm` file that goes
//! into the relay's modules directory. No other tool is needed. For a smaller file, the target `wasm32-unknown-unknown` does as
//! well: the relay takes both.
//!
//! # What a transform may rely on
//!
//! It sees its message and its settings, and nothing else. The same message gives the same publications whenever and wherever
//! it is transformed, which is what makes a retry harmless and a replay repeatable. For that:
//!
//! - **The clock stands at the message's timestamp** and does not move; `SystemTime::now()` and [`Message::timestamp`] agree.
//!   On `wasm32-unknown-unknown` there is no clock at all: use the latter.
//! - **Random numbers are seeded from the message**: a replay draws the same ones. They are not for secrets.
//! - **There is no sleeping, no file, no network and no environment.** A call that sleeps or loops is cut off after the module's
//!   `timeout`, 100 ms unless its `.toml` says otherwise.
//! - **Statics do not last.** There are several instances, and a new one may take over at any message. What has to be computed
//!   once belongs into [`init`].
//! - **A `HashMap`'s order can differ** between two instances, since its seed is drawn once an instance. Use a `BTreeMap`
//!   wherever the order of iteration reaches the output.
//! - **A message may have no payload.** A stream whose keys are deleted or expire holds markers, such as those of a key-value bucket:
//!   [`Message::marker`] tells.
//! - **A panic costs one message**, which is tried once more in a fresh instance and then goes to the dead letters with the
//!   panic's text. Return an [`Error`] for a message that you cannot use: that is cheaper, and says what you want it to.
//!
//! Standard output and standard error become log lines of the module, limited in rate; `wasm32-unknown-unknown` has neither.

#![warn(missing_docs)]

mod error;
#[doc(hidden)]
pub mod expansion;
#[cfg(target_family = "wasm")]
mod guest;
mod json;
mod message;
mod output;
mod publication;
#[cfg(not(target_family = "wasm"))]
mod samples;

pub use error::{Error, Result};
pub use message::{Marker, Message};
pub use output::Output;
pub use publication::{Body, Channels, Publication};
#[cfg(not(target_family = "wasm"))]
pub use samples::samples;
/// For transforms that change a few fields of a JSON text that they do not otherwise know: see [`serde_json`].
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
/// What is read into a [`Value`] and written again is not the same text: keys come in alphabetical order, and a number that fits
/// neither 64 bits nor a double is rounded. Where digits count, as in amounts or in long ids, pass the text on with
/// [`Publication::json_text`], or read the fields into types of your own, such as [`serde_json::value::RawValue`], which keeps what was
/// written.
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
pub use slipring_sdk_macros::{init, transform};
