//! Who may do what, by the token in the request.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::warn;

use crate::config::{self, Secret};

/// What a route needs, and what a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Nothing is learned about what the relay does.
    Open,
    /// The status and metrics, but no payloads.
    Read,
    /// Commands and payloads.
    Full,
}

/// The token in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    Nothing,
    Wrong,
    Right(Access, &'static str),
}

type Digest = [u8; 32];

#[derive(Debug)]
pub(super) struct Tokens {
    known: Vec<(Digest, Access, &'static str)>,
    /// What a request without a token may have.
    without: Access,
    wrong: Mutex<Wrong>,
}

/// Wrong tokens that were not logged, and when one was.
#[derive(Debug, Default)]
struct Wrong {
    logged: Option<Instant>,
    unlogged: u64,
}

const LOG_PAUSE: Duration = Duration::from_secs(60);

impl Tokens {
    /// `generated` is the token that the relay created because none is configured.
    pub fn new(config: &config::Admin, generated: Option<&Secret>) -> Self {
        let known = [
            (config.token.as_ref(), Access::Full, "full"),
            (generated, Access::Full, "generated"),
            (config.read_token.as_ref(), Access::Read, "read"),
        ];
        let known = known
            .into_iter()
            .filter_map(|(token, access, name)| Some((digest(token?.expose()), access, name)));
        let guarded = config.token.is_some() || config.read_token.is_some();
        Self {
            known: known.collect(),
            without: if guarded { Access::Open } else { Access::Read },
            wrong: Mutex::default(),
        }
    }

    /// A server with this token only, which allows everything.
    pub fn one(token: &Secret) -> Self {
        Self {
            known: vec![(digest(token.expose()), Access::Full, "full")],
            without: Access::Open,
            wrong: Mutex::default(),
        }
    }

    /// Returns what a request may have that has no token, or a wrong one where none is needed.
    pub fn without(&self) -> Access {
        self.without
    }

    /// Compares digests, so the time it takes reveals nothing about the tokens: nobody can choose the first bytes of a
    /// digest.
    pub fn given(&self, headers: &HeaderMap) -> Given {
        let mut headers = headers.get_all(header::AUTHORIZATION).iter();
        let token = match (headers.next(), headers.next()) {
            (None, _) => return Given::Nothing,
            (Some(header), None) => header.to_str().ok().and_then(|value| value.split_once(' ')),
            (Some(_), Some(_)) => None,
        };
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = token.map(|(_, token)| digest(token));
        let right = self.known.iter().find(|(known, ..)| given.as_ref() == Some(known));
        right.map_or(Given::Wrong, |&(_, access, name)| Given::Right(access, name))
    }

    /// Logs a wrong token, at most once a minute.
    pub fn note_wrong(&self, client: SocketAddr) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if wrong.logged.is_some_and(|logged| now < logged + LOG_PAUSE) {
            wrong.unlogged += 1;
            return;
        }
        warn!(
            %client,
            not_logged_before = wrong.unlogged,
            "a request to the admin server has a wrong token"
        );
        *wrong = Wrong {
            logged: Some(now),
            unlogged: 0,
        };
    }
}

fn digest(token: &str) -> Digest {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wrong_token_is_logged_once_a_minute_with_the_number_of_others() {
        let config = config::parse_config(std::path::Path::new("slipring.toml"), "", [("", ""); 0]).unwrap();
        let tokens = Tokens::new(&config.admin, None);
        let client = "127.0.0.1:1".parse().unwrap();
        let unlogged = || tokens.wrong.lock().unwrap().unlogged;
        for others in 0..100 {
            tokens.note_wrong(client);
            assert_eq!(unlogged(), others);
        }
        tokio::time::advance(LOG_PAUSE).await;
        tokens.note_wrong(client);
        assert_eq!(unlogged(), 0);
    }
}
