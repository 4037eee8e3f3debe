//! The relay as a process. A [`Home`] is what the relay finds on disk: its configuration, its key and its modules. It
//! outlives a [`Relay`], so that a test can stop one and start another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::eventually;
use crate::process::Process;
use crate::servers::free_port;
use crate::usage::{Usage, forget_peak_memory};

/// How long the relay may take until it logs its address.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    binary: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Home {
    /// `binary` is the relay: `env!("CARGO_BIN_EXE_slipring")` in an integration test. The admin server uses port 0, so
    /// the kernel chooses the port, and the relay logs it.
    pub fn new(binary: impl Into<PathBuf>, nats: &str, centrifugo: &str, api_key: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-home-").context("making a directory for the relay")?;
        // Where the relay saves the token for commands, so that none is left when a test kills it.
        let runtime = ("XDG_RUNTIME_DIR".into(), dir.path().into());
        let home = Self {
            dir,
            binary: binary.into(),
            env: vec![runtime],
        };
        std::fs::create_dir(home.modules()).context("making the modules directory")?;
        home.write("centrifugo.key", api_key)?;
        home.configure(&format!(
            r#"[nats]
servers = ["{nats}"]

[centrifugo]
endpoints = ["{centrifugo}"]
api_key_file = "centrifugo.key"

[modules]
dir = "modules"

[admin]
listen = "127.0.0.1:0"
"#
        ))?;
        Ok(home)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs another program from now on, which may be a script around the relay.
    pub fn replace_binary(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    pub fn modules(&self) -> PathBuf {
        self.path().join("modules")
    }

    pub fn config_file(&self) -> PathBuf {
        self.path().join("slipring.toml")
    }

    /// Replaces `slipring.toml`.
    pub fn configure(&self, text: &str) -> Result<()> {
        self.write("slipring.toml", text)
    }

    /// Adds tables to `slipring.toml`, such as `[publish]`.
    pub fn configure_more(&self, text: &str) -> Result<()> {
        let file = self.config_file();
        let before = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        self.configure(&format!("{before}\n{text}\n"))
    }

    /// Sets an environment variable for the next start, such as `SLIPRING_CENTRIFUGO__TIMEOUT` for one key of a table.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }

    /// Takes an environment variable away again.
    pub fn forget_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// Makes the relay save the token for commands where commands in other terminals look for it.
    pub fn share_token(&mut self) {
        self.env.retain(|(name, _)| name != "XDG_RUNTIME_DIR");
    }

    /// Puts `name.toml` and `name.wasm` into the modules directory, each complete from the start.
    pub fn add_module(&self, name: &str, wasm: &Path, toml: &str) -> Result<()> {
        self.configure_module(name, toml)?;
        self.replace_wasm(name, wasm)
    }

    /// Replaces `name.wasm` in one step.
    pub fn replace_wasm(&self, name: &str, wasm: &Path) -> Result<()> {
        let target = self.modules().join(format!("{name}.wasm"));
        let temporary = self.path().join(format!("{name}.wasm.new"));
        std::fs::copy(wasm, &temporary).with_context(|| format!("copying {}", wasm.display()))?;
        std::fs::rename(&temporary, &target).with_context(|| format!("putting {} in place", target.display()))
    }

    /// Overwrites `name.wasm` in place, like `cp`, so that the relay may see half of it.
    pub fn copy_wasm(&self, name: &str, wasm: &Path) -> Result<()> {
        let target = self.modules().join(format!("{name}.wasm"));
        std::fs::copy(wasm, &target)
            .map(drop)
            .with_context(|| format!("copying {} to {}", wasm.display(), target.display()))
    }

    /// Replaces `name.toml` in one step.
    pub fn configure_module(&self, name: &str, toml: &str) -> Result<()> {
        self.write(&format!("modules/{name}.toml"), toml)
    }

    /// Removes `name.wasm` and `name.toml`.
    pub fn remove_module(&self, name: &str) -> Result<()> {
        for extension in ["wasm", "toml"] {
            let file = self.modules().join(format!("{name}.{extension}"));
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
        Ok(())
    }

    /// Starts the relay, and waits until its admin server listens. The relay may still be looking for its servers.
    pub async fn run(&self) -> Result<Relay> {
        let mut command = self.command(["run"]);
        let mut process = Process::spawn("slipring", &mut command)?;
        let line = process
            .line(PATIENCE, "its address", |line| admin_address(line).is_some())
            .await?;
        let address = admin_address(&line).context("an address in that line")?;
        Ok(Relay {
            process,
            url: format!("http://{address}"),
            http: crate::http_client(),
        })
    }

    /// Starts the relay with another standard error. Its address cannot be read from the log, so it is chosen before.
    pub async fn run_with_stderr(&self, stderr: Stdio) -> Result<Relay> {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = self.command(["run"]);
        command.env("SLIPRING_ADMIN__LISTEN", &address);
        let process = Process::spawn_with_stderr("slipring", &mut command, stderr)?;
        let relay = Relay {
            process,
            url: format!("http://{address}"),
            http: crate::http_client(),
        };
        let listens = async || relay.get("/healthz").await.map(drop);
        eventually(PATIENCE, format!("the relay to listen on {address}"), listens).await?;
        Ok(relay)
    }

    /// Starts a command that may run for a while.
    pub fn start<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Process> {
        Process::spawn("slipring", &mut self.command(arguments))
    }

    /// Returns a command line of the relay in this directory, for commands that end by themselves.
    pub fn command<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments.into_iter().map(Into::into))
            .current_dir(self.path())
            .env("NO_COLOR", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.path().join(name);
        let temporary = self.path().join("being-written");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &file))
            .with_context(|| format!("writing {}", file.display()))
    }
}

/// A running relay. Dropping it kills it.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    url: String,
    http: reqwest::Client,
}

impl Relay {
    /// Returns the URL of the admin server.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    pub fn sigterm(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    pub fn sigint(&mut self) -> Result<()> {
        self.process.interrupt()
    }

    /// Pauses it (`SIGSTOP`), like a machine that stalls.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.wait(patience).await
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.stop(patience).await
    }

    /// Returns its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Returns its process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns what it has used of the machine so far.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Restarts the measurement of its peak memory.
    pub fn forget_peak_memory(&self) -> Result<()> {
        forget_peak_memory(self.process.id())
    }

    /// Returns all lines so far.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Returns true if a line of its log contains `text`.
    pub fn logged(&self, text: &str) -> bool {
        self.log().iter().any(|line| line.contains(text))
    }

    /// Waits until [`logged`](Self::logged) returns true. The relay may show the event elsewhere before its log line
    /// has been read.
    pub async fn has_logged(&self, patience: Duration, text: &str) -> Result<()> {
        let logged = async || {
            ensure!(self.logged(text), "{:#?}", self.log());
            Ok(())
        };
        eventually(patience, format!("{text:?} to be logged"), logged).await
    }

    /// Waits until it logs a line that contains `text`, and returns that line.
    pub async fn logs(&mut self, patience: Duration, text: &str) -> Result<String> {
        self.process.line(patience, text, |line| line.contains(text)).await
    }

    /// Returns `GET /api/v1/status`.
    pub async fn status(&self) -> Result<Value> {
        let text = self.get("/api/v1/status").await?;
        serde_json::from_str(&text).with_context(|| format!("reading the status: {text}"))
    }

    /// Returns `GET /metrics`.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self, patience: Duration) -> Result<()> {
        let ready = eventually(patience, "the relay to be ready", async || {
            self.get("/readyz").await.map(drop)
        })
        .await;
        ready.with_context(|| self.process.tail())
    }

    /// Waits for a status for which `holds` returns true, and returns it.
    pub async fn status_when(&self, patience: Duration, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let waiting = eventually(patience, what, async || {
            let status = self.status().await?;
            if holds(&status) {
                Ok(status)
            } else {
                Err(anyhow::anyhow!("{status}"))
            }
        });
        waiting.await.with_context(|| self.process.tail())
    }

    /// Returns the body of a page of the admin server. Any status but 200 is an error.
    pub async fn get(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.url);
        let response = self
            .http
            .get(&url)
            .send()
            .await
            .with_context(|| format!("getting {url}"))?;
        let status = response.status();
        let body = response.text().await.with_context(|| format!("reading {url}"))?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {body}");
        Ok(body)
    }
}

/// Returns the address in the relay's line `… admin server listening … address=127.0.0.1:41234`, as text or as JSON.
fn admin_address(line: &str) -> Option<&str> {
    let (_, rest) = line
        .split_once("admin server listening")
        .and(line.split_once("address"))?;
    let address = rest.trim_start_matches(['"', '=', ':', ' ']);
    let end = address
        .find(|c: char| !(c.is_ascii_hexdigit() || "[]:.".contains(c)))
        .unwrap_or(address.len());
    (end > 0).then(|| &address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_a_line_of_either_format() {
        let text = "2026-11-23T21:35:04Z  INFO admin server listening address=127.0.0.1:41234 pid=7";
        let json = r#"{"level":"INFO","fields":{"message":"admin server listening","address":"127.0.0.1:41234"}}"#;
        let first = r#"{"address":"[::1]:8787","message":"admin server listening"}"#;
        assert_eq!(admin_address(text), Some("127.0.0.1:41234"));
        assert_eq!(admin_address(json), Some("127.0.0.1:41234"));
        assert_eq!(admin_address(first), Some("[::1]:8787"));
        assert_eq!(admin_address("INFO connected address=127.0.0.1:4222"), None);
    }

    /// Runs a script in place of the relay: `sh run` instead of `slipring run`.
    fn stand_in(script: &str) -> Home {
        let home = Home::new("sh", "nats://127.0.0.1:1", "http://127.0.0.1:2", "secret").unwrap();
        home.write("run", script).unwrap();
        home
    }

    #[tokio::test]
    async fn a_relay_is_run_in_its_home_and_stopped() {
        let script = r#"trap 'echo draining; kill $!; exit 0' TERM
echo "$COLOUR" $(ls)
echo "INFO admin server listening address=127.0.0.1:9"
sleep 1000 & wait"#;
        let mut home = stand_in(script);
        home.env("COLOUR", "blue");
        let mut relay = home.run().await.unwrap();
        assert_eq!(relay.url(), "http://127.0.0.1:9");
        assert!(
            relay.logged("blue centrifugo.key modules run slipring.toml"),
            "{:?}",
            relay.log()
        );
        relay.sigterm().unwrap();
        assert!(relay.wait(PATIENCE).await.unwrap().success());
        assert!(relay.logged("draining"));
        assert!(relay.sigterm().is_err());
    }

    #[tokio::test]
    async fn a_relay_that_ends_at_once_is_reported_with_its_last_words() {
        let error = format!(
            "{:#}",
            stand_in("echo unknown key >&2; exit 78").run().await.unwrap_err()
        );
        assert!(
            error.contains("exit status: 78") && error.contains("unknown key"),
            "{error}"
        );
    }

    #[test]
    fn a_home_holds_what_the_relay_needs() {
        let home = Home::new("slipring", "nats://127.0.0.1:1", "http://127.0.0.1:2", "secret").unwrap();
        home.configure_more("[publish]\nmax_batch = 7").unwrap();
        let config = std::fs::read_to_string(home.config_file()).unwrap();
        assert!(
            config.contains("nats://127.0.0.1:1") && config.ends_with("[publish]\nmax_batch = 7\n"),
            "{config}"
        );

        let wasm = home.path().join("any.wasm");
        std::fs::write(&wasm, "\0asm").unwrap();
        home.add_module("orders", &wasm, "stream = \"ORDERS\"").unwrap();
        let mut files: Vec<_> = std::fs::read_dir(home.modules())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["orders.toml", "orders.wasm"]);
        home.remove_module("orders").unwrap();
        assert_eq!(std::fs::read_dir(home.modules()).unwrap().count(), 0);
    }
}
