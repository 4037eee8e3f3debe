//! Compares a new version with the one that runs, on the last messages of what it reads.

use std::path::Path;

use super::super::comparison::{Comparison, Side, Tally, show};
use super::super::failure::{Failure, told_once};
use super::super::palette::Palette;
use super::super::selection::Selection;
use super::lines::Lines;
use super::remote;
use super::target::Target;
use super::version::Ready;
use crate::config::{self, Config};
use crate::modules::versions::Version;
use crate::transform::{Engine, Limits, Module};

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// Nobody wanted one.
    Unasked,
    /// There is no other version.
    First,
    /// It was not possible, for this reason.
    Not(String),
    Same,
    Changed {
        changed: u64,
        messages: u64,
    },
}

/// How many messages are shown for each kind of change.
pub const EXAMPLES: usize = 1;

pub fn compare(
    ready: &Ready,
    target: &Target,
    config: &Config,
    last: u64,
    lines: &mut Lines<'_>,
) -> Result<Compared, Failure> {
    let (compared, advice) = match target {
        Target::Directory(_) => (outcomes(ready, target, config, last, lines)?, ""),
        Target::Relay(client) => (
            remote::outcomes(ready, client, last, lines)?,
            ". `slipring diff` compares it with a copy of the file that runs there",
        ),
    };
    if let Compared::Not(why) = &compared {
        lines.say(format_args!("not compared with the running version: {why}{advice}"))?;
    }
    Ok(compared)
}

fn outcomes(
    ready: &Ready,
    target: &Target,
    config: &Config,
    last: u64,
    lines: &mut Lines<'_>,
) -> Result<Compared, Failure> {
    let name = &ready.name;
    let old = match target.running(name) {
        Ok(Some(old)) => old,
        Ok(None) => return first(name, lines),
        Err(error) => return Ok(Compared::Not(told_once(&error))),
    };
    if old.id == ready.id {
        return same(&old.id.name(), lines);
    }
    let old = match side(&old, name, config) {
        Ok(old) => old,
        Err(error) => {
            let why = format!("the version there cannot be loaded: {}", told_once(&error));
            return Ok(Compared::Not(why));
        }
    };
    let new = Side {
        instance: ready.module.instance(),
        config: ready.config.clone(),
    };
    let named = new.config.clone();
    let selection = Selection {
        stream: &named.stream,
        subjects: &named.subjects,
    };
    let mut comparison = Comparison::new(old, new, EXAMPLES);
    match comparison.run_stream(config, selection, Some(&named), last) {
        Err(error) => Ok(Compared::Not(told_once(&error))),
        Ok(Some(nothing)) => Ok(Compared::Not(nothing)),
        Ok(None) => {
            let what = format!("with the last messages of {}", named.stream);
            told(&comparison.tally, &what, lines)
        }
    }
}

/// Says that there is no other version.
pub fn first(name: &str, lines: &mut Lines<'_>) -> Result<Compared, Failure> {
    lines.say(format_args!(
        "nothing runs as {name} yet, so there is nothing to compare with"
    ))?;
    Ok(Compared::First)
}

/// Says that the version runs already.
pub fn same(version: &str, lines: &mut Lines<'_>) -> Result<Compared, Failure> {
    lines.say(format_args!("nothing to compare: version {version} is already there"))?;
    Ok(Compared::Same)
}

/// Says what differs.
pub fn told(tally: &Tally, what: &str, lines: &mut Lines<'_>) -> Result<Compared, Failure> {
    let text = show::text(tally, &Palette::of_stdout());
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    lines.say(format_args!("{what}: {first}"))?;
    lines.below(rest)?;
    Ok(match tally.changed() {
        0 => Compared::Same,
        changed => Compared::Changed {
            changed,
            messages: tally.messages,
        },
    })
}

/// Loads the version that runs.
fn side(version: &Version, name: &str, config: &Config) -> anyhow::Result<Side> {
    let file = format!("{name}.toml");
    let module_config = config::parse_module(Path::new(&file), &version.toml)?;
    let engine = Engine::bounded(None, config.modules.bounds)?;
    let limits = Limits::from(&module_config);
    let module = Module::load(&engine, name, &version.wasm, &module_config.settings, limits)?;
    Ok(Side {
        instance: module.instance(),
        config: module_config,
    })
}
