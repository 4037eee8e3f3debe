//! Clients of Centrifugo that others wrote, as processes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::Process;

/// For Node to start and to subscribe.
const PATIENCE: Duration = Duration::from_secs(30);

/// `tests/clients/receive.js`, which runs npm's `centrifuge`: it checks that the sequence numbers of each channel arrive in
/// order, none missing, none twice. `make test-clients` installs what it needs.
#[derive(Debug)]
pub struct JavaScriptClient(Process);

impl JavaScriptClient {
    /// Subscribes to `channels` (`orders:{1..3}` stands for three) and expects `count` publications in all, whose data has its
    /// sequence number in `field`. On return, all subscriptions stand.
    pub async fn start(url: &str, channels: &[&str], count: usize, field: &str) -> Result<Self> {
        let directory = crate::workspace().join("tests/clients");
        ensure!(
            directory.join("node_modules").is_dir(),
            "{} has no node_modules: run `make test-clients`",
            directory.display()
        );
        let mut command = Command::new("node");
        command.current_dir(&directory).args([
            "receive.js",
            "--url",
            url,
            "--field",
            field,
            "--expect",
            &count.to_string(),
        ]);
        command.args(channels.iter().flat_map(|channel| ["--channel", channel]));
        let mut process = Process::spawn("the JavaScript client", &mut command)?;
        process
            .line(PATIENCE, "its subscriptions", |line| line == "subscribed")
            .await?;
        Ok(Self(process))
    }

    /// Waits until it has received everything; fails with what it found wrong. Returns its summary.
    pub async fn finish(mut self, patience: Duration) -> Result<String> {
        let status = self.0.wait(patience).await?;
        ensure!(
            status.success(),
            "the JavaScript client is not content ({status})\n{}",
            self.0.tail()
        );
        Ok(self.0.log().pop().unwrap_or_default())
    }
}
