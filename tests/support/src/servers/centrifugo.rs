//! A Centrifugo with its memory engine, so that a restart forgets all history. Anonymous clients may subscribe to every
//! channel. Its namespaces are `orders`, `notifications`, `telemetry` and `test` (with history) and `plain` (without).

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, PORTS_TRIED, candidate_port, port_was_taken, tool};
use crate::process::Process;
use crate::{Api, Publication, Usage, eventually};

/// The most publications in one request for a history.
const PAGE: usize = 10_000;

#[derive(Debug)]
pub struct Centrifugo {
    // Declared before the directory, because it must be dropped first.
    process: Option<Process>,
    port: u16,
    grpc_port: u16,
    key: String,
    config: Value,
    /// Environment variables, each with its value.
    environment: Vec<(&'static str, &'static str)>,
    dir: TempDir,
    http: reqwest::Client,
    scheme: &'static str,
}

impl Centrifugo {
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| ()).await
    }

    /// Starts it after `edit` has changed its configuration, the JSON of its configuration file.
    pub async fn start_with(edit: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::prepare(edit)?.first_start().await
    }

    /// Does the same as [`start_with`](Self::start_with) with these environment variables, such as `("GOGC", "400")`.
    pub async fn start_in(environment: &[(&'static str, &'static str)], edit: impl FnOnce(&mut Value)) -> Result<Self> {
        let server = Self::prepare(edit)?;
        let environment = environment.to_vec();
        Self { environment, ..server }.first_start().await
    }

    async fn first_start(mut self) -> Result<Self> {
        for _ in 1..PORTS_TRIED {
            match self.restart().await {
                Err(error) if port_was_taken(&error) => {
                    (self.port, self.grpc_port) = (candidate_port(), candidate_port());
                }
                result => return result.map(|()| self),
            }
        }
        self.restart().await.map(|()| self)
    }

    /// Starts it with TLS for HTTP. `identity` is a certificate and its key in PEM form, for its clients. This process trusts
    /// any certificate of a server.
    pub async fn start_https(tls: Value, identity: &[u8]) -> Result<Self> {
        let mut server = Self::prepare(|config| config["http_server"]["tls"] = tls)?;
        server.http = reqwest::Client::builder()
            .identity(reqwest::Identity::from_pem(identity)?)
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        server.scheme = "https";
        server.first_start().await
    }

    /// Returns one that has a port and a key but does not run yet: `restart` starts it.
    pub fn prepare(edit: impl FnOnce(&mut Value)) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-centrifugo-").context("making a directory for Centrifugo")?;
        let key = format!("key-{:016x}", fastrand::u64(..));
        let mut config = default_config(&key);
        edit(&mut config);
        Ok(Self {
            process: None,
            port: candidate_port(),
            grpc_port: candidate_port(),
            key,
            config,
            environment: Vec::new(),
            dir,
            http: crate::http_client(),
            scheme: "http",
        })
    }

    /// Starts it on the same ports with the same key. Stops it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.config["http_server"]["address"] = "127.0.0.1".into();
        self.config["http_server"]["port"] = self.port.to_string().into();
        self.config["grpc_api"]["port"] = self.grpc_port.into();
        let file = self.dir.path().join("config.json");
        std::fs::write(&file, self.config.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let mut command = Command::new(tool("centrifugo")?);
        command.arg("-c").arg(&file).envs(self.environment.iter().copied());
        let mut process = Process::spawn("Centrifugo", &mut command)?;
        // Its log says "serving" before the port is open, and `/health` might be another server's. Only this
        // one has our key.
        let ready = eventually(PATIENCE, "Centrifugo to answer", async || match process.exited() {
            Some(status) => Ok(Err(anyhow::anyhow!("Centrifugo ended ({status}) before it was ready"))),
            None => self.api("info", json!({})).await.map(Ok),
        });
        ready.await.flatten().with_context(|| process.tail())?;
        self.process = Some(process);
        Ok(())
    }

    /// Restarts it with another key for both APIs.
    pub async fn restart_with_key(&mut self, key: &str) -> Result<()> {
        key.clone_into(&mut self.key);
        self.config["http_api"]["key"] = key.into();
        self.config["grpc_api"]["key"] = key.into();
        self.restart().await
    }

    /// Restarts it with another configuration.
    pub async fn restart_with(&mut self, edit: impl FnOnce(&mut Value)) -> Result<()> {
        edit(&mut self.config);
        self.restart().await
    }

    /// Stops it gracefully. Does nothing if it does not run.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(PATIENCE).await.map(drop),
            None => Ok(()),
        }
    }

    /// Pauses it (`SIGSTOP`), until it is resumed or killed.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.pause()
    }

    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.resume()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Returns `http://127.0.0.1:PORT`, for the relay's `endpoints`.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Returns `grpc://127.0.0.1:PORT`, also for the relay's `endpoints`.
    pub fn grpc_url(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.grpc_port)
    }

    pub fn endpoint(&self, api: Api) -> String {
        match api {
            Api::Http => self.url(),
            Api::Grpc => self.grpc_url(),
        }
    }

    /// Returns the base of its HTTP API.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.url())
    }

    pub fn api_key(&self) -> &str {
        &self.key
    }

    /// Returns the URL for its clients.
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}/connection/websocket", self.port)
    }

    /// Calls a method of its HTTP API, and returns the result.
    pub async fn api(&self, method: &str, params: Value) -> Result<Value> {
        self.call(method, &params).await
    }

    /// Executes commands, such as `{ "publish": { … } }`, in order, and returns the replies.
    pub async fn batch(&self, commands: &[Value]) -> Result<Vec<Value>> {
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default)]
            replies: Vec<Value>,
        }
        let Reply { replies } = self.post("batch", &json!({ "commands": commands })).await?;
        Ok(replies)
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T> {
        #[derive(Deserialize)]
        struct Reply<T> {
            result: Option<T>,
            error: Option<Value>,
        }
        let Reply { result, error } = self.post(method, params).await?;
        match error {
            Some(error) => bail!("Centrifugo answered {method} with {error}"),
            None => result.with_context(|| format!("Centrifugo answered {method} with neither a result nor an error")),
        }
    }

    async fn post<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T> {
        let url = format!("{}/{method}", self.api_url());
        let request = self
            .http
            .post(&url)
            .header("X-API-Key", &self.key)
            .body(params.to_string());
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let body = response.with_context(|| format!("calling {url}"))?.bytes().await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("reading the answer of {url}: {}", String::from_utf8_lossy(&body)))
    }

    pub async fn publish(&self, channel: &str, data: Value) -> Result<()> {
        self.api("publish", json!({ "channel": channel, "data": data }))
            .await
            .map(drop)
    }

    /// Returns a channel's whole history, in order. Centrifugo answers 500 if a publication is not JSON, because its
    /// HTTP API cannot express it.
    pub async fn history(&self, channel: &str) -> Result<Vec<Publication>> {
        #[derive(Deserialize)]
        struct History {
            #[serde(default)]
            publications: Vec<Publication>,
            epoch: String,
        }
        let mut all: Vec<Publication> = Vec::new();
        let mut params = json!({ "channel": channel, "limit": PAGE });
        loop {
            let page: History = self.call("history", &params).await?;
            let last_page = page.publications.len() < PAGE;
            all.extend(page.publications);
            match all.last() {
                Some(last) if !last_page => params["since"] = json!({ "offset": last.offset, "epoch": page.epoch }),
                _ => return Ok(all),
            }
        }
    }

    /// Returns the channels that have subscribers, and how many.
    pub async fn channels(&self) -> Result<BTreeMap<String, u64>> {
        #[derive(Deserialize)]
        struct Info {
            num_clients: u64,
        }
        #[derive(Deserialize)]
        struct Channels {
            channels: BTreeMap<String, Info>,
        }
        let Channels { channels } = self.call("channels", &json!({})).await?;
        Ok(channels
            .into_iter()
            .map(|(channel, info)| (channel, info.num_clients))
            .collect())
    }

    /// Returns what it has used of the machine since it was last started.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("Centrifugo does not run")?.usage()
    }

    /// Returns the lines since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

fn default_config(key: &str) -> Value {
    let with_history = |name| {
        json!({
            "name": name,
            "history_size": 100_000,
            "history_ttl": "1h",
            "force_positioning": true,
            "allowed_delta_types": ["fossil"],
        })
    };
    json!({
        "http_api": { "key": key },
        "grpc_api": { "enabled": true, "address": "127.0.0.1", "key": key },
        "health": { "enabled": true },
        "usage_stats": { "disabled": true },
        "client": {
            "insecure": true,
            // Pages of this machine, such as the relay's own.
            "allowed_origins": ["http://127.0.0.1:*", "http://localhost:*"],
            // For the browser of a test that shows the relay's page.
            "allowed_origins": ["http://127.0.0.1:*"],
            // One subscriber of a test listens to all of its channels, and may be slow while everything else runs.
            "channel_limit": 100_000,
            "queue_max_size": 256 << 20,
        },
        "websocket": { "message_size_limit": 16 << 20 },
        "channel": {
            "namespaces": [
                with_history("orders"),
                with_history("notifications"),
                with_history("telemetry"),
                with_history("test"),
                { "name": "plain" },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_recognised() {
        let first = Centrifugo::start().await.unwrap();
        let takes: [fn(&mut Centrifugo, &Centrifugo); 2] = [
            |second, first| second.port = first.port,
            |second, first| second.grpc_port = first.grpc_port,
        ];
        for take in takes {
            let mut second = Centrifugo::prepare(|_| ()).unwrap();
            take(&mut second, &first);
            let error = second.restart().await.unwrap_err();
            assert!(port_was_taken(&error), "{error:#}");
        }
    }
}
