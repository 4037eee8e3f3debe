//! Checks who else can change a file. A module is code, and whoever can put one into the directory decides what
//! subscribers see.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

/// Write permission for anyone but the file's owner.
const OTHERS_WRITE: u32 = 0o022;

/// Returns an error if users other than this one and root may change the file. The error names them, as a predicate of
/// the file's path.
pub fn check(metadata: &Metadata) -> Result<(), String> {
    judge(metadata.uid(), metadata.mode(), geteuid().as_raw())
}

fn judge(owner: u32, mode: u32, user: u32) -> Result<(), String> {
    let mode = mode & 0o7777;
    if owner != 0 && owner != user {
        return Err(format!(
            "belongs to the user {owner}; with `modules.strict_permissions` it must belong to root or to {user}, the \
             user that runs the relay (chown)"
        ));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(format!(
            "is writable by other users (mode {mode:04o}); with `modules.strict_permissions` only its owner may write \
             to it (chmod go-w)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_user_and_root_may_write() {
        for (owner, mode) in [(1000, 0o100644), (0, 0o100755), (1000, 0o040700)] {
            assert_eq!(judge(owner, mode, 1000), Ok(()), "{owner} {mode:o}");
        }
        for (owner, mode, expected) in [
            (1001, 0o100644, "belongs to the user 1001"),
            (1000, 0o100664, "is writable by other users (mode 0664)"),
            (0, 0o041777, "is writable by other users (mode 1777)"),
        ] {
            let error = judge(owner, mode, 1000).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
