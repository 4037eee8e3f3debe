//! A nats-server with JetStream, its store in a temporary directory.

use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{PATIENCE, PORTS_TRIED, candidate_port, port_was_taken, tool};
use crate::process::Process;

#[derive(Debug)]
pub struct NatsServer {
    // Before the directory, since it is dropped first.
    process: Option<Process>,
    port: u16,
    config: String,
    dir: TempDir,
}

impl NatsServer {
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// Starts it with more lines for its configuration file, such as `authorization { token: "secret" }`.
    pub async fn start_with(config: &str) -> Result<Self> {
        let mut server = Self::prepare(config)?;
        for _ in 1..PORTS_TRIED {
            match server.restart().await {
                Err(error) if port_was_taken(&error) => server.port = candidate_port(),
                result => return result.map(|()| server),
            }
        }
        server.restart().await.map(|()| server)
    }

    /// One that has a port and a store but does not run yet: `restart` starts it.
    pub fn prepare(config: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-nats-").context("making a directory for nats-server")?;
        Ok(Self {
            process: None,
            port: candidate_port(),
            config: config.to_owned(),
            dir,
        })
    }

    /// Starts it on the same port and store; stops it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let file = self.dir.path().join("nats.conf");
        std::fs::write(&file, self.configuration()).with_context(|| format!("writing {}", file.display()))?;
        let mut process = Process::spawn("nats-server", Command::new(tool("nats-server")?).arg("-c").arg(&file))?;
        // It says so once JetStream is recovered and the port is open. A connection could reach another server on that port.
        process
            .line(PATIENCE, "readiness", |line| line.ends_with("Server is ready"))
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it in good order; nothing happens if it does not run.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(PATIENCE).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub async fn client(&self) -> Result<async_nats::Client> {
        let url = self.url();
        async_nats::connect(&url)
            .await
            .with_context(|| format!("connecting to {url}"))
    }

    pub async fn jetstream(&self) -> Result<async_nats::jetstream::Context> {
        self.client().await.map(async_nats::jetstream::new)
    }

    /// What it wrote since it was started last.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn configuration(&self) -> String {
        let store = self.dir.path().join("store");
        format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?} }}\n{}\n",
            self.port, self.config
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_recognised() {
        let first = NatsServer::start().await.unwrap();
        let mut second = NatsServer::prepare("").unwrap();
        second.port = first.port;
        let error = second.restart().await.unwrap_err();
        assert!(port_was_taken(&error), "{error:#}");
    }
}
