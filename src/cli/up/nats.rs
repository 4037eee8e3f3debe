//! The nats-server that `up` starts, and the streams of the modules.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::jetstream::{self, stream};
use tokio::time::sleep;

use super::child::{Child, SOON};
use super::folder::Folder;
use super::found::Found;
use super::ports;
use crate::config::covers;

/// How long the server may take. It reads its store first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many ports are tried, because another program may take one between the choice and the start.
const TRIES: usize = 5;

/// A server that has started, but may not be ready.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Server {
    /// Starts the server on this port, or on another one if it is taken.
    pub fn start(folder: &Folder, program: &Path, wanted: Option<u16>) -> anyhow::Result<Self> {
        let store = std::path::absolute(folder.create("nats")?)?;
        let port = ports::free(wanted);
        let config = format!(
            "# Written by `slipring up` at each start.\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {} }}\n",
            quoted(&store)
        );
        let config = folder.write("nats.conf", &config)?;
        let child = Child::start("nats-server", program, folder.path("nats.log"), |command| {
            command.arg("-c").arg(config);
        })?;
        Ok(Self { child, port })
    }

    /// Waits until the server is ready. It says so itself; the port could be another server's.
    pub async fn ready(self, folder: &Folder, program: &Path) -> anyhow::Result<Self> {
        let mut server = self;
        for _ in 1..TRIES {
            match server.try_ready().await {
                Err(_) if server.child.logged().contains("address already in use") => {
                    server = Self::start(folder, program, None)?;
                }
                done => return done.map(|()| server),
            }
        }
        server.try_ready().await.map(|()| server)
    }

    async fn try_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Checked first, so that everything it has written is in the log.
            let exited = self.child.exited();
            if self.child.logged().contains("Server is ready") {
                return Ok(());
            }
            if let Some(status) = exited {
                return Err(self.child.has_ended(status));
            }
            if Instant::now() > deadline {
                bail!(
                    "nats-server is not ready after {} s.{}",
                    PATIENCE.as_secs(),
                    self.child.last_words()
                );
            }
            sleep(SOON).await;
        }
    }
}

/// Quotes the path for the server's configuration.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Creates the streams that the modules read, and returns what it did, in sentences. A stream that lacks subjects of its
/// modules gets them only on the server that `up` has started: elsewhere a stream belongs to somebody else.
pub async fn create_streams(
    jetstream: &jetstream::Context,
    modules: &[Found],
    is_own: bool,
) -> anyhow::Result<Vec<String>> {
    let mut told = Vec::new();
    for (name, wanted) in streams(modules) {
        let doing = || format!("cannot create the stream {name} ({})", wanted.join(", "));
        let found = match jetstream.get_stream(&name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) if is_missing(&error) => {
                let config = stream::Config {
                    name: name.clone(),
                    subjects: wanted.clone(),
                    ..Default::default()
                };
                jetstream.create_stream(config).await.with_context(doing)?;
                told.push(format!(
                    "created the stream {name} with the subjects {}",
                    wanted.join(", ")
                ));
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot look up the stream {name}")),
        };
        let lacking: Vec<String> = without_covered(&wanted, &found.subjects);
        if lacking.is_empty() {
            continue;
        }
        let lacks = lacking.join(", ");
        if !is_own {
            told.push(format!(
                "the stream {name} does not store {lacks}: add these subjects to it, or the module gets no such messages"
            ));
            continue;
        }
        let kept = without_covered(&found.subjects, &lacking);
        let config = stream::Config {
            subjects: kept.into_iter().chain(lacking).collect(),
            ..found
        };
        let doing = || format!("cannot add {lacks} to the stream {name}");
        jetstream.update_stream(config).await.with_context(doing)?;
        told.push(format!("added {lacks} to the stream {name}"));
    }
    Ok(told)
}

/// Returns the streams in NATS that the modules read, each with the subjects that it must store.
fn streams(modules: &[Found]) -> Vec<(String, Vec<String>)> {
    let mut streams: Vec<(String, Vec<String>)> = Vec::new();
    for module in modules.iter().filter(|module| module.reads_nats()) {
        let name = &module.config.stream;
        let at = streams.iter().position(|(known, _)| known == name);
        let at = at.unwrap_or_else(|| {
            streams.push((name.clone(), Vec::new()));
            streams.len() - 1
        });
        let subjects = &mut streams[at].1;
        for subject in module.subjects() {
            if without_covered(std::slice::from_ref(&subject), subjects).is_empty() {
                continue;
            }
            subjects.retain(|known| !covers(&subject, known));
            subjects.push(subject);
        }
    }
    streams
}

/// Returns the subjects that none of the others covers.
fn without_covered(subjects: &[String], others: &[String]) -> Vec<String> {
    let is_covered = |subject: &String| others.iter().any(|other| covers(other, subject));
    subjects
        .iter()
        .filter(|subject| !is_covered(subject))
        .cloned()
        .collect()
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    use jetstream::ErrorCode;
    use jetstream::context::GetStreamErrorKind;
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
