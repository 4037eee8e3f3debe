//! Epochs on a real Redis, in random schedules: whoever reads gets everything from what is not settled on, in order, and
//! whoever was replaced neither takes nor settles anything.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use slipring_core::read::Room;
use slipring_support::servers::Redis;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::{Delivery, Receipt};
use super::entry::Entries;
use super::epoch::{self, Epoch, EpochEnd, Setup};
use super::keys::Keys;
use super::settle::settle;
use crate::config::{self, Deliver, End, RedisSource};
use crate::redis::Server;

const KEY: &str = "numbers";

fn setup(redis: &Redis, source: &RedisSource) -> Arc<Setup> {
    let text = format!("redis.url = '{}'", redis.url());
    let config = config::parse_config(std::path::Path::new("slipring.toml"), &text, [("", ""); 0]).unwrap();
    Arc::new(Setup {
        server: config.redis.map(Server::new),
        source: source.clone(),
        keys: Keys::of(source, KEY, "group"),
        group: "group".to_owned(),
        deliver: Deliver::All,
        entries: Entries {
            key: KEY.into(),
            field: "payload".to_owned(),
        },
        reader: format!("{:016x}", fastrand::u64(..)),
        ttl: Duration::from_secs(10),
        shared: false,
        looked_at: AtomicBool::new(true),
    })
}

/// An open epoch and what came in it.
struct Reading {
    setup: Arc<Setup>,
    epoch: Epoch,
    /// Delivered and not settled, oldest first.
    open: Vec<Delivery>,
    /// The number that comes next.
    next: u64,
}

impl Reading {
    async fn begin(setup: &Arc<Setup>, number: u64, next: u64) -> Self {
        let (waiting, _) = watch::channel(false);
        Self {
            setup: Arc::clone(setup),
            epoch: epoch::begin(Arc::clone(setup), number, waiting).await.unwrap(),
            open: Vec::new(),
            next,
        }
    }

    /// Reads what is there. Returns the end of the epoch.
    async fn read(&mut self, most: usize) -> Result<(), EpochEnd> {
        let room = Room {
            messages: most,
            bytes: 1_000,
            empty: self.open.is_empty(),
        };
        // Nothing may be there to read. A request that is under way goes on in the next call.
        let wait = Duration::from_millis(fastrand::u64(1..30));
        let Ok(deliveries) = timeout(wait, self.epoch.next(Some(room))).await else {
            return Ok(());
        };
        for delivery in deliveries? {
            let number: u64 = std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap();
            assert_eq!(number, self.next, "what comes next");
            self.next += 1;
            self.open.push(delivery);
        }
        Ok(())
    }

    /// Settles the oldest messages. Returns how many were settled.
    async fn settle(&mut self, most: usize) -> u64 {
        let places: Vec<_> = self
            .open
            .drain(..most.min(self.open.len()))
            .map(|delivery| match delivery.receipt {
                Receipt::Redis(place) => place,
                Receipt::JetStream(_) => panic!("it is Redis"),
            })
            .collect();
        if places.is_empty() {
            return 0;
        }
        let token = self.epoch.token();
        let reply = settle(&self.setup, &token, &mut self.epoch.connection(), &places)
            .await
            .unwrap();
        if reply == "ok" { places.len() as u64 } else { 0 }
    }
}

async fn play(source: RedisSource, seed: u64) {
    fastrand::seed(seed);
    let redis = Redis::start().await.unwrap();
    let readers = [setup(&redis, &source), setup(&redis, &source)];
    let mut client = redis.client().await.unwrap();
    let (mut pushed, mut settled, mut epochs) = (0, 0, 0);
    let mut reading = Reading::begin(&readers[0], epochs, 1).await;
    let mut replaced: Option<Reading> = None;
    for _ in 0..250 {
        match fastrand::u32(..10) {
            0..3 => {
                for _ in 0..fastrand::u32(1..20) {
                    pushed += 1;
                    let mut command = match &source {
                        RedisSource::List { .. } => redis::cmd("RPUSH"),
                        RedisSource::Stream { .. } => redis::cmd("XADD"),
                    };
                    command.arg(KEY);
                    if matches!(source, RedisSource::Stream { .. }) {
                        command.arg("*").arg("payload");
                    }
                    command.arg(pushed).exec_async(&mut client).await.unwrap();
                }
            }
            3..6 => reading.read(fastrand::usize(1..30)).await.unwrap(),
            6..8 => settled += reading.settle(fastrand::usize(1..20)).await,
            // The relay crashes, or another one takes over.
            8 => {
                epochs += 1;
                let reader = &readers[fastrand::usize(..2)];
                let next = Reading::begin(reader, epochs, settled + 1).await;
                replaced = Some(std::mem::replace(&mut reading, next));
            }
            _ => {
                if let Some(replaced) = &mut replaced {
                    assert_eq!(replaced.settle(10).await, 0, "it settles nothing");
                    // What it had asked for may still come, but it is what the other one reads as well.
                    let _ = replaced.read(10).await;
                }
            }
        }
    }
    // Everything comes in the end.
    epochs += 1;
    let mut last = Reading::begin(&readers[0], epochs, settled + 1).await;
    while last.next <= pushed {
        last.read(64).await.unwrap();
        last.settle(64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_in_order_whoever_reads() {
    for seed in 0..4 {
        let take = End::Left;
        play(
            RedisSource::List {
                take,
                keep: seed as usize * 7,
            },
            seed,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_in_order_whoever_reads() {
    for seed in 0..4 {
        let field = "payload".to_owned();
        play(RedisSource::Stream { field }, seed).await;
    }
}
