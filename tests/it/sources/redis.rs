//! What is special about Redis: what its keys may be, and how it loses what it held.

use anyhow::{Result, ensure};
use serde_json::Value;
use slipring_support::servers::Redis;

use super::super::numbers::{counts, state};
use super::super::world::{SOON, module};
use super::feed::{Feed, KEY, Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_kind_is_named_and_left_alone() -> Result<()> {
    for (kind, wanted) in [(Kind::RedisList, "list"), (Kind::RedisStream, "stream")] {
        let feed = Feed::start(kind, "", "").await?;
        let mut client = feed.redis().await?;
        let _: u64 = redis::cmd("SADD").arg(KEY).arg("a").query_async(&mut client).await?;
        let relay = feed.home.run().await?;
        let module = state(&relay, "unruly", "waiting").await?;
        let reason = module["reason"].as_str().unwrap_or_default();
        let expected = format!(
            "the key `{KEY}` in Redis holds a set, but `source.kind` needs a {wanted}: correct `key` or `kind` in the module's \
             .toml"
        );
        ensure!(reason == expected, "{reason}");
        let members: u64 = redis::cmd("SCARD").arg(KEY).query_async(&mut client).await?;
        ensure!(members == 1, "{members}");
        // It goes on by itself.
        let _: u64 = redis::cmd("DEL").arg(KEY).query_async(&mut client).await?;
        feed.numbers(1..=10).await?;
        feed.shows(10).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_from_the_other_end_for_producers_that_lpush() -> Result<()> {
    let feed = Feed::start(Kind::RedisList, "", "").await?;
    let toml = feed.toml("").replace("kind = ", "take = \"right\"\nkind = ");
    feed.home.configure_module("unruly", &toml)?;
    let mut client = feed.redis().await?;
    let push = async |number: u64| -> Result<()> {
        let message = format!(r#"[{{"channels":["unruly:{}"],"data":{number}}}]"#, number % 10);
        let _: u64 = redis::cmd("LPUSH")
            .arg(KEY)
            .arg(message)
            .query_async(&mut client.clone())
            .await?;
        Ok(())
    };
    for number in 1..=50 {
        push(number).await?;
    }
    let _relay = feed.run().await?;
    for number in 51..=100 {
        push(number).await?;
    }
    feed.shows(100).await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await?;
    ensure!(keys.iter().all(|key| key.contains(&format!("{{{KEY}}}"))), "{keys:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_that_was_deleted_goes_on_where_it_was() -> Result<()> {
    let feed = Feed::start(Kind::RedisStream, "", "").await?;
    let relay = feed.run().await?;
    feed.numbers(1..=100).await?;
    feed.shows(100).await?;
    feed.is_settled(&relay).await?;
    let mut client = feed.redis().await?;
    let mut destroy = redis::cmd("XGROUP");
    destroy.arg("DESTROY").arg(KEY).arg("slipring-unruly");
    let _: u64 = destroy.query_async(&mut client).await?;
    feed.numbers(101..=200).await?;
    feed.shows(200).await?;
    relay
        .has_logged(SOON, "the consumer group was deleted; created it again")
        .await?;
    counts(&relay, "unruly", "published", 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_read_from_its_beginning() -> Result<()> {
    let feed = Feed::start(Kind::RedisStream, "", "").await?;
    let relay = feed.run().await?;
    feed.numbers(1..=100).await?;
    feed.shows(100).await?;
    feed.is_settled(&relay).await?;
    let mut client = feed.redis().await?;
    let _: u64 = redis::cmd("DEL").arg(KEY).query_async(&mut client).await?;
    // Its IDs start again, so they are those of other messages.
    for (id, number) in [("1-1", 101), ("1-2", 102)] {
        let message = format!(r#"[{{"channels":["unruly:{}"],"data":{number}}}]"#, number % 10);
        let mut add = redis::cmd("XADD");
        add.arg(KEY).arg(id).arg("payload").arg(message);
        let _: String = add.query_async(&mut client).await?;
    }
    feed.shows(102).await
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_were_trimmed_while_pending_are_counted() -> Result<()> {
    let mut feed = Feed::start(Kind::RedisStream, "window = 100\n", "").await?;
    let mut relay = feed.run().await?;
    feed.numbers(1..=10).await?;
    feed.shows(10).await?;
    feed.is_settled(&relay).await?;
    feed.centrifugo.pause()?;
    feed.numbers(11..=20).await?;
    let mut client = feed.redis().await?;
    let all_taken = |status: &Value| module(status, "unruly")["window_messages"] == 10;
    relay.status_when(SOON, "all to be taken", all_taken).await?;
    relay.kill();
    let _: u64 = redis::cmd("XTRIM")
        .arg(KEY)
        .arg("MAXLEN")
        .arg(3)
        .query_async(&mut client)
        .await?;
    feed.centrifugo.resume()?;
    let relay = feed.home.run().await?;
    relay
        .has_logged(SOON, "messages were removed from the stream before they could be read")
        .await?;
    relay.has_logged(SOON, "messages=7").await
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_were_trimmed_before_they_were_delivered_are_counted() -> Result<()> {
    let feed = Feed::start(Kind::RedisStream, "", "").await?;
    let mut client = feed.redis().await?;
    let trim = async |left: u64| -> Result<()> {
        let mut trim = redis::cmd("XTRIM");
        let _: u64 = trim
            .arg(KEY)
            .arg("MAXLEN")
            .arg(left)
            .query_async(&mut client.clone())
            .await?;
        Ok(())
    };
    for (round, left) in [(0, 3), (1, 0), (2, 5)] {
        let mut relay = feed.run().await?;
        let first = 1 + round * 30;
        feed.numbers(first..=first + 9).await?;
        counts(&relay, "unruly", "published", 10).await?;
        feed.is_settled(&relay).await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
        feed.numbers(first + 10..=first + 19).await?;
        trim(left).await?;
        let mut relay = feed.run().await?;
        let missed = 10 - left;
        counts(&relay, "unruly", "missed", missed).await?;
        counts(&relay, "unruly", "published", left).await?;
        ensure!(relay.logged(&format!("messages={missed}")), "{:#?}", relay.log());
        // What is trimmed once it was delivered is no loss.
        feed.is_settled(&relay).await?;
        trim(0).await?;
        feed.numbers(first + 20..=first + 29).await?;
        counts(&relay, "unruly", "published", left + 10).await?;
        counts(&relay, "unruly", "missed", missed).await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    }
    let mut facts = redis::cmd("HGET");
    let read: u64 = facts
        .arg(format!("{{{KEY}}}:slipring:slipring-unruly:state"))
        .arg("read")
        .query_async(&mut client)
        .await?;
    ensure!(read == 90, "{read}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_the_payload_is_a_dead_letter_that_names_its_fields() -> Result<()> {
    let feed = Feed::start(Kind::RedisStream, "", "").await?;
    let relay = feed.run().await?;
    let mut client = feed.redis().await?;
    let mut add = redis::cmd("XADD");
    add.arg(KEY).arg("*").arg("data").arg("{}").arg("type").arg("paid");
    let _: String = add.query_async(&mut client).await?;
    feed.numbers(1..=10).await?;
    feed.shows(10).await?;
    counts(&relay, "unruly", "rejected", 1).await?;
    let list = feed.command(&["dead-letters", "list", "--json"])?;
    ensure!(
        list.contains("the entry has no field `payload`; its fields are: data, type"),
        "{list}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_messages_of_a_list_are_kept_as_many_as_wished() -> Result<()> {
    let feed = Feed::start(Kind::RedisList, "", "").await?;
    let toml = feed.toml("").replace("kind = ", "keep = 50\nkind = ");
    feed.home.configure_module("unruly", &toml)?;
    let relay = feed.run().await?;
    feed.numbers(1..=5_000).await?;
    feed.shows(5_000).await?;
    feed.is_settled(&relay).await?;
    let mut client = feed.redis().await?;
    let taken = format!("{{{KEY}}}:slipring:taken");
    let kept: u64 = redis::cmd("XLEN").arg(taken).query_async(&mut client).await?;
    // It is trimmed each time that as many have been settled as are kept, and a request settles up to 1,024.
    ensure!((50..=2 * (50 + 1_024)).contains(&kept), "{kept}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_needed_and_used() -> Result<()> {
    let redis = Redis::start_with(&["--requirepass", "secret"]).await?;
    let mut feed = Feed::start(Kind::RedisList, "", "").await?;
    let table = format!("url = \"{}\"", redis.url());
    feed.connect(redis, &table)?;
    let mut relay = feed.home.run().await?;
    let module = state(&relay, "unruly", "waiting").await?;
    let reason = module["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(
        reason.contains("requires a password: set `redis.password_file`"),
        "{reason}"
    );
    relay.kill();
    feed.home.env("SLIPRING_REDIS__PASSWORD", "wrong");
    let mut relay = feed.home.run().await?;
    let module = state(&relay, "unruly", "waiting").await?;
    let reason = module["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(reason.contains("refuses the user or the password"), "{reason}");
    relay.kill();
    feed.home.forget_env("SLIPRING_REDIS__PASSWORD");
    feed.home.env("SLIPRING_REDIS__PASSWORD", "secret");
    let relay = feed.home.run().await?;
    relay.ready(SOON).await?;
    state(&relay, "unruly", "running").await.map(drop)
}

/// The one who reads is the only one who can make room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_drained() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let feed = Feed::start(kind, "", "").await?;
        let mut relay = feed.run().await?;
        feed.numbers(1..=10).await?;
        feed.shows(10).await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
        feed.numbers(11..=500).await?;
        let client = feed.redis().await?;
        let set = async |limit: &str| -> Result<()> {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("maxmemory").arg(limit);
            let _: String = set.query_async(&mut client.clone()).await?;
            Ok(())
        };
        set("1").await?;
        ensure!(feed.numbers(501..=501).await.is_err(), "nobody can write");
        let relay = feed.home.run().await?;
        feed.shows(500).await?;
        feed.is_settled(&relay).await?;
        set("0").await?;
        feed.numbers(501..=520).await?;
        feed.shows(520).await?;
        feed.is_settled(&relay).await?;
    }
    Ok(())
}

/// Runs the relay as a user with exactly the permissions that the command prints.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_permissions_are_all_that_is_needed() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let mut feed = Feed::start(kind, "", "").await?;
        let printed = feed.command(&["check", "--permissions"])?;
        let rule = printed.lines().find_map(|line| line.strip_prefix("user slipring "));
        let rule = rule
            .ok_or_else(|| anyhow::anyhow!("{printed}"))?
            .replace("PASSWORD", "secret");
        let mut client = feed.redis().await?;
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg("slipring");
        for word in rule.split(' ') {
            set.arg(word);
        }
        let _: String = set.query_async(&mut client).await?;
        feed.home.env("SLIPRING_REDIS__USER", "slipring");
        feed.home.env("SLIPRING_REDIS__PASSWORD", "secret");
        let mut relay = feed.run().await?;
        feed.numbers(1..=100).await?;
        feed.send([b"no JSON".to_vec()]).await?;
        feed.shows(100).await?;
        counts(&relay, "unruly", "rejected", 1).await?;
        feed.is_settled(&relay).await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
        let mut log = redis::cmd("ACL");
        let denied: Vec<redis::Value> = log.arg("LOG").query_async(&mut client).await?;
        ensure!(denied.is_empty(), "{denied:?}");
        let list = feed.command(&["dead-letters", "list", "--json"])?;
        ensure!(list.lines().count() == 1, "{list}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_read_what_is_held_and_take_nothing() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let feed = Feed::start(kind, "", "").await?;
        feed.numbers(1..=5).await?;
        let wasm = feed.home.modules().join("unruly.wasm");
        let wasm = wasm.to_str().unwrap_or_default();
        let made = feed.command(&["try", wasm, "--last", "3"])?;
        let lines: Vec<Value> = made.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let data: Vec<&Value> = lines.iter().map(|line| &line["publications"][0]["data"]).collect();
        ensure!(data == [&Value::from(3), &Value::from(4), &Value::from(5)], "{made}");
        let relay = feed.run().await?;
        feed.shows(5).await?;
        feed.is_settled(&relay).await?;
        // What was taken is still kept.
        let made = feed.command(&["try", wasm, "--last", "2"])?;
        let lines: Vec<Value> = made.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(lines.len() == 2 && lines[1]["publications"][0]["data"] == 5, "{made}");
        let id = lines[1]["id"].as_str().unwrap_or_default().to_owned();
        let one = feed.command(&["try", wasm, "--seq", &id])?;
        ensure!(one.contains(&id), "{one}");
        counts(&relay, "unruly", "published", 5).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_shows_what_arrives_and_takes_nothing() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let feed = Feed::start(kind, "", "").await?;
        feed.numbers(1..=5).await?;
        let mut dev = feed.home.start(["dev", "modules/unruly.wasm", "--live"])?;
        let starts = |line: &str| line.contains("showing messages of unruly.publish as they arrive");
        dev.line(SOON, "the start", starts).await?;
        feed.numbers(6..=7).await?;
        dev.line(SOON, "7", |line| line.contains("\"data\":7")).await?;
        ensure!(!dev.log().join("\n").contains("\"data\":5"), "{:#?}", dev.log());
        let relay = feed.run().await?;
        feed.shows(7).await?;
        feed.is_settled(&relay).await?;
        feed.numbers(8..=9).await?;
        dev.line(SOON, "9", |line| line.contains("\"data\":9")).await?;
        feed.shows(9).await?;
        counts(&relay, "unruly", "published", 9).await?;
        dev.interrupt()?;
        let status = dev.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{status}");
    }
    Ok(())
}
