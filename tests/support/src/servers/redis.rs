//! A redis-server. What it has confirmed is in its append-only file, in a temporary directory, so that it keeps all of
//! it even when it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{PATIENCE, PORTS_TRIED, candidate_port, port_was_taken, tool};
use crate::process::Process;
use crate::{Usage, eventually};

/// What the server answers to `PING`, once it serves commands. The second one is for a client without the password.
const ANSWERS: [&str; 2] = ["+PONG", "-NOAUTH "];

#[derive(Debug)]
pub struct Redis {
    // Declared before the directory, because it must be dropped first.
    process: Option<Process>,
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
}

impl Redis {
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts it with more arguments, such as `["--maxmemory", "10mb"]`.
    pub async fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::prepare(arguments)?.first_start().await
    }

    async fn first_start(mut self) -> Result<Self> {
        for _ in 1..PORTS_TRIED {
            match self.restart().await {
                Err(error) if port_was_taken(&error) => self.port = candidate_port(),
                result => return result.map(|()| self),
            }
        }
        self.restart().await.map(|()| self)
    }

    /// Returns one that has a port and a directory but does not run yet: `restart` starts it.
    pub fn prepare(arguments: &[&str]) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-redis-").context("making a directory for redis-server")?;
        Ok(Self {
            process: None,
            port: candidate_port(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            dir,
        })
    }

    /// Starts it on the same port with the same data. Stops it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let mut process = Process::spawn("redis-server", &mut self.command()?)?;
        // The server logs this once the data is loaded and the port is open. A connection could reach another server
        // on that port.
        process
            .line(PATIENCE, "readiness", |line| {
                line.contains("Ready to accept connections")
            })
            .await?;
        eventually(PATIENCE, "redis-server to answer", async || self.ping().await)
            .await
            .with_context(|| process.tail())?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it gracefully (`SIGTERM`). Does nothing if it does not run.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(PATIENCE).await.map(drop),
            None => Ok(()),
        }
    }

    /// Freezes it (`SIGSTOP`), until it is resumed or killed. Its connections stay open.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.pause()
    }

    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.resume()
    }

    /// Ends it at once (`SIGKILL`).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it at once, and starts it on the same port without its data, like a failover to an empty replica.
    pub async fn fail_over(&mut self) -> Result<()> {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        self.restart().await
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns a connection. Its clones share it, so that a command that blocks, such as `XREADGROUP` with `BLOCK`,
    /// holds up the commands of all of them.
    pub async fn client(&self) -> Result<MultiplexedConnection> {
        let url = self.url();
        // By default, a command fails after 500 ms, which is too early on a machine that is busy with other tests.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(url.as_str()).with_context(|| format!("reading {url}"))?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .with_context(|| format!("connecting to {url}"))
    }

    /// Returns the lines since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Returns what it has used of the machine since it was last started.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("redis-server does not run")?.usage()
    }

    /// Sends the inline command `PING`, which needs no library.
    async fn ping(&self) -> Result<()> {
        let mut connection = BufReader::new(TcpStream::connect(self.address()).await?);
        connection.write_all(b"PING\r\n").await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        ensure!(
            ANSWERS.iter().any(|expected| answer.starts_with(expected)),
            "it answered PING with {answer:?}"
        );
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        // `make test-valkey` sets it.
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(tool(&program)?);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg("--dir").arg(self.dir.path());
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.args(&self.arguments);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_recognised() {
        let first = Redis::start().await.unwrap();
        let mut second = Redis::prepare(&[]).unwrap();
        second.port = first.port;
        let error = second.restart().await.unwrap_err();
        assert!(port_was_taken(&error), "{error:#}");
    }

    #[tokio::test]
    async fn one_with_a_password_is_ready_too() {
        let mut redis = Redis::start_with(&["--requirepass", "secret"]).await.unwrap();
        redis.restart().await.unwrap();
        let error = redis::cmd("PING")
            .query_async::<String>(&mut redis.client().await.unwrap())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("NOAUTH"), "{error}");
    }
}
