//! A Redis Sentinel, which alone decides that a master is down and promotes a replica.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::{PATIENCE, Redis, free_port, tool};
use crate::eventually;
use crate::process::Process;

#[derive(Debug)]
pub struct Sentinel {
    // Declared before the directory, because it must be dropped first.
    _process: Process,
    port: u16,
    password: String,
    _dir: TempDir,
}

impl Sentinel {
    /// The name of the master.
    pub const MASTER: &'static str = "main";

    /// Starts one that takes a master for dead after a second, and that asks for this password.
    pub async fn start(master: &Redis, password: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-sentinel-").context("making a directory for the sentinel")?;
        let (port, name) = (free_port(), Self::MASTER);
        let file = dir.path().join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nrequirepass {password}\nsentinel monitor {name} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n",
            dir.path().display(),
            master.port()
        );
        std::fs::write(&file, config).context("writing the sentinel's configuration")?;
        let mut process = Process::spawn(
            "sentinel",
            Command::new(tool("redis-server")?).arg(&file).arg("--sentinel"),
        )?;
        process
            .line(PATIENCE, "readiness", |line| line.contains("+monitor master"))
            .await?;
        Ok(Self {
            _process: process,
            port,
            password: password.to_owned(),
            _dir: dir,
        })
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Waits until it knows a replica that it can promote.
    pub async fn knows_a_replica(&self) -> Result<()> {
        let client = self.client().await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("REPLICAS").arg(Self::MASTER);
        eventually(PATIENCE, "the sentinel to know the replica", async || {
            let replicas: Vec<Vec<String>> = command.query_async(&mut client.clone()).await?;
            let linked = replicas
                .iter()
                .filter(|facts| facts.windows(2).any(|fact| fact == ["master-link-status", "ok"]));
            ensure!(linked.count() == 1, "{replicas:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the master is this one.
    pub async fn promotes(&self, replica: &Redis) -> Result<()> {
        let client = self.client().await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(Self::MASTER);
        eventually(PATIENCE + Duration::from_secs(30), "a failover", async || {
            let (_, port): (String, u16) = command.query_async(&mut client.clone()).await?;
            ensure!(port == replica.port(), "the master is at port {port}");
            Ok(())
        })
        .await
    }

    async fn client(&self) -> Result<MultiplexedConnection> {
        let url = format!("redis://:{}@{}", self.password, self.address());
        let client = redis::Client::open(url.as_str())?;
        client
            .get_multiplexed_async_connection()
            .await
            .context("connecting to the sentinel")
    }
}
