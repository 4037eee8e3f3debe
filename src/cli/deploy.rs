//! `slipring deploy`: builds and checks a module, puts it where a relay finds it, and follows it until it is proven.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::deployment::{self, Asking, Deployed, Lines, Options};
use super::failure::Failure;
use super::project::{Project, spelling};
use crate::modules::names;

/// Build, test and deploy a module, and follow it until proven
///
/// Builds the module, runs its unit tests (`cargo test`, `go test`) and its cases, and compares it with the running version on the
/// last messages. Then it copies the .wasm and the .toml into the modules directory in one step: even if the command is killed
/// halfway, no relay ever runs one new file with the other old one. The module keeps the name that it has there; `-` and `_` count as
/// the same character, so `my_shop.wasm` replaces `my-shop.wasm`.
///
/// Then it follows the version in the relay at `admin.listen`: whether the probe refuses it, when it takes over, and whether it passes
/// its trial (`watch` in the module's .toml). If no relay answers, it says that the files are in place. You can stop the command while
/// it waits: the relay goes on.
///
/// With --to, the files go to a relay on another machine, if that has `admin.uploads = true`. The token is that of --token-file, or of
/// `admin.token_file` in the configuration. The relay checks the files before it keeps them. To compare, the new version runs here on
/// the last messages of the relay, which says what its version makes of them.
///
/// On a terminal, it asks before it deploys a version whose outcomes differ, unless you give --yes. Elsewhere it goes on, unless you
/// give --expect-same.
///
/// Exits with 1 if a test or a case fails, and if the relay refuses the version, rolls it back, or does not run it in time.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring deploy
  slipring deploy my-shop --yes
  slipring deploy target/wasm32-wasip2/release/my_shop.wasm --dir /srv/modules
  slipring deploy --to https://relay.example:8787 --token-file admin.token
  slipring deploy --expect-same    # in CI: a change that changes no outcome")]
pub struct Args {
    /// The module's folder, its name if it is the name of a folder, or a module that is already built
    #[arg(value_name = "DIR | NAME | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    #[command(flatten)]
    options: Options,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let project = find(&args.module)?;
    let mut lines = Lines::new(output, notes);
    match deployment::deploy(&project, &args.options, Asking::IfChanged, &mut lines)? {
        Deployed::Proven | Deployed::InPlace => Ok(()),
        Deployed::No => Err(anyhow!("not deployed").into()),
    }
}

/// Finds the folder of a module by its path, or by its name in either spelling.
fn find(module: &Path) -> anyhow::Result<Project> {
    let found = spelling::folder(module.to_owned());
    if found.exists() {
        return Project::at(&found);
    }
    // Whoever is in the folder may name it, too.
    let here = std::env::current_dir().ok();
    let here = here.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_here = here
        .zip(module.to_str())
        .is_some_and(|(here, name)| names::same(here, name));
    match Project::find(Path::new(".")) {
        Ok(Some(project)) if is_here => Ok(project),
        _ => bail!(
            "there is no {}: name the folder of a module, or a module that is already built (NAME.wasm)",
            module.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_found_in_either_spelling() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("my-shop");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("Cargo.toml"), "").unwrap();
        for name in ["my-shop", "my_shop"] {
            assert_eq!(find(&dir.path().join(name)).unwrap().dir, folder);
        }
        let error = find(&dir.path().join("shop")).unwrap_err().to_string();
        assert!(error.contains("name the folder of a module"), "{error}");
    }
}
