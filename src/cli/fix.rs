//! `slipring fix`: leads from a dead letter to a version that accepts its message, and publishes it.

mod child;
mod interrupted;
mod letter;
mod replay;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, anyhow, ensure};
use tokio::runtime::Runtime;

use self::interrupted::Interrupted;
use self::letter::Recorded;
use super::case;
use super::deployment::{self, Asking, Deployed, Lines, Options, can_ask};
use super::failure::{Failure, told_once};
use super::project::{CASES, Project};
use super::redact::field;
use super::runner::Runner;
use super::test_cases;
use crate::modules::names;

/// Turn a dead letter into a case, then deploy a fix and replay
///
/// First it saves the dead letter's message as a case, cases/dead-letter-NUMBER.json, which passes once the module no longer rejects
/// the message. --redact replaces values in it, as in `slipring record`. If you know the right outcome, add it as `expect`.
///
/// Then it runs `slipring dev` on that case until it passes, unless it passes already.
///
/// Then it builds, tests and compares the module, asks, deploys it, and waits until it is proven, as `slipring deploy` does.
///
/// Finally it publishes the dead letter, as `slipring dead-letters replay` does.
///
/// With --to, the dead letter is one of the relay at that address, which takes the version as an upload. It also publishes the dead
/// letter, once the new version has passed its trial there. All of that takes the token that allows everything, and no access to NATS.
///
/// You can stop it at any time and run it again: it goes on with the case that is there. Without a terminal, it deploys only with
/// --yes.
///
/// Exits with 1 if the case does not pass, if the version is not deployed, or if the message is rejected again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters list
  slipring fix 17
  slipring fix 17 my-shop --redact customer.email
  slipring fix 17 --yes
  slipring fix 17 --to https://relay.example:8787 --token-file admin.token")]
pub struct Args {
    /// The number of the dead letter, as shown by `slipring dead-letters list`
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
    /// The module's folder, or a module that something else builds
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// A field to redact in the case; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact: Vec<String>,
    /// Like --redact, but without an error if the message does not have the field; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact_if_there: Vec<String>,
    #[command(flatten)]
    options: Options,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let project = Project::at(&args.module)?;
    let config = args.options.relay.config().load()?;
    let name = format!("dead-letter-{}", args.number);
    let file = project.path(CASES).join(format!("{name}.json"));
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    let interrupted = Interrupted::watch(&runtime)?;
    let mut lines = Lines::new(output, notes);

    let remote = args.options.remote()?;
    let found = match &remote {
        Some(relay) => letter::find_at(relay, args.number)?,
        None => letter::find(&runtime, &config, args.number)?,
    };
    let Some(letter) = found else {
        let gone = format!(
            "there is no dead letter {} any more: it was replayed or removed",
            args.number
        );
        ensure_case(&file, &gone)?;
        lines.say(format_args!("{gone}. Its case stays in {}", file.display()))?;
        return Ok(());
    };
    let module = project.name()?;
    if !names::same(&letter.module, &module) {
        return Err(anyhow!(
            "the dead letter {} is of the module {}, but {} has {module}: name the folder of {}",
            args.number,
            letter.module,
            project.dir.display(),
            letter.module
        )
        .into());
    }
    lines.say(format_args!(
        "dead letter {} of {}: {} ({})",
        args.number, letter.module, letter.reason, letter.code
    ))?;
    let is_refused = letter.stage == "publish";
    let recorded = letter::record(
        args.number,
        letter,
        &file,
        &args.redact,
        &args.redact_if_there,
        &mut lines,
    )?;
    match recorded {
        Recorded::Written => lines.say(format_args!("saved its message as the case {}", file.display()))?,
        Recorded::There => lines.say(format_args!("going on with the case {}", file.display()))?,
    }
    if is_refused {
        lines.say(
            "Centrifugo refused what the module made of it, which a case cannot show: change its configuration or the \
             module's channels",
        )?;
    }

    let again = args.again();
    interrupted.says(format!("the case is in {}; `{again}` goes on with it", file.display()));
    if let Err(why) = passes(&project, &file, &mut lines) {
        lines.say(format_args!("{name} does not pass yet: {why}"))?;
        lines.say("running `slipring dev` until it passes")?;
        let status = interrupted.run(&mut child::dev(&args.module, &name))?;
        ensure_success(status)?;
        let passed = passes(&project, &file, &mut lines);
        passed.map_err(|why| anyhow!("{name} does not pass yet ({why}). `{again}` goes on with it"))?;
    }
    lines.say(format_args!("{name} passes"))?;

    interrupted.says(format!(
        "the case passes; whether the new version is in place, `slipring modules` shows. `{again}` goes on"
    ));
    let question = format!("Deploy it and replay the dead letter {}?", args.number);
    let asking = Asking::Always(&question);
    match (
        deployment::deploy(&project, &args.options, asking, &mut lines)?,
        &remote,
    ) {
        (Deployed::Proven, _) | (Deployed::InPlace, None) => {}
        (Deployed::InPlace, Some(relay)) => {
            return Err(anyhow!(
                "the dead letter {} was not replayed: the files are with the relay at {}, but nobody has waited until the \
                 new version is proven there. `{again}` goes on",
                args.number,
                relay.address()
            )
            .into());
        }
        (Deployed::No, _) => {
            let how = if can_ask() {
                ""
            } else {
                "there is no terminal to ask at, and --yes was not given; "
            };
            return Err(anyhow!("not deployed: {how}`{again}` goes on").into());
        }
    }
    match &remote {
        Some(relay) => replay::at(args.number, relay, &again, &interrupted, &mut lines)?,
        None => replay::here(args.number, &args.options, &interrupted, &mut lines)?,
    }
    lines.say(format_args!(
        "done: keep {} as a test, and add an `expect` to it",
        file.display()
    ))?;
    Ok(())
}

impl Args {
    /// Returns the command that goes on where this one has stopped.
    fn again(&self) -> String {
        let mut again = format!("slipring fix {}", self.number);
        let mut add = |what: &str, value: &dyn Display| again.push_str(&format!(" {what}{value}"));
        if self.module != Path::new(".") {
            add("", &self.module.display());
        }
        let Options {
            dir, to, token_file, ..
        } = &self.options;
        if let Some(dir) = dir {
            add("--dir ", &dir.display());
        }
        if let Some(url) = to {
            add("--to ", &url.as_str().trim_end_matches('/'));
        }
        if let Some(file) = token_file {
            add("--token-file ", &file.display());
        }
        again
    }
}

fn ensure_success(status: ExitStatus) -> anyhow::Result<()> {
    ensure!(status.success(), "`slipring dev` ended with {status}");
    Ok(())
}

fn ensure_case(file: &Path, gone: &str) -> anyhow::Result<()> {
    ensure!(
        file.exists(),
        "{gone}, and there is no case {}. `slipring dead-letters list` shows the numbers that exist",
        file.display()
    );
    Ok(())
}

/// Builds the module and runs the case. The error says in a few words why it does not pass.
fn passes(project: &Project, file: &Path, lines: &mut Lines<'_>) -> Result<(), String> {
    let mut run = || -> Result<(), Failure> {
        project.build()?;
        let mut runner = Runner::new(project.built()?)?;
        runner.module()?;
        case::Case::read(file, runner.stream())?;
        test_cases::check(&[file.to_owned()], &mut runner, lines.output)
    };
    run().map_err(|failure| match failure {
        Failure::Failed(error) => told_once(&error),
        other => other.to_string(),
    })
}
