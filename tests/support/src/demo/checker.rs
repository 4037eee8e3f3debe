//! Compares what arrives with what was sent: everything, once, and in order on each channel.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Event;
use super::events::BASE_CENTS;
use crate::Publication;
use serde_json::Value;

#[derive(Debug, Default)]
pub struct Checker {
    sent: u64,
    dropped: u64,
    channels: BTreeMap<String, Channel>,
    /// Publications with an unreadable number, because the visitor has changed the transform.
    unreadable: u64,
    with_currency: u64,
}

#[derive(Debug, Default)]
struct Channel {
    expected: Vec<u64>,
    received: Vec<u64>,
}

impl Checker {
    pub fn expect(&mut self, event: &Event) {
        self.sent += 1;
        self.dropped += u64::from(event.arrives.is_empty());
        for (channel, number) in &event.arrives {
            self.channels.entry(channel.clone()).or_default().expected.push(*number);
        }
    }

    pub fn received(&mut self, channel: &str, publication: &Publication) {
        let data: Value = publication.json().unwrap_or_default();
        self.with_currency += u64::from(data.get("currency").is_some());
        match number(channel, &data) {
            Some(number) => self
                .channels
                .entry(channel.to_owned())
                .or_default()
                .received
                .push(number),
            None => self.unreadable += 1,
        }
    }

    /// Returns how many are still to arrive.
    pub fn missing(&self) -> u64 {
        let missing = |channel: &Channel| channel.expected.len().saturating_sub(channel.received.len());
        let missing: usize = self.channels.values().map(missing).sum();
        (missing as u64).saturating_sub(self.unreadable)
    }

    /// Returns true if each channel received what it should, in order.
    pub fn is_good(&self) -> bool {
        self.unreadable == 0
            && self
                .channels
                .values()
                .all(|channel| channel.expected == channel.received)
    }

    /// Returns true if something came that only the author of a changed transform can judge.
    pub fn cannot_tell(&self) -> bool {
        self.unreadable > 0
    }

    pub fn summary(&self) -> String {
        let received: usize = self.channels.values().map(|channel| channel.received.len()).sum();
        let (mut lost, mut repeated, mut inverted) = (0, 0, 0);
        for channel in self.channels.values() {
            lost += channel
                .expected
                .iter()
                .filter(|number| !channel.received.contains(number))
                .count();
            let mut seen = Vec::new();
            for number in &channel.received {
                if seen.contains(number) {
                    repeated += 1;
                } else if seen.last().is_some_and(|last| last > number) {
                    inverted += 1;
                }
                seen.push(*number);
            }
        }
        // An unreadable one may be any of them.
        let lost = lost.saturating_sub(usize::try_from(self.unreadable).unwrap_or(usize::MAX));
        let mut text = format!(
            "{} events sent, {} of them dropped by a transform; {received} publications arrived on {} channels: {lost} lost, \
             {repeated} repeated, {inverted} out of order; {} came from the exchanged module",
            self.sent,
            self.dropped,
            self.channels.len(),
            self.with_currency,
        );
        if self.unreadable > 0 {
            let _ = write!(
                text,
                "; {} from a transform of yours, which this can't check",
                self.unreadable
            );
        }
        text
    }
}

/// Returns the number that the event counted up.
fn number(channel: &str, data: &Value) -> Option<u64> {
    match channel.split_once(':')?.0 {
        "orders" => data["total_cents"].as_u64()?.checked_sub(BASE_CENTS),
        "notifications" => data["text"].as_str()?.strip_prefix("comment ")?.parse().ok(),
        "telemetry" => {
            let hundredths = data["values"]["temperature"].as_f64()? * 100.0;
            // Small whole numbers, so nothing is cut off.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(hundredths.round() as u64)
        }
        _ => None,
    }
}
