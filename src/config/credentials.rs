//! Credentials for NATS: what a valid file contains, and reading it again after somebody has replaced it.

use std::fs;
use std::io;
use std::path::Path;

use super::checked::{NatsAuth, Secret};

/// Returns the JWT and the seed of a `.creds` file. Each is between two lines with dashes at both ends.
pub fn in_credentials(text: &str) -> Option<(&str, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_border = |line: &str| line.len() > 6 && line.starts_with("---") && line.ends_with("---");
    let mut held = lines.windows(3).filter_map(|lines| match lines {
        [before, held, after] if is_border(before) && is_border(after) && !held.is_empty() => Some(*held),
        _ => None,
    });
    Some((held.next()?, held.next()?))
}

/// What is wrong with a secret. It completes "`nats.nkey_file` names FILE, which …" and never contains the secret.
pub(super) const NO_CREDENTIALS: &str = "has no user JWT with its seed; use a file written by `nsc generate creds`";
pub(super) const BROKEN_CREDENTIALS: &str =
    "has a seed that is damaged or not a user's; use a file written by `nsc generate creds`";
pub(super) const NO_SEED: &str =
    "is damaged or not a user's seed; a user's seed begins with \"SU\" and has 58 characters";

impl NatsAuth {
    /// Returns what is wrong with the secret, as far as that shows without a server.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Credentials(text) => match in_credentials(text.expose()) {
                None => Some(NO_CREDENTIALS),
                Some((_, seed)) if !is_seed(seed) => Some(BROKEN_CREDENTIALS),
                Some(_) => None,
            },
            Self::NKey(seed) if !is_seed(seed.expose()) => Some(NO_SEED),
            _ => None,
        }
    }

    /// Reads the secret's file again, if it has one. A file that makes no sense, such as one that is being written, is an
    /// error.
    pub fn read_again(&self) -> Result<Self, String> {
        let again = match self {
            Self::None => Self::None,
            Self::Credentials(text) => Self::Credentials(text.read_again()?),
            Self::NKey(seed) => Self::NKey(seed.read_again()?),
            Self::Token(token) => Self::Token(token.read_again()?),
            Self::User { user, password } => Self::User {
                user: user.clone(),
                password: password.read_again()?,
            },
        };
        match (again.fault(), again.secret().and_then(Secret::file)) {
            (Some(fault), Some(file)) => Err(format!("the file {} {fault}", file.display())),
            _ => Ok(again),
        }
    }

    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Credentials(secret) | Self::NKey(secret) | Self::Token(secret) => Some(secret),
            Self::User { password, .. } => Some(password),
        }
    }

    /// Returns what sets the secret: its key in `slipring.toml`, or its variable.
    pub fn key(&self) -> &'static str {
        let from_file = self.secret().is_some_and(|secret| secret.file().is_some());
        match (self, from_file) {
            (Self::None, _) => "nats",
            (Self::Credentials(_), true) => "nats.creds_file",
            (Self::Credentials(_), false) => "SLIPRING_NATS__CREDS",
            (Self::NKey(_), true) => "nats.nkey_file",
            (Self::NKey(_), false) => "SLIPRING_NATS__NKEY",
            (Self::Token(_), true) => "nats.token_file",
            (Self::Token(_), false) => "SLIPRING_NATS__TOKEN",
            (Self::User { .. }, true) => "nats.password_file",
            (Self::User { .. }, false) => "SLIPRING_NATS__PASSWORD",
        }
    }
}

impl Secret {
    /// Reads the secret's file again. A secret from the environment stays as it is.
    pub fn read_again(&self) -> Result<Self, String> {
        let Some(file) = self.file() else {
            return Ok(self.clone());
        };
        from_file(file).map_err(|error| format!("the file {} cannot be read as a secret: {error}", file.display()))
    }
}

pub(super) fn from_file(file: &Path) -> io::Result<Secret> {
    let text = fs::read_to_string(file)?;
    match text.trim() {
        "" => Err(io::Error::other("the file is empty")),
        text => Ok(Secret::from_file(text, file)),
    }
}

fn is_seed(seed: &str) -> bool {
    nkeys::KeyPair::from_seed(seed).is_ok() && seed.starts_with("SU")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_nsc_writes() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0.a-b_c.d\n------END NATS USER JWT------\n\n************************* IMPORTANT \
                    *************************\nNKEYs are sensitive.\n\n-----BEGIN USER NKEY SEED-----\r\nSUAIO3\r\n------END USER NKEY \
                    SEED------\n\n*************************************************************\n";
        assert_eq!(in_credentials(text), Some(("eyJ0.a-b_c.d", "SUAIO3")));
        assert_eq!(
            in_credentials("-----BEGIN NATS USER JWT-----\na\n------END NATS USER JWT------\n"),
            None
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_does_not_replace_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seed");
        let seeds = [nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user()].map(|pair| pair.seed().unwrap());
        fs::write(&file, &seeds[0]).unwrap();
        let auth = NatsAuth::NKey(from_file(&file).unwrap());
        fs::write(&file, format!("{}\n", seeds[1])).unwrap();
        assert_eq!(auth.read_again(), Ok(NatsAuth::NKey(Secret::new(&*seeds[1]))));
        for (content, why) in [(&seeds[1][..40], "damaged"), ("", "the file is empty")] {
            fs::write(&file, content).unwrap();
            let error = auth.read_again().unwrap_err();
            assert!(error.contains(why) && !error.contains(&seeds[1][..40]), "{error}");
        }
    }
}
