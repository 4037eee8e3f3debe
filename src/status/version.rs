//! The name of a module version.

/// How many digits of each hash a name has. Two of a module's versions with the same name are not to be expected, and a
/// person can compare two names by eye.
const DIGITS: usize = 12;

/// Returns the name of a version for people: the first digits of both hashes, as in `3045d0fa30ea-2a14983ed58f`.
pub fn version_name(sha256: &str, toml_sha256: &str) -> String {
    fn short(hash: &str) -> &str {
        hash.get(..DIGITS).unwrap_or(hash)
    }
    format!("{}-{}", short(sha256), short(toml_sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_beginning_of_both_hashes() {
        let (wasm, toml) = ("3045d0fa30ea".repeat(5) + "0123", "2a14983ed58f".repeat(5) + "4567");
        assert_eq!(version_name(&wasm, &toml), "3045d0fa30ea-2a14983ed58f");
        assert_eq!(version_name("abc", "d"), "abc-d");
    }
}
