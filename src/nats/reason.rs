//! Says in a sentence why there is no connection to NATS, and which key to change. async-nats tells the reason only as
//! a text, at least while it reconnects. `tests/it/ways.rs` compares the texts with real servers.

use crate::config::{Nats as Config, NatsAuth};

/// Explains the error of an attempt to connect. `server` is its URL, if it is known.
pub(super) fn explain(error: &str, server: Option<&str>, config: &Config, auth: &NatsAuth) -> String {
    let named = server.map_or_else(|| config.servers.join(", "), str::to_owned);
    let cause = cause(error);
    let text = error.to_lowercase();
    let has = |part: &str| text.contains(part);
    let tls = &config.tls;
    if has("expired") && (has("authentication") || has("revoked")) {
        return format!(
            "NATS at {named} has ended the connection: the secret in `{}` has expired",
            auth.key()
        );
    }
    if has("authorization violation") || has("authentication") {
        return format!("NATS at {named} refuses {}", refused(auth));
    }
    if has("unknownissuer") {
        return match &tls.ca_file {
            Some(file) => format!(
                "the certificate of NATS at {named} was not issued by any of the authorities in `nats.tls.ca_file` ({})",
                file.display()
            ),
            None => format!(
                "the certificate of NATS at {named} was not issued by any of the authorities that this machine trusts; set \
                 `nats.tls.ca_file`"
            ),
        };
    }
    if has("not valid for name") || has("notvalidforname") {
        return format!("the certificate of NATS at {named} is for another name, correct `nats.servers`: {cause}");
    }
    if has("invalid peer certificate") {
        return format!("the relay refuses the certificate of NATS at {named}: {cause}");
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
    if has("fatal alert") {
        return match &tls.cert_file {
            None if has("certificaterequired") || has("handshakefailure") || has("badcertificate") => format!(
                "NATS at {named} requires a client certificate: set `nats.tls.cert_file` and `nats.tls.key_file`"
            ),
            Some(file) => format!(
                "NATS at {named} refuses the certificate in `nats.tls.cert_file` ({}): {cause}",
                file.display()
            ),
            None => format!("NATS at {named} has ended the TLS handshake: {cause}"),
        };
    }
    if has("expected info, got nothing") && !config.tls_first {
        return format!(
            "NATS at {named} has closed the connection without a word: if it has `handshake_first`, set `nats.tls.first \
             = true`"
        );
    }
    if has("platform certs") {
        return format!("this machine has no certificate authorities; set `nats.tls.ca_file`: {cause}");
    }
    format!("no connection to NATS at {named}, is `nats.servers` right? {cause}")
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

/// Returns the innermost cause. async-nats repeats what it wraps.
fn cause(error: &str) -> &str {
    error.strip_prefix("IO error: ").unwrap_or(error)
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
