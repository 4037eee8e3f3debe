//! Compares a new version with the one that runs, on the last messages of what it reads.

use std::path::Path;

use super::super::comparison::{Comparison, Side, show};
use super::super::failure::{Failure, told_once};
use super::super::palette::Palette;
use super::super::selection::Selection;
use super::lines::Lines;
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
const EXAMPLES: usize = 1;

pub fn compare(
    ready: &Ready,
    target: &Target,
    config: &Config,
    last: u64,
    lines: &mut Lines<'_>,
) -> Result<Compared, Failure> {
    let compared = outcomes(ready, target, config, last, lines)?;
    if let Compared::Not(why) = &compared {
        lines.say(format_args!("not compared with the running version: {why}"))?;
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
    if let Target::Relay(_) = target {
        let why = "its file is with the relay, which does not give it away; the relay's probe compares them";
        return Ok(Compared::Not(why.to_owned()));
    }
    let old = match target.running(name) {
        Ok(Some(old)) => old,
        Ok(None) => {
            lines.say(format_args!(
                "nothing runs as {name} yet, so there is nothing to compare with"
            ))?;
            return Ok(Compared::First);
        }
        Err(error) => return Ok(Compared::Not(told_once(&error))),
    };
    if old.id == ready.id {
        lines.say(format_args!(
            "it is the version {} that is there already",
            old.id.name()
        ))?;
        return Ok(Compared::Same);
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
            let tally = &comparison.tally;
            let text = show::text(tally, &Palette::of_stdout());
            let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
            lines.say(format_args!("with the last messages of {}: {first}", named.stream))?;
            lines.below(rest)?;
            Ok(match tally.changed() {
                0 => Compared::Same,
                changed => Compared::Changed {
                    changed,
                    messages: tally.messages,
                },
            })
        }
    }
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
