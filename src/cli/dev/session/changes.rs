//! Which work a change of files requires.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::super::super::project::CASES;
use super::super::Work;
use super::super::news::News;
use super::Session;

/// A person may save a file during one build and the next, but not during this many.
const SAVES_DURING_BUILDS: u32 = 3;

/// What changed during builds, build after build.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    files: BTreeSet<PathBuf>,
    times: u32,
}

impl Session<'_> {
    /// Returns the work that these changed files require.
    pub(super) fn work(&mut self, changed: &BTreeSet<PathBuf>) -> Option<Work> {
        let cases = self.setup.project.dir.join(CASES);
        self.has_new_cases |= changed.iter().any(|path| path.starts_with(&cases));
        let toml = self.runner.as_ref().and_then(|runner| runner.built().toml.file_name());
        changed
            .iter()
            .map(|path| {
                let path = path.strip_prefix(&self.setup.project.dir).unwrap_or(path);
                if path.starts_with(CASES) {
                    Work::Run
                } else if toml.is_some_and(|toml| path == Path::new(toml)) {
                    Work::Load
                } else {
                    Work::Build
                }
            })
            .max()
    }

    /// A file that changed during a build was either saved in the meantime or made by the build. The build must not run
    /// for ever because of its own files.
    pub(super) fn after_build(&mut self, changed: &BTreeSet<PathBuf>) -> io::Result<Option<Work>> {
        let repeated = &mut self.made_by_builds;
        if changed.is_empty() || *changed != repeated.files {
            repeated.times = 0;
            repeated.files.clone_from(changed);
        }
        repeated.times += 1;
        if changed.is_empty() || repeated.times < SAVES_DURING_BUILDS {
            return Ok(self.work(changed));
        }
        let names: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
        let them = if names.len() == 1 { "it" } else { "them" };
        self.front.tell(News::Trouble(format!(
            "each build changes {}, so changes to {them} do not start a build. To stop watching {them}, add {them} to .gitignore",
            names.join(", ")
        )))?;
        Ok(None)
    }
}
