//! Runs each module on the last messages of what it reads, and asks Centrifugo about the namespaces that it would publish to.

use std::sync::Arc;

use anyhow::Context;

use super::super::held::Held;
use super::super::namespaces::unknown;
use super::super::selection::Selection;
use super::modules::{Checked, State};
use super::online::{Finding, TIMEOUT};
use crate::config::{Config, ModuleConfig};
use crate::publish::Namespaces;
use crate::transform::Module;

/// How many messages each module is called with.
const LAST: u64 = 20;

/// Checks the modules that would run. `known_bad` tells which subjects have a failed check already.
pub async fn ask(config: &Config, modules: &[Checked], known_bad: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for checked in modules.iter().filter(|checked| checked.state == State::Good) {
        let (Some(module), Some(module_config)) = (&checked.module, &checked.config) else {
            continue;
        };
        let subject = format!("module {}", checked.name);
        if known_bad(&subject) || known_bad(&format!("stream {}", module_config.stream)) {
            continue;
        }
        let used = tokio::time::timeout(TIMEOUT, used(config, module, module_config)).await;
        match used.context("no reply").and_then(|used| used) {
            Ok(used) if used.is_empty() => {}
            Ok(used) => findings.extend(known(config, subject, &used).await),
            Err(error) => findings.push(Finding::note(
                subject,
                format!(
                    "the namespaces that it publishes to were not checked, because its last messages could not be read: {}",
                    super::super::failure::told_once(&error)
                ),
            )),
        }
    }
    findings
}

async fn known(config: &Config, subject: String, used: &Namespaces) -> Vec<Finding> {
    match unknown(&config.centrifugo, used).await {
        Ok(unknown) if unknown.is_empty() => {
            let names: Vec<&str> = used.names().collect();
            let detail = format!("publishes to namespaces that Centrifugo has: {}", names.join(", "));
            vec![Finding::new(subject, Ok(detail))]
        }
        Ok(unknown) => {
            let bad = |unknown: &crate::publish::UnknownNamespace| {
                Finding::new(subject.clone(), Err(anyhow::anyhow!(unknown.to_string())))
            };
            unknown.iter().map(bad).collect()
        }
        // The line about the endpoint says why.
        Err(_) => Vec::new(),
    }
}

async fn used(config: &Config, module: &Arc<Module>, module_config: &ModuleConfig) -> anyhow::Result<Namespaces> {
    let selection = Selection {
        stream: &module_config.stream,
        subjects: &module_config.subjects,
    };
    let held = Held::open(config, selection, Some(module_config)).await?;
    let mut last = held.last(LAST, selection.subjects).await?;
    let mut messages = Vec::new();
    while let Some(message) = last.next().await? {
        messages.push(message);
    }
    let module = Arc::clone(module);
    // Calls block, and WASI runs its own tasks to their end.
    let calls = tokio::task::spawn_blocking(move || {
        let mut instance = module.instance();
        let mut used = Namespaces::default();
        for message in messages {
            used.extend(Namespaces::of(&instance.call(&message)));
        }
        used
    });
    calls.await.context("running the module failed")
}
