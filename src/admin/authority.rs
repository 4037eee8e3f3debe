//! The host and port that a request names, in the one form in which they are compared.

use std::net::{Ipv4Addr, Ipv6Addr};

/// `host:port` as in the `Host` header, without a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// In lower case, without the dot of a complete name.
    Name(String),
}

impl Authority {
    /// Returns `None` for anything that a client should not send, such as a user.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let port = if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                };
                (Host::V6(address.parse().ok()?), port)
            }
            None => {
                let (host, port) = text
                    .split_once(':')
                    .map_or((text, None), |(host, port)| (host, Some(port)));
                (Host::parse(host)?, port)
            }
        };
        let port = match port {
            // A colon without a port is allowed, and means the default.
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return None;
        }
        Some(match name.parse() {
            Ok(address) => Self::V4(address),
            Err(_) => Self::Name(name.to_ascii_lowercase()),
        })
    }
}
