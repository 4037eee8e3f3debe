//! The servers, the relays and the proxies between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer, stream};
use slipring_support::proxy::Proxy;
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::{eventually, guests};

use super::checker::Judgement;
use super::messages::{self, Held};
use super::witness::Witness;
use crate::world::{SOON, binary, know_unruly, unruly_toml};

const STREAM: &str = "UNRULY";

/// How long a relay may take to end after SIGTERM: its grace, and the last acks.
const STOPPING: Duration = Duration::from_secs(60);

/// The limit for a request to Centrifugo, and the grace at a relay's end. Shorter than the defaults, so that more
/// happens in the time.
const TIMEOUT: &str = "2s";

/// None of these may be in a relay's log.
const BUGS: [&str; 2] = ["panicked", "bug in Slipring"];

#[derive(Debug)]
pub struct Arena {
    pub nats: NatsServer,
    pub centrifugo: Centrifugo,
    /// The test's own connection to JetStream.
    pub jetstream: jetstream::Context,
    pub witness: Witness,
    /// One per relay, like the links. Shared, because several loops of faults use them.
    pub homes: Arc<[Home]>,
    pub links: Arc<[Link]>,
    relays: Vec<Option<Relay>>,
    bugs: Vec<String>,
    /// Swaps that the relays logged.
    pub swaps: usize,
    /// Logs and tapes so far.
    kept: usize,
}

/// The proxies between a relay and its servers.
#[derive(Debug)]
pub struct Link {
    pub nats: Proxy,
    pub centrifugo: Proxy,
}

impl Arena {
    /// Starts everything. Nothing is published yet.
    pub async fn start(relays: usize) -> Result<Self> {
        let nats = NatsServer::start().await?;
        let centrifugo = Centrifugo::start_with(know_unruly).await?;
        let jetstream = nats.jetstream().await?;
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["unruly.>".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(config).await.context("creating the stream")?;
        let (mut homes, mut links) = (Vec::new(), Vec::new());
        for _ in 0..relays {
            let link = Link::start(&nats, &centrifugo).await?;
            homes.push(link.home(centrifugo.api_key(), relays > 1)?);
            links.push(link);
        }
        let mut arena = Self {
            nats,
            centrifugo,
            jetstream,
            witness: Witness::default(),
            homes: homes.into(),
            links: links.into(),
            relays: (0..relays).map(|_| None).collect(),
            bugs: Vec::new(),
            swaps: 0,
            kept: 0,
        };
        arena.witness.subscribe(&arena.centrifugo).await?;
        for relay in 0..relays {
            arena.start_relay(relay).await?;
        }
        Ok(arena)
    }

    pub fn relay(&mut self, relay: usize) -> Result<&mut Relay> {
        self.relays[relay].as_mut().context("the relay does not run")
    }

    pub async fn start_relay(&mut self, relay: usize) -> Result<()> {
        self.relays[relay] = Some(self.homes[relay].run().await?);
        Ok(())
    }

    pub fn kill_relay(&mut self, relay: usize) -> Result<()> {
        if let Some(mut killed) = self.relays[relay].take() {
            killed.kill();
            self.take_log(&killed)?;
        }
        Ok(())
    }

    /// The relay must end gracefully, whatever happens around it.
    pub async fn stop_relay(&mut self, relay: usize) -> Result<()> {
        if let Some(mut stopped) = self.relays[relay].take() {
            let status = stopped.stop(STOPPING).await?;
            let log = stopped.log();
            let last = &log[log.len().saturating_sub(20)..];
            ensure!(status.success(), "the relay ended with {status} on SIGTERM: {last:#?}");
            self.take_log(&stopped)?;
        }
        Ok(())
    }

    /// No relay may end by itself.
    pub fn check_relays(&mut self) -> Result<()> {
        for relay in self.relays.iter_mut().flatten() {
            if let Some(status) = relay.exited() {
                anyhow::bail!("a relay ended by itself ({status}): {:#?}", relay.log());
            }
        }
        Ok(())
    }

    /// Its memory is gone: what is shown from now on belongs to its next life.
    pub async fn centrifugo_ended(&mut self) -> Result<()> {
        self.witness.life_ends().await?;
        for link in self.links.iter() {
            link.centrifugo.label(self.witness.life);
        }
        Ok(())
    }

    pub async fn restart_centrifugo(&mut self) -> Result<()> {
        self.centrifugo.restart().await?;
        self.witness.subscribe(&self.centrifugo).await
    }

    pub async fn consumer(&self) -> Result<consumer::Info> {
        let stream = self.jetstream.get_stream(STREAM).await?;
        stream
            .consumer_info("slipring-unruly")
            .await
            .context("looking up the consumer")
    }

    /// Waits until the consumer has nothing left.
    pub async fn all_acked(&self, patience: Duration) -> Result<()> {
        let acked = eventually(patience, "all to be acknowledged", async || -> Result<()> {
            let info = self.consumer().await?;
            ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
            Ok(())
        });
        acked.await.with_context(|| self.tails())
    }

    /// Stops the relays and judges what was shown. Call this when nothing is published any more and everything is
    /// acked. Returns how many messages there were, and how many of them were unreadable.
    pub async fn judge(&mut self) -> Result<(u64, usize, Judgement)> {
        let nats = self.nats.client().await?;
        let Held {
            messages,
            unreadable,
            expected,
        } = messages::held(&nats, &self.jetstream, STREAM).await?;
        ensure!(messages > 0, "nothing was published");
        let wrong = self.wrong_dead_letters(&unreadable).await?;
        ensure!(
            wrong.is_empty(),
            "the dead letters are not as they should be: {wrong:#?}"
        );
        for relay in 0..self.relays.len() {
            self.stop_relay(relay).await?;
        }
        self.last_words().await?;
        ensure!(self.bugs.is_empty(), "the relay logged {:#?}", self.bugs);
        Ok((messages, unreadable.len(), self.witness.record.judge(&expected)))
    }

    /// Each unreadable message must have one dead letter, and no other message may have any. JetStream recognizes a
    /// repeated letter only for a while: if a relay was killed before it acked the message and came to it again later
    /// than that, it has stored the letter twice.
    async fn wrong_dead_letters(&self, unreadable: &BTreeSet<u64>) -> Result<Vec<String>> {
        let mut missing = unreadable.clone();
        let mut wrong = Vec::new();
        let mut last = BTreeMap::new();
        let stream = match self.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await {
            Ok(stream) => stream,
            // The first dead letter creates the stream.
            Err(error) if error.to_string().contains("stream not found") && unreadable.is_empty() => return Ok(wrong),
            Err(error) => return Err(error).context("looking up the dead letters"),
        };
        let info = stream.cached_info();
        for number in 1..=info.state.last_sequence {
            let letter = stream.get_raw_message(number).await?;
            let header = |name: &str| letter.headers.get(name).map_or("", |value| value.as_str());
            let sequence: u64 = header("Slipring-Sequence").parse().unwrap_or_default();
            let theirs = letter.subject.as_str() == "slipring.dead.unruly" && header("Slipring-Code") == "unreadable";
            let again = last
                .insert(sequence, letter.time)
                .is_some_and(|before| letter.time - before < info.config.duplicate_window);
            missing.remove(&sequence);
            if !theirs || again || !unreadable.contains(&sequence) {
                wrong.push(format!("{} at {}: {:?}", letter.subject, letter.time, letter.headers));
            }
        }
        wrong.extend(missing.iter().map(|sequence| format!("message {sequence} has none")));
        Ok(wrong)
    }

    /// Takes in what can still be seen after the relays have stopped.
    async fn last_words(&mut self) -> Result<()> {
        self.witness.listen()?;
        self.witness.read_histories(&self.centrifugo).await?;
        eventually(SOON, "the proxies' connections to end", async || {
            let open: usize = self.links.iter().map(|link| link.centrifugo.connections()).sum();
            ensure!(open == 0, "{open} are open");
            Ok(())
        })
        .await?;
        self.play_tapes()
    }

    /// Reads the tapes of the connections that have ended.
    pub fn play_tapes(&mut self) -> Result<()> {
        for link in self.links.iter() {
            let tapes = link.centrifugo.take_tapes();
            for tape in &tapes {
                keep(
                    &format!("tape-{}-life-{}-requests", self.kept, tape.label),
                    &tape.requests,
                )?;
                keep(
                    &format!("tape-{}-life-{}-answers", self.kept, tape.label),
                    &tape.answers,
                )?;
                self.kept += 1;
            }
            self.witness.play(&tapes)?;
        }
        Ok(())
    }

    /// Returns the last lines of the running relays.
    fn tails(&self) -> String {
        let tail = |relay: &Relay| {
            let log = relay.log();
            log[log.len().saturating_sub(30)..].join("\n  ")
        };
        let tails: Vec<String> = self.relays.iter().flatten().map(tail).collect();
        format!("the relays' last lines:\n  {}", tails.join("\n\n  "))
    }

    fn take_log(&mut self, relay: &Relay) -> Result<()> {
        let log = relay.log();
        self.swaps += log.iter().filter(|line| line.contains("swapped the module")).count();
        keep(&format!("relay-{}.log", self.kept), log.join("\n").as_bytes())?;
        self.kept += 1;
        let bugs = log.into_iter().filter(|line| BUGS.iter().any(|bug| line.contains(bug)));
        self.bugs.extend(bugs);
        Ok(())
    }
}

/// Writes a file into the directory that `CHAOS_LOGS` names, if it is set.
fn keep(name: &str, content: &[u8]) -> Result<()> {
    let Some(directory) = std::env::var_os("CHAOS_LOGS").filter(|directory| !directory.is_empty()) else {
        return Ok(());
    };
    let file = Path::new(&directory).join(name);
    std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))
}

impl Link {
    async fn start(nats: &NatsServer, centrifugo: &Centrifugo) -> Result<Self> {
        Ok(Self {
            nats: Proxy::start(&nats.url()).await?,
            centrifugo: Proxy::recording(&centrifugo.url()).await?,
        })
    }

    /// Passes everything on.
    pub fn heal(&self) {
        self.nats.heal();
        self.centrifugo.heal();
    }

    /// Creates the home of the relay at this end of the link.
    fn home(&self, api_key: &str, standby: bool) -> Result<Home> {
        let nats = format!("nats://{}", self.nats.address());
        let centrifugo = format!("http://{}", self.centrifugo.address());
        let mut home = Home::new(binary(), &nats, &centrifugo, api_key)?;
        home.configure_more(&format!("[shutdown]\ngrace = \"{TIMEOUT}\""))?;
        home.env("SLIPRING_CENTRIFUGO__TIMEOUT", TIMEOUT);
        if standby {
            home.configure_more("[standby]\nenabled = true\nttl = \"4s\"")?;
        }
        home.add_module("unruly", &guests::component("unruly")?, &unruly_toml(""))?;
        Ok(home)
    }
}
