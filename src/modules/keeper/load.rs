//! Turns a version's files into a candidate, and decides whether it may run.

use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tracing::{debug, info};

use super::super::context::Context;
use super::super::files::Files;
use super::super::loading::Wanted;
use super::super::probe::{Probed, Unpublishable, probe};
use super::super::versions::Version;
use super::{Candidate, Keeper};
use crate::config;
use crate::pipeline::Assignment;
use crate::transform::Limits;

/// A version that takes longer than this is given up for a newer one. Until then it is finished, so someone who changes
/// a file again and again still gets one of its versions running.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a version was dropped although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GivenUp {
    #[error("the relay is shutting down")]
    Leaving,
    #[error("a newer version has arrived")]
    Superseded,
}

impl Keeper {
    pub(super) async fn load(&self, version: &Version) -> anyhow::Result<Candidate> {
        load(&self.context, &self.name, version).await
    }

    /// Probes the version with the last messages of the running one, beside the last proven version. If that one reads
    /// other messages, there is nothing to compare. Centrifugo must know the namespaces that only the new version uses.
    /// Returns a phrase that says what was done.
    pub(super) async fn probe(&self, candidate: &Candidate) -> anyhow::Result<String> {
        let Some(proven) = self.proven().filter(|proven| proven.id != candidate.id) else {
            return Ok("none: no other version was running".to_owned());
        };
        let (new, old) = (&candidate.assignment, &proven.assignment);
        if new.config.probe == 0 {
            return Ok("none: `probe = 0`".to_owned());
        }
        if !new.reads_as(old) {
            return Ok("none: it reads other messages than the version before".to_owned());
        }
        let mut messages = self.recent.messages();
        let needless = messages.len().saturating_sub(new.config.probe);
        let messages = messages.split_off(needless);
        let (old, new) = (Arc::clone(&old.module), Arc::clone(&new.module));
        let probing = self
            .context
            .loading
            .run(&self.name, move || probe(&old, &new, &messages));
        let Probed { tried, namespaces } = unless_leaving(&self.context, probing).await???;
        let asking = self.context.shared.centrifugo.unknown_namespaces(&namespaces);
        match unless_leaving(&self.context, asking).await? {
            Ok(unknown) if unknown.is_empty() => {}
            Ok(unknown) => {
                let unknown = unknown.iter().map(ToString::to_string).collect();
                let name = self.name.clone();
                return Err(Unpublishable { name, unknown }.into());
            }
            // Nothing is known against the new version, and publishing waits for Centrifugo anyway.
            Err(reason) => debug!(
                module = self.name,
                reason, "the namespaces of the new version were not checked"
            ),
        }
        info!(
            module = self.name,
            version = &*candidate.assignment.version,
            messages = tried,
            "the new version passed the probe on the last messages"
        );
        Ok(match tried {
            0 => "none: there were no messages yet".to_owned(),
            1 => "passed on the last message".to_owned(),
            _ => format!("passed on the last {tried} messages"),
        })
    }
}

/// Reads the configuration, compiles and checks the module, and runs `init` once.
pub(super) async fn load(context: &Context, name: &str, version: &Version) -> anyhow::Result<Candidate> {
    let config = Arc::new(config::parse_module(Path::new(&format!("{name}.toml")), &version.toml)?);
    config::check_sha256(name, &config, &version.id.wasm_sha256)?;
    let wanted = Wanted {
        name: name.to_owned(),
        wasm: Arc::clone(&version.wasm),
        sha256: version.id.wasm_sha256.clone(),
        settings: config.settings.clone(),
        limits: Limits::from(&*config),
    };
    let loading = context.loading.load(&context.engine, wanted);
    let module = unless_leaving(context, loading).await??;
    let module = module.with_context(|| format!("{name}.wasm cannot be used"))?;
    let version_name: Arc<str> = version.id.name().into();
    // A tap shows which version made an outcome, and those who make outcomes know only the module.
    module.set_version(Arc::clone(&version_name));
    Ok(Candidate {
        id: version.id.clone(),
        assignment: Assignment {
            module,
            config,
            version: version_name,
            trial: None,
        },
        probe: None,
    })
}

/// A guest that is being loaded must not keep the relay from ending.
async fn unless_leaving<T>(context: &Context, loading: impl Future<Output = T>) -> Result<T, GivenUp> {
    tokio::select! {
        biased;
        () = context.shutdown.drain.cancelled() => Err(GivenUp::Leaving),
        loaded = loading => Ok(loaded),
    }
}

/// Waits for newer files, once the work in progress has had its time.
pub(super) async fn superseded(mut files: watch::Receiver<Files>) {
    tokio::time::sleep(PATIENCE).await;
    if files.changed().await.is_err() {
        // There will be none.
        pending().await
    }
}
