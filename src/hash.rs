//! The hash that identifies a file.

use sha2::{Digest, Sha256};

/// Returns the SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
