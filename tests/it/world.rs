//! The beginning of most tests: the two servers, and a home for the relay.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer, stream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream as futures};
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{self, FakeCentrifugo};
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::{Api, eventually};

/// The limit for anything that should happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The most messages on their way into JetStream at once. JetStream drops what it cannot take in.
const PUBLISHING: usize = 2_000;

/// Makes two tests of each function: one gets `Api::Http`, and one `Api::Grpc`.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod over_http {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(slipring_support::Api::Http).await
                }
            )+
        }

        mod over_grpc {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(slipring_support::Api::Grpc).await
                }
            )+
        }
    };
}

pub(crate) use over_both;

/// `C` is the real Centrifugo, unless a test needs answers that it does not give on demand.
pub struct World<C = Centrifugo> {
    pub nats: NatsServer,
    pub centrifugo: C,
    pub home: Home,
    pub jetstream: jetstream::Context,
}

impl World {
    /// Starts the servers and prepares a relay. Centrifugo knows the namespaces of the examples and `unruly`.
    pub async fn start() -> Result<Self> {
        Self::start_over(Api::Http).await
    }

    /// The relay will use this API of Centrifugo.
    pub async fn start_over(api: Api) -> Result<Self> {
        let centrifugo = Centrifugo::start_with(know_unruly).await?;
        let (url, key) = (centrifugo.endpoint(api), centrifugo.api_key().to_owned());
        World::start_with(centrifugo, &url, &key).await
    }
}

impl World<FakeCentrifugo> {
    pub async fn start_fake(centrifugo: FakeCentrifugo) -> Result<Self> {
        Self::start_fake_on(NatsServer::start().await?, centrifugo).await
    }

    pub async fn start_fake_over(api: Api, centrifugo: FakeCentrifugo) -> Result<Self> {
        let url = centrifugo.endpoint(api);
        World::start_with(centrifugo, &url, fake_centrifugo::API_KEY).await
    }

    pub async fn start_fake_on(nats: NatsServer, centrifugo: FakeCentrifugo) -> Result<Self> {
        let url = centrifugo.url();
        World::start_on(nats, centrifugo, &url, fake_centrifugo::API_KEY).await
    }
}

impl<C> World<C> {
    /// The relay will expect `centrifugo` at `url`.
    pub async fn start_with(centrifugo: C, url: &str, api_key: &str) -> Result<Self> {
        Self::start_on(NatsServer::start().await?, centrifugo, url, api_key).await
    }

    /// Does the same with this nats-server.
    pub async fn start_on(nats: NatsServer, centrifugo: C, url: &str, api_key: &str) -> Result<Self> {
        let jetstream = nats.jetstream().await?;
        let home = Home::new(binary(), &nats.url(), url, api_key)?;
        Ok(Self {
            nats,
            centrifugo,
            home,
            jetstream,
        })
    }

    /// Creates a stream.
    pub async fn stream(&self, name: &str, subjects: &[&str]) -> Result<stream::Stream> {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let config = stream::Config {
            name: name.to_owned(),
            subjects,
            ..Default::default()
        };
        self.jetstream
            .create_stream(config)
            .await
            .with_context(|| format!("creating the stream {name}"))
    }

    /// Publishes to JetStream, in order, and waits until everything is stored.
    pub async fn publish<S: Into<String>, P: Into<Bytes>>(
        &self,
        messages: impl IntoIterator<Item = (S, P)>,
    ) -> Result<()> {
        publish(&self.jetstream, messages).await
    }

    /// Starts the relay and waits until it is ready.
    pub async fn run(&self) -> Result<Relay> {
        let relay = self.home.run().await?;
        relay.ready(SOON).await?;
        Ok(relay)
    }

    /// Returns the state of the module's consumer.
    pub async fn consumer(&self, stream: &str, module: &str) -> Result<consumer::Info> {
        let stream = self.jetstream.get_stream(stream).await?;
        stream
            .consumer_info(format!("slipring-{module}"))
            .await
            .context("looking up the consumer")
    }

    /// Waits until the module's consumer has delivered everything in the stream and the relay has acked it.
    pub async fn all_acked(&self, patience: Duration, stream: &str, module: &str) -> Result<()> {
        let stream_info = self.jetstream.get_stream(stream).await?;
        let last = stream_info.cached_info().state.last_sequence;
        let acked = async || -> Result<()> {
            let info = self.consumer(stream, module).await?;
            ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
            // While a consumer is being created, nothing is pending yet.
            let reads_all = info.config.filter_subject.is_empty() && info.config.filter_subjects.is_empty();
            let begun = info.delivered.stream_sequence > 0 || last == 0;
            ensure!(begun || !reads_all, "{info:?}");
            Ok(())
        };
        eventually(patience, "all to be acknowledged", acked).await
    }

    /// Adds a module with the guest `unruly`, which reads all of the stream `UNRULY`. `more` is added to its `.toml`.
    pub fn add_unruly(&self, more: &str) -> Result<()> {
        let wasm = slipring_support::guests::component("unruly")?;
        self.home.add_module("unruly", &wasm, &unruly_toml(more))
    }
}

pub fn unruly_toml(more: &str) -> String {
    format!("stream = \"UNRULY\"\ndeliver = \"all\"\n{more}\n")
}

/// Publishes in order, with many acks outstanding.
pub async fn publish<S: Into<String>, P: Into<Bytes>>(
    jetstream: &jetstream::Context,
    messages: impl IntoIterator<Item = (S, P)>,
) -> Result<()> {
    futures::iter(messages)
        // The messages are sent one after the other, but their acks are awaited together.
        .then(async |(subject, payload)| jetstream.publish(subject.into(), payload.into()).await)
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(PUBLISHING, async |ack| ack.await.map(drop).map_err(anyhow::Error::from))
        .await
        .context("storing messages in JetStream")
}

/// Returns the path of the relay: the one built for this test, or the one that `RELAY` names, such as an optimised build for
/// measurements.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        let named = std::env::var("RELAY").ok().filter(|path| !path.is_empty());
        named.unwrap_or_else(|| env!("CARGO_BIN_EXE_slipring").to_owned())
    });
    &BINARY
}

/// Checks that a module has published exactly this many publications, none of them twice.
pub async fn has_published(relay: &Relay, name: &str, publications: u64) -> Result<()> {
    let status = relay.status().await?;
    ensure!(
        module(&status, name)["published"] == publications,
        "there should be {publications} publications: {status}\n{}",
        relay.log().join("\n")
    );
    Ok(())
}

/// Returns the status of one module.
pub fn module<'a>(status: &'a Value, name: &str) -> &'a Value {
    let modules = status["modules"].as_array().map_or(&[][..], Vec::as_slice);
    modules
        .iter()
        .find(|module| module["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Adds the namespace `unruly` to Centrifugo's configuration.
pub fn know_unruly(config: &mut Value) {
    know("unruly", config);
}

/// Adds a namespace to Centrifugo's configuration.
pub fn know(name: &str, config: &mut Value) {
    let namespaces = config["channel"]["namespaces"]
        .as_array_mut()
        .expect("a list of namespaces");
    namespaces.push(json!({ "name": name, "history_size": 100_000, "history_ttl": "1h" }));
}
