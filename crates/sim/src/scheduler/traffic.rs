//! The publications to push: for a few busy channels and many quiet ones, broadcasts, and some that Centrifugo will
//! refuse.

use std::sync::Arc;

use fastrand::Rng;
use slipring_core::message::Publication;

use crate::centrifugo::{self, Ill, PLAIN, UNKNOWN};

/// Returns a random publication that carries its number, and its defect if it has one.
pub(super) fn publication(rng: &mut Rng, number: u64, cursed: bool) -> (Publication, Option<Ill>) {
    let mut channels: Vec<Arc<str>> = match rng.u64(0..100) {
        0..80 => vec![channel(rng)],
        _ => (0..rng.usize(2..5)).map(|_| channel(rng)).collect(),
    };
    channels.sort_unstable();
    channels.dedup();
    rng.shuffle(&mut channels);
    let ill = match rng.u64(0..100) {
        0..5 if cursed => Some(Ill::Cursed),
        0..2 => Some(Ill::Poisoned),
        _ => None,
    };
    let publication = Publication::new(channels, centrifugo::body(number, ill));
    (publication, ill)
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
