//! Messages at a steady pace, timed from just before each publish to the arrival at one WebSocket subscriber. Both ends
//! are in this process, so that they share one clock.

mod listener;
mod publisher;

use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::jetstream::stream::Stream;
use slipring_support::servers::{Centrifugo, NatsServer};

use crate::event::{self, Event};
use crate::fill::{Headers, fill};
use crate::statistics::percentile;

pub use listener::Listener;
pub use publisher::{Load, Publisher};

/// Bytes of a message.
pub const SIZE: usize = 200;
/// Also the number of channels.
pub const KEYS: u32 = 1_000;

/// A message that has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// When it should have been published.
    pub due: Instant,
    pub sent: Instant,
    pub received: Instant,
}

/// All messages in order of arrival.
#[derive(Debug)]
pub struct Observed(pub Vec<Delivery>);

/// Returns microseconds.
pub fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

impl Delivery {
    pub fn latency(&self) -> Duration {
        self.received.saturating_duration_since(self.sent)
    }

    /// Returns how late the publisher was.
    pub fn late(&self) -> Duration {
        self.sent.saturating_duration_since(self.due)
    }
}

impl Observed {
    /// Leaves out the messages that were due in the first moments, while connections warm up.
    pub fn after(self, warm_up: Duration) -> Self {
        let Some(start) = self.0.iter().map(|delivery| delivery.due).min() else {
            return self;
        };
        let mut deliveries = self.0;
        deliveries.retain(|delivery| delivery.due >= start + warm_up);
        Self(deliveries)
    }

    /// Returns the messages that arrived between `from` and `to`.
    pub fn between(&self, from: Instant, to: Instant) -> &[Delivery] {
        let from = self.0.partition_point(|delivery| delivery.received < from);
        let to = self.0.partition_point(|delivery| delivery.received < to);
        &self.0[from..to.max(from)]
    }
}

/// Returns the longest duration among the fastest `share` of the deliveries (0.99).
pub fn at_most(deliveries: &[Delivery], share: f64, duration: impl Fn(&Delivery) -> Duration) -> u32 {
    let mut micros: Vec<u32> = deliveries.iter().map(|delivery| micros(duration(delivery))).collect();
    micros.sort_unstable();
    percentile(&micros, share)
}

/// Returns the longest time between two of these.
pub fn longest_gap(deliveries: &[Delivery], when: impl Fn(&Delivery) -> Instant) -> Duration {
    let mut times: Vec<Instant> = deliveries.iter().map(when).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// Creates an empty stream. An existing one is deleted.
pub async fn empty_stream(nats: &NatsServer, name: &str) -> Result<Stream> {
    let jetstream = nats.jetstream().await?;
    // Fails if there is none.
    let _ = jetstream.delete_stream(name).await;
    fill(&jetstream, name, &[], SIZE, Headers::None).await
}

/// Publishes `load` and waits until all of it has arrived.
pub async fn observe(load: Load, centrifugo: &Centrifugo) -> Result<Observed> {
    let listener = Listener::subscribe(centrifugo).await?;
    listener.listen(Publisher::start(load)).await
}

/// Returns as many events as `rate` makes in that time.
pub fn events(rate: u32, time: Duration) -> Vec<Event> {
    let messages = (f64::from(rate) * time.as_secs_f64()).ceil() as usize;
    event::shuffled(messages, KEYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(start: Instant, due: u64, sent: u64, received: u64) -> Delivery {
        let at = |micros| start + Duration::from_micros(micros);
        Delivery {
            due: at(due),
            sent: at(sent),
            received: at(received),
        }
    }

    #[test]
    fn what_happened_when_is_told_from_the_deliveries() {
        let start = Instant::now();
        let observed = Observed(vec![
            delivery(start, 0, 0, 900),
            delivery(start, 1_000, 1_050, 1_250),
            delivery(start, 2_000, 2_500, 9_000),
            delivery(start, 3_000, 3_000, 9_100),
        ]);
        assert_eq!(at_most(&observed.0, 0.5, Delivery::latency), 900);
        assert_eq!(at_most(&observed.0, 0.99, Delivery::latency), 6_500);
        assert_eq!(at_most(&observed.0, 1.0, Delivery::late), 500);
        let received = |delivery: &Delivery| delivery.received;
        assert_eq!(longest_gap(&observed.0, received), Duration::from_micros(7_750));
        let sent = |delivery: &Delivery| delivery.sent;
        assert_eq!(longest_gap(&observed.0, sent), Duration::from_micros(1_450));

        let from = start + Duration::from_micros(1_250);
        let between = observed.between(from, start + Duration::from_micros(9_100));
        assert_eq!(between.len(), 2);
        assert_eq!(observed.after(Duration::from_millis(2)).0.len(), 2);
    }
}
