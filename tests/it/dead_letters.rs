//! What becomes of a message that cannot be published: its dead letter, and the alternatives `drop` and `halt`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use slipring_support::eventually;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::absent::not_ready;
use super::world::{SOON, World, module};

const STREAM: &str = "SLIPRING_DEAD_LETTERS";

/// The most bytes that nats-server accepts in a message without headers.
const MAX_PAYLOAD: usize = 1 << 20;

/// A dead letter as a reader of the stream sees it.
#[derive(Debug)]
pub struct DeadLetter {
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl DeadLetter {
    /// Returns an empty string if there is no such header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }

    /// Returns the reason in four parts: stage, code, channel, reason.
    pub fn why(&self) -> [&str; 4] {
        ["Stage", "Code", "Channel", "Reason"].map(|word| self.header(&format!("Slipring-{word}")))
    }
}

/// Waits for this many dead letters, checks that there are no more, and checks what they have in common: each belongs
/// to the module, names the file in the modules directory, and has the facts of the message that it names. They are
/// returned in the order of the messages, which may differ from the order in which the relay stored them.
pub async fn dead_letters(world: &World, module: &str, count: usize) -> Result<Vec<DeadLetter>> {
    let stored = async || -> Result<_> {
        let stream = world.jetstream.get_stream(STREAM).await?;
        let messages = stream.cached_info().state.messages;
        ensure!(messages >= count as u64, "{messages} of them");
        Ok(stream)
    };
    let stream = eventually(SOON, format!("{count} dead letters"), stored).await?;
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let all = consumer.fetch().max_messages(10 * count).messages().await?;
    let all: Vec<_> = all.try_collect().await.map_err(anyhow::Error::from_boxed)?;
    ensure!(
        all.len() == count,
        "there are {} dead letters instead of {count}: {all:#?}",
        all.len()
    );
    let mut letters = Vec::with_capacity(count);
    for message in all {
        let message = message.message;
        ensure!(
            message.subject.as_str() == format!("slipring.dead.{module}"),
            "{}",
            message.subject
        );
        letters.push(DeadLetter {
            headers: message.headers.context("headers")?,
            payload: message.payload,
        });
    }
    let sha256 = sha256(&world.home.modules().join(format!("{module}.wasm")))?;
    for letter in &letters {
        let source = world.jetstream.get_stream(letter.header("Slipring-Stream")).await?;
        let original = source
            .get_raw_message(letter.header("Slipring-Sequence").parse()?)
            .await?;
        ensure!(
            letter.header("Slipring-Subject") == original.subject.as_str(),
            "{letter:?}"
        );
        ensure!(
            letter.header("Slipring-Timestamp") == original.time.unix_timestamp_nanos().to_string(),
            "{letter:?}"
        );
        ensure!(letter.header("Slipring-Module-Sha256") == sha256, "{letter:?}");
        let whole = letter.header("Slipring-Part").is_empty();
        ensure!(
            !whole || letter.payload == original.payload,
            "the payload is the message's own: {letter:?}"
        );
    }
    // The parts of one message have the same sequence, and keep their order.
    letters.sort_by_key(|letter| letter.header("Slipring-Sequence").parse::<u64>().unwrap_or(0));
    Ok(letters)
}

/// Checks that nothing was ever rejected to the dead letters.
pub async fn no_dead_letters(world: &World) -> Result<()> {
    ensure!(
        world.jetstream.get_stream(STREAM).await.is_err(),
        "there is a stream for dead letters"
    );
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let digest = Sha256::digest(std::fs::read(file)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The module `unruly` on its stream. It publishes to `orders:7`, so that the guest `orders` can continue there.
struct Unruly {
    world: World,
    relay: Relay,
}

impl Unruly {
    async fn start(toml: &str) -> Result<Self> {
        let world = World::start().await?;
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly(toml)?;
        let relay = world.run().await?;
        Ok(Self { world, relay })
    }

    /// Sends orders with their number, each with a wish for `unruly`. The guest `orders` accepts every one of them.
    async fn send(&self, wishes: &[(u64, &str)]) -> Result<()> {
        for (number, wish) in wishes {
            let lines = format!(r#"[{{"quantity":{number},"price_cents":1}}]"#);
            let order = format!(r#"{{"id":7,"revision":{number},"status":"paid","lines":{lines}}}"#);
            let headers = HeaderMap::from_iter([("Channel".parse()?, "orders:7".parse()?)]);
            let subject = format!("unruly.{wish}");
            self.world
                .jetstream
                .publish_with_headers(subject, headers, order.into())
                .await?
                .await?;
        }
        Ok(())
    }

    /// Installs a module that rejects none of them.
    fn mend(&self) -> Result<()> {
        self.world.home.replace_wasm("unruly", &guests::component("orders")?)
    }

    /// Returns which of them were published, in order.
    async fn published(&self) -> Result<Vec<u64>> {
        #[derive(Deserialize)]
        struct Order {
            /// In publications of `unruly`.
            revision: Option<u64>,
            /// In publications of `orders`.
            items: Option<u64>,
        }
        let number = |order: Order| order.revision.or(order.items).context("an order's number");
        let history = self.world.centrifugo.history("orders:7").await?;
        history
            .iter()
            .map(|publication| publication.json().and_then(number))
            .collect()
    }

    async fn publishes(&self, expected: &[u64]) -> Result<()> {
        let seen = async || -> Result<()> {
            let published = self.published().await?;
            ensure!(published == expected, "{published:?}");
            Ok(())
        };
        eventually(SOON, format!("{expected:?}"), seen).await
    }

    async fn status_when(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let status = self
            .relay
            .status_when(SOON, what, |status| holds(module(status, "unruly")))
            .await?;
        Ok(module(&status, "unruly").clone())
    }

    /// Waits until every message of the stream is acknowledged.
    async fn settles(&self) -> Result<()> {
        let all = async || -> Result<()> {
            let stream = self.world.jetstream.get_stream("UNRULY").await?;
            let last = stream.cached_info().state.last_sequence;
            let floor = stream.consumer_info("slipring-unruly").await?.ack_floor.stream_sequence;
            ensure!(floor == last, "the ack floor is {floor}, the last message {last}");
            Ok(())
        };
        eventually(SOON, "all to be acknowledged", all).await
    }

    async fn halts(&self, reason: &str) -> Result<()> {
        let status = self
            .status_when("the pipeline to halt", |unruly| unruly["state"] == "halted")
            .await?;
        let found = status["reason"].as_str().unwrap_or_default();
        ensure!(found.contains(reason), "{found}");
        not_ready(&self.relay, &format!("- unruly is halted: {found}")).await?;
        self.relay.has_logged(SOON, "the pipeline is halted").await?;
        let metrics = self.relay.metrics().await?;
        ensure!(metrics.contains("slipring_halted{module=\"unruly\"} 1"), "{metrics}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_values_of_a_header_reach_the_module_and_the_dead_letter() -> Result<()> {
    let unruly = Unruly::start("").await?;
    let mut headers = HeaderMap::new();
    headers.append("Trace", "1");
    headers.append("Trace", "2");
    for subject in ["unruly.headers", "unruly.reject"] {
        let publish = unruly
            .world
            .jetstream
            .publish_with_headers(subject, headers.clone(), "no".into());
        publish.await?.await?;
    }
    let letters = dead_letters(&unruly.world, "unruly", 1).await?;
    let traces: Vec<_> = letters[0]
        .headers
        .get_all("Trace")
        .map(|value| value.as_str())
        .collect();
    ensure!(traces == ["1", "2"], "{letters:?}");
    let history = unruly.world.centrifugo.history("unruly:ok").await?;
    ensure!(
        history.len() == 1 && history[0].text() == r#"[["Trace","1"],["Trace","2"]]"#,
        "{history:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_as_large_as_nats_allows_becomes_a_dead_letter_in_parts() -> Result<()> {
    let unruly = Unruly::start("").await?;
    let payload: Bytes = (0..MAX_PAYLOAD).map(|index| b'a' + (index % 26) as u8).collect();
    unruly.world.publish([("unruly.reject", payload.clone())]).await?;
    unruly.send(&[(2, "ok")]).await?;
    let letters = dead_letters(&unruly.world, "unruly", 2).await?;
    let parts: Vec<_> = letters.iter().map(|letter| letter.header("Slipring-Part")).collect();
    ensure!(parts == ["1/2", "2/2"], "{parts:?}");
    for letter in &letters {
        let [stage, code, _, reason] = letter.why();
        ensure!((stage, code) == ("transform", "rejected"), "{:?}", letter.why());
        ensure!(reason.starts_with("rejected as asked: abcdef"), "{reason}");
        ensure!(letter.header("Slipring-Sequence") == "1", "{:?}", letter.headers);
    }
    let joined = [letters[0].payload.as_ref(), letters[1].payload.as_ref()].concat();
    ensure!(joined == payload, "the parts together give the payload back");
    unruly.publishes(&[2]).await?;
    unruly.settles().await
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_means_counted_and_gone() -> Result<()> {
    let unruly = Unruly::start("on_reject = \"drop\"").await?;
    unruly
        .send(&[(1, "ok"), (2, "reject"), (3, "panic"), (4, "ok")])
        .await?;
    unruly.publishes(&[1, 4]).await?;
    unruly.settles().await?;
    let status = unruly
        .status_when("two rejections", |unruly| unruly["rejected"] == 2)
        .await?;
    ensure!(status["state"] == "running", "{status}");
    unruly.relay.has_logged(SOON, "rejected a message").await?;
    no_dead_letters(&unruly.world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn halt_means_that_nothing_overtakes_until_a_good_module_comes() -> Result<()> {
    let unruly = Unruly::start("on_reject = \"halt\"").await?;
    unruly.send(&[(1, "ok"), (2, "reject"), (3, "ok")]).await?;
    unruly
        .halts("the message with sequence 2 was rejected, and `on_reject` is `halt`: rejected as asked")
        .await?;
    let published = unruly.published().await?;
    ensure!(published == [1], "{published:?}");

    unruly.mend()?;
    unruly.publishes(&[1, 2, 3]).await?;
    unruly.settles().await?;
    unruly.relay.ready(SOON).await?;
    no_dead_letters(&unruly.world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_pipeline_resumes_when_its_toml_is_edited() -> Result<()> {
    let unruly = Unruly::start("on_reject = \"halt\"").await?;
    unruly.send(&[(1, "ok"), (2, "reject"), (3, "ok")]).await?;
    unruly.halts("sequence 2").await?;
    let toml = super::world::unruly_toml("on_reject = \"dead-letter\"");
    unruly.world.home.configure_module("unruly", &toml)?;
    unruly.publishes(&[1, 3]).await?;
    let letters = dead_letters(&unruly.world, "unruly", 1).await?;
    ensure!(letters[0].header("Slipring-Sequence") == "2", "{letters:?}");
    unruly.settles().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_rejections_halts_instead_of_filling_the_dead_letters() -> Result<()> {
    let unruly = Unruly::start("max_consecutive_rejects = 3").await?;
    // Two rejections in a row are not too many, however often.
    unruly.send(&[(1, "reject"), (2, "reject"), (3, "ok")]).await?;
    unruly.publishes(&[3]).await?;
    let rejects: Vec<_> = (4..=13).map(|number| (number, "reject")).collect();
    unruly.send(&rejects).await?;
    unruly
        .halts("more than 3 messages in a row (`max_consecutive_rejects`) were rejected, the last one (sequence 7) because: rejected")
        .await?;
    let letters = dead_letters(&unruly.world, "unruly", 5).await?;
    let rejected: Vec<_> = letters
        .iter()
        .map(|letter| letter.header("Slipring-Sequence"))
        .collect();
    ensure!(rejected == ["1", "2", "4", "5", "6"], "{rejected:?}");

    unruly.mend()?;
    unruly.send(&[(14, "ok")]).await?;
    unruly.publishes(&[3, 7, 8, 9, 10, 11, 12, 13, 14]).await?;
    unruly.settles().await?;
    unruly.relay.ready(SOON).await?;
    let stream = unruly.world.jetstream.get_stream(STREAM).await?;
    ensure!(stream.cached_info().state.messages == 5, "no dead letter is added");
    Ok(())
}
