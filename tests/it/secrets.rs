//! No secret gets into the log, whatever its filter and format, nor into what the relay serves and the commands print.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::{ConnectOptions, jetstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use slipring_support::Api;
use slipring_support::relay::Relay;

use super::jwt::Operator;
use super::world::{SOON, World, over_both};

const HOUR: Duration = Duration::from_secs(3600);
const API_KEY: &str = "key-that-nobody-may-see";
const FULL_TOKEN: &str = "full-token-that-nobody-may-see";
const READ_TOKEN: &str = "read-token-that-nobody-may-see";
const PASSWORD: &str = "password-that-nobody-may-see";
const TOKEN: &str = "token-that-nobody-may-see";

/// A way to sign in to NATS.
struct Way {
    server: String,
    relay: Vec<(&'static str, String)>,
    own: ConnectOptions,
    secrets: Vec<String>,
}

/// Secrets in files are in this folder, those of others in the environment.
fn ways(folder: &std::path::Path) -> Result<Vec<Way>> {
    let test = || ConnectOptions::new().user_and_password("test".into(), "test".into());
    let (user, operator) = (nkeys::KeyPair::new_user(), Operator::new());
    let credentials = operator.credentials(HOUR)?;
    let lines: Vec<String> = credentials.lines().map(str::to_owned).collect();
    let of_file = |name: &str, text: &str| -> Result<String> {
        let file = folder.join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    };
    Ok(vec![
        Way {
            server: format!(
                "authorization {{ users: [{{ user: test, password: test }}, {{ user: slipring, password: {PASSWORD} }}] }}"
            ),
            relay: vec![
                ("SLIPRING_NATS__USER", "slipring".to_owned()),
                ("SLIPRING_NATS__PASSWORD", PASSWORD.to_owned()),
            ],
            own: test(),
            secrets: vec![PASSWORD.to_owned()],
        },
        Way {
            server: format!("authorization {{ token: {TOKEN} }}"),
            relay: vec![("SLIPRING_NATS__TOKEN_FILE", of_file("token", TOKEN)?)],
            own: ConnectOptions::with_token(TOKEN.to_owned()),
            secrets: vec![TOKEN.to_owned()],
        },
        Way {
            server: format!(
                "authorization {{ users: [{{ user: test, password: test }}, {{ nkey: {} }}] }}",
                user.public_key()
            ),
            relay: vec![("SLIPRING_NATS__NKEY", user.seed()?)],
            own: test(),
            secrets: vec![user.seed()?],
        },
        Way {
            server: operator.server_config()?,
            relay: vec![("SLIPRING_NATS__CREDS_FILE", of_file("relay.creds", &credentials)?)],
            own: ConnectOptions::new().credentials(&credentials)?,
            // The JWT and the seed.
            secrets: [&lines[1], &lines[5]].map(Clone::clone).to_vec(),
        },
    ])
}

async fn secrets_stay_secret(api: Api) -> Result<()> {
    let mut world = World::start_over(api).await?;
    world.add_unruly("")?;
    world.centrifugo.restart_with_key(API_KEY).await?;
    fs::write(world.home.path().join("centrifugo.key"), API_KEY)?;
    world.home.env("SLIPRING_LOG", "trace");
    // Both formats with either API, and each way in once.
    let ways = ways(world.home.path())?.into_iter().enumerate();
    for (number, way) in ways.filter(|(number, _)| (*number < 2) == (api == Api::Http)) {
        world.nats.restart_with(&way.server).await?;
        world.jetstream = jetstream::new(way.own.connect(world.nats.url()).await?);
        world.jetstream.delete_stream("UNRULY").await.ok();
        world.jetstream.delete_stream("SLIPRING_DEAD_LETTERS").await.ok();
        world.stream("UNRULY", &["unruly.>"]).await?;
        let mut env = way.relay;
        env.push(("SLIPRING_LOG_FORMAT", ["text", "json"][number % 2].to_owned()));
        // One that the relay creates, and configured ones.
        if number > 1 {
            env.push(("SLIPRING_ADMIN__TOKEN", FULL_TOKEN.to_owned()));
            env.push(("SLIPRING_ADMIN__READ_TOKEN", READ_TOKEN.to_owned()));
        }
        let relay = with_env(&mut world, &env).await?;
        let mut secrets = way.secrets;
        secrets.extend([API_KEY, FULL_TOKEN, READ_TOKEN].map(str::to_owned));
        if let Ok(created) = fs::read_to_string(created_token(&world, &relay)) {
            ensure!(number < 2, "a token was created beside configured ones");
            secrets.push(created.trim().to_owned());
        } else {
            ensure!(number > 1, "no token was created");
        }
        let seen = everything(&mut world, relay).await?;
        for (place, text) in &seen {
            for secret in &secrets {
                for form in [
                    secret.clone(),
                    STANDARD.encode(secret),
                    format!("{:?}", secret.as_bytes()),
                ] {
                    ensure!(
                        !text.contains(&form),
                        "{place} shows {secret}, after {number} other ways"
                    );
                }
            }
        }
        for name in env.iter().map(|(name, _)| *name) {
            world.home.forget_env(name);
        }
    }
    Ok(())
}

over_both!(secrets_stay_secret);

async fn with_env(world: &mut World, env: &[(&'static str, String)]) -> Result<Relay> {
    for (name, value) in env {
        world.home.env(*name, value);
    }
    world.home.run().await
}

fn created_token(world: &World, relay: &Relay) -> std::path::PathBuf {
    let port = relay.url().rsplit(':').next().unwrap_or_default();
    world.home.path().join(format!("slipring/127.0.0.1-{port}.token"))
}

/// Lets the relay and each command do something, and something go wrong. Returns what they have shown.
async fn everything(world: &mut World, mut relay: Relay) -> Result<Vec<(String, String)>> {
    let mut seen = Vec::new();
    world
        .publish([("unruly.ok", "1"), ("unruly.reject", "2"), ("unruly.panic", "3")])
        .await?;
    let get = async |path: &str| -> Result<String> {
        let request = slipring_support::http_client().get(format!("{}{path}", relay.url()));
        let answer = request.bearer_auth(READ_TOKEN).send().await?;
        Ok(answer.text().await?)
    };
    slipring_support::eventually(SOON, "three messages to be done", async || {
        let status = get("/api/v1/status").await?;
        let status: serde_json::Value = serde_json::from_str(&status).context(status)?;
        let module = &status["modules"][0];
        ensure!(module["published"] == 1 && module["rejected"] == 2, "{module}");
        Ok(())
    })
    .await?;
    for path in ["/api/v1/status", "/metrics", "/readyz", "/readyz/unruly", "/"] {
        seen.push((path.to_owned(), get(path).await?));
    }
    fs::write(world.home.path().join("message"), r#"{"subject":"unruly.ok","data":1}"#)?;
    let commands = [
        ("status", 0),
        ("status --json", 0),
        ("top", 1),
        ("tap --module nobody", 1),
        ("modules", 0),
        ("modules --json", 0),
        ("modules retry unruly", 1),
        ("check", 0),
        ("check --json", 0),
        ("check --online", 0),
        ("check --permissions", 0),
        ("dead-letters list", 0),
        ("dead-letters show 1 2", 0),
        ("dead-letters replay --module unruly --dry-run", 1),
        ("dead-letters replay --module unruly", 1),
        ("try modules/unruly.wasm message", 0),
        ("try modules/unruly.wasm --last 3", 0),
        ("diff modules/unruly.wasm modules/unruly.wasm --last 3", 0),
        ("record modules/unruly.wasm --last 1", 0),
        ("no-such-command", 2),
    ];
    let mut unexpected = Vec::new();
    for (line, code) in commands {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        if ["status", "top", "tap", "modules"].contains(&arguments[0]) {
            arguments.extend(["--url", relay.url()]);
        }
        let output = world.home.command(arguments).output()?;
        let shown = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let last = shown.lines().last().unwrap_or_default();
        if output.status.code() != Some(code) {
            unexpected.push(format!("`{line}` ended with {}: {last}", output.status));
        }
        ensure!(!shown.trim().is_empty(), "`{line}` shows nothing");
        seen.push((line.to_owned(), shown));
    }
    ensure!(unexpected.is_empty(), "{unexpected:#?}");
    // Both servers refuse the relay, and come back.
    world.nats.restart_with("authorization { token: another }").await?;
    world.centrifugo.restart_with_key("another").await?;
    relay.logs(SOON, "cannot connect to NATS").await?;
    relay.stop(SOON).await?;
    world.centrifugo.restart_with_key(API_KEY).await?;
    let log = relay.log().join("\n");
    ensure!(log.contains("TRACE"), "the log has not everything");
    seen.push(("the log".to_owned(), log));
    Ok(seen)
}
