//! Compiled dependencies for new modules. `slipring new` writes the SDK's sources into each crate, which has a `target`
//! of its own. Its first build starts with a copy of what was compiled before, and cargo compiles what does not fit.
//!
//! The copied files come from a crate without code. A build directory that several modules share is no way: cargo takes
//! crates with the same name and version for one, and would not compile the second.

mod copy;
mod recipe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use tracing::debug;

use self::recipe::Recipe;
use super::{TARGET, cargo, metadata, target_is_installed};
use crate::config;

/// A folder for the cache, or `false` for no cache.
const VARIABLE: &str = "SLIPRING_BUILD_CACHE";

/// With one of these, the user has chosen where cargo builds.
const CHOSEN: [&str; 3] = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR"];

/// How many entries are kept: the module's and the tests' dependencies, for two versions of Rust or of a dependency.
const KEPT: usize = 4;

const UNFINISHED: &str = ".slipring-unfinished-";

/// What a killed process left behind is removed after this time.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// What cargo is about to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Module,
    Tests,
}

impl Goal {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Module => &["build", "--release", "--target", TARGET],
            Self::Tests => &["test", "--no-run"],
        }
    }

    /// The folder that cargo creates below `target`.
    fn folder(self) -> &'static str {
        match self {
            Self::Module => TARGET,
            Self::Tests => "debug",
        }
    }
}

/// Runs a command to its end, or returns `None` if it was stopped.
type Run<'a> = &'a mut dyn FnMut(&mut Command) -> io::Result<Option<ExitStatus>>;

/// Copies compiled dependencies into the crate's `target` if nothing was built there yet. The first time, `run` makes
/// cargo compile them. Returns `None` if it was stopped. Only time depends on it, so no failure matters: cargo can build
/// without it.
pub fn fill(dir: &Path, goal: Goal, run: Run<'_>) -> Option<()> {
    let env = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let Some(cache) = BuildCache::of(&env.collect()) else {
        return Some(());
    };
    cache.fill(dir, goal, run).unwrap_or_else(|error| {
        debug!(error = format!("{error:#}"), "no compiled dependencies were copied");
        Some(())
    })
}

/// Returns true if the crate is as `slipring new` makes it, apart from its code.
#[cfg(test)]
pub fn is_known(dir: &Path) -> anyhow::Result<bool> {
    Ok(recipe::manifest(dir)?.is_some())
}

#[derive(Debug, PartialEq, Eq)]
struct BuildCache {
    dir: PathBuf,
}

impl BuildCache {
    /// Returns `None` if there is no cache, or no use for it.
    fn of(env: &BTreeMap<String, String>) -> Option<Self> {
        if CHOSEN.iter().any(|name| env.contains_key(*name)) {
            return None;
        }
        let dir = match env.get(VARIABLE).map(String::as_str) {
            Some("false") => return None,
            None | Some("") => config::default_cache_dir(env)?.join("builds"),
            Some(dir) => std::path::absolute(dir).ok()?,
        };
        Some(Self { dir })
    }

    fn fill(&self, dir: &Path, goal: Goal, run: Run<'_>) -> anyhow::Result<Option<()>> {
        let dir = fs::canonicalize(dir)?;
        let target = dir.join("target");
        if target.join(goal.folder()).exists() {
            return Ok(Some(()));
        }
        let Some(manifest) = recipe::manifest(&dir)? else {
            return Ok(Some(()));
        };
        let chosen = metadata(&dir)?;
        let elsewhere = chosen.target_directory != target || chosen.build_directory.is_some_and(|dir| dir != target);
        if elsewhere || !target_is_installed(&dir) {
            return Ok(Some(()));
        }
        if !dir.join("Cargo.lock").exists() {
            let Some(status) = run(cargo_in(&dir).arg("generate-lockfile"))? else {
                return Ok(None);
            };
            ensure!(status.success(), "cargo cannot choose the dependencies' versions");
        }
        // The copies are as old as this. If the SDK changes from here on, it is younger, and cargo compiles it.
        let now = SystemTime::now();
        let recipe = Recipe::of(&dir, &manifest, goal)?;
        let kept = self.dir.join(recipe.key());
        if !kept.is_dir() && self.make(&recipe, &dir, &kept, run)?.is_none() {
            return Ok(None);
        }
        // The time of the last use.
        File::open(&kept)?.set_modified(now)?;
        copy::missing(&kept.join("target"), &target, now).context("copying compiled dependencies")?;
        self.tidy(now)?;
        Ok(Some(()))
    }

    /// Compiles the dependencies and keeps them under the name `kept`. Two processes may do that at once.
    fn make(&self, recipe: &Recipe, dir: &Path, kept: &Path, run: Run<'_>) -> anyhow::Result<Option<()>> {
        // Like the folder of compiled modules, which may be the one above.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let others_may_write = self.dir.metadata()?.mode() & 0o022 != 0;
        ensure!(!others_may_write, "others may write to {}", self.dir.display());
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.dir)?;
        recipe.write(unfinished.path())?;
        let target = unfinished.path().join("target");
        // Cargo runs in the crate's folder, where it finds the crate's toolchain and configuration.
        let mut command = cargo_in(dir);
        command.args(recipe.goal().arguments()).arg("--manifest-path");
        command.arg(unfinished.path().join("Cargo.toml")).arg("--target-dir");
        let Some(status) = run(command.arg(&target))? else {
            return Ok(None);
        };
        ensure!(status.success(), "the dependencies do not build");
        // Only of use where the SDK changes.
        let _ = fs::remove_dir_all(target.join("debug/incremental"));
        let unfinished = unfinished.keep();
        if let Err(error) = fs::rename(&unfinished, kept) {
            let _ = fs::remove_dir_all(&unfinished);
            ensure!(kept.is_dir(), "cannot keep them in {}: {error}", kept.display());
        }
        Ok(Some(()))
    }

    /// Removes what was not used for the longest time, and what killed processes left behind. Anything else in the folder is not
    /// ours.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let used = entry.metadata()?.modified()?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                if now.duration_since(used).is_ok_and(|age| age > STALE) {
                    fs::remove_dir_all(entry.path())?;
                }
            } else if recipe::is_key(&name) {
                entries.push((used, entry.path()));
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(KEPT);
        entries
            .iter()
            .take(surplus)
            .try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

fn cargo_in(dir: &Path) -> Command {
    let mut command = Command::new(cargo());
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()));
    command
}
