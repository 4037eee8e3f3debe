//! Dead letters over the admin API: what there is and why, what the running module makes of a letter, and the way back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::stream;
use futures_util::{StreamExt, TryStreamExt, stream as futures};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{FakeCentrifugo, OnCommand, Plan};
use slipring_support::relay::Relay;
use slipring_support::servers::Redis;
use slipring_support::subscriber::Subscriber;
use slipring_support::{eventually, guests};

use super::api::Api;
use super::world::{SOON, World, module, unruly_toml};

const STREAM: &str = "SLIPRING_DEAD_LETTERS";

const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    JetStream,
    Redis,
}

/// A relay with the guest `unruly`. Its dead letters are in one of the two stores.
struct Test {
    world: World,
    relay: Relay,
    api: Api,
    redis: Option<Redis>,
}

impl Test {
    /// `settings` are added to the module's `.toml`.
    async fn start(store: Store, settings: &str) -> Result<Self> {
        let world = World::start().await?;
        let redis = match store {
            Store::JetStream => None,
            Store::Redis => Some(Redis::start().await?),
        };
        if let Some(redis) = &redis {
            let more = format!(
                "[redis]\nurl = \"{}\"\n\n[dead_letters]\nstore = \"redis\"",
                redis.url()
            );
            world.home.configure_more(&more)?;
        }
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly(&toml(settings))?;
        let relay = world.run().await?;
        let api = Api::new(&world, &relay)?;
        Ok(Self {
            world,
            relay,
            api,
            redis,
        })
    }

    /// Sends messages that become dead letters, each once the one before is stored, so that their letters have the
    /// numbers 1, 2, …
    async fn reject(&self, messages: &[(&'static str, &'static [u8])]) -> Result<()> {
        for message in messages {
            let before = self.total().await?;
            self.world.publish([*message]).await?;
            self.has(before + 1).await?;
        }
        Ok(())
    }

    async fn total(&self) -> Result<u64> {
        let letters = self.api.get("dead-letters").await?;
        letters["total"].as_u64().context("a total")
    }

    async fn has(&self, letters: u64) -> Result<()> {
        eventually(SOON, format!("{letters} dead letters"), async || {
            let total = self.total().await?;
            ensure!(total == letters, "{total} of them");
            Ok(())
        })
        .await
    }

    /// Returns the numbers of the letters on a page, and where the next page begins.
    async fn page(&self, query: &str) -> Result<(Vec<u64>, Option<u64>)> {
        let page = self.api.get(&format!("dead-letters?{query}")).await?;
        let letters = page["letters"].as_array().context("a list")?;
        let number = |letter: &Value| letter["number"].as_u64().context("a number");
        Ok((
            letters.iter().map(number).collect::<Result<_>>()?,
            page["next"].as_u64(),
        ))
    }

    /// Makes the module do this with every message from now on.
    async fn wish(&self, wish: &str) -> Result<()> {
        let status = self.relay.status().await?;
        let swaps = module(&status, "unruly")["swaps"].as_u64().unwrap_or(0);
        let settings = toml(&format!("settings.wish = \"{wish}\""));
        self.world.home.configure_module("unruly", &unruly_toml(&settings))?;
        self.relay
            .status_when(SOON, "a swap", |status| module(status, "unruly")["swaps"] == swaps + 1)
            .await?;
        Ok(())
    }

    /// Removes the module, and waits until the relay has none.
    async fn is_gone(&self) -> Result<()> {
        self.world.home.remove_module("unruly")?;
        self.relay
            .status_when(SOON, "no module", |status| status["modules"] == json!([]))
            .await?;
        Ok(())
    }

    /// Replays or removes letters. Returns all that the stream of events says.
    async fn change(&self, verb: &str, selection: &Value) -> Result<Events> {
        let (status, text) = self.api.post(&format!("dead-letters/{verb}"), Some(selection)).await?;
        ensure!(status == StatusCode::OK, "{verb} {selection}: {status} {text}");
        Events::parse(&text)
    }
}

/// A new version takes over at once, and is not watched.
fn toml(more: &str) -> String {
    format!("watch = \"0s\"\nmax_consecutive_rejects = 1000000\n{more}")
}

#[derive(Debug)]
struct Events {
    progress: Vec<Value>,
    end: Value,
}

impl Events {
    fn parse(text: &str) -> Result<Self> {
        let (mut progress, mut end) = (Vec::new(), None);
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let (Some(name), Some(data)) = (field("event:"), field("data:")) else {
                // A comment keeps the connection alive.
                ensure!(event.starts_with(':'), "{event}");
                continue;
            };
            let data: Value = serde_json::from_str(data)?;
            ensure!(end.is_none(), "nothing comes after the end: {text}");
            match name {
                "progress" => progress.push(data),
                "end" => end = Some(data),
                _ => bail!("{text}"),
            }
        }
        let end = end.with_context(|| format!("an end: {text}"))?;
        Ok(Self { progress, end })
    }

    /// Checks that it came to the end of so many letters, of which so many failed.
    fn ended(&self, of: u64, failed: u64) -> Result<()> {
        let last = self.progress.last().context("progress")?;
        ensure!(
            self.end["ok"] == true && last["done"] == of && last["of"] == of && last["failed"] == failed,
            "{self:?}"
        );
        let named = self.end["failures"].as_array().map_or(0, Vec::len) as u64;
        ensure!(named == failed.min(100), "{self:?}");
        Ok(())
    }
}

/// Makes two tests of each function, one for each store.
macro_rules! in_each_store {
    ($($test:ident),+ $(,)?) => {
        mod in_jetstream {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Store::JetStream).await
                }
            )+
        }

        mod in_redis {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Store::Redis).await
                }
            )+
        }
    };
}

in_each_store! {
    letters_are_grouped_filtered_and_paged,
    a_letter_is_shown_with_what_the_running_version_makes_of_it,
    a_letter_and_a_group_are_replayed_in_order_and_arrive,
    what_is_rejected_again_stays,
    what_is_named_is_removed,
    a_letter_in_parts_is_one,
}

async fn letters_are_grouped_filtered_and_paged(store: Store) -> Result<()> {
    let test = Test::start(store, "").await?;
    let nothing = test.api.get("dead-letters").await?;
    ensure!(
        nothing == json!({ "total": 0, "groups": [], "ungrouped": 0, "letters": [], "next": null }),
        "{nothing}"
    );
    test.reject(&[
        ("unruly.reject", b"no customer"),
        ("unruly.panic", b"out of order"),
        ("unruly.reject", b"no customer"),
        ("unruly.publish", br#"[{"channels":["nowhere:7"],"data":1}]"#),
        ("unruly.reject", HOSTILE.as_bytes()),
        ("unruly.reject", b"no customer"),
    ])
    .await?;

    let all = test.api.get("dead-letters").await?;
    ensure!(all["total"] == 6 && all["ungrouped"] == 0, "{all}");
    let groups = all["groups"].as_array().context("groups")?;
    ensure!(groups.len() == 4, "{all}");
    let reason = "rejected as asked: no customer";
    let largest = &groups[0];
    ensure!(
        largest["count"] == 3 && largest["module"] == "unruly" && largest["stage"] == "transform",
        "{largest}"
    );
    ensure!(
        largest["code"] == "rejected" && largest["reason"] == reason,
        "{largest}"
    );
    let letters = all["letters"].as_array().context("letters")?;
    ensure!(
        largest["first"] == letters[5]["stored"] && largest["last"] == letters[0]["stored"],
        "{all}"
    );
    ensure!(
        letters[1]["reason"] == format!("rejected as asked: {HOSTILE}"),
        "{}",
        letters[1]
    );
    let refused = &letters[2];
    ensure!(
        refused["stage"] == "publish" && refused["code"] == "102" && refused["channel"] == "nowhere:7",
        "{refused}"
    );
    ensure!(
        refused["subject"] == "unruly.publish" && refused["stream"] == "UNRULY" && refused["sequence"] == 4,
        "{refused}"
    );
    ensure!(
        refused["size"] == 37 && refused["sha256"].as_str().map(str::len) == Some(64),
        "{refused}"
    );

    for (query, numbers, next) in [
        ("", &[6, 5, 4, 3, 2, 1][..], None),
        ("limit=2", &[6, 5], Some(5)),
        ("limit=2&after=5", &[4, 3], Some(3)),
        ("limit=2&after=3", &[2, 1], None),
        ("module=unruly&stage=transform&code=trap", &[2], None),
        ("module=orders", &[], None),
        ("module=*", &[], None),
        ("stage=publish", &[4], None),
        ("code=rejected&after=5&limit=1", &[3], Some(3)),
        ("reason=rejected+as+asked:+no+customer", &[6, 3, 1], None),
        // The whole reason.
        ("reason=no+customer", &[], None),
    ] {
        let page = test.page(query).await?;
        ensure!(page == (numbers.to_vec(), next), "{query}: {page:?}");
    }
    let filtered = test.api.get("dead-letters?code=rejected&limit=1").await?;
    ensure!(
        filtered["total"] == 4 && filtered["groups"].as_array().map(Vec::len) == Some(2),
        "{filtered}"
    );
    for query in ["limit=201", "after=x", "name=unruly"] {
        let (status, text) = test
            .api
            .ask(Method::GET, &format!("dead-letters?{query}"), None)
            .await?;
        ensure!(status == StatusCode::BAD_REQUEST, "{query}: {status} {text}");
    }
    Ok(())
}

async fn a_letter_is_shown_with_what_the_running_version_makes_of_it(store: Store) -> Result<()> {
    let test = Test::start(store, "").await?;
    let headers = HeaderMap::from_iter([("Trace".parse()?, HOSTILE.parse()?)]);
    let publish = test
        .world
        .jetstream
        .publish_with_headers("unruly.reject", headers, "{\"id\": 7}".into());
    publish.await?.await?;
    test.has(1).await?;
    test.reject(&[("unruly.panic", b"\x00\xff")]).await?;

    let letter = test.api.get("dead-letters/1").await?;
    ensure!(letter["headers"] == json!([["Trace", HOSTILE]]), "{letter}");
    ensure!(
        letter["payload"] == "{\"id\": 7}" && letter["payload_base64"].is_null(),
        "{letter}"
    );
    ensure!(
        letter["number"] == 1 && letter["truncated"] == false && letter["problem"].is_null(),
        "{letter}"
    );
    let now = &letter["now"];
    ensure!(now["outcome"] == "reject" && now["code"] == "rejected", "{letter}");
    let binary = test.api.get("dead-letters/2").await?;
    ensure!(
        binary["payload"].is_null() && binary["payload_base64"] == "AP8=",
        "{binary}"
    );
    let reason = binary["now"]["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("the payload is not UTF-8 text"), "{binary}");

    test.wish("ok").await?;
    let letter = test.api.get("dead-letters/1").await?;
    let now = &letter["now"];
    ensure!(
        now["outcome"] == "publish" && now["publications"][0]["channels"] == json!(["unruly:ok"]),
        "{letter}"
    );
    ensure!(now["publications"][0]["data"] == json!({ "id": 7 }), "{letter}");
    ensure!(
        test.world.centrifugo.history("unruly:ok").await?.is_empty(),
        "nothing was published"
    );
    test.has(2).await?;

    for wrong in ["0", "9", "x", "-1", "18446744073709551615"] {
        let (status, text) = test
            .api
            .ask(Method::GET, &format!("dead-letters/{wrong}"), None)
            .await?;
        ensure!(status == StatusCode::NOT_FOUND, "{wrong}: {status} {text}");
    }
    test.is_gone().await?;
    let letter = test.api.get("dead-letters/1").await?;
    let problem = letter["problem"].as_str().unwrap_or_default();
    ensure!(letter["now"].is_null() && problem.contains("`unruly`"), "{letter}");
    Ok(())
}

async fn a_letter_and_a_group_are_replayed_in_order_and_arrive(store: Store) -> Result<()> {
    let test = Test::start(store, "settings.refuse_from = 2").await?;
    test.reject(&[
        ("unruly.reject", b"1"),
        ("unruly.ok", b"2"),
        ("unruly.ok", b"3"),
        ("unruly.ok", b"4"),
    ])
    .await?;
    let mut subscriber = Subscriber::connect(&test.world.centrifugo.websocket_url(), ["unruly:ok"]).await?;
    test.wish("ok").await?;

    let events = test.change("replay", &json!({ "numbers": [1] })).await?;
    events.ended(1, 0)?;
    let text = "1 published, 0 dropped by the module, 0 rejected again, 0 not tried";
    ensure!(events.end["text"] == text, "{events:?}");
    ensure!(subscriber.next(SOON).await?.publication.text() == "1");
    ensure!(test.page("").await? == (vec![4, 3, 2], None));

    let group =
        json!({ "module": "unruly", "stage": "transform", "code": "rejected", "reason": "this version is bad" });
    let events = test.change("replay", &group).await?;
    events.ended(3, 0)?;
    for number in ["2", "3", "4"] {
        ensure!(subscriber.next(SOON).await?.publication.text() == number);
    }
    test.has(0).await?;
    let events = test.change("replay", &json!({ "all": true })).await?;
    events.ended(0, 0)?;
    let text = format!("no dead letter in {STREAM} matches");
    ensure!(events.end["text"] == text, "{events:?}");

    let lines = test.relay.log();
    let audited = |letters: &str| {
        let parts = [
            "a client sent a command",
            "command=\"replay dead letters\"",
            letters,
            "result=\"done\"",
        ];
        lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    ensure!(
        audited("letters=\"1\"") && audited("one reason") && audited("letters=\"all\""),
        "{lines:#?}"
    );
    ensure!(
        !lines
            .iter()
            .any(|line| line.contains("audit") && line.contains("this version is bad"))
    );
    Ok(())
}

async fn what_is_rejected_again_stays(store: Store) -> Result<()> {
    let test = Test::start(store, "").await?;
    test.reject(&[
        ("unruly.reject", HOSTILE.as_bytes()),
        ("unruly.reject", b"2"),
        ("unruly.panic", b"3"),
    ])
    .await?;
    test.wish("reject").await?;
    let events = test.change("replay", &json!({ "all": true })).await?;
    events.ended(3, 3)?;
    let text = "0 published, 0 dropped by the module, 3 rejected again, 0 not tried";
    ensure!(events.end["text"] == text, "{events:?}");
    let first = json!({ "number": 1, "reason": format!("rejected as asked: {HOSTILE}") });
    ensure!(events.end["failures"][0] == first, "{events:?}");

    test.wish("drop").await?;
    for (selection, status, words) in [
        (
            json!({ "numbers": [1, 9] }),
            404,
            "nothing was replayed: there is no dead letter 9 in",
        ),
        (json!({}), 400, "No dead letters are selected"),
        (json!({ "all": true, "code": "trap" }), 400, "only one of these"),
        (json!({ "modules": "unruly" }), 400, "unknown field `modules`"),
    ] {
        let (found, text) = test.api.post("dead-letters/replay", Some(&selection)).await?;
        ensure!(found == status && text.contains(words), "{selection}: {found} {text}");
    }
    test.has(3).await?;
    let events = test.change("replay", &json!({ "code": "rejected" })).await?;
    events.ended(2, 0)?;
    ensure!(test.page("").await? == (vec![3], None), "{events:?}");

    test.is_gone().await?;
    let (status, text) = test
        .api
        .post("dead-letters/replay", Some(&json!({ "all": true })))
        .await?;
    let words = "nothing was replayed: the module `unruly` (1 dead letter) does not run: ";
    ensure!(
        status == StatusCode::CONFLICT && text.contains(words),
        "{status} {text}"
    );
    test.has(1).await
}

async fn what_is_named_is_removed(store: Store) -> Result<()> {
    let test = Test::start(store, "").await?;
    let (status, text) = test
        .api
        .post("dead-letters/remove", Some(&json!({ "numbers": [1] })))
        .await?;
    ensure!(
        status == StatusCode::NOT_FOUND && text.contains("there are no dead letters"),
        "{status} {text}"
    );
    let events = test.change("remove", &json!({ "all": true })).await?;
    events.ended(0, 0)?;
    ensure!(
        events.end["text"]
            .as_str()
            .is_some_and(|text| text.contains("does not exist")),
        "{events:?}"
    );

    test.reject(&[
        ("unruly.reject", b"1"),
        ("unruly.reject", b"2"),
        ("unruly.panic", b"3"),
        ("unruly.panic", b"4"),
    ])
    .await?;
    let events = test.change("remove", &json!({ "numbers": [9, 1] })).await?;
    ensure!(
        events.end["text"] == format!("removed 1 dead letter from {STREAM}; one number was not found"),
        "{events:?}"
    );
    ensure!(
        events.end["failures"][0]["number"] == 9 && events.end["ok"] == true,
        "{events:?}"
    );
    ensure!(test.page("").await? == (vec![4, 3, 2], None));
    let events = test
        .change("remove", &json!({ "module": "unruly", "code": "trap" }))
        .await?;
    events.ended(2, 0)?;
    ensure!(test.page("").await? == (vec![2], None));
    test.change("remove", &json!({ "all": true })).await?.ended(1, 0)?;
    test.has(0).await?;
    ensure!(test.world.centrifugo.history("unruly:ok").await?.is_empty());
    Ok(())
}

/// In Redis it needs no parts.
async fn a_letter_in_parts_is_one(store: Store) -> Result<()> {
    let test = Test::start(store, "").await?;
    let payload = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    test.world.publish([("unruly.reject", payload.clone())]).await?;
    test.has(1).await?;
    test.reject(&[("unruly.reject", b"2")]).await?;
    let letters = test.api.get("dead-letters").await?;
    ensure!(letters["letters"][1]["size"] == payload.len(), "{letters}");
    let letter = test.api.get("dead-letters/1").await?;
    ensure!(
        letter["payload"] == payload && letter["truncated"] == false,
        "{}",
        letter["size"]
    );
    if store == Store::JetStream {
        ensure!(
            test.api.get("dead-letters/2").await?["number"] == 1,
            "the number of its second part"
        );
    }
    test.wish("ok").await?;
    test.change("replay", &json!({ "numbers": [1] })).await?.ended(1, 0)?;
    let history = test.world.centrifugo.history("unruly:ok").await?;
    ensure!(history.len() == 1 && history[0].text() == payload);
    test.has(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_full_token_and_the_header_open_them() -> Result<()> {
    let mut world = World::start().await?;
    world.home.env("SLIPRING_ADMIN__TOKEN", "the-token-for-everything");
    world.home.env("SLIPRING_ADMIN__READ_TOKEN", "the-token-to-read");
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.home.run().await?;
    relay
        .logs(SOON, "reading starts at the first unsettled message")
        .await?;
    let client = Client::builder().no_proxy().build()?;
    let ask = async |method: Method, path: &str, token: &str, command: bool| -> Result<u16> {
        let mut request = client.request(method, format!("{}/api/v1/{path}", relay.url()));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if command {
            request = request.header("slipring-command", "1");
        }
        Ok(request.body("{\"all\":true}").send().await?.status().as_u16())
    };
    for (method, path, full) in [
        (Method::GET, "dead-letters", 200),
        (Method::GET, "dead-letters/1", 404),
        (Method::POST, "dead-letters/replay", 200),
        (Method::POST, "dead-letters/remove", 200),
    ] {
        for (token, command, expected) in [
            ("", true, 401),
            ("another-token-for-everything", true, 401),
            ("the-token-to-read", true, 403),
            (
                "the-token-for-everything",
                false,
                if method == Method::GET { full } else { 403 },
            ),
            ("the-token-for-everything", true, full),
        ] {
            let code = ask(method.clone(), path, token, command).await?;
            ensure!(code == expected, "{method} {path} {token:?} {command}: {code}");
        }
    }
    Ok(())
}

const LETTERS: u64 = 300;

/// A client leaves in the middle of a replay. The next one does the rest, and everything is shown once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn one_replay_runs_at_a_time_and_stops_when_its_client_leaves() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| Plan::each(batch, OnCommand::Fail(102))).await?;
    let world = World::start_fake(fake).await?;
    world.home.configure_more("[publish]\nmax_batch = 1")?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(&toml(""))?;
    let relay = world.run().await?;
    let api = Api::new(&world, &relay)?;
    world
        .publish((1..=LETTERS).map(|number| ("unruly.ok", number.to_string())))
        .await?;
    let left = async || -> Result<u64> { api.get("dead-letters").await?["total"].as_u64().context("a total") };
    eventually(SOON, "dead letters", async || {
        ensure!(left().await? == LETTERS);
        Ok(())
    })
    .await?;
    world
        .centrifugo
        .behave(|_| Plan::execute().after(Duration::from_millis(10)));

    let mut replay = api.open("dead-letters/replay", &json!({ "all": true })).await?;
    eventually(SOON, "a replay in the middle", async || {
        let left = left().await?;
        ensure!(left < LETTERS, "{left} left");
        Ok(())
    })
    .await?;
    let progress = replay.chunk().await?.context("progress")?;
    ensure!(
        progress.starts_with(b"event: progress\ndata: {\"done\":"),
        "{progress:?}"
    );
    for verb in ["replay", "remove"] {
        let (status, text) = api
            .post(&format!("dead-letters/{verb}"), Some(&json!({ "all": true })))
            .await?;
        ensure!(
            status == StatusCode::CONFLICT && text.contains("Another replay or removal"),
            "{status} {text}"
        );
    }
    drop(replay);
    relay.has_logged(SOON, "stopped before the end: ").await?;
    let stopped = left().await?;
    ensure!(stopped > 0, "it was in the middle");
    ensure!(
        world.centrifugo.shown("unruly:ok").len() as u64 == LETTERS - stopped,
        "{stopped} left"
    );

    world.centrifugo.behave(|_| Plan::execute());
    let (status, text) = api.post("dead-letters/replay", Some(&json!({ "all": true }))).await?;
    ensure!(status == StatusCode::OK, "{status} {text}");
    Events::parse(&text)?.ended(stopped, 0)?;
    ensure!(left().await? == 0);
    let shown = world.centrifugo.shown("unruly:ok");
    let number = |data: &str| data.parse::<u64>().ok();
    let shown = shown.iter().filter_map(|one| number(one.command.data.as_ref()?.get()));
    ensure!(shown.eq(1..=LETTERS), "each once, in order");
    Ok(())
}

/// A replay waits for Centrifugo, as the command does, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_that_it_waits_for_centrifugo() -> Result<()> {
    let mut test = Test::start(Store::JetStream, "").await?;
    test.reject(&[("unruly.reject", b"1")]).await?;
    test.wish("ok").await?;
    test.world.centrifugo.stop().await?;
    let mut replay = test.api.open("dead-letters/replay", &json!({ "all": true })).await?;
    let mut text = String::new();
    while !text.contains("\"paused\":\"") {
        let chunk = tokio::time::timeout(SOON, replay.chunk()).await??.context("more")?;
        text.push_str(std::str::from_utf8(&chunk)?);
    }
    test.world.centrifugo.restart().await?;
    while let Some(chunk) = tokio::time::timeout(SOON, replay.chunk()).await?? {
        text.push_str(std::str::from_utf8(&chunk)?);
    }
    let events = Events::parse(&text)?;
    events.ended(1, 0)?;
    ensure!(
        events.progress.last().is_some_and(|last| last["paused"].is_null()),
        "{events:?}"
    );
    test.has(0).await
}

/// Stores letters as a relay does, each with a payload of 1 KB and with one of a few reasons.
async fn store_letters(world: &World, count: u64) -> Result<()> {
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["slipring.dead.>".to_owned()],
        ..Default::default()
    };
    world.jetstream.create_stream(config).await?;
    let payload = "x".repeat(1_000);
    futures::iter(0..count)
        .then(async |number| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("Slipring-Reason", format!("no order {}", number % 7)),
                ("Slipring-Stage", "transform".to_owned()),
                ("Slipring-Code", "rejected".to_owned()),
                ("Slipring-Subject", format!("unruly.{number}")),
                ("Slipring-Stream", "UNRULY".to_owned()),
                ("Slipring-Sequence", number.to_string()),
                ("Slipring-Timestamp", "1793520000000000000".to_owned()),
                ("Slipring-Module-Sha256", "ab".repeat(32)),
            ] {
                headers.insert(name, value);
            }
            let subject = format!("slipring.dead.module-{}", number % 100);
            world
                .jetstream
                .publish_with_headers(subject, headers, payload.clone().into())
                .await
        })
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(1_000, async |ack| ack.await.map(drop).map_err(anyhow::Error::from))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_letters_take_little_time_memory_and_no_connections() -> Result<()> {
    let test = Test::start(Store::JetStream, "").await?;
    store_letters(&test.world, 10_000).await?;
    let connections = || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{}/fd", test.relay.id()))?.count()) };
    test.total().await?;
    let (before, fds) = (test.relay.usage()?.memory, connections()?);
    test.relay.forget_peak_memory()?;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let all = test.api.get("dead-letters").await?;
        fastest = fastest.min(start.elapsed());
        ensure!(
            all["total"] == 10_000 && all["letters"].as_array().map(Vec::len) == Some(50),
            "{all}"
        );
        ensure!(all["groups"].as_array().map(Vec::len) == Some(100), "{all}");
        let grouped = all["groups"].as_array().into_iter().flatten();
        let grouped: u64 = grouped.filter_map(|group| group["count"].as_u64()).sum();
        ensure!(all["ungrouped"] == 10_000 - grouped, "{all}");
    }
    let grown = test.relay.usage()?.peak_memory.saturating_sub(before);
    eprintln!("fastest {fastest:?}, {} KiB more memory", grown >> 10);
    // Of a relay that is not optimised.
    ensure!(fastest < Duration::from_secs(3), "{fastest:?}");
    ensure!(grown < 30 << 20, "{} MiB more", grown >> 20);
    eventually(SOON, "the connections to end", async || {
        let now = connections()?;
        ensure!(now <= fds + 2, "{now} descriptors, {fds} before");
        Ok(())
    })
    .await?;
    let consumers = test
        .world
        .jetstream
        .get_stream(STREAM)
        .await?
        .cached_info()
        .state
        .consumer_count;
    ensure!(consumers == 0, "{consumers} consumers");
    ensure!(!test.relay.logged("lost the connection"), "{:#?}", test.relay.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_named_soon() -> Result<()> {
    for store in [Store::JetStream, Store::Redis] {
        let mut test = Test::start(store, "").await?;
        test.reject(&[("unruly.reject", b"1")]).await?;
        let words = match &mut test.redis {
            None => {
                test.world.nats.kill();
                "NATS"
            }
            Some(redis) => {
                redis.kill();
                "Redis"
            }
        };
        for (method, path) in [
            (Method::GET, "dead-letters"),
            (Method::GET, "dead-letters/1"),
            (Method::POST, "dead-letters/replay"),
            (Method::POST, "dead-letters/remove"),
        ] {
            let start = Instant::now();
            let (status, text) = test.api.ask(method, path, Some(&json!({ "all": true }))).await?;
            ensure!(
                status == StatusCode::SERVICE_UNAVAILABLE && text.contains(words),
                "{store:?} {path}: {status} {text}"
            );
            ensure!(
                start.elapsed() < Duration::from_secs(10),
                "{store:?} {path}: {:?}",
                start.elapsed()
            );
        }
    }
    Ok(())
}

/// The relay that a replay belongs to ends. What is in flight is finished, and the rest stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_stops_its_replay() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| Plan::each(batch, OnCommand::Fail(102))).await?;
    let world = World::start_fake(fake).await?;
    world.home.configure_more("[publish]\nmax_batch = 1")?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world
        .home
        .add_module("unruly", &guests::component("unruly")?, &unruly_toml(&toml("")))?;
    let mut relay = world.run().await?;
    let api = Api::new(&world, &relay)?;
    world
        .publish((1..=LETTERS).map(|number| ("unruly.ok", number.to_string())))
        .await?;
    let stored = async || -> Result<u64> {
        let stream = world.jetstream.get_stream(STREAM).await?;
        Ok(stream.cached_info().state.messages)
    };
    eventually(SOON, "dead letters", async || {
        ensure!(stored().await? == LETTERS);
        Ok(())
    })
    .await?;
    world
        .centrifugo
        .behave(|_| Plan::execute().after(Duration::from_millis(10)));
    let _replay = api.open("dead-letters/replay", &json!({ "all": true })).await?;
    eventually(SOON, "a replay in the middle", async || {
        ensure!(stored().await? < LETTERS);
        Ok(())
    })
    .await?;
    ensure!(relay.stop(SOON).await?.success());
    ensure!(!relay.logged("panicked"), "{:#?}", relay.log());
    let (left, shown) = (stored().await?, world.centrifugo.shown("unruly:ok").len() as u64);
    // What was shown and not removed is shown once only, because it has a key.
    ensure!(shown >= LETTERS - left, "{left} left, {shown} shown");
    world.centrifugo.behave(|_| Plan::execute());
    let relay = world.run().await?;
    let (status, text) = Api::new(&world, &relay)?
        .post("dead-letters/replay", Some(&json!({ "all": true })))
        .await?;
    ensure!(status == StatusCode::OK, "{status} {text}");
    Events::parse(&text)?.ended(left, 0)?;
    let shown = world.centrifugo.shown("unruly:ok");
    let number = |data: &str| data.parse::<u64>().ok();
    let shown = shown.iter().filter_map(|one| number(one.command.data.as_ref()?.get()));
    ensure!(shown.eq(1..=LETTERS), "each once, in order");
    Ok(())
}
