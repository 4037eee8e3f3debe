//! The name of this relay, which other relays show while they stand by.

use std::fs;
use std::net::SocketAddr;
use std::process;

/// Returns the name of a relay that was given none: where to find its process and its status.
pub(super) fn own(admin: SocketAddr) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "an unnamed machine",
        host => host,
    };
    format!("{host} (process {}, admin server {admin})", process::id())
}
