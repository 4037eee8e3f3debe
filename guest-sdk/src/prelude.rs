//! What nearly every transform uses, for `use slipring_sdk::prelude::*;`.
//!
//! ```
//! use slipring_sdk::prelude::*;
//!
//! #[transform]
//! fn chat(message: &Message) -> Result<Publication> {
//!     Publication::json("chat:lobby", message.text()?)
//! }
//! # assert_eq!(chat(&Message::new("chat", "hello"))?.channels, ["chat:lobby"]);
//! # Ok::<(), Error>(())
//! ```

pub use crate::{
    Channel, Channels, Context, Error, Message, Output, Publication, Result, bail, ensure, from_json, init, transform,
};
