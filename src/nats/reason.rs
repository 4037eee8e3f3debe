//! Says in a sentence why there is no connection to NATS, and which key to change. async-nats tells the reason only as
//! a text, at least while it reconnects. `tests/it/ways.rs` compares the texts with real servers.

use crate::cause;
use crate::config::{Nats as Config, NatsAuth, Peer};

/// Explains the error of an attempt to connect. `server` is its URL, if it is known.
pub(super) fn explain(error: &str, server: Option<&str>, config: &Config, auth: &NatsAuth) -> String {
    let named = server.map_or_else(|| config.servers.join(", "), str::to_owned);
    let cause = cause::plain(error);
    let text = error.to_lowercase();
    let has = |part: &str| text.contains(part);
    if has("expired") && (has("authentication") || has("revoked")) {
        return format!(
            "NATS at {named} has ended the connection: the secret in `{}` has expired",
            auth.key()
        );
    }
    if has("authorization violation") || has("authentication") {
        return format!("NATS at {named} refuses {}", refused(auth));
    }
    let name = format!("NATS at {named}");
    let peer = Peer {
        name: &name,
        address: "nats.servers",
        section: "nats.tls",
    };
    if let Some(reason) = config.tls.explain(&cause, peer) {
        return reason;
    }
    if has("invalidcontenttype") && config.tls_first {
        return format!(
            "NATS at {named} does not begin with TLS: remove `nats.tls.first`, or set `handshake_first` in \
             nats-server's configuration"
        );
    }
    if has("invalidcontenttype") {
        return format!(
            "NATS at {named} does not speak TLS: write `nats://` in `nats.servers`, or turn on TLS in the server"
        );
    }
    if has("expected info, got nothing") && !config.tls_first {
        return format!(
            "NATS at {named} has closed the connection without a word: if it has `handshake_first`, set `nats.tls.first \
             = true`"
        );
    }
    let question = match config.from_up {
        true => "is `slipring up` running?",
        false => "is `nats.servers` right?",
    };
    format!("no connection to NATS at {named}, {question} {cause}")
}

fn refused(auth: &NatsAuth) -> String {
    let key = auth.key();
    match auth {
        NatsAuth::None => {
            "a client without credentials: set `nats.creds_file`, `nats.nkey_file`, `nats.token_file`, or \
                           `nats.user` with `nats.password_file`"
                .to_owned()
        }
        NatsAuth::User { user, .. } => format!("the user {user:?} (`nats.user`) with the password of `{key}`"),
        NatsAuth::Token(_) => format!("the token of `{key}`"),
        NatsAuth::NKey(seed) => {
            let public = nkeys::KeyPair::from_seed(seed.expose()).map(|pair| pair.public_key());
            format!(
                "the seed of `{key}`: the server knows no user {}",
                public.unwrap_or_else(|_| "of that seed".to_owned())
            )
        }
        NatsAuth::Credentials(_) => {
            format!("the credentials of `{key}`: the server does not know them, or they were revoked or have expired")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_secret_is_never_in_the_reason() {
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        let auths = [
            NatsAuth::Credentials(Secret::new("MARKER")),
            NatsAuth::NKey(Secret::new(&*seed)),
            NatsAuth::Token(Secret::new("MARKER")),
            NatsAuth::User {
                user: "relay".to_owned(),
                password: Secret::new("MARKER"),
            },
        ];
        let config = Config::at(["nats://a".to_owned()]);
        for auth in auths {
            for error in ["authorization violation", "User Authentication Expired", "IO error: x"] {
                let told = explain(error, None, &config, &auth);
                assert!(!told.contains("MARKER") && !told.contains(&seed), "{told}");
                assert!(told.contains("nats://a"), "{told}");
            }
        }
    }
}
