//! Signs in to a server, with the secret that its file holds now. Both kinds of connections use this: async-nats calls
//! it each time it connects, and so does `wire`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::config::{NatsAuth, Rereading, in_credentials};

/// What a client sends to the server. At most one of the four ways is set.
#[derive(Default)]
pub(super) struct SignIn {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) jwt: Option<String>,
    pub(super) nkey: Option<String>,
    pub(super) signature: Option<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("the credentials do not contain a user's JWT and its seed")]
    Credentials,
    #[error("signing with the seed failed")]
    Seed(#[from] nkeys::error::Error),
}

/// The secret for NATS, which may be replaced while the relay runs.
#[derive(Debug)]
pub struct Credentials {
    newest: Mutex<Newest>,
    rereading: Rereading,
}

#[derive(Debug)]
struct Newest {
    auth: NatsAuth,
    /// The last error of reading it, so that it is logged once.
    error: Option<String>,
}

impl Credentials {
    pub(super) fn new(auth: NatsAuth) -> Self {
        let newest = Newest { auth, error: None };
        Self {
            newest: Mutex::new(newest),
            rereading: Rereading::default(),
        }
    }

    /// Returns the secret as its file held it when it was last read.
    pub(super) fn newest(&self) -> NatsAuth {
        self.lock().auth.clone()
    }

    /// Reads the secret's file again. An unusable file changes nothing.
    pub async fn read_again(self: &Arc<Self>) {
        let credentials = Arc::clone(self);
        self.rereading.run(move || credentials.read()).await;
    }

    fn read(&self) {
        let before = self.newest();
        let key = before.key();
        let again = before.read_again();
        let mut newest = self.lock();
        match again {
            Ok(auth) => {
                newest.error = None;
                if auth != newest.auth {
                    newest.auth = auth;
                    info!(key, "the file has a new secret for NATS, using it from now on");
                }
            }
            Err(error) => {
                if newest.error.as_ref() != Some(&error) {
                    warn!(key, error, "cannot read a new secret for NATS, keeping the old one");
                    newest.error = Some(error);
                }
            }
        }
    }

    /// Returns what a client sends to a server with this nonce.
    pub(super) async fn sign_in(self: Arc<Self>, nonce: Vec<u8>) -> Result<SignIn, SignInError> {
        self.read_again().await;
        sign_in(&self.newest(), &nonce)
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sign_in(auth: &NatsAuth, nonce: &[u8]) -> Result<SignIn, SignInError> {
    Ok(match auth {
        NatsAuth::None => SignIn::default(),
        NatsAuth::User { user, password } => SignIn {
            user: Some(user.clone()),
            password: Some(password.expose().to_owned()),
            ..SignIn::default()
        },
        NatsAuth::Token(token) => SignIn {
            token: Some(token.expose().to_owned()),
            ..SignIn::default()
        },
        NatsAuth::NKey(seed) => {
            let pair = nkeys::KeyPair::from_seed(seed.expose())?;
            SignIn {
                nkey: Some(pair.public_key()),
                signature: Some(pair.sign(nonce)?),
                ..SignIn::default()
            }
        }
        NatsAuth::Credentials(text) => {
            let (jwt, seed) = in_credentials(text.expose()).ok_or(SignInError::Credentials)?;
            SignIn {
                jwt: Some(jwt.to_owned()),
                signature: Some(nkeys::KeyPair::from_seed(seed)?.sign(nonce)?),
                ..SignIn::default()
            }
        }
    })
}

impl From<SignIn> for async_nats::Auth {
    fn from(sign_in: SignIn) -> Self {
        let mut auth = Self::new();
        auth.username = sign_in.user;
        auth.password = sign_in.password;
        auth.token = sign_in.token;
        auth.jwt = sign_in.jwt;
        auth.nkey = sign_in.nkey;
        auth.signature = sign_in.signature;
        auth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_nonce_is_signed_with_the_seed() {
        let pair = nkeys::KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let auth = sign_in(&NatsAuth::NKey(Secret::new(seed)), b"nonce").unwrap();
        assert_eq!(auth.nkey, Some(pair.public_key()));
        pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
    }
}
