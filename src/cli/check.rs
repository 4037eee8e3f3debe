//! `slipring check`: checks the configuration and whether every module would run. It contacts the servers only with
//! `--online`.

mod modules;
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
use super::printable::{printable, printable_json};
use super::table::align;
use crate::config::Problem;
use crate::transform::Engine;

/// Check the configuration and every module, without a server
///
/// Reads slipring.toml and each NAME.toml in the modules directory and reports all mistakes in them. Compiles each NAME.wasm and
/// runs its `init` with its settings. Prints one line per module: `good`, `bad`, or `waiting` (one of the two files is missing).
///
/// With --online it also checks that NATS has JetStream, that no setting of a module's stream or consumer, or of Redis, breaks
/// ordering or delivery, and that Centrifugo accepts the API key.
///
/// With --permissions it checks no module. It prints the permissions in NATS and Redis that the relay needs, or with `--user people`
/// those that the other commands need.
///
/// Exits with 78 if slipring.toml is wrong, and with 1 if a module, a server or a server's setting is bad. With --online a line can also
/// be a `note`, which is not a failure.
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
        false => write!(output, "{}", render(&report, &config.modules.dir))?,
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let bad_modules = report
        .modules
        .iter()
        .filter(|module| module.state == State::Bad)
        .count();
    let bad_servers = report.servers.iter().filter(|finding| !finding.good).count();
    let verdict = match (bad_modules, bad_servers) {
        (0, 0) => return Ok(()),
        (_, 0) => anyhow!("{bad_modules} of {} modules would not run", report.modules.len()),
        (0, _) => anyhow!("failed server checks: {bad_servers}"),
        _ => anyhow!(
            "{bad_modules} of {} modules would not run; failed server checks: {bad_servers}",
            report.modules.len()
        ),
    };
    Err(verdict.into())
}

fn render(report: &Report, dir: &Path) -> String {
    let mut rows: Vec<Vec<String>> = report.modules.iter().map(row).collect();
    rows.extend(report.servers.iter().map(|finding| {
        let state = match (finding.good, finding.note) {
            (true, false) => "good",
            (true, true) => "note",
            (false, _) => "bad",
        };
        vec![finding.subject.clone(), state.to_owned(), finding.detail.clone()]
    }));
    let mut text = String::new();
    if report.modules.is_empty() {
        text.push_str(&format!(
            "the configuration is good; there are no modules in {}\n",
            dir.display()
        ));
    }
    let many_reasons = report.modules.iter().map(|module| {
        if module.reasons.len() > 1 {
            &module.reasons[..]
        } else {
            &[]
        }
    });
    for (line, reasons) in align(&rows).lines().zip(many_reasons.chain(std::iter::repeat(&[][..]))) {
        text.push_str(line);
        text.push('\n');
        for reason in reasons {
            text.push_str(&format!("    {}\n", printable(reason)));
        }
    }
    text
}

fn row(module: &Checked) -> Vec<String> {
    let state = match module.state {
        State::Good => "good",
        State::Bad => "bad",
        State::Waiting => "waiting",
    };
    let detail = match (module.reasons.as_slice(), &module.stream, &module.sha256) {
        ([], Some(stream), Some(sha256)) => format!("stream {stream}, sha256 {}", sha256.get(..12).unwrap_or(sha256)),
        ([], ..) => String::new(),
        ([reason], ..) => reason.clone(),
        (reasons, ..) => format!("{} problems", reasons.len()),
    };
    vec![module.name.clone(), state.to_owned(), detail]
}

fn print_json(report: &Report, output: &mut dyn Write) -> io::Result<()> {
    writeln!(output, "{}", printable_json(&serde_json::to_string_pretty(report)?))
}
