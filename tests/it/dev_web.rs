//! `slipring dev --web`: what its page is given, and who gets nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use slipring_support::process::Process;
use slipring_support::{eventually, guests, http_client};
use tokio::time::timeout;

use super::commands::terminal::Terminal;
use super::world::{SOON, binary};

/// A folder with the module `unruly`. Its `build` copies what was built already, unless the source says that it is broken.
pub struct Author {
    dir: tempfile::TempDir,
}

/// A page of `slipring dev --web`.
pub struct Page {
    /// Without a slash at the end.
    pub url: String,
    pub token: String,
    client: Client,
}

const BUILD: &str = "#!/bin/sh\ncat source >&2\ngrep -q broken source && exit 1\ncp built shop.wasm\n";

pub const CASE: &str = r#"{"message":{"subject":"unruly.ok","data":{"id":1}},"expect":{"outcome":"publish","publications":[{"channels":["unruly:ok"],"data":{"id":1}}]}}"#;

impl Author {
    pub fn new() -> Result<Self> {
        let dir = tempfile::TempDir::with_prefix("slipring-dev-web-")?;
        let author = Self { dir };
        fs::create_dir(author.path("cases"))?;
        fs::copy(guests::component("unruly")?, author.path("built"))?;
        author.write("build", BUILD)?;
        fs::set_permissions(author.path("build"), fs::Permissions::from_mode(0o755))?;
        author.write("source", "fine\n")?;
        author.write("shop.toml", "stream = \"SHOP\"\n")?;
        author.write("cases/ok.json", CASE)?;
        Ok(author)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| format!("writing {name}"))
    }

    /// Starts it without a terminal.
    pub async fn start(&self) -> Result<(Process, Page)> {
        let mut command = Command::new(binary());
        command
            .args(["dev", "--web"])
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1");
        let mut dev = Process::spawn("slipring dev --web", &mut command)?;
        let line = dev
            .line(SOON, "the address", |line| line.starts_with("page: http://"))
            .await?;
        let page = Page::at(&line)?;
        Ok((dev, page))
    }
}

impl Page {
    /// Finds the address in a text.
    fn at(text: &str) -> Result<Self> {
        let (_, rest) = text.split_once("http://127.0.0.1:").context("an address")?;
        let address = rest.split_whitespace().next().unwrap_or_default();
        let (port, token) = address.split_once("/#/?token=").context("a token")?;
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            token: token.to_owned(),
            client: http_client(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}/api/v1/{path}", self.url));
        let response = request.bearer_auth(&self.token).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let request = self.client.post(format!("{}/api/v1/{path}", self.url));
        let request = request.header("slipring-command", "1").bearer_auth(&self.token);
        let response = request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        Ok((response.status(), response.text().await?))
    }

    /// Waits for a state that fits.
    async fn shows(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let state = async || {
            let state = self.get("state").await?;
            ensure!(fits(&state), "{state:#}");
            Ok(state)
        };
        eventually(SOON, what, state).await
    }

    /// Waits until a case or message of this name has this verdict.
    async fn has(&self, name: &str, verdict: &str) -> Result<Value> {
        let fits = |state: &Value| {
            let entries = state["entries"].as_array();
            entries.is_some_and(|all| all.iter().any(|one| one["name"] == name && one["verdict"] == verdict))
        };
        self.shows(&format!("{name}: {verdict}"), fits).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_written_beside_its_page() -> Result<()> {
    let author = Author::new()?;
    let (mut dev, page) = author.start().await?;
    let state = page.has("ok", "passed").await?;
    ensure!(
        state["passed"] == 1 && state["build"]["state"] == "watching",
        "{state:#}"
    );
    let detail = page.get("entry?name=ok").await?;
    ensure!(
        detail["outcome"]
            == json!({"outcome": "publish", "publications": [{"channels": ["unruly:ok"], "data": {"id": 1}}]}),
        "{detail:#}"
    );

    // A save that changes an outcome.
    author.write("shop.toml", "stream = \"SHOP\"\nsettings.wish = \"drop\"\n")?;
    page.has("ok", "failed").await?;
    let detail = page.get("entry?name=ok").await?;
    let difference = detail["difference"]["new"].as_str().context("a difference")?;
    ensure!(difference.contains("\"drop\""), "{difference}");
    author.write("shop.toml", "stream = \"SHOP\"\n")?;
    page.has("ok", "passed").await?;

    // A save that does not build. What stays still runs messages.
    author.write("source", "broken: <b>here</b>\n")?;
    let failed = page
        .shows("a build that fails", |state| state["build"]["state"] == "failed")
        .await?;
    let stays = failed["build"]["stays"].as_str().context("what stays")?;
    ensure!(stays.ends_with(" stays in use"), "{stays}");
    ensure!(failed["output"] == "broken: <b>here</b>", "{failed:#}");
    let text = r#"{"subject":"unruly.say","data":"hello"}"#;
    let (status, listed) = page.post("try", &json!({"name": "ok", "text": text})).await?;
    ensure!(
        status == StatusCode::OK && listed == r#"{"name":"edited 1"}"#,
        "{status}: {listed}"
    );
    page.has("edited 1", "sample").await?;
    let detail = page.get("entry?name=edited%201").await?;
    ensure!(
        detail["outcome"]["outcome"] == "drop" && detail["output"] == json!(["\"hello\""]),
        "{detail:#}"
    );

    // The message becomes a case.
    let (status, said) = page.post("save", &json!({"name": "say", "text": text})).await?;
    ensure!(status == StatusCode::NO_CONTENT, "{status}: {said}");
    let saved = fs::read_to_string(author.path("cases/say.json"))?;
    ensure!(
        saved.contains("\"unruly.say\"") && saved.contains("\"drop\""),
        "{saved}"
    );
    page.has("say", "passed").await?;
    let (status, said) = page.post("save", &json!({"name": "../say", "text": text})).await?;
    ensure!(
        status == StatusCode::UNPROCESSABLE_ENTITY && said.contains("cannot be the name of a case"),
        "{status}: {said}"
    );

    author.write("source", "fine again\n")?;
    page.shows("a build", |state| state["build"]["state"] == "watching")
        .await?;
    let log = dev.log().join("\n");
    for line in ["1 case: 1 passed, 0 failed", "broken: <b>here</b>", "2 cases: 2 passed"] {
        ensure!(log.contains(line), "{line} is not in {log}");
    }
    dev.interrupt()?;
    ensure!(dev.wait(SOON).await?.code() == Some(0), "{}", dev.tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_only_for_whoever_has_its_address() -> Result<()> {
    let author = Author::new()?;
    let (mut dev, page) = author.start().await?;
    page.has("ok", "passed").await?;
    let status = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = page.client.get(format!("{}{path}", page.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok::<_, anyhow::Error>(request.send().await?.status().as_u16())
    };
    let token = format!("Bearer {}", page.token);
    let token = ("authorization", token.as_str());
    ensure!(status("/", &[]).await? == 200, "the page itself needs no token");
    for (path, headers, code) in [
        ("/api/v1/state", vec![], 401),
        ("/api/v1/events", vec![], 401),
        ("/api/v1/state", vec![("authorization", "Bearer wrong")], 401),
        ("/api/v1/state", vec![token, ("host", "evil.example")], 421),
        ("/", vec![("host", "evil.example")], 421),
        ("/api/v1/state", vec![token, ("origin", "http://evil.example")], 403),
        ("/api/v1/state", vec![token, ("sec-fetch-site", "cross-site")], 403),
        ("/api/v1/state", vec![token], 200),
    ] {
        let got = status(path, &headers).await?;
        ensure!(got == code, "{path} with {headers:?}: {got}");
    }
    let save = page.client.post(format!("{}/api/v1/save", page.url));
    let save = save.bearer_auth(&page.token).header("content-type", "application/json");
    let save = save.body(r#"{"name":"evil","text":"{\"subject\":\"a\",\"data\":1}"}"#);
    ensure!(save.send().await?.status() == StatusCode::FORBIDDEN);
    ensure!(!author.path("cases/evil.json").exists());
    dev.interrupt()?;
    ensure!(dev.wait(SOON).await?.code() == Some(0), "{}", dev.tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_renews_by_itself_until_the_end() -> Result<()> {
    let author = Author::new()?;
    let (mut dev, page) = author.start().await?;
    page.has("ok", "passed").await?;
    let request = page.client.get(format!("{}/api/v1/events", page.url));
    let mut events = request.bearer_auth(&page.token).send().await?.error_for_status()?;
    let mut seen = String::new();
    let mut reads_until = async |text: &str| {
        while !seen.contains(text) {
            let chunk = timeout(SOON, events.chunk()).await?;
            let chunk = chunk?.with_context(|| format!("{text} is not in {seen}"))?;
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        seen.clear();
        anyhow::Ok(())
    };
    reads_until("\"verdict\":\"passed\"").await?;
    author.write("shop.toml", "stream = \"SHOP\"\nsettings.wish = \"drop\"\n")?;
    reads_until("\"verdict\":\"failed\"").await?;
    author.write("source", "broken\n")?;
    reads_until("stays in use").await?;
    dev.interrupt()?;
    ensure!(dev.wait(SOON).await?.code() == Some(0), "{}", dev.tail());
    ensure!(
        reads_until("more").await.is_err(),
        "who listens keeps nothing from ending"
    );
    Ok(())
}

/// One model, two views: what is typed on the page is on the screen, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_screen_show_the_same() -> Result<()> {
    let author = Author::new()?;
    let command = format!("{} dev --web", binary());
    let mut dev = Terminal::run(&command, 100, 30, |script| {
        script.current_dir(author.dir.path()).env("NO_COLOR", "1");
        Ok(())
    })?;
    let screen = dev.shows(SOON, &["1 case: 1 passed", "/#/?token="]).await?;
    let page = Page::at(&screen)?;
    let text = r#"{"subject":"unruly.ok","data":{"id":2}}"#;
    page.post("try", &json!({"text": text})).await?;
    dev.shows(SOON, &["edited 1", "unruly:ok"]).await?;
    dev.press("\u{1b}[200~{\"subject\":\"unruly.drop\",\"data\":1}\u{1b}[201~")?;
    let state = page.has("pasted 1", "sample").await?;
    ensure!(state["entries"].as_array().map(Vec::len) == Some(3), "{state:#}");
    dev.press("q")?;
    let left = dev.is_restored(SOON).await?;
    ensure!(left.contains("exit code 0"), "{left}");
    Ok(())
}
