//! The API key, which may be replaced while the relay runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;
use tracing::{info, warn};

use super::ClientError;
use crate::config::{Rereading, Secret};

/// The key as its file held it when it was last read.
#[derive(Debug)]
pub(super) struct Key {
    newest: Mutex<Newest>,
    rereading: Rereading,
}

#[derive(Debug)]
struct Newest {
    secret: Option<Secret>,
    /// How often the key has changed.
    generation: u64,
    /// The last error of reading it, so that it is logged once.
    error: Option<String>,
}

impl Key {
    pub(super) fn new(secret: Option<Secret>) -> Result<Self, ClientError> {
        if secret.as_ref().is_some_and(|secret| header("", secret).is_none()) {
            return Err(ClientError::Key);
        }
        let newest = Newest {
            secret,
            generation: 0,
            error: None,
        };
        Ok(Self {
            newest: Mutex::new(newest),
            rereading: Rereading::default(),
        })
    }

    /// Returns the value of a header that consists of `before` and the key.
    pub(super) fn header(&self, before: &str) -> Option<HeaderValue> {
        header(before, self.newest().secret.as_ref()?)
    }

    /// Returns a number that changes with the key.
    pub(super) fn generation(&self) -> u64 {
        self.newest().generation
    }

    /// Reads the key's file again. An unusable file changes nothing.
    pub(super) async fn read_again(self: &Arc<Self>) {
        let key = Arc::clone(self);
        self.rereading.run(move || key.read()).await;
    }

    fn read(&self) {
        let Some(secret) = self.newest().secret.clone() else {
            return;
        };
        let again = secret.read_again().and_then(|again| match header("", &again) {
            Some(_) => Ok(again),
            None => Err(ClientError::Key.to_string()),
        });
        let mut newest = self.newest();
        match again {
            Ok(again) => {
                let is_new = again != secret;
                newest.secret = Some(again);
                newest.error = None;
                if is_new {
                    newest.generation += 1;
                    info!("`centrifugo.api_key_file` has a new key, using it from now on");
                }
            }
            Err(error) => {
                if newest.error.as_ref() != Some(&error) {
                    warn!(
                        error,
                        "cannot read a new API key (`centrifugo.api_key_file`), keeping the old one"
                    );
                    newest.error = Some(error);
                }
            }
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header(before: &str, secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{before}{}", secret.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
