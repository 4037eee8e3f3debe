//! A nats-server in operator mode: an operator, its system account, an account with JetStream, and users with
//! credentials, as `nsc` makes them.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

pub struct Operator {
    pair: KeyPair,
    system: KeyPair,
    account: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self {
            pair: KeyPair::new_operator(),
            system: KeyPair::new_account(),
            account: KeyPair::new_account(),
        }
    }

    /// Returns lines for nats-server's configuration.
    pub fn server_config(&self) -> Result<String> {
        let account = |pair: &KeyPair, name: &str, limit: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "mem_storage": limit, "disk_storage": limit, "streams": limit, "consumer": limit,
            });
            let nats = json!({ "limits": limits, "type": "account", "version": 2 });
            sign(&self.pair, &pair.public_key(), name, None, &nats)
        };
        let operator = json!({
            "type": "operator", "version": 2, "system_account": self.system.public_key(),
        });
        Ok(format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}\n{}: {} }}",
            sign(&self.pair, &self.pair.public_key(), "operator", None, &operator)?,
            self.system.public_key(),
            self.system.public_key(),
            account(&self.system, "SYS", 0)?,
            self.account.public_key(),
            account(&self.account, "A", -1)?,
        ))
    }

    /// Returns the content of a `.creds` file, valid for this long.
    pub fn credentials(&self, valid: Duration) -> Result<String> {
        let user = KeyPair::new_user();
        let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + valid;
        let nats = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
        let jwt = sign(&self.account, &user.public_key(), "user", Some(end.as_secs()), &nats)?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY \
             SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed()?
        ))
    }
}

fn sign(issuer: &KeyPair, subject: &str, name: &str, end: Option<u64>, nats: &Value) -> Result<String> {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let mut claims = json!({
        "jti": format!("{:x}", fastrand::u128(..)), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject, "nats": nats,
    });
    if let Some(end) = end {
        claims["exp"] = end.into();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(text.as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
