//! Says in a sentence why a TLS handshake failed, and which key to change. Clients tell the reason only as a text.
//! `tests/it/ways.rs` and `tests/it/sources/connections.rs` compare the texts with real servers.

use super::Tls;

/// The server that the handshake failed with.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// `NATS at nats://127.0.0.1:4222`.
    pub name: &'a str,
    /// The key that holds the server's address, such as `nats.servers`.
    pub address: &'a str,
    /// The section of the files, such as `nats.tls`.
    pub section: &'a str,
}

impl Tls {
    /// Explains the error of an attempt to connect. `None` if TLS is not the reason.
    pub fn explain(&self, error: &str, peer: Peer<'_>) -> Option<String> {
        let Peer { name, address, section } = peer;
        let text = error.to_lowercase();
        let has = |part: &str| text.contains(part);
        if has("unknownissuer") {
            return Some(match &self.ca_file {
                Some(file) => format!(
                    "the certificate of {name} was not issued by any of the authorities in `{section}.ca_file` ({})",
                    file.display()
                ),
                None => format!(
                    "the certificate of {name} was not issued by any of the authorities that this machine trusts; set \
                     `{section}.ca_file`"
                ),
            });
        }
        if has("not valid for name") || has("notvalidforname") {
            return Some(format!(
                "the certificate of {name} is for another name, correct `{address}`: {error}"
            ));
        }
        if has("invalid peer certificate") {
            return Some(format!("the relay refuses the certificate of {name}: {error}"));
        }
        if has("fatal alert") {
            return Some(match &self.cert_file {
                None if has("certificaterequired") || has("handshakefailure") || has("badcertificate") => {
                    format!("{name} requires a client certificate: set `{section}.cert_file` and `{section}.key_file`")
                }
                Some(file) => format!(
                    "{name} refuses the certificate in `{section}.cert_file` ({}): {error}",
                    file.display()
                ),
                None => format!("{name} has ended the TLS handshake: {error}"),
            });
        }
        if has("platform certs") {
            return Some(format!(
                "this machine has no certificate authorities; set `{section}.ca_file`: {error}"
            ));
        }
        None
    }
}
