//! The relay's own HTTP server, for people, probes and Prometheus, and its client. A request can change which version of a
//! module runs, and replay or remove dead letters, and nothing else. `routes` has the table that says what each route
//! demands, and `guard` checks it.

mod authority;
#[cfg(test)]
pub(crate) mod canned;
mod client;
mod connection;
mod guard;
mod lasting;
mod local;
mod origin;
mod routes;
mod seats;
mod server;
#[cfg(test)]
mod tests;
mod token_file;
mod tokens;

pub use self::client::{Client, DeadLetter, Event, Events, Trust};
#[cfg(any(test, fuzzing))]
pub(crate) use self::connection::fuzz;
pub use self::local::Local;
pub use self::routes::{Arrivals, DeadLetters, Served};
pub use self::server::{Admin, Error};
