//! The relay's own HTTP server, for people, probes and Prometheus, and its client. The only thing a request can change
//! is which version of a module runs.

#[cfg(test)]
pub(crate) mod canned;
mod client;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use self::client::Client;
pub use self::server::{Admin, Error};
