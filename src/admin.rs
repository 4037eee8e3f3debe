//! The relay's own HTTP server, for people, probes and Prometheus, and its client. The only thing a request can change
//! is which version of a module runs. `routes` has the table that says what each route demands, and `guard` checks it.

mod authority;
#[cfg(test)]
pub(crate) mod canned;
mod client;
mod connection;
mod guard;
mod origin;
mod routes;
mod seats;
mod server;
#[cfg(test)]
mod tests;
mod token_file;
mod tokens;

pub use self::client::{Client, Trust};
#[cfg(any(test, fuzzing))]
pub(crate) use self::connection::fuzz;
pub use self::server::{Admin, Error};
