//! Chooses ports on 127.0.0.1 that are free.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// The ports to choose from. They are below those that the kernel gives to outgoing connections (32768 and up on Linux), so
/// that no connection takes one while its server is down.
const PORTS: Range<u16> = 10_000..32_000;

/// Returns `wanted` if it is free, or else another port.
pub fn free(wanted: Option<u16>) -> u16 {
    let wanted = wanted.filter(|port| is_free(*port));
    wanted.unwrap_or_else(|| {
        // Some of so many are always free. If not, the server says that its port is taken.
        let tried = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1_000);
        let mut tried = tried.skip_while(|port| !is_free(*port));
        tried.next().unwrap_or(PORTS.start)
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_kept_while_it_is_free() {
        let port = free(None);
        assert_eq!(free(Some(port)), port);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(free(Some(port)), port);
        drop(taken);
    }
}
