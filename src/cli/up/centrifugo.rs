//! The Centrifugo that `up` starts. Browsers on this machine may connect to it without a token and subscribe to every
//! channel.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::child::{Child, SOON};
use super::folder::Folder;
use super::ports;

const PATIENCE: Duration = Duration::from_secs(60);

/// How many ports are tried, because another program may take one between the choice and the start.
const TRIES: usize = 5;

const CONFIG: &str = "centrifugo.json";

/// Centrifugo's code for a channel in a namespace that it does not know.
pub const UNKNOWN_CHANNEL: u64 = 102;

/// How many publications a channel keeps, and how long, for those who subscribe later.
const HISTORY: (u64, &str) = (100, "24h");

/// A server that has started, but may not be ready.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    pub port: u16,
    key: String,
    http: reqwest::Client,
}

impl Server {
    /// Starts the server on this port, or on another one if it is taken. It knows these namespaces and those that it knew
    /// before.
    pub fn start(
        folder: &Folder,
        program: &Path,
        wanted: Option<u16>,
        namespaces: &BTreeSet<String>,
    ) -> anyhow::Result<Self> {
        let key = folder.secret("centrifugo.key")?;
        let port = ports::free(wanted);
        let mut config: Value = serde_json::from_str(&folder.read(CONFIG)).unwrap_or_default();
        arrange(&mut config, port, &key);
        add(&mut config, namespaces);
        let config = folder.write(CONFIG, &format!("{config:#}\n"))?;
        let child = Child::start("Centrifugo", program, folder.path("centrifugo.log"), |command| {
            command.arg("-c").arg(config);
        })?;
        Ok(Self {
            child,
            port,
            key,
            // A proxy cannot reach the loopback interface of this machine.
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// Waits until the server answers.
    pub async fn ready(self, folder: &Folder, program: &Path) -> anyhow::Result<Self> {
        let mut server = self;
        for _ in 1..TRIES {
            match server.try_ready().await {
                Err(_) if server.child.logged().contains("address already in use") => {
                    server = Self::start(folder, program, None, &BTreeSet::new())?;
                }
                done => return done.map(|()| server),
            }
        }
        server.try_ready().await.map(|()| server)
    }

    /// The port could be another server's. Only this one has the key.
    async fn try_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.ask("info", json!({})).await {
            if let Some(status) = self.child.exited() {
                return Err(self.child.has_ended(status));
            }
            if Instant::now() > deadline {
                bail!(
                    "Centrifugo does not answer after {} s: {error:#}.{}",
                    PATIENCE.as_secs(),
                    self.child.last_words()
                );
            }
            sleep(SOON).await;
        }
        Ok(())
    }

    /// Makes the running server know more namespaces. Returns those that it did not know.
    pub async fn add_namespaces(
        &mut self,
        folder: &Folder,
        namespaces: &BTreeSet<String>,
    ) -> anyhow::Result<Vec<String>> {
        let mut config: Value =
            serde_json::from_str(&folder.read(CONFIG)).context("reading Centrifugo's configuration")?;
        let added = add(&mut config, namespaces);
        if added.is_empty() {
            return Ok(added);
        }
        folder.write(CONFIG, &format!("{config:#}\n"))?;
        self.child.signal(Signal::HUP);
        let deadline = Instant::now() + PATIENCE;
        for name in &added {
            let channel = json!({ "channel": format!("{name}:"), "limit": 0 });
            while self.ask("history", channel.clone()).await?["error"]["code"] == UNKNOWN_CHANNEL {
                if Instant::now() > deadline {
                    return Err(anyhow!(
                        "Centrifugo has not read its configuration again.{}",
                        self.child.last_words()
                    ));
                }
                sleep(SOON).await;
            }
        }
        Ok(added)
    }

    async fn ask(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let url = format!("{}/api/{method}", self.url());
        let request = self.http.post(url).header("X-API-Key", &self.key);
        let response = request.body(params.to_string()).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Returns the WebSocket of a Centrifugo with this endpoint, if it has one there.
pub fn websocket(endpoint: &str) -> Option<String> {
    let rest = endpoint.strip_prefix("http")?.trim_end_matches('/');
    Some(format!("ws{rest}/connection/websocket"))
}

/// Sets what `up` needs. Everything else in the file stays as it is.
fn arrange(config: &mut Value, port: u16, key: &str) {
    if !config.is_object() {
        *config = json!({});
    }
    merge(
        config,
        json!({
            "http_server": { "address": "127.0.0.1", "port": port.to_string() },
            "http_api": { "key": key },
            "usage_stats": { "disabled": true },
            "client": {
                "insecure": true,
                // Pages of this machine, whatever their port, and no others.
                "allowed_origins": ["http://127.0.0.1:*", "http://localhost:*"],
            },
            "channel": { "without_namespace": with_history() },
        }),
    );
}

fn with_history() -> Value {
    let (size, ttl) = HISTORY;
    json!({ "history_size": size, "history_ttl": ttl, "force_recovery": true })
}

/// Adds the namespaces that are missing, and returns them.
fn add(config: &mut Value, namespaces: &BTreeSet<String>) -> Vec<String> {
    if !config["channel"]["namespaces"].is_array() {
        config["channel"]["namespaces"] = json!([]);
    }
    let list = config["channel"]["namespaces"].as_array_mut().expect("a list");
    let mut added = Vec::new();
    for name in namespaces {
        if list.iter().all(|known| known["name"] != name.as_str()) {
            let mut namespace = with_history();
            namespace["name"] = name.as_str().into();
            list.push(namespace);
            added.push(name.clone());
        }
    }
    added
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Returns the namespace of a channel, if it has one that Centrifugo could know.
pub fn namespace(channel: &str) -> Option<&str> {
    // https://centrifugal.dev/docs/server/channels#channel-namespaces
    let (name, _) = channel.strip_prefix('$').unwrap_or(channel).split_once(':')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (name.len() >= 2 && name.bytes().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_what_comes_before_the_colon() {
        assert_eq!(namespace("shop:7"), Some("shop"));
        assert_eq!(namespace("$shop:7"), Some("shop"));
        assert_eq!(namespace("shop:eu:7"), Some("shop"));
        for none in ["shop", "s:7", "sh/op:7", ":7", ""] {
            assert_eq!(namespace(none), None, "{none}");
        }
    }

    #[test]
    fn what_the_user_has_changed_stays() {
        let mut config = json!({
            "log": { "level": "debug" },
            "http_server": { "port": "1", "tls": { "enabled": false } },
            "channel": { "namespaces": [{ "name": "chat", "history_size": 7 }] },
        });
        arrange(&mut config, 18_000, "secret");
        let names = ["chat", "shop"].map(str::to_owned);
        assert_eq!(add(&mut config, &names.clone().into()), ["shop"]);
        assert_eq!(add(&mut config, &names.into()), [""; 0]);
        assert_eq!(config["log"]["level"], "debug");
        assert_eq!(config["http_server"]["port"], "18000");
        assert_eq!(config["http_server"]["tls"]["enabled"], false);
        assert_eq!(config["channel"]["namespaces"][0]["history_size"], 7);
        assert_eq!(config["channel"]["namespaces"][1]["force_recovery"], true);
    }

    #[test]
    fn the_websocket_is_beside_the_api() {
        assert_eq!(
            websocket("https://chat.example/").as_deref(),
            Some("wss://chat.example/connection/websocket")
        );
        assert_eq!(websocket("grpc://127.0.0.1:10000"), None);
    }
}
