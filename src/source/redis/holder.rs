//! Who holds a lease: a random text that no other reader has, and the name of its relay, for people. The scripts take
//! everything before the first dot for the holder, so the name has none. To relays that know of no names, it is a part of
//! the random text.

use super::super::Active;

/// Returns a holder that no other reader has.
pub(super) fn new(name: Option<&str>) -> String {
    let random = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    match name {
        Some(name) => format!("{random} {}", name.replace('%', "%25").replace('.', "%2E")),
        None => random,
    }
}

/// Returns the relay that this holder names.
pub(super) fn active(holder: &str) -> Active {
    match holder.split_once(' ') {
        Some((_, name)) => Active::named(&name.replace("%2E", ".").replace("%25", "%")),
        None => Active::Unnamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_no_dot_and_still_names_its_relay() {
        for name in ["web-1 (process 7, admin server 127.0.0.1:8787)", "a.b%2E%25%.", "%252E"] {
            let holder = new(Some(name));
            assert!(!holder.contains('.'), "{holder}");
            assert_eq!(active(&holder), Active::named(name));
            assert_ne!(holder, new(Some(name)));
        }
        assert_eq!(active(&new(None)), Active::Unnamed);
    }
}
