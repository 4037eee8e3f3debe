//! A full screen on a terminal, for the commands that have one. What is on it is up to them.

mod look;
mod pen;
mod screen;
mod words;

pub use self::look::Look;
pub use self::pen::{Pen, columns, fold, wrap};
pub use self::screen::{Screen, events, size};
pub use self::words::Words;
