//! Clients of Centrifugo that others wrote, as processes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::Publication;
use crate::process::Process;

/// How long Node may take to start and subscribe.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `tests/clients/receive.js`, which uses npm's `centrifuge`. `make test-clients` installs what it needs.
#[derive(Debug)]
pub struct JavaScriptClient(Process);

/// A publication as the client returned it: its channel and data.
#[derive(Debug)]
pub struct Delivered {
    pub channel: String,
    pub publication: Publication,
}

impl JavaScriptClient {
    /// Subscribes to `channels` and expects `count` publications in all. Returns when all subscriptions are active.
    pub async fn start(url: &str, channels: &[String], count: usize) -> Result<Self> {
        let directory = crate::workspace().join("tests/clients");
        ensure!(
            directory.join("node_modules").is_dir(),
            "{} has no node_modules: run `make test-clients`",
            directory.display()
        );
        let mut command = Command::new("node");
        command
            .current_dir(&directory)
            .args(["receive.js", "--url", url, "--expect", &count.to_string()])
            .args(channels.iter().flat_map(|channel| ["--channel", channel]));
        let mut process = Process::spawn("the JavaScript client", &mut command)?;
        process
            .line(PATIENCE, "its subscriptions", |line| line == "subscribed")
            .await?;
        Ok(Self(process))
    }

    /// Waits until it has received that many, and returns them with any extra ones in order of arrival.
    pub async fn finish(mut self, patience: Duration) -> Result<Vec<Delivered>> {
        let status = self.0.wait(patience).await?;
        ensure!(
            status.success(),
            "the JavaScript client failed ({status})\n{}",
            self.0.tail()
        );
        let log = self.0.log();
        let lines = log.iter().filter(|line| line.starts_with('{'));
        lines
            .map(|line| read(line).with_context(|| format!("reading {line}")))
            .collect()
    }
}

fn read(line: &str) -> Result<Delivered> {
    #[derive(Deserialize)]
    struct Channel {
        channel: String,
    }
    let Channel { channel } = serde_json::from_str(line)?;
    let publication = serde_json::from_str(line)?;
    Ok(Delivered { channel, publication })
}
