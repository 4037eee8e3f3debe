//! What is pushed: a few hot channels, many cold ones, broadcasts, and what Centrifugo will refuse.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::json;
use serde_json::value::RawValue;

use crate::message::{Body, Publication};
use crate::publish::simulated::{CURSED, PLAIN, POISON, UNKNOWN};

/// A random publication that carries its number, and its JSON.
pub(super) fn publication(rng: &mut Rng, number: u64, cursed: bool) -> (Publication, String) {
    let mut channels: Vec<Arc<str>> = match rng.u64(0..100) {
        0..80 => vec![channel(rng)],
        _ => (0..rng.usize(2..5)).map(|_| channel(rng)).collect(),
    };
    channels.sort_unstable();
    channels.dedup();
    rng.shuffle(&mut channels);
    let body = match rng.u64(0..100) {
        0..5 if cursed => json!({ "number": number, "is": CURSED }),
        0..2 => json!({ "number": number, "is": POISON }),
        _ => json!({ "number": number }),
    };
    let body = body.to_string();
    let publication = Publication {
        channels,
        body: Body::Json(RawValue::from_string(body.clone()).expect("it was just written")),
        version: None,
        version_epoch: None,
        tags: Vec::new(),
        idempotency_key: None,
        delta: false,
        skip_history: false,
    };
    (publication, body)
}

fn channel(rng: &mut Rng) -> Arc<str> {
    let name = match rng.u64(0..100) {
        0..60 => format!("hot:{}", rng.u64(0..3)),
        60..75 => format!("{PLAIN}{}", rng.u64(0..2)),
        75..78 => format!("{UNKNOWN}{}", rng.u64(0..2)),
        _ => format!("cold:{}", rng.u64(0..1_000)),
    };
    name.into()
}
