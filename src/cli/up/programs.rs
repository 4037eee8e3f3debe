//! Finds the servers' programs.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

/// Where `make servers` of a checkout of Slipring leaves them.
const TOOLS: &str = ".tools/bin";

/// A program, and how to get it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    name: &'static str,
    /// Completes `Get it from …`.
    from: &'static str,
    /// The option that names its file.
    option: &'static str,
    /// The option that names a running server.
    instead: &'static str,
}

pub const NATS: Program = Program {
    name: "nats-server",
    from: "https://github.com/nats-io/nats-server/releases (2.10 or later, one file)",
    option: "--nats-server",
    instead: "--nats",
};

pub const CENTRIFUGO: Program = Program {
    name: "centrifugo",
    from: "https://github.com/centrifugal/centrifugo/releases (6 or later, one file)",
    option: "--centrifugo-server",
    instead: "--centrifugo",
};

impl Program {
    /// Returns the file that the user named, or else the program in `.tools/bin` of `dir` or a folder above it, or else the
    /// one on the PATH.
    pub fn find(&self, given: Option<&Path>, dir: &Path) -> anyhow::Result<PathBuf> {
        if let Some(given) = given {
            if !is_program(given) {
                bail!("`{} {}` names no executable file", self.option, given.display());
            }
            // The path may be relative, and the program is looked up by path and not on the PATH.
            return Ok(std::path::absolute(given)?);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        self.look(dir, env::split_paths(&path)).ok_or_else(|| self.missing())
    }

    fn look(&self, dir: &Path, path: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
        let dir = fs::canonicalize(dir).ok()?;
        let tools = dir.ancestors().map(|folder| folder.join(TOOLS));
        let mut files = tools.chain(path).map(|folder| folder.join(self.name));
        files.find(|file| is_program(file))
    }

    fn missing(&self) -> anyhow::Error {
        let Self {
            name,
            from,
            option,
            instead,
        } = self;
        anyhow!(
            "{name} is neither on the PATH nor in {TOOLS} of this folder or one above. Get it from {from}, and put it on \
             the PATH, or name it: `{option} FILE`. In a checkout of Slipring, `make servers` builds it. Or name a server \
             that is running: `{instead} URL`"
        )
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn the_nearest_tools_come_before_the_path() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("a/b");
        let path = top.path().join("path");
        let add = |folder: &Path, mode: u32| {
            fs::create_dir_all(folder).unwrap();
            let file = folder.join("nats-server");
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(mode);
            options.open(&file).unwrap();
            fs::canonicalize(file).unwrap()
        };
        fs::create_dir_all(&dir).unwrap();
        let look = || {
            let found = NATS.look(&dir, [path.clone()].into_iter());
            found.map(|file| fs::canonicalize(file).unwrap())
        };
        assert_eq!(look(), None);
        let on_path = add(&path, 0o755);
        add(&dir.join(TOOLS), 0o644);
        assert_eq!(look(), Some(on_path), "the other one is no program");
        let above = add(&top.path().join(TOOLS), 0o755);
        assert_eq!(look(), Some(above));
    }

    #[test]
    fn what_is_missing_is_told_with_where_to_get_it() {
        let error = NATS.missing().to_string();
        assert!(
            error.contains("nats-server/releases") && error.contains("--nats URL"),
            "{error}"
        );
        let error = NATS.find(Some(Path::new("/nowhere")), Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "`--nats-server /nowhere` names no executable file");
    }
}
