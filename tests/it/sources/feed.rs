//! A source with its server, and a module that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use slipring_support::proxy::Proxy;
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer, Redis, cluster};
use slipring_support::{Api, eventually, guests};

use super::super::world::{SOON, binary, know_unruly, module, publish};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    JetStream,
    RedisList,
    RedisStream,
}

/// The channels that the numbers are spread over.
const CHANNELS: u64 = 10;

/// The subject, list and stream: the guest `unruly` publishes what such a message wishes.
pub const KEY: &str = "unruly.publish";

enum Server {
    Nats(NatsServer),
    Redis(Redis),
}

pub struct Feed {
    pub kind: Kind,
    server: Server,
    /// Between the relay and the server.
    pub proxy: Proxy,
    pub centrifugo: Centrifugo,
    pub home: Home,
    more: String,
}

impl Feed {
    /// `module` is added to the module's `.toml`, and `relay` to `slipring.toml`.
    pub async fn start(kind: Kind, module: &str, relay: &str) -> Result<Self> {
        let centrifugo = Centrifugo::start_with(know_unruly).await?;
        let server = match kind {
            Kind::JetStream => Server::Nats(NatsServer::start().await?),
            Kind::RedisList | Kind::RedisStream => Server::Redis(Redis::start().await?),
        };
        let proxy = Proxy::start(&match &server {
            Server::Nats(nats) => nats.address().to_string(),
            Server::Redis(redis) => redis.address().to_string(),
        })
        .await?;
        let address = proxy.address();
        // Nothing listens on port 1: a relay with Redis alone needs no NATS.
        let (nats, redis) = match &server {
            Server::Nats(_) => (format!("nats://{address}"), String::new()),
            Server::Redis(_) => {
                let redis = format!("[redis]\nurl = \"redis://{address}\"\n");
                ("nats://127.0.0.1:1".to_owned(), redis)
            }
        };
        let (url, key) = (centrifugo.endpoint(Api::Http), centrifugo.api_key().to_owned());
        let home = Home::new(binary(), &nats, &url, &key)?;
        if kind != Kind::JetStream {
            let config = std::fs::read_to_string(home.config_file())?;
            home.configure(&config.replace("[nats]\nservers = [\"nats://127.0.0.1:1\"]\n", ""))?;
        }
        home.configure_more(&format!("{redis}{relay}"))?;
        let feed = Self {
            kind,
            server,
            proxy,
            centrifugo,
            home,
            more: module.to_owned(),
        };
        if let Server::Nats(nats) = &feed.server {
            let config = async_nats::jetstream::stream::Config {
                name: "UNRULY".to_owned(),
                subjects: vec!["unruly.>".to_owned()],
                ..Default::default()
            };
            nats.jetstream().await?.create_stream(config).await?;
        }
        feed.home
            .add_module("unruly", &guests::component("unruly")?, &feed.toml(""))?;
        Ok(feed)
    }

    /// Returns the module's `.toml`.
    pub fn toml(&self, settings: &str) -> String {
        let more = &self.more;
        let source = match self.kind {
            Kind::JetStream => "[source]\nkind = \"jetstream\"\nstream = \"UNRULY\"\ndeliver = \"all\"\n".to_owned(),
            Kind::RedisList => format!("[source]\nkind = \"redis-list\"\nkey = \"{KEY}\"\n"),
            Kind::RedisStream => format!("[source]\nkind = \"redis-stream\"\nkey = \"{KEY}\"\ndeliver = \"all\"\n"),
        };
        format!("{settings}{more}{source}")
    }

    /// Starts the relay, and waits until it is ready.
    pub async fn run(&self) -> Result<Relay> {
        let relay = self.home.run().await?;
        relay.ready(SOON).await?;
        Ok(relay)
    }

    pub async fn redis(&self) -> Result<MultiplexedConnection> {
        match &self.server {
            Server::Redis(redis) => redis.client().await,
            Server::Nats(_) => bail!("it is NATS"),
        }
    }

    /// Sends messages, in order, and waits until all are stored.
    pub async fn send(&self, payloads: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
        match &self.server {
            Server::Nats(nats) => {
                let messages = payloads.into_iter().map(|payload| (KEY, payload));
                publish(&nats.jetstream().await?, messages).await
            }
            Server::Redis(redis) => {
                let mut pipe = redis::pipe();
                for payload in payloads {
                    match self.kind {
                        Kind::RedisList => pipe.cmd("RPUSH").arg(KEY).arg(payload).ignore(),
                        _ => pipe.cmd("XADD").arg(KEY).arg("*").arg("payload").arg(payload).ignore(),
                    };
                }
                let mut client = redis.client().await?;
                pipe.exec_async(&mut client).await.context("storing messages in Redis")
            }
        }
    }

    /// Sends messages that become publications of their number, each on a channel of several.
    pub async fn numbers(&self, numbers: RangeInclusive<u64>) -> Result<()> {
        let message = |number: u64| {
            let channel = format!("unruly:{}", number % CHANNELS);
            json!([{ "channels": [channel], "data": number }])
                .to_string()
                .into_bytes()
        };
        self.send(numbers.map(message)).await
    }

    /// Waits until the channels show all numbers up to `last`: in order, none twice.
    pub async fn shows(&self, last: u64) -> Result<()> {
        let what = format!("{last} numbers to be shown");
        eventually(SOON, what, async || self.show_now(last, true).await).await
    }

    /// Fails unless this many are shown. Those that are shown must be in order, none twice.
    pub async fn shows_at_least(&self, count: u64) -> Result<()> {
        self.show_now(count, false).await
    }

    /// Returns what the channels show: all numbers in the order in which they appeared first, by channel, and how many
    /// appeared again.
    pub async fn shown(&self) -> Result<(BTreeMap<u64, Vec<u64>>, usize)> {
        let (mut shown, mut repeats) = (BTreeMap::new(), 0);
        for index in 0..CHANNELS {
            let history = self.centrifugo.history(&format!("unruly:{index}")).await?;
            let mut first: Vec<u64> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for publication in &history {
                let number = publication.json()?;
                match seen.insert(number) {
                    true => first.push(number),
                    false => repeats += 1,
                }
            }
            shown.insert(index, first);
        }
        Ok((shown, repeats))
    }

    async fn show_now(&self, last: u64, all: bool) -> Result<()> {
        let mut shown = 0;
        for index in 0..CHANNELS {
            let channel = format!("unruly:{index}");
            let history = self.centrifugo.history(&channel).await?;
            let numbers: Vec<u64> = history.iter().map(|one| one.json()).collect::<Result<_>>()?;
            let expected = (1..).filter(|number| number % CHANNELS == index);
            let right = numbers
                .iter()
                .zip(expected)
                .take_while(|(left, right)| **left == *right);
            let right = right.count();
            let wrong = &numbers[right..];
            ensure!(
                wrong.is_empty(),
                "{channel}: the first {right} are right, and then {:?}",
                wrong.get(..20).unwrap_or(wrong)
            );
            shown += numbers.len() as u64;
        }
        ensure!(
            if all { shown == last } else { shown >= last },
            "{shown} of {last} are shown"
        );
        Ok(())
    }

    /// Waits until the server holds nothing more that is not settled.
    pub async fn is_settled(&self, relay: &Relay) -> Result<()> {
        let none = |status: &serde_json::Value| {
            let backlog = &module(status, "unruly")["backlog"];
            backlog["pending"] == 0 && backlog["ack_pending"] == 0
        };
        relay.status_when(SOON, "all to be settled", none).await?;
        if let Server::Redis(_) = &self.server {
            let mut client = self.redis().await?;
            let left = async || -> Result<()> {
                let mut client = client.clone();
                let left: Vec<u64> = match self.kind {
                    Kind::RedisList => {
                        let state = format!("{{{KEY}}}:slipring:state");
                        redis::cmd("HMGET")
                            .arg(state)
                            .arg(&["taken", "done"])
                            .query_async(&mut client)
                            .await?
                    }
                    _ => {
                        let mut command = redis::cmd("XPENDING");
                        command.arg(KEY).arg("slipring-unruly");
                        let (pending, _, _, _): (u64, redis::Value, redis::Value, redis::Value) =
                            command.query_async(&mut client).await?;
                        vec![pending, 0]
                    }
                };
                ensure!(left[0] == left[1], "{left:?}");
                Ok(())
            };
            eventually(SOON, "all to be settled in Redis", left).await?;
            if self.kind == Kind::RedisList {
                let waiting: u64 = redis::cmd("LLEN").arg(KEY).query_async(&mut client).await?;
                ensure!(waiting == 0, "{waiting} wait");
            }
        }
        Ok(())
    }

    /// Freezes the server for a moment.
    pub async fn freeze_server(&mut self, time: Duration) -> Result<()> {
        match &mut self.server {
            Server::Nats(nats) => nats.pause()?,
            Server::Redis(redis) => redis.pause()?,
        }
        tokio::time::sleep(time).await;
        match &mut self.server {
            Server::Nats(nats) => nats.resume(),
            Server::Redis(redis) => redis.resume(),
        }
    }

    /// Reads from this server from now on, with this table `[redis]`.
    pub fn connect(&mut self, server: Redis, table: &str) -> Result<()> {
        let config = std::fs::read_to_string(self.home.config_file())?;
        let (before, rest) = config.split_once("[redis]\n").context("it has no table [redis]")?;
        let after = rest.split_once('\n').map_or("", |(_, after)| after);
        self.home.configure(&format!("{before}{after}\n[redis]\n{table}\n"))?;
        self.fill(server).map(drop)
    }

    /// Sends messages to this server from now on. Returns the one before.
    pub fn fill(&mut self, server: Redis) -> Result<Redis> {
        match std::mem::replace(&mut self.server, Server::Redis(server)) {
            Server::Redis(redis) => Ok(redis),
            Server::Nats(_) => bail!("it is NATS"),
        }
    }

    /// Moves a key to another node of the cluster.
    pub async fn moves(&self, key: &str, to: &Redis) -> Result<()> {
        match &self.server {
            Server::Redis(redis) => cluster::move_slot(key, redis, to).await,
            Server::Nats(_) => bail!("it is NATS"),
        }
    }

    pub fn kill_server(&mut self) {
        match &mut self.server {
            Server::Nats(nats) => nats.kill(),
            Server::Redis(redis) => redis.kill(),
        }
    }

    pub async fn stop_server(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Nats(nats) => nats.stop().await,
            Server::Redis(redis) => redis.stop().await,
        }
    }

    pub async fn start_server(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Nats(nats) => nats.restart().await,
            Server::Redis(redis) => redis.restart().await,
        }
    }

    /// Replaces Redis by an empty one. Returns the numbers that it held and that were not settled: these it may have lost.
    pub async fn fail_over(&mut self) -> Result<BTreeSet<u64>> {
        let mut client = self.redis().await?;
        let (source, base) = match self.kind {
            Kind::RedisList => (format!("{{{KEY}}}:slipring:taken"), format!("{{{KEY}}}:slipring")),
            _ => (KEY.to_owned(), format!("{{{KEY}}}:slipring:slipring-unruly")),
        };
        let mut settled = redis::cmd("HGET");
        settled.arg(format!("{base}:state")).arg("settled");
        let settled: Option<String> = settled.query_async(&mut client).await?;
        // The list first: its messages are moved from there.
        let mut held: Vec<String> = Vec::new();
        if self.kind == Kind::RedisList {
            let mut all = redis::cmd("LRANGE");
            held.extend::<Vec<String>>(all.arg(KEY).arg(0).arg(-1).query_async(&mut client).await?);
        }
        let mut all = redis::cmd("XRANGE");
        all.arg(source)
            .arg(settled.map_or("-".to_owned(), |id| format!("({id}")))
            .arg("+");
        let entries: Vec<(String, Vec<String>)> = all.query_async(&mut client).await?;
        held.extend(entries.into_iter().filter_map(|(_, fields)| fields.into_iter().nth(1)));
        let Server::Redis(redis) = &mut self.server else {
            bail!("it is NATS");
        };
        redis.fail_over().await?;
        let number = |payload: String| {
            let publications: serde_json::Value = serde_json::from_str(&payload)?;
            publications[0]["data"].as_u64().context("it has no number")
        };
        held.into_iter().map(number).collect()
    }

    /// Runs a command of the relay to its end, and returns what it printed.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = self.home.command(arguments).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {told}");
        Ok(String::from_utf8(output.stdout)?)
    }
}
