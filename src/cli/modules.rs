//! `slipring modules`: shows which version of each module a relay runs, and rolls back to an earlier one.

use std::io::Write;

use anyhow::Context;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::address::Address;
use super::failure::Failure;
use super::printable::{printable, printable_json};
use super::status::state_cell;
use super::table::{Cell, Column, Table, View};
use crate::status::{ModuleStatus, RolledBack, State, Trial, VersionStatus, Versions};

/// Show which version of each module runs, roll back, or retry
///
/// A version is a .wasm file and its .toml. The command connects to the relay at `admin.listen`, with the token in the
/// configuration or the one that the relay created.
/// It prints one line per module: the hashes of both files, when the version started, and the previous version. Under the table it
/// prints the versions that were refused or rolled back, with the reason.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A new version is tried on the last messages before it takes over, and watched
for a while afterwards (`probe`, `watch` and `watch_max_rejects` in the module's
.toml).

Examples:
  slipring modules
  slipring modules --json | jq '.[] | select(.rolled_back)'
  slipring modules versions orders
  slipring modules rollback orders
  slipring modules rollback orders 3045d0fa30ea
  slipring modules retry orders")]
pub struct Args {
    #[command(flatten)]
    relay: Address,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the versions of a module that a rollback can return to
    ///
    /// Prints one line per version, the newest first: its name (the first twelve digits of the hashes of both files), when it took
    /// over, whether it is running, and what the probe before the swap and the trial after it said.
    Versions {
        /// The module
        #[arg(value_name = "MODULE")]
        name: String,
    },
    /// Roll back to the previous version, or to the one that is named
    ///
    /// Its files are kept in `modules.versions_dir`. The files in the modules directory are not changed. They are loaded again when
    /// they change, or when you run `slipring modules retry`.
    Rollback {
        /// The module
        #[arg(value_name = "MODULE")]
        name: String,
        /// The version, or as much of its name as is needed; `slipring modules versions NAME` lists them
        #[arg(value_name = "VERSION")]
        version: Option<String>,
    },
    /// Retry the files in the modules directory, or resume a halted module
    ///
    /// Loads the files again after a rollback or a refusal. Their version is tried like every new version, and may be refused again. A
    /// halted module whose files have not changed resumes with the message that halted it.
    Retry {
        /// The module
        #[arg(value_name = "MODULE")]
        name: String,
    },
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let relay = args.relay.find()?;
    match &args.verb {
        Some(Verb::Versions { name }) => {
            let versions = relay.versions(name)?;
            if args.json {
                writeln!(output, "{}", printable_json(&format!("{versions:#}")))?;
            } else {
                let versions = Versions::deserialize(versions).context("the reply does not list versions")?;
                write!(output, "{}", list(&versions, &View::of_stdout()))?;
            }
        }
        Some(Verb::Rollback { name, version }) => {
            writeln!(notes, "{}", relay.command(name, "rollback", version.as_deref())?)?;
        }
        Some(Verb::Retry { name }) => writeln!(notes, "{}", relay.command(name, "retry", None)?)?,
        None => {
            let mut status = relay.status()?;
            let modules = status["modules"].take();
            if args.json {
                let versions = Value::Array(versions(&modules));
                writeln!(output, "{}", printable_json(&format!("{versions:#}")))?;
            } else {
                let modules =
                    Vec::<ModuleStatus>::deserialize(modules).context("the reply is not the status of a relay")?;
                write!(output, "{}", render(&modules, &View::of_stdout()))?;
            }
        }
    }
    Ok(())
}

const COLUMNS: [Column; 6] = [
    Column::new("MODULE").shrinks_to(12),
    Column::new("STATE"),
    Column::new("WASM"),
    Column::new("TOML"),
    Column::new("SINCE").left_out(1),
    // Without the time, which is at the end.
    Column::new("PREVIOUS (WASM, TOML, SINCE)").shrinks_to(26).left_out(2),
];

const VERSION_COLUMNS: [Column; 5] = [
    Column::new("VERSION"),
    Column::new("SINCE").left_out(1),
    Column::new("STATE"),
    Column::new("PROBE").shrinks_to(16),
    Column::new("TRIAL"),
];

/// The fields of a module's status that concern its versions.
const FIELDS: [&str; 11] = [
    "name",
    "state",
    "sha256",
    "toml_sha256",
    "running_since",
    "predecessor",
    "rolled_back",
    "rollbacks",
    "swaps",
    "refused_swaps",
    "last_refusal",
];

fn versions(modules: &Value) -> Vec<Value> {
    let of = |module: &Value| {
        FIELDS
            .map(|field| (field.to_owned(), module[field].clone()))
            .into_iter()
            .collect()
    };
    modules.as_array().into_iter().flatten().map(of).collect()
}

fn render(modules: &[ModuleStatus], view: &View) -> String {
    if modules.is_empty() {
        return "no modules\n".to_owned();
    }
    let mut table = Table::new(COLUMNS);
    for module in modules {
        table.row(row(module, view));
    }
    let mut text = table.render(view);
    let mut remarks = String::new();
    for ModuleStatus {
        name,
        rolled_back,
        last_refusal,
        ..
    } in modules
    {
        if let Some(RolledBack {
            sha256,
            toml_sha256,
            at,
            reason,
        }) = rolled_back
        {
            let (wasm, toml) = (short(sha256), short(toml_sha256));
            remarks.push_str(&format!(
                "{name}: {wasm} with {toml} was rolled back at {at}: {reason}\n"
            ));
        }
        if let Some(refusal) = last_refusal {
            remarks.push_str(&format!("{name}: its last new version was refused: {refusal}\n"));
        }
    }
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&view.wrap(&printable(&remarks), 2));
    }
    text
}

fn list(versions: &Versions, view: &View) -> String {
    if versions.versions.is_empty() {
        return format!("the relay keeps no version of {}\n", printable(&versions.module));
    }
    let mut table = Table::new(VERSION_COLUMNS);
    let dash = || "-".to_owned();
    let running = |is: bool| match is {
        true => state_cell(State::Running, &view.palette),
        false => dash().into(),
    };
    for known in &versions.versions {
        table.row([
            known.version.clone().into(),
            known.since.clone().into(),
            running(known.running),
            known.probe.clone().unwrap_or_else(dash).into(),
            match known.trial {
                Some(Trial::Running) => "running".into(),
                Some(Trial::Passed) => "passed".into(),
                Some(Trial::Unknown) | None => dash().into(),
            },
        ]);
    }
    table.render(view)
}

fn row(module: &ModuleStatus, view: &View) -> [Cell; 6] {
    let hash = |hash: &Option<String>| Cell::from(hash.as_deref().map_or("-", short));
    [
        module.name.clone().into(),
        state_cell(module.state, &view.palette),
        hash(&module.sha256),
        hash(&module.toml_sha256),
        module.running_since.clone().unwrap_or_else(|| "-".to_owned()).into(),
        match &module.predecessor {
            Some(VersionStatus {
                sha256,
                toml_sha256,
                since,
            }) => format!("{} {} {since}", short(sha256), short(toml_sha256)).into(),
            None => "-".into(),
        },
    ]
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    const MODULES: &str = r#"[
        {"name":"bills","state":"failed","sha256":null,"last_refusal":"the file is empty"},
        {"name":"orders","state":"running","sha256":"0123456789abcdef","toml_sha256":"abcdef0123456789","running_since":"2026-11-01T08:00:01Z",
         "predecessor":{"sha256":"00112233445566","toml_sha256":"abcdef0123456789","since":"2026-10-01T08:00:00Z"},
         "rolled_back":{"sha256":"ffeeddccbbaa99","toml_sha256":"abcdef0123456789","at":"2026-11-01T12:00:00Z","reason":"a rollback was requested"},
         "rollbacks":1,"received":7}]"#;

    #[test]
    fn each_module_has_a_line_and_what_went_wrong_a_sentence() {
        let modules: Vec<ModuleStatus> = serde_json::from_str(MODULES).unwrap();
        assert_snapshot!(render(&modules, &View::default()), @r"
        MODULE  STATE    WASM          TOML          SINCE                 PREVIOUS (WASM, TOML, SINCE)
        bills   failed   -             -             -                     -
        orders  running  0123456789ab  abcdef012345  2026-11-01T08:00:01Z  001122334455 abcdef012345 2026-10-01T08:00:00Z

        bills: its last new version was refused: the file is empty
        orders: ffeeddccbbaa with abcdef012345 was rolled back at 2026-11-01T12:00:00Z: a rollback was requested
        ");
        assert_snapshot!(render(&[], &View::default()), @"no modules");
        let view = View {
            width: Some(80),
            ..View::default()
        };
        assert_snapshot!(render(&modules, &view), @r"
        MODULE  STATE    WASM          TOML          PREVIOUS (WASM, TOML, SINCE)
        bills   failed   -             -             -
        orders  running  0123456789ab  abcdef012345  001122334455 abcdef012345 2026-10-…
        (left out: SINCE; shortened: PREVIOUS (WASM, TOML, SINCE); a wider terminal or a
        pipe shows all)

        bills: its last new version was refused: the file is empty
        orders: ffeeddccbbaa with abcdef012345 was rolled back at
          2026-11-01T12:00:00Z: a rollback was requested
        ");
    }

    #[test]
    fn each_version_has_a_line() {
        let versions = r#"{"module":"orders","versions":[
            {"version":"3045d0fa30ea-2a14983ed58f","since":"2026-11-01T08:00:01Z","running":true,"probe":"passed on the last 256 messages",
             "trial":"running"},
            {"version":"0123456789ab-2a14983ed58f","since":"2026-10-01T08:00:00Z","trial":"passed"}]}"#;
        assert_snapshot!(list(&serde_json::from_str(versions).unwrap(), &View::default()), @r"
        VERSION                    SINCE                 STATE    PROBE                            TRIAL
        3045d0fa30ea-2a14983ed58f  2026-11-01T08:00:01Z  running  passed on the last 256 messages  running
        0123456789ab-2a14983ed58f  2026-10-01T08:00:00Z  -        -                                passed
        ");
        let none = Versions {
            module: "orders".to_owned(),
            ..Versions::default()
        };
        assert_snapshot!(list(&none, &View::default()), @"the relay keeps no version of orders");
    }

    #[test]
    fn programs_get_what_is_about_versions() {
        let versions = versions(&serde_json::from_str(MODULES).unwrap());
        assert_eq!(versions[1]["rolled_back"]["reason"], "a rollback was requested");
        assert_eq!(versions[1]["rollbacks"], 1);
        assert_eq!(versions[1].as_object().unwrap().len(), FIELDS.len());
        let known = serde_json::to_value(ModuleStatus::default()).unwrap();
        for field in FIELDS {
            assert!(known.get(field).is_some(), "no status has the field `{field}`");
        }
    }
}
