//! The HTTP side door, for people, probes and Prometheus, and the client of it. All that it can change is which version of a module is
//! at work.

#[cfg(test)]
pub(crate) mod canned;
mod client;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use self::client::Client;
pub use self::server::{Admin, Error};
