//! A subscriber written by others, if `DEMO_CLIENT` names a command that starts one. It gets the address and the channels in its
//! environment, says `ready` when it is subscribed, and reads from its standard input how many publications each channel was
//! to get, when all have been sent. It fails when they did not arrive in order.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Client {
    child: Child,
}

impl Client {
    pub async fn start(url: &str, channels: &[String]) -> Result<Option<Self>> {
        let Ok(command) = std::env::var("DEMO_CLIENT") else {
            return Ok(None);
        };
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .env("CENTRIFUGO_URL", url)
            .env("CHANNELS", channels.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command}"))?;
        let output = child.stdout.take().context("its standard output is piped")?;
        let mut line = String::new();
        let mut output = BufReader::new(output);
        timeout(PATIENCE, output.read_line(&mut line))
            .await
            .with_context(|| format!("waiting for {command}"))??;
        ensure!(line.trim() == "ready", "{command} said {line:?} instead of ready");
        tokio::spawn(async move {
            let mut lines = output.lines();
            while let Ok(Some(line)) = lines.next_line().await {
                println!("the other client: {line}");
            }
        });
        Ok(Some(Self { child }))
    }

    /// How it ends once it knows what it was to get.
    pub async fn finish(mut self, expected: BTreeMap<&str, usize>) -> Result<ExitStatus> {
        let mut input = self.child.stdin.take().context("its standard input is piped")?;
        let line = serde_json::to_string(&expected)? + "\n";
        // It may have ended already; how, is what counts.
        let _ = input.write_all(line.as_bytes()).await;
        drop(input);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.context("the other client did not end")??)
    }
}
