//! Epochs on a real Redis, in random schedules: whoever reads gets everything from what is not settled on, in order, and
//! whoever was replaced neither takes nor settles anything.

mod lease;
mod missed;
mod resumed;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use slipring_core::place::Place;
use slipring_core::read::{Missed, Position, Room};
use slipring_support::eventually;
use slipring_support::servers::Redis;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::standing_by::{self, Hearer};
use super::super::{Active, Delivery, Receipt};
use super::entry::Entries;
use super::epoch::{Epoch, EpochEnd, Setup};
use super::keys::Keys;
use super::scripts;
use super::settle::{Settler, settle};
use super::{begin, holder};
use crate::config::{self, Deliver, End, RedisSource};
use crate::redis::{Error, Server};

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
        other: Mutex::default(),
        looked_at: AtomicBool::new(true),
        newest: Mutex::default(),
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
        let (waiting, _) = standing_by::channel();
        Self {
            setup: Arc::clone(setup),
            epoch: begin::begin(Arc::clone(setup), number, None, waiting).await.unwrap(),
            open: Vec::new(),
            next,
        }
    }

    /// Reads what is there. Returns the end of the epoch.
    async fn read(&mut self, most: usize) -> Result<(), EpochEnd> {
        let room = Room {
            messages: most,
            bytes: 10_000,
            empty: self.open.is_empty(),
        };
        // Nothing may be there to read. A request that is under way goes on in the next call.
        let wait = Duration::from_millis(fastrand::u64(1..30));
        let Ok(deliveries) = timeout(wait, self.epoch.next(Some(room))).await else {
            return Ok(());
        };
        for delivery in deliveries?.0 {
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
    let rest = async {
        while last.next <= pushed {
            last.read(64).await.unwrap();
            last.settle(64).await;
        }
    };
    timeout(SOON, rest).await.expect("nothing is lost");
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

/// A server with what is to be read, and a way to look at it.
struct World {
    redis: Redis,
    client: redis::aio::MultiplexedConnection,
}

fn list() -> RedisSource {
    RedisSource::List {
        take: End::Left,
        keep: 1_000,
    }
}

fn stream() -> RedisSource {
    RedisSource::Stream {
        field: "payload".to_owned(),
    }
}

impl World {
    async fn start() -> Self {
        let redis = Redis::start().await.unwrap();
        let client = redis.client().await.unwrap();
        Self { redis, client }
    }

    /// Sends a command, whose words have no spaces.
    async fn send<T: redis::FromRedisValue>(&mut self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut sent = redis::cmd(words.next().unwrap());
        for word in words {
            sent.arg(word);
        }
        sent.query_async(&mut self.client).await.unwrap()
    }

    async fn push(&mut self, source: &RedisSource, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            match source {
                RedisSource::List { .. } => self.send::<()>(&format!("RPUSH {KEY} {number}")).await,
                RedisSource::Stream { .. } => {
                    self.send::<()>(&format!("XADD {KEY} {number}-1 payload {number}"))
                        .await
                }
            }
        }
    }

    /// Returns how many times a command was called.
    async fn calls(&mut self, command: &str) -> u64 {
        let stats: String = self.send("INFO commandstats").await;
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|line| line.split(',').next())
            .map_or(0, |calls| calls.parse().unwrap())
    }

    fn reader(&self, source: &RedisSource, deliver: Deliver) -> Arc<Setup> {
        let mut setup = Arc::into_inner(setup(&self.redis, source)).unwrap();
        setup.deliver = deliver;
        Arc::new(setup)
    }
}

const ROOM: Room = Room {
    messages: 1_000,
    bytes: 1 << 20,
    empty: true,
};

async fn begin(setup: &Arc<Setup>) -> Epoch {
    begin_at(setup, None).await
}

async fn begin_at(setup: &Arc<Setup>, position: Option<Position>) -> Epoch {
    let (waiting, _) = standing_by::channel();
    begin::begin(Arc::clone(setup), fastrand::u64(..), position, waiting)
        .await
        .unwrap()
}

/// How long something may take that has to happen.
const SOON: Duration = Duration::from_secs(60);

/// Reads so many messages, and more if any come soon afterwards.
async fn read(epoch: &mut Epoch, room: Room, count: usize) -> Result<Vec<Delivery>, EpochEnd> {
    let mut all = Vec::new();
    loop {
        let wait = if all.len() < count {
            SOON
        } else {
            Duration::from_millis(300)
        };
        let Ok(deliveries) = timeout(wait, epoch.next(Some(room))).await else {
            break;
        };
        all.extend(deliveries?.0);
    }
    Ok(all)
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    let number = |delivery: &Delivery| std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap();
    deliveries.iter().map(number).collect()
}

fn places(deliveries: &[Delivery]) -> Vec<slipring_core::place::Place> {
    deliveries.iter().map(|delivery| delivery.message.place).collect()
}

/// A script that fails in the middle keeps what it has done so far.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_in_the_list_or_taken_whatever_redis_denies() {
    let (mut world, source) = (World::start().await, list());
    let setup = world.reader(&source, Deliver::All);
    let mut pushed = 0;
    for denied in ["xadd", "lpop", "lindex", "llen", "hset"] {
        world.push(&source, pushed + 1..=pushed + 3).await;
        pushed += 3;
        let mut epoch = begin(&setup).await;
        world.send::<()>(&format!("ACL SETUSER default -{denied}")).await;
        let end = read(&mut epoch, ROOM, usize::MAX).await.unwrap_err();
        assert!(
            end.to_string().contains("denies this user a permission"),
            "{denied}: {end}"
        );
        world.send::<()>(&format!("ACL SETUSER default +{denied}")).await;
        let taken: u64 = world.send(&format!("XLEN {{{KEY}}}:slipring:taken")).await;
        let left: u64 = world.send(&format!("LLEN {KEY}")).await;
        assert_eq!(taken + left, pushed, "{denied}");
    }
    let all: Vec<u64> = (1..=pushed).collect();
    assert_eq!(
        numbers(&read(&mut begin(&setup).await, ROOM, all.len()).await.unwrap()),
        all
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_new_entries_asks_once() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=20).await;
    let mut epoch = begin(&world.reader(&source, Deliver::New)).await;
    assert_eq!(read(&mut epoch, ROOM, 0).await.unwrap().len(), 0);
    world.push(&source, 21..=22).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 2).await.unwrap()), [21, 22]);
    // A call waits for five seconds. Valkey counts it once it has a reply.
    let calls = world.calls("xread").await;
    assert!((1..10).contains(&calls), "{calls}");
}

/// Otherwise messages would be published, and published again after each restart, with no trace but in the debug log.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_fails_ends_the_epoch() {
    for (source, denied) in [(list(), "hset"), (stream(), "xack")] {
        let mut world = World::start().await;
        world.push(&source, 1..=3).await;
        let setup = world.reader(&source, Deliver::All);
        let mut epoch = begin(&setup).await;
        let came = read(&mut epoch, ROOM, 3).await.unwrap();
        let settler = Settler::start(Arc::clone(&setup), epoch.token(), epoch.connection(), epoch.teller());
        world.send::<()>(&format!("ACL SETUSER default -{denied}")).await;
        settler.settle(places(&came));
        let end = timeout(SOON, epoch.next(None)).await.unwrap().unwrap_err();
        assert!(end.to_string().contains("denies this user a permission"), "{end}");
        world.send::<()>(&format!("ACL SETUSER default +{denied}")).await;
        assert_eq!(
            numbers(&read(&mut begin(&setup).await, ROOM, 3).await.unwrap()),
            [1, 2, 3]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_has_no_room_waits_for_it() {
    for source in [list(), stream()] {
        let mut world = World::start().await;
        let payload = format!("1{}", "0".repeat(15));
        for _ in 0..2 {
            let command = match &source {
                RedisSource::List { .. } => format!("RPUSH {KEY} {payload}"),
                RedisSource::Stream { .. } => format!("XADD {KEY} * payload {payload}"),
            };
            world.send::<()>(&command).await;
        }
        let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
        let small = Room {
            messages: 10,
            bytes: 500,
            empty: false,
        };
        assert_eq!(read(&mut epoch, small, 0).await.unwrap().len(), 0);
        let scripts = world.calls("evalsha").await;
        assert!((1..50).contains(&scripts), "it does not ask again and again: {scripts}");
        let one = Room { empty: true, ..small };
        assert_eq!(epoch.next(Some(one)).await.unwrap().0.len(), 1, "whatever its size");
        assert_eq!(read(&mut epoch, small, 0).await.unwrap().len(), 0);
        assert_eq!(read(&mut epoch, ROOM, 1).await.unwrap().len(), 1);
    }
}

/// The window may become empty while a request is under way that was sent with little room.
#[tokio::test(flavor = "multi_thread")]
async fn room_that_came_while_a_request_was_under_way_is_used() {
    for source in [list(), stream()] {
        let mut world = World::start().await;
        let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
        world.push(&source, 1..=1).await;
        let small = Room {
            messages: 10,
            bytes: 100,
            empty: false,
        };
        let mut sent = Box::pin(epoch.next(Some(small)));
        assert!(futures_util::poll!(&mut sent).is_pending());
        drop(sent);
        let (came, _) = timeout(SOON, epoch.next(Some(ROOM))).await.expect("it comes").unwrap();
        assert_eq!(numbers(&came), [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_not_asked_at_full_speed() {
    let (mut world, source) = (World::start().await, list());
    let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
    world.send::<()>("CONFIG SET maxmemory 1").await;
    let reading = timeout(Duration::from_millis(1_500), epoch.next(Some(ROOM))).await;
    assert!(reading.is_err(), "nothing comes, and the epoch lasts");
    let calls = world.calls("evalsha").await;
    assert!((1..30).contains(&calls), "{calls}");
    world.send::<()>("CONFIG SET maxmemory 0").await;
    world.push(&source, 1..=1).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 1).await.unwrap()), [1]);
}

async fn next(epoch: &mut Epoch, room: Room) -> (Vec<Delivery>, Vec<Missed>) {
    timeout(Duration::from_secs(20), epoch.next(Some(room)))
        .await
        .unwrap()
        .unwrap()
}
