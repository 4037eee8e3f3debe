//! `slipring new`: creates a folder with a module that builds, passes its test and its cases, and is ready to be
//! changed.

mod language;
mod others;
mod pass_through;
mod rust;
mod sdk;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::builder::{PossibleValue, PossibleValuesParser};

use self::language::Language;
use self::others::{C, GO, JAVASCRIPT, PYTHON};
use self::rust::RUST;
use self::sdk::Sdk;
use super::failure::Failure;
use crate::config;

const LANGUAGES: [Language; 5] = [RUST, JAVASCRIPT, PYTHON, GO, C];

/// Create a new module
///
/// Creates the folder NAME. It contains a module that is ready to build, unit tests (Rust and Go only), cases for `slipring test`,
/// and NAME.toml, the module's own configuration. Prints what to type next.
///
/// A module in Rust needs the crate slipring-sdk, which is not on crates.io yet. A copy of its sources goes into the new folder,
/// unless --sdk names another place. A module in any other language has a script `build`. It tells you which tools are missing, and
/// downloads what it can.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring new shop
  slipring new shop --lang go
  slipring new chat --pass-through
  slipring new ~/modules/shop --sdk ~/slipring/guest-sdk")]
pub struct Args {
    /// The folder to create; its last part is the module's name
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// The module's language
    #[arg(long, value_name = "LANGUAGE", default_value = "rust", value_parser = languages())]
    lang: String,
    /// Use the crate slipring-sdk from this folder or this checkout of Slipring, instead of a copy
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Instead of code, take the ready module that publishes messages that are commands for Centrifugo's API already
    #[arg(long, conflicts_with_all = ["lang", "sdk"])]
    pass_through: bool,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let is_meant = |language: &Language| language.name == args.lang || language.aliases.contains(&args.lang.as_str());
    let language = LANGUAGES.into_iter().find(is_meant);
    let language = language.with_context(|| format!("there is no template for the language {}", args.lang))?;
    let name = name(&args.path, &language)?;
    if args.path.exists() {
        return Err(anyhow!(
            "{} already exists: choose another name, or remove it",
            args.path.display()
        )
        .into());
    }
    if args.pass_through {
        return pass_through::create(&args.path, name, output, notes);
    }
    let sdk = match (language.needs_sdk, args.sdk.as_deref()) {
        (true, given) => Some(Sdk::find(given)?),
        (false, None) => None,
        (false, Some(_)) => {
            return Err(Failure::Usage("--sdk is only for modules in Rust".to_owned()));
        }
    };
    let values = Values {
        name: name.to_owned(),
        stream: name.to_uppercase().replace('-', "_"),
        sdk,
    };
    make(&args.path, &language, &values)
        .with_context(|| format!("cannot create the folder {}", args.path.display()))?;
    writeln!(notes, "created the module {name} in {}. Next:", args.path.display())?;
    writeln!(output, "cd {}", quoted(&args.path))?;
    for step in (language.steps)() {
        writeln!(output, "{step}")?;
    }
    tell_of_servers(&values, notes)?;
    if args.lang.starts_with('t') {
        writeln!(
            notes,
            "The template for TypeScript is the one for JavaScript: have your compiler write transform.js before `build` runs."
        )?;
    }
    Ok(())
}

/// Other words are hidden from the help and from completions.
fn languages() -> PossibleValuesParser {
    let value = |language: Language| PossibleValue::new(language.name).aliases(language.aliases);
    PossibleValuesParser::new(LANGUAGES.map(value))
}

/// Says what has to be there before the first publication arrives.
fn tell_of_servers(values: &Values, notes: &mut dyn Write) -> std::io::Result<()> {
    let Values { name, stream, .. } = values;
    writeln!(
        notes,
        "The module reads the stream {stream} and publishes to the namespace `{name}`. `slipring up` creates both. On other servers:\n  \
         NATS        nats stream add {stream} --subjects '{name}.>' --defaults\n  \
         Centrifugo  {{\"channel\": {{\"namespaces\": [{{\"name\": \"{name}\", \"history_size\": 100, \"history_ttl\": \"10m\"}}]}}}}"
    )
}

fn name<'a>(path: &'a Path, language: &Language) -> Result<&'a str, Failure> {
    let wrong = |rule: &str| {
        Failure::Usage(match path.file_name() {
            Some(name) => format!("the name {name:?} must {rule}"),
            None => format!(
                "{} does not end with the module's name, which must {rule}",
                path.display()
            ),
        })
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (language.check)(name).map_err(|rule| wrong(&rule))?;
    if name.eq_ignore_ascii_case("cargo") {
        return Err(wrong(
            "be a different one, because Cargo.toml is the manifest of a crate",
        ));
    }
    config::module_name(path).map_err(Failure::Usage)
}

/// The values for the templates.
struct Values {
    name: String,
    stream: String,
    /// Set for a language that needs the crate.
    sdk: Option<Sdk>,
}

/// The place in a template for the SDK, as a dependency in TOML.
const SDK_HERE: &str = "{{sdk}}";

impl Values {
    fn fill(&self, text: &str) -> String {
        let text = text
            .replace("{{name}}", &self.name)
            .replace("{{file}}", &self.name.replace('-', "_"))
            .replace("{{stream}}", &self.stream);
        match &self.sdk {
            Some(sdk) => text.replace(SDK_HERE, &sdk.dependency()),
            None => text,
        }
    }
}

/// Creates the folder completely or not at all, under another name beside it, and renames it at the end. The temporary
/// name is different each time, because a killed run leaves its own behind.
fn make(path: &Path, language: &Language, values: &Values) -> anyhow::Result<()> {
    let unfinished = path.with_file_name(format!(".{}.{:08x}.unfinished", values.name, fastrand::u32(..)));
    fs::create_dir(&unfinished)?;
    let made = fill(&unfinished, language, values).and_then(|()| Ok(fs::rename(&unfinished, path)?));
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made
}

fn fill(dir: &Path, language: &Language, values: &Values) -> anyhow::Result<()> {
    for template in language.templates {
        template.write(dir, |text| values.fill(text))?;
    }
    if let Some(sdk) = &values.sdk {
        sdk.write(dir)?;
    }
    let manifest = dir.join("Cargo.toml");
    if manifest.exists() && is_below_a_manifest(dir) {
        let own = "\n# Keeps the workspace of a parent folder from claiming this crate. To make the crate a member of it, remove \
                   this.\n[workspace]\nexclude = [\"vendor\"]\n";
        let text = fs::read_to_string(&manifest)?;
        fs::write(&manifest, text + own)?;
    }
    Ok(())
}

/// Returns true if a folder above has a Cargo.toml. Cargo takes that for the workspace's manifest, and complains if the
/// crate is not a member.
fn is_below_a_manifest(dir: &Path) -> bool {
    let absolute = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    absolute
        .ancestors()
        .skip(1)
        .any(|above| above.join("Cargo.toml").exists())
}

/// Quotes the path for a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@~".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
