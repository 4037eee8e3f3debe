//! One WebSocket connection that is subscribed to every channel. It checks that each message comes once and in the
//! order of its channel. It uses little processor time, which the measured processes need.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipring_support::servers::Centrifugo;
use slipring_support::subscriber::{Received, Subscriber};
use tokio::time::sleep;

use super::publisher::{Publisher, Sent};
use super::{Delivery, KEYS, Observed};
use crate::event::{self, Event};

/// The pause between two looks at what has arrived. The subscriber records the time of each message, and waking up for
/// each one would cost more.
const PACE: Duration = Duration::from_millis(10);

/// How long to wait for the next message while some are missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to watch for duplicates at the end.
const AFTERMATH: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Listener {
    subscriber: Subscriber,
    arrivals: Arrivals,
}

/// The messages that have arrived, in order.
#[derive(Debug)]
struct Arrivals {
    /// The newest revision of each key.
    newest: Vec<u32>,
    all: Vec<(Event, Instant)>,
}

impl Listener {
    pub async fn subscribe(centrifugo: &Centrifugo) -> Result<Self> {
        let channels = (0..KEYS).map(event::channel);
        Ok(Self {
            subscriber: Subscriber::connect(&centrifugo.websocket_url(), channels).await?,
            arrivals: Arrivals::new(KEYS),
        })
    }

    /// Returns once the publisher is done and everything that it published has arrived.
    pub async fn listen(mut self, publisher: Publisher) -> Result<Observed> {
        while !publisher.is_finished() {
            sleep(PACE).await;
            self.take_in()?;
        }
        let sent = publisher.sent().await?;
        let mut arrived_last = Instant::now();
        while self.arrivals.all.len() < sent.len() {
            sleep(PACE).await;
            if self.take_in()? {
                arrived_last = Instant::now();
            }
            ensure!(
                arrived_last.elapsed() < PATIENCE,
                "{} of {} messages arrived",
                self.arrivals.all.len(),
                sent.len()
            );
        }
        sleep(AFTERMATH).await;
        self.take_in()?;
        self.arrivals.deliveries(&sent)
    }

    /// Returns true if anything has arrived.
    fn take_in(&mut self) -> Result<bool> {
        let received = self.subscriber.drain()?;
        received.iter().try_for_each(|received| self.arrivals.push(received))?;
        Ok(!received.is_empty())
    }
}

impl Arrivals {
    fn new(keys: u32) -> Self {
        Self {
            newest: vec![0; keys as usize],
            all: Vec::new(),
        }
    }

    fn push(&mut self, received: &Received) -> Result<()> {
        let Received {
            channel,
            publication,
            at,
        } = received;
        let event = read(channel, &publication.data)
            .with_context(|| format!("{} on {channel} was never published", publication.text()))?;
        let newest = self
            .newest
            .get_mut(event.key as usize)
            .with_context(|| format!("nobody subscribed to {channel}"))?;
        let due = *newest + 1;
        ensure!(
            event.revision == due,
            "revision {} arrived on {channel} where {due} was due",
            event.revision
        );
        *newest = due;
        self.all.push((event, *at));
        Ok(())
    }

    fn deliveries(&self, sent: &[Sent]) -> Result<Observed> {
        ensure!(
            self.all.len() == sent.len(),
            "{} messages were published, but {} arrived",
            sent.len(),
            self.all.len()
        );
        let mut by_key: Vec<Vec<Sent>> = vec![Vec::new(); self.newest.len()];
        for sent in sent {
            by_key[sent.event.key as usize].push(*sent);
        }
        let delivery = |(event, received): &(Event, Instant)| {
            // The revisions of a key begin at 1 and have no gap.
            let sent = by_key[event.key as usize].get(event.revision as usize - 1)?;
            Some(Delivery {
                due: sent.due,
                sent: sent.at,
                received: *received,
            })
        };
        let deliveries: Option<Vec<Delivery>> = self.all.iter().map(delivery).collect();
        deliveries
            .map(Observed)
            .context("something arrived that was never published")
    }
}

/// Reads only what is needed here. `arrived` checks publications when the clock does not run.
fn read(channel: &str, data: &[u8]) -> Option<Event> {
    const FIELD: &[u8] = b"\"revision\":";
    let (_, key) = channel.split_once(':')?;
    let field = data.windows(FIELD.len()).position(|bytes| bytes == FIELD)?;
    let digits = data[field + FIELD.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let revision = digits.fold(0_u32, |number, digit| {
        number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'))
    });
    Some(Event {
        key: key.parse().ok()?,
        revision,
    })
}

#[cfg(test)]
mod tests {
    use slipring_support::Publication;

    use super::*;

    fn received(key: u32, revision: u32) -> Received {
        let publication = Publication {
            data: Event { key, revision }.payload(200).into_bytes(),
            ..Publication::default()
        };
        Received {
            channel: event::channel(key),
            publication,
            at: Instant::now(),
        }
    }

    #[test]
    fn each_channel_has_to_show_its_revisions_in_order() {
        let check = |revisions: &[(u32, u32)]| {
            let mut arrivals = Arrivals::new(20);
            let mut pushed = revisions
                .iter()
                .map(|&(key, revision)| arrivals.push(&received(key, revision)));
            pushed.try_for_each(|pushed| pushed).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(7, 1), (11, 1), (7, 2), (11, 2), (7, 3)]), Ok(()));
        let wrong = |revision, due| Err(format!("revision {revision} arrived on bench:7 where {due} was due"));
        assert_eq!(check(&[(7, 1), (7, 3)]), wrong(3, 2));
        assert_eq!(check(&[(7, 1), (7, 1)]), wrong(1, 2));
        assert_eq!(check(&[(7, 1), (7, 2), (7, 1)]), wrong(1, 3));
        assert_eq!(check(&[(20, 1)]), Err("nobody subscribed to bench:20".to_owned()));
    }

    #[test]
    fn what_arrived_is_matched_with_what_was_sent() {
        let now = Instant::now();
        let later = |millis| now + Duration::from_millis(millis);
        let event = |key, revision| Event { key, revision };
        let sent = |event, at| Sent { event, due: at, at };
        let sent = [
            sent(event(1, 1), now),
            sent(event(2, 1), later(1)),
            sent(event(1, 2), later(2)),
        ];
        let mut arrivals = Arrivals::new(3);
        arrivals.all = vec![
            (event(2, 1), later(5)),
            (event(1, 1), later(6)),
            (event(1, 2), later(7)),
        ];
        let Observed(deliveries) = arrivals.deliveries(&sent).unwrap();
        let latencies: Vec<u128> = deliveries
            .iter()
            .map(|delivery| delivery.latency().as_millis())
            .collect();
        assert_eq!(latencies, [4, 6, 5]);
        arrivals.all.pop();
        let error = arrivals.deliveries(&sent).unwrap_err().to_string();
        assert_eq!(error, "3 messages were published, but 2 arrived");
    }

    #[test]
    fn a_publication_says_which_revision_it_is() {
        let read = |data: &str| read("bench:17", data.as_bytes()).map(|event| event.revision);
        assert_eq!(read(r#"{"id":17,"revision":31,"status":"paid"}"#), Some(31));
        assert_eq!(read(r#"{"revision":4,"status":"paid"}"#), Some(4));
        assert_eq!(read(r#"{"status":"paid"}"#), None);
    }
}
