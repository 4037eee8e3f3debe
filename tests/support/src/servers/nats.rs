//! A nats-server with JetStream. Its store is in a temporary directory.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::stream;
use tempfile::TempDir;

use super::{PATIENCE, PORTS_TRIED, candidate_port, free_port, installed, port_was_taken, tool};
use crate::process::Process;
use crate::usage::forget_peak_memory;
use crate::{Usage, eventually};

/// How long three nodes may take to form a cluster. They usually take a few seconds.
const FORMING: Duration = Duration::from_secs(20);

const CLUSTERS_TRIED: usize = 4;

/// The installed minor versions, each at its newest patch or the one that `tools/` pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsVersion {
    V2_10,
    V2_12,
    V2_15,
}

impl NatsVersion {
    pub const ALL: [Self; 3] = [Self::V2_10, Self::V2_12, Self::V2_15];

    fn program(self) -> Result<PathBuf> {
        match self {
            Self::V2_15 => tool("nats-server"),
            older => installed(&format!("nats-{older}/nats-server")),
        }
    }
}

impl fmt::Display for NatsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_10 => "2.10",
            Self::V2_12 => "2.12",
            Self::V2_15 => "2.15",
        })
    }
}

#[derive(Debug)]
pub struct NatsServer {
    // Declared before the directory, because it must be dropped first.
    process: Option<Process>,
    version: NatsVersion,
    port: u16,
    config: String,
    /// The limits of JetStream.
    limits: String,
    /// JetStream's domain, or none.
    domain: Option<String>,
    dir: TempDir,
}

impl NatsServer {
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// Starts it with more lines for its configuration file, such as `authorization { token: "secret" }`.
    pub async fn start_with(config: &str) -> Result<Self> {
        Self::prepare(config)?.first_start().await
    }

    /// Starts it with these limits for all of JetStream, such as `max_ack_pending: 10`.
    pub async fn start_limited(limits: &str) -> Result<Self> {
        let server = Self::prepare("")?;
        let limits = limits.to_owned();
        Self { limits, ..server }.first_start().await
    }

    pub async fn start_version(version: NatsVersion) -> Result<Self> {
        Self::start_version_with(version, "").await
    }

    pub async fn start_version_with(version: NatsVersion, config: &str) -> Result<Self> {
        let server = Self::prepare(config)?;
        Self { version, ..server }.first_start().await
    }

    /// Starts three nodes that form a cluster. The cluster may need a while to choose its leader.
    pub async fn start_cluster(version: NatsVersion) -> Result<[Self; 3]> {
        // A port for routes may be taken meanwhile. On a busy machine, three nodes of 2.10 sometimes never all
        // find each other.
        for _ in 1..CLUSTERS_TRIED {
            if let Ok(nodes) = Self::try_cluster(version).await {
                return Ok(nodes);
            }
        }
        Self::try_cluster(version).await
    }

    async fn try_cluster(version: NatsVersion) -> Result<[Self; 3]> {
        let ports = [(); 3].map(|()| free_port());
        let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let node = async |number: usize| {
            let port = ports[number];
            let cluster = format!("cluster {{ name: cluster, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
            let mut node = Self::start_version_with(version, &format!("server_name: node-{number}\n{cluster}")).await?;
            node.listens_for_routes().await?;
            anyhow::Ok(node)
        };
        let nodes = [node(0).await?, node(1).await?, node(2).await?];
        nodes[0].places_three_replicas().await?;
        Ok(nodes)
    }

    /// Waits until its cluster can place a stream with three replicas.
    async fn places_three_replicas(&self) -> Result<()> {
        const STREAM: &str = "THREE_REPLICAS";
        let jetstream = self.jetstream().await?;
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["three.replicas".to_owned()],
            num_replicas: 3,
            ..Default::default()
        };
        let placed = async || jetstream.create_stream(config.clone()).await.map(drop);
        eventually(FORMING, "the cluster to form", placed).await?;
        jetstream.delete_stream(STREAM).await.context("deleting the stream")?;
        Ok(())
    }

    /// The server says that it is ready before it opens the port for the other nodes. It ends if another program has
    /// taken the port meanwhile.
    async fn listens_for_routes(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("it does not run")?;
        let listens = |line: &str| line.contains("Listening for route connections on");
        process.line(PATIENCE, "its port for routes", listens).await.map(drop)
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

    /// Returns one that has a port and a store but does not run yet: `restart` starts it.
    pub fn prepare(config: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-nats-").context("making a directory for nats-server")?;
        Ok(Self {
            process: None,
            version: NatsVersion::V2_15,
            port: candidate_port(),
            config: config.to_owned(),
            limits: String::new(),
            domain: None,
            dir,
        })
    }

    /// Starts it on the same port and store. Stops it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let file = self.dir.path().join("nats.conf");
        std::fs::write(&file, self.configuration()).with_context(|| format!("writing {}", file.display()))?;
        let mut process = Process::spawn(
            "nats-server",
            Command::new(self.version.program()?).arg("-c").arg(&file),
        )?;
        // The server logs this once JetStream is recovered and the port is open. A connection could reach another
        // server on that port.
        process
            .line(PATIENCE, "readiness", |line| line.ends_with("Server is ready"))
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Restarts it with these lines in its configuration file, in place of those before.
    pub async fn restart_with(&mut self, config: &str) -> Result<()> {
        config.clone_into(&mut self.config);
        self.restart().await
    }

    /// Puts JetStream into a domain, from the next start on.
    pub fn set_domain(&mut self, domain: &str) {
        self.domain = Some(domain.to_owned());
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

    /// Returns a copy of its store. Nothing may be written to the store meanwhile.
    pub fn copy_store(&self) -> Result<TempDir> {
        let copy = TempDir::with_prefix("slipring-nats-copy-").context("making a directory for a copy of the store")?;
        copy_dir(&self.store(), copy.path())?;
        Ok(copy)
    }

    /// Replaces its store by a copy. It must not run.
    pub fn put_back(&self, copy: &TempDir) -> Result<()> {
        let store = self.store();
        std::fs::remove_dir_all(&store).with_context(|| format!("removing {}", store.display()))?;
        copy_dir(copy.path(), &store)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
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

    /// Returns the lines since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Returns what it has used of the machine since it was last started.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("nats-server does not run")?.usage()
    }

    /// Restarts the measurement of its peak memory.
    pub fn forget_peak_memory(&self) -> Result<()> {
        forget_peak_memory(self.process.as_ref().context("nats-server does not run")?.id())
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn configuration(&self) -> String {
        let store = self.store();
        let domain = self.domain.iter().map(|domain| format!(", domain: {domain}"));
        format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?}, limits {{ {} }}{} }}\n{}\n",
            self.port,
            self.limits,
            domain.collect::<String>(),
            self.config
        )
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to).with_context(|| format!("copying to {}", to.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_version_is_what_it_says() {
        for version in NatsVersion::ALL {
            let server = NatsServer::start_version(version).await.unwrap();
            let says = server.client().await.unwrap().server_info().version;
            assert!(says.starts_with(&format!("{version}.")), "{says} is not {version}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_recognised() {
        let first = NatsServer::start().await.unwrap();
        let mut second = NatsServer::prepare("").unwrap();
        second.port = first.port;
        let error = second.restart().await.unwrap_err();
        assert!(port_was_taken(&error), "{error:#}");
    }
}
