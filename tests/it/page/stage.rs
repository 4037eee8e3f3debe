//! A script of `tests/page`, and the servers that it commands: lines of JSON over a connection, each with one line as its answer.

use std::convert::Infallible;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::process::Process;
use slipring_support::relay::Relay;
use slipring_support::servers::tool;
use slipring_support::subscriber::Subscriber;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::super::world::World;
use super::wish::{Flow, Wish};

/// How long a script may take, beside what it waits for on purpose.
const LIMIT: Duration = Duration::from_secs(300);

/// How often the output of the script is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// The last lines of the relay's log, for whoever looks for the cause of a failure.
const LOG_LINES: usize = 40;

pub struct Stage {
    pub world: World,
    pub relay: Relay,
    /// The channels that somebody listens to, and the listener, who is gone while Centrifugo is away.
    pub channels: Vec<String>,
    pub subscriber: Option<Subscriber>,
    /// A constant load. It ends when it is dropped.
    pub flow: Option<Flow>,
}

impl Stage {
    pub fn new(world: World, relay: Relay) -> Self {
        Self {
            world,
            relay,
            channels: Vec::new(),
            subscriber: None,
            flow: None,
        }
    }

    /// Runs a script of `tests/page` to its end, prints what it prints, and does what it asks for.
    pub async fn play(mut self, script: &str) -> Result<()> {
        let directory = slipring_support::workspace().join("tests/page");
        ensure!(
            directory.join("node_modules").is_dir(),
            "{} has no node_modules: run `make test-page`",
            directory.display()
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut command = Command::new("node");
        command
            .current_dir(&directory)
            .args(["--test-reporter=spec", script])
            .env("PAGE_CONTROL", listener.local_addr()?.port().to_string())
            .env("PAGE_URL", self.relay.url())
            .env("PAGE_TOKEN", self.token()?)
            .env("PAGE_BROWSER", tool("chromium")?);
        let mut node = Process::spawn("node", &mut command)?;
        let played = tokio::select! {
            played = watch(&mut node) => played,
            never = self.obey(&listener) => never.map(|never| match never {}),
        };
        played.with_context(|| self.log())
    }

    /// Reads the token that the relay has created, as the commands of its own user do.
    fn token(&self) -> Result<String> {
        let address = self.relay.url().strip_prefix("http://").context("an address")?;
        let name = format!("{}.token", address.replace(':', "-"));
        let file = self.world.home.path().join("slipring").join(name);
        let token = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(token.trim().to_owned())
    }

    async fn obey(&mut self, listener: &TcpListener) -> Result<Infallible> {
        let (connection, _) = listener.accept().await?;
        let (reader, mut writer) = connection.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await? {
            let answer = match self.hear(&line).await {
                Ok(answer) => json!({ "answer": answer }),
                Err(error) => json!({ "error": format!("{line}: {error:#}") }),
            };
            writer.write_all(format!("{answer}\n").as_bytes()).await?;
        }
        // The script is about to end, which the other branch sees.
        std::future::pending().await
    }

    async fn hear(&mut self, line: &str) -> Result<Value> {
        let wish: Wish = serde_json::from_str(line)?;
        wish.carry_out(self).await
    }

    fn log(&self) -> String {
        let log = self.relay.log();
        let last = &log[log.len().saturating_sub(LOG_LINES)..];
        format!("the last lines of the relay's log:\n  {}", last.join("\n  "))
    }
}

/// Prints what the script prints until it ends.
pub async fn watch(node: &mut Process) -> Result<()> {
    // After the name of the test.
    println!();
    let mut printed = 0;
    let allowed = LIMIT + on_purpose()?;
    let end = Instant::now() + allowed;
    loop {
        // Checked first, so that everything it wrote before its end is in the log.
        let ended = node.exited();
        let lines = node.log();
        for line in lines.iter().skip(printed) {
            println!("{line}");
        }
        printed = lines.len();
        if let Some(status) = ended {
            ensure!(status.success(), "the checks of the page failed ({status})");
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the checks of the page take longer than {allowed:?}"
        );
        sleep(PERIOD).await;
    }
}

/// Returns how long the script watches the page's memory.
fn on_purpose() -> Result<Duration> {
    let seconds = std::env::var("PAGE_HEAP_SECONDS").unwrap_or_default();
    let seconds = if seconds.is_empty() { "60" } else { &seconds };
    let seconds = seconds
        .parse()
        .with_context(|| format!("PAGE_HEAP_SECONDS is {seconds:?}"))?;
    Ok(Duration::from_secs(seconds))
}
