//! `slipring check`: checks the configuration and whether every module would run. It contacts the servers only with
//! `--online`.

mod modules;
mod namespaces;
mod online;
mod permissions;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Serialize;

use self::modules::{Checked, State};
use self::online::Finding;
use self::permissions::User;
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::palette::Palette;
use super::printable::printable_json;
use super::table::{Cell, Column, Table, View};
use crate::config::Problem;
use crate::transform::Engine;

/// Check the configuration and every module, without a server
///
/// Reads slipring.toml and each NAME.toml in the modules directory and reports all mistakes in them. Compiles each NAME.wasm and
/// runs its `init` with its settings. Prints one line per module: `good`, `bad`, or `waiting` (one of the two files is missing).
///
/// With --online it also checks that NATS has JetStream, that no setting of a module's stream or consumer, or of Redis, breaks
/// ordering or delivery, that Centrifugo accepts the API key, and that it has the namespaces of the channels to which the modules
/// publish the last messages.
///
/// With --permissions it checks no module. It prints the permissions in NATS and Redis that the relay needs, or with `--user people`
/// those that the other commands need.
///
/// Exits with 78 if slipring.toml is wrong, and with 1 if a module, a server or a server's setting is bad, or if no module is good. With
/// --online a line can also be a `note`, which is not a failure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring check
  slipring check --online
  slipring check --config /etc/slipring/slipring.toml
  slipring check --permissions > slipring-permissions.conf
  slipring check --json | jq '.modules[] | select(.state == \"bad\")'")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Check NATS or Redis, and Centrifugo, as well
    #[arg(long)]
    online: bool,
    /// Print one JSON object, for programs
    #[arg(long)]
    json: bool,
    /// Print the permissions that the relay needs: from NATS in the form of nats-server's configuration, from Redis as a line for
    /// its ACL file
    #[arg(long, conflicts_with_all = ["online", "json"])]
    permissions: bool,
    /// Whose permissions to print
    #[arg(long, value_name = "USER", default_value = "relay", requires = "permissions")]
    user: User,
}

/// The output of `--json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Problems of slipring.toml. If there are any, nothing else was checked.
    problems: Vec<Problem>,
    modules: Vec<Checked>,
    /// Empty unless the servers were checked.
    servers: Vec<Finding>,
}

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(failure) => {
            if let (Failure::Config(problems), true) = (&failure, args.json) {
                let report = Report {
                    problems: problems.iter().cloned().collect(),
                    ..Report::default()
                };
                print_json(&report, output)?;
            }
            return Err(failure);
        }
    };
    if args.permissions {
        write!(output, "{}", permissions::print(&config, args.user)?)?;
        return Ok(());
    }
    // The modules are compiled without the cache, because a check leaves nothing behind.
    let engine = Engine::bounded(None, config.modules.bounds).context("cannot check modules")?;
    let mut report = Report {
        modules: modules::check_all(&engine, &config.modules)?,
        ..Report::default()
    };
    if args.online {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        report.servers = runtime.block_on(online::ask(&config, &report.modules));
    }
    match args.json {
        true => print_json(&report, output)?,
        false => write!(output, "{}", render(&report, &View::of_stdout()))?,
    }
    verdict(&report, &config.modules.dir)
}

fn verdict(report: &Report, dir: &Path) -> Result<(), Failure> {
    let count = |state: State| report.modules.iter().filter(|module| module.state == state).count();
    let (bad, all) = (count(State::Bad), report.modules.len());
    let modules = match (count(State::Good), bad) {
        (0, _) if all == 0 => Some(format!("no module would run: there is none in {}", dir.display())),
        (0, 0) => Some("no module would run: each waits for one of its files".to_owned()),
        (0, _) => Some("no module would run".to_owned()),
        (_, 0) => None,
        _ => Some(format!("{bad} of {all} modules would not run")),
    };
    let bad_servers = report.servers.iter().filter(|finding| !finding.good).count();
    let servers = (bad_servers > 0).then(|| format!("failed server checks: {bad_servers}"));
    let verdict: Vec<String> = modules.into_iter().chain(servers).collect();
    match verdict.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(verdict.join("; ")).into()),
    }
}

const COLUMNS: [Column; 3] = [
    Column::new("").shrinks_to(24),
    Column::new(""),
    Column::new("").wraps_from(16),
];

fn render(report: &Report, view: &View) -> String {
    let palette = &view.palette;
    let mut table = Table::new(COLUMNS);
    for module in &report.modules {
        table.row(row(module, palette));
        if let [_, _, ..] = module.reasons.as_slice() {
            module.reasons.iter().for_each(|reason| table.below(reason));
        }
    }
    for finding in &report.servers {
        let state = match (finding.good, finding.note) {
            (true, false) => Cell::styled("good", palette.good),
            (true, true) => Cell::styled("note", palette.note),
            (false, _) => Cell::styled("bad", palette.bad),
        };
        table.row([finding.subject.clone().into(), state, finding.detail.clone().into()]);
    }
    let text = table.render(view);
    match report.modules.is_empty() {
        true => format!("the configuration is good\n{text}"),
        false => text,
    }
}

fn row(module: &Checked, palette: &Palette) -> [Cell; 3] {
    let state = match module.state {
        State::Good => Cell::styled("good", palette.good),
        State::Bad => Cell::styled("bad", palette.bad),
        State::Waiting => Cell::styled("waiting", palette.note),
    };
    let detail = match (module.reasons.as_slice(), &module.stream, &module.sha256) {
        ([], Some(stream), Some(sha256)) => format!("stream {stream}, sha256 {}", sha256.get(..12).unwrap_or(sha256)),
        ([], ..) => String::new(),
        ([reason], ..) => reason.clone(),
        (reasons, ..) => format!("{} problems", reasons.len()),
    };
    [module.name.clone().into(), state, detail.into()]
}

fn print_json(report: &Report, output: &mut dyn Write) -> io::Result<()> {
    writeln!(output, "{}", printable_json(&serde_json::to_string_pretty(report)?))
}
