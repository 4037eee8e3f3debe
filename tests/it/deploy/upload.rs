//! Uploads: off by default, for whoever has the token that allows everything, and never out of the modules directory.

use std::fs;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use slipring_support::relay::Relay;
use slipring_support::{eventually, http_client};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::world::{SOON, World};
use super::{another, deploy, installed, is_empty, says, settings, unruly, write};

const TOKEN: &str = "the-token-for-all-of-it";
const READ_TOKEN: &str = "the-token-to-read-only";

async fn world(more: &[(&str, &str)]) -> Result<(World, Relay)> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.env("SLIPRING_ADMIN__TOKEN", TOKEN);
    world.home.env("SLIPRING_ADMIN__READ_TOKEN", READ_TOKEN);
    for (name, value) in more {
        world.home.env(*name, *value);
    }
    let relay = world.home.run().await?;
    world.home.forget_env("SLIPRING_ADMIN__TOKEN");
    world.home.forget_env("SLIPRING_ADMIN__READ_TOKEN");
    for (name, token) in [
        ("full", TOKEN),
        ("read", READ_TOKEN),
        ("wrong", "another-token-altogether"),
    ] {
        fs::write(world.home.path().join(name), format!("{token}\n"))?;
    }
    write(&world.home, "unruly", &unruly()?, Some(&settings("", "1")))?;
    Ok((world, relay))
}

const ON: &[(&str, &str)] = &[("SLIPRING_ADMIN__UPLOADS", "true")];

fn to<'a>(relay: &'a Relay, token: &'a str) -> [&'a str; 4] {
    ["--to", relay.url(), "--token-file", token]
}

/// Sends a request as `slipring deploy` does, with this path in place of the module's name.
async fn put(relay: &Relay, path: &str, body: Vec<u8>) -> Result<(StatusCode, String)> {
    let url = format!("{}/api/v1/modules/{path}", relay.url());
    let request = http_client()
        .put(&url)
        .bearer_auth(TOKEN)
        .header("slipring-command", "1");
    let response = request
        .body(body)
        .send()
        .await
        .with_context(|| format!("putting {url}"))?;
    Ok((response.status(), response.text().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uploads_unless_the_configuration_allows_it() -> Result<()> {
    let (world, relay) = world(&[]).await?;
    let off = "This relay takes no uploads. To allow them to whoever has the token that allows everything, set `uploads = \
               true` in `[admin]` of its configuration";
    says(
        &deploy(&world.home, &to(&relay, "full"))?,
        1,
        &["does not take the version", off],
    )?;
    ensure!(is_empty(&world.home.modules())?, "nothing was copied");
    let (status, said) = put(&relay, "unruly?toml_bytes=0", vec![0; 1_000]).await?;
    ensure!(
        status == StatusCode::FORBIDDEN && said.contains(off),
        "{status}: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_the_way_of_every_version() -> Result<()> {
    let (world, mut relay) = world(ON).await?;
    let home = &world.home;
    for (token, told) in [
        (
            "wrong",
            "wrong does not hold the token of that relay, which is in its `admin.token_file`",
        ),
        ("read", "has the token for reading, which does not allow this"),
        ("nothing", "cannot read the token in nothing"),
    ] {
        says(&deploy(home, &to(&relay, token))?, 1, &[told])?;
        ensure!(is_empty(&home.modules())?, "nothing was copied");
    }
    let full = to(&relay, "full");
    says(
        &deploy(home, &full)?,
        0,
        &[
            "uploaded unruly.toml and unruly.wasm to the relay at ",
            " runs\n",
            "unruly is deployed",
        ],
    )?;
    ensure!(installed(home, "unruly.wasm")? == unruly()?);
    // Nothing has arrived yet.
    write(home, "unruly", &unruly()?, Some(&settings("watch = \"0s\"", "1b")))?;
    says(
        &deploy(home, &full)?,
        0,
        &[
            "not compared with the running version: the relay has no message of it yet. `slipring diff` compares it with a \
             copy of the file that runs there",
            "unruly is deployed",
        ],
    )?;
    world.publish([("unruly.ok", "1"), ("unruly.ok", "2")]).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;

    write(
        home,
        "unruly",
        &another(&unruly()?),
        Some(&settings("watch = \"1s\"", "2")),
    )?;
    let changed = "2 messages compared: 0 the same, 2 changed";
    says(
        &deploy(home, &[&full[..], &["--expect-same"]].concat())?,
        1,
        &[
            changed,
            "nothing was deployed: the outcomes of 2 of 2 messages differ, and --expect-same was given",
        ],
    )?;
    ensure!(installed(home, "unruly.wasm")? == unruly()?, "nothing was uploaded");
    says(
        &deploy(home, &full)?,
        0,
        &[
            "with the last messages of unruly at 127.0.0.1:",
            changed,
            "changed tags  2",
            "\"mark\": \"1b\"",
            "uploaded unruly.toml and unruly.wasm",
            "probe: passed on the last 2 messages",
            "it passed its trial",
        ],
    )?;
    says(
        &deploy(home, &full)?,
        0,
        &["is already there", "has both files already", "unruly is deployed"],
    )?;
    // The same outcomes with another file.
    write(home, "unruly", &unruly()?, Some(&settings("watch = \"1s\"", "2")))?;
    says(
        &deploy(home, &[&full[..], &["--expect-same"]].concat())?,
        0,
        &[
            "2 messages compared: none changed",
            "uploaded unruly.wasm",
            "unruly is deployed",
        ],
    )?;
    // The version before is kept, as for every swap.
    let versions = world.home.modules().join(".versions/unruly");
    ensure!(fs::read_dir(versions)?.count() >= 5, "two of each file, and the record");
    let line = relay.logs(SOON, "command=\"upload\"").await?;
    for part in [
        "a client sent a command",
        "module=\"unruly\"",
        "token=\"full\"",
        "result=\"done\"",
    ] {
        ensure!(line.contains(part), "{part} is not in {line}");
    }

    // One at a time: another is refused while the body of this one is on its way.
    let address = relay.url().strip_prefix("http://").context("an address")?;
    let mut slow = TcpStream::connect(address).await?;
    let head = format!(
        "PUT /api/v1/modules/unruly?toml_bytes=3 HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         slipring-command: 1\r\ncontent-length: 1000\r\n\r\nabc"
    );
    slow.write_all(head.as_bytes()).await?;
    let busy = async || {
        let (status, said) = put(&relay, "unruly?toml_bytes=0", Vec::new()).await?;
        ensure!(
            status == 503 && said.contains("try again when it is done"),
            "{status}: {said}"
        );
        Ok(())
    };
    eventually(SOON, "the place to be taken", busy).await?;
    drop(slow);
    let free = async || {
        let (status, said) = put(&relay, "unruly?toml_bytes=0", Vec::new()).await?;
        ensure!(status == 400 && said.contains("The body is empty"), "{status}: {said}");
        Ok(())
    };
    eventually(SOON, "the place to be free", free).await?;

    // The other spelling is the same module.
    let toml = settings("watch = \"0s\"", "3");
    fs::remove_file(home.path().join("desk/unruly.wasm"))?;
    let body = [toml.as_bytes(), &unruly()?].concat();
    let (status, said) = put(&relay, &format!("unruly?toml_bytes={}", toml.len()), body).await?;
    ensure!(
        status == StatusCode::OK && said.contains("\"module\":\"unruly\""),
        "{status}: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_module_is_refused_before_it_is_written() -> Result<()> {
    let (world, relay) = world(&[ON[0], ("SLIPRING_MODULES__MAX_FILE_SIZE", "1MiB")]).await?;
    let home = &world.home;
    let (wasm, toml) = (unruly()?, settings("", "1"));
    let good = [toml.as_bytes(), &wasm].concat();
    let length = format!("toml_bytes={}", toml.len());
    for (path, code, told) in [
        (format!("..%2Fevil?{length}"), 400, "name"),
        (format!("%2Ftmp%2Fevil?{length}"), 400, "name"),
        (format!("a.b?{length}"), 400, "name"),
        (format!(".versions?{length}"), 400, "name"),
        (format!("a%00b?{length}"), 400, "name"),
        ("unruly?toml_bytes=999999999".to_owned(), 400, "has only"),
        ("unruly".to_owned(), 400, "toml_bytes"),
        (format!("unruly?{length}&force=1"), 400, "force"),
        ("unruly?toml_bytes=3".to_owned(), 422, "unruly.toml"),
        (
            format!("unruly?toml_bytes={}", toml.len() - 1),
            422,
            "unruly.wasm cannot be used",
        ),
    ] {
        let (status, said) = put(&relay, &path, good.clone()).await?;
        ensure!(status == code && said.contains(told), "{path}: {status}: {said}");
        ensure!(!said.contains('\u{0}'), "{said:?}");
    }
    let pinned = format!("sha256 = \"{}\"\n{toml}", "0".repeat(64));
    let body = [pinned.as_bytes(), &wasm].concat();
    let (status, said) = put(&relay, &format!("unruly?toml_bytes={}", pinned.len()), body).await?;
    ensure!(
        status == 422 && said.contains("allows only the file"),
        "{status}: {said}"
    );
    let fails = format!("{toml}fail = \"no\"\n");
    let body = [fails.as_bytes(), &wasm].concat();
    let (status, said) = put(&relay, &format!("unruly?toml_bytes={}", fails.len()), body).await?;
    ensure!(status == 422 && said.contains("init"), "{status}: {said}");

    let large = [toml.as_bytes(), &vec![0; (1 << 20) + 1]].concat();
    let (status, said) = put(&relay, &format!("unruly?{length}"), large).await?;
    ensure!(
        status == 413 && said.contains("it may have at most 1048576"),
        "{status}: {said}"
    );
    let larger = vec![b'#'; 3_000_000];
    let (status, said) = put(&relay, "unruly?toml_bytes=2000000", larger).await?;
    ensure!(status == 413, "{status}: {said}");
    ensure!(is_empty(&home.modules())?, "nothing was written");
    ensure!(!home.path().join("evil.wasm").exists());

    // A page of another site cannot do it, even with the token.
    let url = format!("{}/api/v1/modules/unruly?{length}", relay.url());
    let without = http_client()
        .put(&url)
        .bearer_auth(TOKEN)
        .body(good.clone())
        .send()
        .await?;
    ensure!(without.status() == 403, "{}", without.status());
    let foreign = http_client()
        .put(&url)
        .bearer_auth(TOKEN)
        .header("slipring-command", "1");
    let foreign = foreign.header("host", "evil.example").body(good).send().await?;
    ensure!(foreign.status() == 421, "{}", foreign.status());
    ensure!(is_empty(&home.modules())?, "nothing was written");
    Ok(())
}
