//! Starts everything, as much as possible at the same time.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::address::base_url;
use super::super::connection;
use super::super::failure::Failure;
use super::super::project::Project;
use super::child::{Child, SOON};
use super::folder::Folder;
use super::found::{self, Found};
use super::news::Told;
use super::plan::{Plan, Settled};
use super::running::{Api, Running};
use super::{centrifugo, nats};
use crate::admin::{Client, Trust};
use crate::config::Config;
use crate::modules::install::{New, install};
use crate::status::{State, Status};

/// After this time, and then again and again, it says what the relay waits for.
const SLOW: Duration = Duration::from_secs(5);

pub async fn start(
    plan: &Plan,
    folder: &Folder,
    projects: Vec<Project>,
    stop: CancellationToken,
    notes: &mut dyn Write,
) -> Result<Running, Failure> {
    let mut ports = plan.last_ports(folder);
    let nats = plan.nats.as_deref();
    let nats_server = nats
        .map(|program| nats::Server::start(folder, program, ports.nats))
        .transpose()?;
    let namespaces = found::guess(&projects);
    let centrifugo = plan.centrifugo.as_deref();
    let centrifugo_server = centrifugo
        .map(|program| centrifugo::Server::start(folder, program, ports.centrifugo, &namespaces))
        .transpose()?;
    let mut settle = |nats: &Option<nats::Server>, centrifugo: &Option<centrifugo::Server>| {
        ports.nats = nats.as_ref().map(|server| server.port);
        ports.centrifugo = centrifugo.as_ref().map(|server| server.port);
        plan.settle(folder, ports)
    };
    let first = settle(&nats_server, &centrifugo_server)?;

    // The servers start while the modules are built.
    for project in projects.iter().filter(|project| project.is_built_here()) {
        writeln!(notes, "building the module in {}", project.dir.display())?;
    }
    let config = first.config.clone();
    let building = spawn_blocking(move || build(&projects, &config, &stop));
    let building = async { building.await.context("building has failed unexpectedly")? };
    let nats_ready = async {
        match (nats_server, nats) {
            (Some(server), Some(program)) => Ok(Some(server.ready(folder, program).await?)),
            _ => Ok::<_, Failure>(None),
        }
    };
    let centrifugo_ready = async {
        match (centrifugo_server, centrifugo) {
            (Some(server), Some(program)) => Ok(Some(server.ready(folder, program).await?)),
            _ => Ok::<_, Failure>(None),
        }
    };
    let (nats, mut centrifugo, modules) = tokio::try_join!(nats_ready, centrifugo_ready, building)?;
    // A port may have been taken meanwhile.
    let settled = settle(&nats, &centrifugo)?;

    let preparing = async {
        if let Some(server) = &mut centrifugo {
            let needed = modules.iter().flat_map(|module| module.namespaces.iter().cloned());
            server.add_namespaces(folder, &needed.collect()).await?;
        }
        Ok::<_, Failure>(())
    };
    let streams = create_streams(&settled.config, &modules, plan, nats.is_some());
    let ((), told) = tokio::try_join!(preparing, streams)?;
    for line in told {
        writeln!(notes, "{line}")?;
    }
    deploy(&settled.config.modules.dir, &modules)?;
    let mut relay = start_relay(folder, &settled)?;
    let api = api(&settled.config)?;
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    let status = ready(&api, &mut relay, &names, notes).await?;
    Ok(Running {
        told: Told::from(&api, &status).await,
        status,
        client: api,
        relay,
        centrifugo,
        nats,
        settled,
        modules,
    })
}

fn build(projects: &[Project], config: &Config, stop: &CancellationToken) -> Result<Vec<Found>, Failure> {
    let built = found::build(projects, || stop.is_cancelled())?;
    let built = built.ok_or_else(|| anyhow!("the build was stopped"))?;
    let mut modules: Vec<Found> = Vec::new();
    for (project, built) in projects.iter().zip(built) {
        let found = found::look(project, &built, config)?;
        if let Some(other) = modules.iter().find(|other| other.name == found.name) {
            return Err(anyhow!(
                "two modules have the name {}, in {} and in {}: rename one of them",
                found.name,
                other.place.display(),
                found.place.display()
            )
            .into());
        }
        if !found.reads_nats() && config.redis.is_none() {
            return Err(anyhow!(
                "the module {} reads from Redis, which `slipring up` does not start: name a running one with \
                 SLIPRING_REDIS__URL=redis://127.0.0.1:6379",
                found.name
            )
            .into());
        }
        modules.push(found);
    }
    Ok(modules)
}

async fn create_streams(config: &Config, modules: &[Found], plan: &Plan, is_own: bool) -> Result<Vec<String>, Failure> {
    if !modules.iter().any(Found::reads_nats) {
        return Ok(Vec::new());
    }
    let connected = connection::connect(&config.nats).await;
    let connected = connected.with_context(|| match &plan.base {
        Some(base) => format!(
            "{} names the servers, so `slipring up` starts none; start NATS, or use a folder without this file",
            base.display()
        ),
        None => "cannot create the streams of the modules".to_owned(),
    })?;
    Ok(nats::create_streams(&connected.jetstream, modules, is_own).await?)
}

/// Puts the modules into the relay's directory. Files that are the same already stay as they are.
fn deploy(dir: &Path, modules: &[Found]) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for Found { name, wasm, toml, .. } in modules {
        install(dir, name, &New { wasm, toml })?;
    }
    Ok(())
}

fn start_relay(folder: &Folder, settled: &Settled) -> anyhow::Result<Child> {
    // The program may have been replaced by an upgrade.
    let own = std::env::current_exe().ok().filter(|path| path.exists());
    let own = own.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    Child::start("the relay", &own, folder.path("relay.log"), |command| {
        command
            .args(["--log-format", "text", "run", "--config"])
            .arg(&settled.file)
            .envs(settled.overrides.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1");
    })
}

fn api(config: &Config) -> anyhow::Result<Api> {
    let tls = config.admin.tls.as_ref();
    let trust = Trust {
        own: tls.and_then(|tls| tls.certificates.first()).cloned(),
        ca_file: None,
    };
    let url = base_url(config.admin.listen, tls.is_some())?;
    Ok(Api::new(Client::new(url, &config.admin, trust)?))
}

/// Waits until the relay is ready and each of these modules runs, or cannot run.
async fn ready(api: &Api, relay: &mut Child, names: &[&str], notes: &mut dyn Write) -> anyhow::Result<Status> {
    let mut tell_at = Instant::now() + SLOW;
    loop {
        if let Some(status) = relay.exited() {
            return Err(relay.has_ended(status));
        }
        if let Ok(status) = api.get::<Status>("api/v1/status").await {
            let ours = status
                .modules
                .iter()
                .filter(|module| names.contains(&module.name.as_str()));
            let states: Vec<State> = ours.map(|module| module.state).collect();
            let is_down = |state: &State| matches!(state, State::Failed | State::Halted | State::Standby);
            let are_known =
                states.len() == names.len() && states.iter().all(|state| *state == State::Running || is_down(state));
            if are_known && (status.ready || states.iter().any(is_down)) {
                return Ok(status);
            }
            if Instant::now() > tell_at {
                let reasons = status
                    .obstacles
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ");
                writeln!(notes, "the relay is not ready yet: {reasons}")?;
                tell_at = Instant::now() + 2 * SLOW;
            }
        }
        sleep(SOON).await;
    }
}
