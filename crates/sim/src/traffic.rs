//! The messages in the stream and the module's outcomes for them. As the promise requires, an outcome depends only on
//! the message.

use std::sync::Arc;

use fastrand::Rng;
use slipring_core::message::{Outcome, Publication, Rejection, Stage};

use crate::centrifugo::{self, Ill, PLAIN, UNKNOWN};

/// A message as the module sees it.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) size: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Publish(Vec<Part>),
    Drop,
    Reject,
}

/// A publication of a message.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) channels: Vec<Arc<str>>,
    pub(super) ill: Option<Ill>,
}

/// The most publications of one message. The numbers of publications count through all messages.
pub(super) const MAX_PARTS: u64 = 4;

impl Letter {
    pub(super) fn random(rng: &mut Rng, troubled: bool, unique: bool) -> Self {
        let kind = match rng.u64(0..100) {
            0..5 => Kind::Drop,
            5..8 if troubled => Kind::Reject,
            8..90 => Kind::Publish(vec![Part::random(rng, troubled)]),
            _ => {
                let mut parts: Vec<Part> = Vec::new();
                for _ in 0..rng.u64(2..=MAX_PARTS) {
                    let part = Part::random(rng, troubled);
                    // With versions, a message has one publication per channel.
                    let known = |channel| parts.iter().any(|part| part.channels.contains(channel));
                    if !(unique && part.channels.iter().any(known)) {
                        parts.push(part);
                    }
                }
                Kind::Publish(parts)
            }
        };
        Self {
            size: if rng.u64(0..20) == 0 {
                rng.usize(400..1_500)
            } else {
                rng.usize(10..200)
            },
            kind,
        }
    }

    /// Returns the module's outcome for the message with this number.
    pub(super) fn outcome(&self, number: u64) -> Outcome {
        match &self.kind {
            Kind::Drop => Outcome::Drop,
            Kind::Reject => Outcome::Reject(Rejection {
                stage: Stage::Transform,
                code: "rejected".into(),
                channel: None,
                reason: "it is not for anyone".into(),
            }),
            Kind::Publish(parts) => {
                let parts = parts.iter().zip(number * MAX_PARTS..);
                Outcome::Publish(parts.map(|(part, number)| part.publication(number)).collect())
            }
        }
    }

    /// Returns the publications to show and their channels, without those that Centrifugo refuses.
    pub(super) fn to_show(&self, number: u64) -> Vec<(u64, Arc<str>)> {
        let Kind::Publish(parts) = &self.kind else {
            return Vec::new();
        };
        let parts = parts
            .iter()
            .zip(number * MAX_PARTS..)
            .filter(|(part, _)| part.ill != Some(Ill::Poisoned));
        let channels =
            parts.flat_map(|(part, number)| part.channels.iter().map(move |channel| (number, Arc::clone(channel))));
        channels.filter(|(_, channel)| !channel.starts_with(UNKNOWN)).collect()
    }

    /// Returns true if the message ends as a dead letter.
    pub(super) fn is_refused(&self) -> bool {
        match &self.kind {
            Kind::Drop => false,
            Kind::Reject => true,
            Kind::Publish(parts) => parts.iter().any(|part| {
                part.ill == Some(Ill::Poisoned) || part.channels.iter().any(|channel| channel.starts_with(UNKNOWN))
            }),
        }
    }
}

impl Part {
    fn random(rng: &mut Rng, troubled: bool) -> Self {
        let mut channels = vec![channel(rng, troubled)];
        if rng.u64(0..10) == 0 {
            channels.extend((0..rng.usize(1..4)).map(|_| channel(rng, troubled)));
            channels.sort_unstable();
            channels.dedup();
            rng.shuffle(&mut channels);
        }
        Self {
            channels,
            ill: match rng.u64(0..300) {
                0..6 if troubled => Some(Ill::Poisoned),
                6..11 => Some(Ill::Cursed),
                _ => None,
            },
        }
    }

    fn publication(&self, number: u64) -> Publication {
        Publication::new(self.channels.clone(), centrifugo::body(number, self.ill))
    }
}

fn channel(rng: &mut Rng, troubled: bool) -> Arc<str> {
    let name = match rng.u64(0..100) {
        0..3 if troubled => format!("{UNKNOWN}{}", rng.u64(0..2)),
        3..15 => format!("{PLAIN}{}", rng.u64(0..2)),
        15..75 => format!("hot:{}", rng.u64(0..3)),
        _ => format!("cold:{}", rng.u64(0..1_000)),
    };
    name.into()
}
