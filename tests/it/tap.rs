//! The tap of a running relay: what it shows of messages that go through a module.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipring_support::relay::Relay;
use tokio::time::timeout;

use super::api::Api;
use super::world::{SOON, World};

const IMAGE: &str = "<img src=x onerror=alert(1)>";

/// An open tap.
struct Tap {
    response: reqwest::Response,
    received: Vec<u8>,
}

impl Tap {
    /// Opens a tap with the token that the relay has created.
    async fn open(world: &World, relay: &Relay, query: &str) -> Result<Self> {
        let address = relay.url().strip_prefix("http://").context("an address")?;
        let name = format!("{}.token", address.replace(':', "-"));
        let token = fs::read_to_string(world.home.path().join("slipring").join(name))?;
        let response = ask(relay, query, Some(token.trim())).await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        Ok(Self {
            response,
            received: Vec::new(),
        })
    }

    /// Returns the next message, or `None` if the relay has ended the stream.
    async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") else {
                match timeout(SOON, self.response.chunk()).await? {
                    Ok(Some(chunk)) => self.received.extend(&chunk),
                    _ => return Ok(None),
                }
                continue;
            };
            let event: Vec<u8> = self.received.drain(..end + 2).collect();
            let event = String::from_utf8(event)?;
            // A comment is no event.
            if !event.starts_with(':') {
                let data = event.strip_prefix("event: message\ndata: ");
                let data = data.with_context(|| format!("another event: {event:?}"))?;
                return Ok(Some(serde_json::from_str(data)?));
            }
        }
    }

    async fn message(&mut self) -> Result<Value> {
        self.next().await?.context("the stream has ended")
    }
}

async fn ask(relay: &Relay, query: &str, token: Option<&str>) -> Result<reqwest::Response> {
    let url = format!("{}/api/v1/tap{query}", relay.url());
    let mut request = slipring_support::http_client().get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Ok(request.send().await?)
}

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_with_what_the_module_made_of_it() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    let mut tap = Tap::open(&world, &relay, "?module=unruly&rate=50").await?;
    let quoted = json!(IMAGE).to_string();
    let messages: [(&str, &[u8]); 4] = [
        ("unruly.ok", quoted.as_bytes()),
        ("unruly.binary", b"\xff\x00"),
        ("unruly.reject", IMAGE.as_bytes()),
        ("unruly.drop", b""),
    ];
    let payloads = messages.map(|(subject, payload)| (subject, payload.to_vec()));
    world.publish(payloads).await?;
    let versions = Api::new(&world, &relay)?.get("modules/unruly/versions").await?;
    let version = &versions["versions"][0]["version"];
    let mut shown = Vec::new();
    for ((subject, payload), sequence) in messages.into_iter().zip(1_u64..) {
        let message = tap.message().await?;
        ensure!(
            message["module"] == "unruly" && message["subject"] == subject,
            "{message}"
        );
        ensure!(
            message["stream"] == "UNRULY" && message["sequence"] == sequence,
            "{message}"
        );
        ensure!(
            message["version"] == *version && version.is_string(),
            "{message} {versions}"
        );
        ensure!(message["micros"].is_u64() && message["skipped"] == 0, "{message}");
        ensure!(
            message["size"] == payload.len() && message["truncated"] == false,
            "{message}"
        );
        match str::from_utf8(payload) {
            Ok(text) => ensure!(
                message["payload"] == text && message["payload_base64"].is_null(),
                "{message}"
            ),
            Err(_) => ensure!(
                message["payload_base64"] == "/wA=" && message["payload"].is_null(),
                "{message}"
            ),
        }
        shown.push(message);
    }
    let published = json!([{ "channels": ["unruly:ok"], "data": IMAGE }]);
    ensure!(
        shown[0]["outcome"] == "publish" && shown[0]["publications"] == published,
        "{}",
        shown[0]
    );
    let binary = json!([{ "channels": ["unruly:ok"], "binary_base64": "/wA=" }]);
    ensure!(shown[1]["publications"] == binary, "{}", shown[1]);
    let reason = format!("rejected as asked: {IMAGE}");
    ensure!(
        shown[2]["outcome"] == "reject" && shown[2]["reason"] == reason,
        "{}",
        shown[2]
    );
    ensure!(shown[3]["outcome"] == "drop", "{}", shown[3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_channel_only_its_messages_are_shown() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    let mut tap = Tap::open(&world, &relay, "?channel=unruly%3Ab").await?;
    let channels = [
        json!(["unruly:a"]),
        json!(["unruly:a", "unruly:b"]),
        json!(["unruly:bc"]),
    ];
    for round in 0..2_u64 {
        let messages = channels
            .each_ref()
            .map(|channels| ("unruly.channels", channels.to_string()));
        world.publish(messages).await?;
        let message = tap.message().await?;
        ensure!(
            message["sequence"] == round * 3 + 2 && message["skipped"] == 0,
            "{message}"
        );
        let publications = json!([{ "channels": ["unruly:a"], "data": 0 }, { "channels": ["unruly:b"], "data": 1 }]);
        ensure!(message["publications"] == publications, "{message}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_rate_is_counted() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    let mut tap = Tap::open(&world, &relay, "?rate=1").await?;
    let start = Instant::now();
    world.publish((0..200).map(|_| ("unruly.ok", "1"))).await?;
    let (mut shown, mut counted) = (0, 0);
    while counted < 200 {
        ensure!(start.elapsed() < SOON, "{shown} shown, {counted} counted");
        if let Ok(message) = timeout(Duration::from_millis(100), tap.message()).await {
            let message = message?;
            shown += 1;
            counted += 1 + message["skipped"].as_u64().context("a number")?;
            // Up to this one, each message was shown or is counted.
            ensure!(message["sequence"] == counted, "{counted}: {message}");
        } else {
            world.publish([("unruly.ok", "1")]).await?;
        }
    }
    ensure!(
        shown >= 2 && shown <= start.elapsed().as_secs() + 1,
        "{shown} in {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_all_rights() -> Result<()> {
    let mut world = world().await?;
    world.home.env("SLIPRING_ADMIN__TOKEN", "the-token-for-everything");
    world.home.env("SLIPRING_ADMIN__READ_TOKEN", "the-token-to-read");
    let relay = world.home.run().await?;
    for (token, code) in [
        (None, 401),
        (Some("another-token-of-anyone"), 401),
        (Some("the-token-to-read"), 403),
        (Some("the-token-for-everything"), 200),
    ] {
        let status = ask(&relay, "", token).await?.status();
        ensure!(status == code, "{token:?}: {status}");
    }
    Ok(())
}

/// A client that reads nothing delays neither the messages nor the end of the relay.
#[tokio::test(flavor = "multi_thread")]
async fn a_tap_that_nobody_reads_is_in_nobody_s_way() -> Result<()> {
    let world = world().await?;
    let mut relay = world.run().await?;
    let mut tap = Tap::open(&world, &relay, "?rate=50").await?;
    let large = format!("\"{}\"", "x".repeat(100_000));
    world.publish((0..500).map(|_| ("unruly.ok", large.clone()))).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.stop(SOON).await?;
    // What has arrived can be read, and then the stream ends.
    let end = Instant::now() + SOON;
    while tap.next().await?.is_some() {
        if Instant::now() > end {
            bail!("the stream goes on without its relay");
        }
    }
    Ok(())
}
