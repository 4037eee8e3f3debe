//! Why a command failed, and its exit code.

use std::io;

use super::printable::printable;
use crate::cause;
use crate::config::Problems;

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", printable(&cause::without_numbers(&.0.to_string())))]
    Config(#[from] Problems),
    /// An error in the usage that the parser of the command line cannot detect.
    #[error("{}", printable(.0))]
    Usage(String),
    // Includes all causes. This is the only place where the chain is printed.
    #[error("{}", printable(&cause::without_numbers(&told_once(.0))))]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            // EX_CONFIG of sysexits.h.
            Self::Config(_) => 78,
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Formats the error and its causes. Some errors, such as those of async-nats, already contain their cause, which is
/// then not repeated.
pub(super) fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if told.is_empty() {
            told = text;
        } else if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn exit_codes_tell_a_wrong_configuration_from_a_failure() {
        let problems = config::parse_module(Path::new("a.toml"), "").unwrap_err();
        assert_eq!(Failure::from(problems).exit_code(), 78);
        assert_eq!(Failure::from(anyhow::anyhow!("no")).exit_code(), 1);
    }

    #[test]
    fn a_cause_is_told_once() {
        let shown = |error: anyhow::Error| Failure::from(error).to_string();
        assert_eq!(
            shown(anyhow::anyhow!("refused").context("connecting")),
            "connecting: refused"
        );
        assert_eq!(
            shown(
                anyhow::anyhow!("refused")
                    .context("IO error: refused")
                    .context("connecting")
            ),
            "connecting: IO error: refused"
        );
        let missing = std::fs::read("/nowhere/slipring").unwrap_err();
        assert_eq!(
            shown(anyhow::anyhow!(missing).context("cannot read /nowhere/slipring")),
            "cannot read /nowhere/slipring: No such file or directory"
        );
    }
}
