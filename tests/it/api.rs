//! The admin API of a running relay: a module's versions, and what they make of messages.

use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use slipring_support::relay::Relay;

use super::world::{SOON, World, module, publish, unruly_toml};

/// A client with the token that the relay has created.
pub struct Api {
    url: String,
    token: String,
    client: Client,
}

impl Api {
    pub fn new<C>(world: &World<C>, relay: &Relay) -> Result<Self> {
        let address = relay.url().strip_prefix("http://").context("an address")?;
        let name = format!("{}.token", address.replace(':', "-"));
        let token = fs::read_to_string(world.home.path().join("slipring").join(name))?;
        Ok(Self {
            url: relay.url().to_owned(),
            token: token.trim().to_owned(),
            client: Client::builder().no_proxy().build()?,
        })
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, String)> {
        let mut request = self.client.request(method, format!("{}/api/v1/{path}", self.url));
        request = request.bearer_auth(&self.token).header("slipring-command", "1");
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// Sends a command whose reply is a stream.
    pub async fn open(&self, path: &str, body: &Value) -> Result<Response> {
        let request = self.client.post(format!("{}/api/v1/{path}", self.url));
        let request = request.bearer_auth(&self.token).header("slipring-command", "1");
        let response = request.body(body.to_string()).send().await?;
        ensure!(response.status() == StatusCode::OK, "{path}: {}", response.status());
        Ok(response)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, text) = self.ask(Method::GET, path, None).await?;
        ensure!(status == StatusCode::OK, "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<(StatusCode, String)> {
        self.ask(Method::POST, path, body).await
    }
}

fn mark(mark: &str) -> String {
    format!("settings.mark = \"{mark}\"\nwatch = \"0s\"")
}

/// Returns the names of the versions that the relay keeps, and which one runs.
async fn versions(api: &Api) -> Result<(Vec<String>, Option<usize>)> {
    let reply = api.get("modules/unruly/versions").await?;
    let versions = reply["versions"].as_array().context("a list")?;
    let name = |version: &Value| version["version"].as_str().map(str::to_owned).context("a name");
    let running = versions.iter().position(|version| version["running"] == true);
    Ok((versions.iter().map(name).collect::<Result<_>>()?, running))
}

/// Starts a relay that has run the marks `1`, `2` and `3` in turn, each with one message.
async fn three_versions() -> Result<(World, Relay, Api)> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(&mark("1"))?;
    let relay = world.run().await?;
    relay.ready(SOON).await?;
    let api = Api::new(&world, &relay)?;
    for number in 1..=3_u64 {
        if number > 1 {
            world
                .home
                .configure_module("unruly", &unruly_toml(&mark(&number.to_string())))?;
            relay
                .status_when(SOON, "a swap", |status| module(status, "unruly")["swaps"] == number - 1)
                .await?;
        }
        let wish = json!([{ "channels": ["unruly:1"], "data": number }]).to_string();
        publish(&world.jetstream, [("unruly.publish", wish)]).await?;
        relay
            .status_when(SOON, "a publication", |status| {
                module(status, "unruly")["published"] == number
            })
            .await?;
    }
    Ok((world, relay, api))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_can_return_to_any_version_that_is_kept() -> Result<()> {
    let (world, relay, api) = three_versions().await?;
    let (names, running) = versions(&api).await?;
    ensure!(names.len() == 3 && running == Some(0), "{names:?} {running:?}");
    let [third, second, first] = [&names[0], &names[1], &names[2]];

    let (status, text) = api
        .post(&format!("modules/unruly/rollback?version={}", &first[..20]), None)
        .await?;
    ensure!(
        status == StatusCode::OK && text.contains(&format!("from {third} to {first}")),
        "{status} {text}"
    );
    let (names, running) = versions(&api).await?;
    ensure!(
        running == Some(0) && names.len() == 3 && &names[0] == first,
        "{names:?}"
    );
    // Forward as well: what a rollback has left behind is kept.
    let output = world
        .home
        .command(["modules", "rollback", "unruly", second, "--url", relay.url()])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let (names, running) = versions(&api).await?;
    ensure!(
        running == Some(0) && &names[0] == second && names.len() == 3,
        "{names:?}"
    );
    let status = relay.status().await?;
    ensure!(module(&status, "unruly")["rollbacks"] == 2, "{status}");

    for (version, code, words) in [
        (second.as_str(), StatusCode::CONFLICT, "is already running"),
        ("0000", StatusCode::CONFLICT, "; it keeps "),
        (&first[..12], StatusCode::CONFLICT, "matches several versions"),
        ("", StatusCode::CONFLICT, "the relay keeps no version of `unruly`"),
    ] {
        let (status, text) = api
            .post(&format!("modules/unruly/rollback?version={version}"), None)
            .await?;
        ensure!(status == code && text.contains(words), "{version}: {status} {text}");
    }
    // It is known after a restart, too.
    let mut relay = relay;
    relay.stop(SOON).await?;
    let relay = world.run().await?;
    relay.ready(SOON).await?;
    let (again, running) = versions(&Api::new(&world, &relay)?).await?;
    ensure!(again == names && running == Some(0), "{again:?} {names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_be_tried_without_any_effect() -> Result<()> {
    let (_world, relay, api) = three_versions().await?;
    let (names, _) = versions(&api).await?;
    let recent = api.get("modules/unruly/messages?last=2").await?;
    ensure!(recent.as_array().is_some_and(|list| list.len() == 2), "{recent}");
    ensure!(recent[0]["data"][0]["data"] == 3, "the newest is first: {recent}");

    for (version, mark) in [(Value::Null, "3"), (names[2].as_str().into(), "1")] {
        let body = json!({ "version": version, "message": recent[0] });
        let (status, text) = api.post("modules/unruly/try", Some(&body)).await?;
        ensure!(status == StatusCode::OK, "{status} {text}");
        let outcome: Value = serde_json::from_str(&text)?;
        ensure!(outcome["outcome"] == "publish", "{outcome}");
        ensure!(outcome["publications"][0]["tags"]["mark"] == mark, "{outcome}");
        ensure!(outcome["micros"].is_u64(), "{outcome}");
    }
    let image = "<img src=x onerror=alert(1)>";
    let hostile = json!({ "message": { "subject": "unruly.publish", "payload": image } });
    let (status, text) = api.post("modules/unruly/try", Some(&hostile)).await?;
    let outcome: Value = serde_json::from_str(&text)?;
    ensure!(status == StatusCode::OK && outcome["outcome"] == "reject", "{outcome}");

    for (body, words) in [
        (json!({}), "missing field `message`"),
        (
            json!({ "message": { "subject": "a" } }),
            "exactly one of `data`, `payload`",
        ),
        (json!({ "massage": {} }), "unknown field `massage`"),
    ] {
        let (status, text) = api.post("modules/unruly/try", Some(&body)).await?;
        ensure!(
            status == StatusCode::BAD_REQUEST && text.contains(words),
            "{status} {text}"
        );
    }
    let (status, text) = api.post("modules/orders/try", Some(&hostile)).await?;
    ensure!(status == StatusCode::NOT_FOUND, "{status} {text}");
    let unruly = relay.status().await?;
    ensure!(module(&unruly, "unruly")["rejected"] == 0, "nothing counts: {unruly}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_are_compared_on_the_last_messages() -> Result<()> {
    let (_world, _relay, api) = three_versions().await?;
    let (names, _) = versions(&api).await?;
    let diff = api
        .get(&format!("modules/unruly/diff?from={}&to={}", names[2], names[0]))
        .await?;
    ensure!(diff["messages"] == 3 && diff["same"] == 0, "{diff}");
    let different = &diff["different"][0];
    ensure!(different["from"]["publications"][0]["tags"]["mark"] == "1", "{diff}");
    ensure!(different["to"]["publications"][0]["tags"]["mark"] == "3", "{diff}");
    ensure!(different["message"]["sequence"] == 1, "{diff}");
    let same = api
        .get(&format!("modules/unruly/diff?from={0}&to={0}", names[1]))
        .await?;
    ensure!(same["same"] == 3 && same["different"] == json!([]), "{same}");
    Ok(())
}

/// Replies are what the description of the API says.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_true() -> Result<()> {
    let (_world, _relay, api) = three_versions().await?;
    let document = api.get("openapi.json").await?;
    let (names, _) = versions(&api).await?;
    let tried = json!({ "message": { "subject": "unruly.publish", "data": [] } });
    let (status, outcome) = api.post("modules/unruly/try", Some(&tried)).await?;
    ensure!(status == StatusCode::OK, "{outcome}");
    check(
        &document,
        "/modules/{name}/try",
        "post",
        &serde_json::from_str(&outcome)?,
    )?;
    for (path, asked) in [
        ("/status", "status".to_owned()),
        ("/history", "history?step=1".to_owned()),
        ("/modules/{name}/versions", "modules/unruly/versions".to_owned()),
        ("/modules/{name}/messages", "modules/unruly/messages".to_owned()),
        (
            "/modules/{name}/diff",
            format!("modules/unruly/diff?from={}&to={}", names[1], names[0]),
        ),
        ("/dead-letters", "dead-letters".to_owned()),
    ] {
        check(&document, path, "get", &api.get(&asked).await?)?;
    }
    // A reply that differs would be noticed.
    let wrong = json!({ "module": 7, "versions": [] });
    ensure!(check(&document, "/modules/{name}/versions", "get", &wrong).is_err());
    Ok(())
}

/// Compares a reply with its schema in the document.
fn check(document: &Value, path: &str, method: &str, reply: &Value) -> Result<()> {
    let path = format!("/api/v1{path}").replace('/', "~1");
    let pointer = format!("/paths/{path}/{method}/responses/200/content/application~1json/schema");
    let mut schema = document
        .pointer(&pointer)
        .with_context(|| format!("nothing at {pointer}"))?
        .clone();
    // What it refers to.
    schema["components"] = document["components"].clone();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let place = "schema.json";
    let added = compiler.add_resource(place, schema);
    added.map_err(|error| anyhow!("{error}"))?;
    let index = compiler.compile(place, &mut schemas);
    let index = index.map_err(|error| anyhow!("{error}"))?;
    let fits = schemas.validate(reply, index);
    fits.map_err(|wrong| anyhow!("{pointer}: {wrong}: {reply}"))
}
