//! `slipring test`: checks whether a module meets its cases. It runs the very file that will be deployed.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use serde::Serialize;

use super::case::{self, Case, Expectation, Expected, Unexpected};
use super::difference;
use super::failure::Failure;
use super::palette::Palette;
use super::printable::{printable, printable_json};
use super::project::{CASES, Project};
use super::runner::Runner;

/// Run a module's cases and show where an outcome differs
///
/// A case is a file cases/NAME.json: a message and the expected outcome. First the module is built: with
/// the executable `build` in its folder, or else with `cargo build` for wasm32-wasip2. A MODULE.wasm is not built. Then the module runs
/// as in the relay, with the settings and limits of its .toml.
///
/// A case without `expect` fails until --update adds the module's outcome; review it before you commit.
///
/// Exits with 1 if a case failed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A case:
  {
    \"message\": { \"subject\": \"orders.7\", \"data\": { \"id\": 7, \"status\": \"paid\" } },
    \"expect\": {
      \"outcome\": \"publish\",
      \"publications\": [
        { \"channels\": [\"orders:7\"], \"data\": { \"status\": \"paid\" } }
      ]
    }
  }

  message   as in a line of `slipring try`, whose help lists all fields
  settings  optional: replaces the [settings] in the module's .toml
  expect    as `slipring try` prints it: { \"outcome\": \"drop\" }, or
            { \"outcome\": \"reject\", \"reason\": \"…\" }; for a rejection only
            the fields given here are compared. With \"partial\": true, that is
            also so for publications: others, and other fields, may be there
  expect_not
            what the outcome must not have: { \"outcome\": \"reject\",
            \"publications\": [{ \"channels\": [\"staff:orders\"] }],
            \"contains\": [\"ada@example.com\"] }, or some of that

Examples:
  slipring test
  slipring test --filter draft
  slipring test --update
  slipring test ../shop --json | jq 'select(.result != \"passed\")'
  slipring test modules/orders.wasm --cases ~/orders/cases")]
pub struct Args {
    /// The module's folder, or a module that is already built
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// The folder of the cases [default: `cases` beside the module]
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Run only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Save the module's current outcomes as the expected ones
    #[arg(long)]
    update: bool,
    /// Run the last build without building again
    #[arg(long)]
    no_build: bool,
    /// Print one line of JSON per case, for programs
    #[arg(long)]
    json: bool,
}

/// The result of a case.
#[derive(Debug)]
enum CaseResult {
    Passed,
    /// The outcome differs from the expectation, or there was no expectation.
    Failed {
        made: Expectation,
        expected: Option<Expected>,
    },
    /// The actual outcome is the expectation from now on.
    Updated {
        made: Expectation,
    },
    /// The case cannot be read or run.
    Broken(anyhow::Error),
}

/// The number of cases with each result.
#[derive(Debug, Default)]
struct Summary {
    passed: usize,
    updated: usize,
    failed: usize,
    /// Their outcomes have what `expect_not` rules out.
    ruled_out: usize,
    without_expectation: usize,
    broken: usize,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let project = Project::at(&args.module)?;
    let files = find(args, &project)?;
    if !args.no_build {
        project.build()?;
    }
    let mut runner = Runner::new(project.built()?)?;
    // A module that does not load fails once, not once per case.
    let module = runner.module()?;
    let sha256 = module.sha256();
    writeln!(
        notes,
        "testing {}, sha256 {}",
        runner.built().wasm.display(),
        sha256.get(..12).unwrap_or(sha256)
    )?;
    let mut summary = Summary::default();
    for file in &files {
        let (result, said) = judge(file, &mut runner, args.update);
        summary.count(&result);
        let shown = match args.json {
            true => json(&case::name(file), &result),
            false => render(&case::name(file), &result, &Palette::of_stdout()),
        };
        output.write_all(shown.as_bytes())?;
        for line in said {
            writeln!(notes, "    {}: {line}", case::name(file))?;
        }
    }
    output.flush()?;
    summary.end(notes)
}

/// Returns the selected case files. Finding none is an error, because it points to a wrong directory.
fn find(args: &Args, project: &Project) -> anyhow::Result<Vec<PathBuf>> {
    let dir = args.cases.clone().unwrap_or_else(|| project.path(CASES));
    let all = case::list(&dir)?;
    if all.is_empty() {
        return Err(no_cases(&dir));
    }
    let Some(text) = &args.filter else {
        return Ok(all);
    };
    let names: Vec<String> = all.iter().map(|file| case::name(file)).collect();
    let chosen: Vec<PathBuf> = all.into_iter().filter(|file| case::name(file).contains(text)).collect();
    if chosen.is_empty() {
        bail!(
            "no case in {} has {text:?} in its name; the folder has {}",
            dir.display(),
            names.join(", ")
        );
    }
    Ok(chosen)
}

/// Explains how to create a case.
pub fn no_cases(dir: &Path) -> anyhow::Error {
    anyhow!(
        "there are no cases yet. Write one: {file} with {{\"message\": {{\"subject\": \"orders.7\", \"data\": \
         {{\"id\": 7}}}}}}, then `slipring test --update` adds the module's outcome. Or record real messages: \
         `slipring record --last 10`",
        file = dir.join("first.json").display()
    )
}

/// Returns the result, and what the module printed.
fn judge(file: &Path, runner: &mut Runner, update: bool) -> (CaseResult, Vec<String>) {
    let ran = Case::read(file, runner.stream()).and_then(|case| Ok((runner.run(&case)?, case.expect)));
    let (made, expected, said) = match ran {
        Err(error) => return (CaseResult::Broken(error), Vec::new()),
        Ok((ran, expected)) => (ran.made, expected, ran.output),
    };
    let result = match expected {
        Some(expected) if expected.difference(&made).is_none() => CaseResult::Passed,
        Some(expected) if expected.rules_out(&made) => CaseResult::Failed {
            made,
            expected: Some(expected),
        },
        _ if update => match case::accept(file, &made) {
            Ok(()) => CaseResult::Updated { made },
            Err(error) => CaseResult::Broken(error),
        },
        expected => CaseResult::Failed { made, expected },
    };
    (result, said)
}

fn render(name: &str, result: &CaseResult, palette: &Palette) -> String {
    let Palette { good, bad, note, .. } = palette;
    match result {
        CaseResult::Passed => format!("{good}ok{good:#}       {name}\n"),
        CaseResult::Updated { .. } => format!("{note}updated{note:#}  {name}\n"),
        CaseResult::Broken(error) => format!("{bad}FAILED{bad:#}   {name}: {}\n", printable(&format!("{error:#}"))),
        CaseResult::Failed { made, expected: None } => format!(
            "{bad}FAILED{bad:#}   {name}: it has no `expect`; the module's outcome:\n{}",
            difference::render("", &made.pretty(), palette)
        ),
        CaseResult::Failed {
            made,
            expected: Some(expected),
        } => {
            let Some(difference) = expected.difference(made) else {
                return String::new();
            };
            let signs = match difference.is_ruled_out {
                true => "+ what `expect_not` rules out",
                false => "- expected, + actual",
            };
            let lines = difference::render(&difference.expected, &difference.actual, palette);
            format!("{bad}FAILED{bad:#}   {name}: {signs}\n{lines}")
        }
    }
}

/// The output of `--json` for a case.
#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<&'a Expectation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Expectation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_not: Option<&'a Unexpected>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn json(name: &str, result: &CaseResult) -> String {
    let mut line = Line {
        case: name,
        result: "passed",
        made: None,
        expected: None,
        expected_not: None,
        error: None,
    };
    match result {
        CaseResult::Passed => {}
        CaseResult::Failed { made, expected } => {
            line.result = "failed";
            line.made = Some(made);
            line.expected = expected.as_ref().and_then(|expected| expected.expect.as_ref());
            line.expected_not = expected.as_ref().and_then(|expected| expected.expect_not.as_ref());
        }
        CaseResult::Updated { made } => {
            line.result = "updated";
            line.made = Some(made);
        }
        CaseResult::Broken(error) => {
            line.result = "broken";
            line.error = Some(format!("{error:#}"));
        }
    }
    printable_json(&serde_json::to_string(&line).expect("texts and JSON are JSON")) + "\n"
}

impl Summary {
    fn count(&mut self, result: &CaseResult) {
        match result {
            CaseResult::Passed => self.passed += 1,
            CaseResult::Updated { .. } => self.updated += 1,
            CaseResult::Failed { expected: None, .. } => self.without_expectation += 1,
            CaseResult::Failed {
                made,
                expected: Some(expected),
            } => match expected.rules_out(made) {
                true => self.ruled_out += 1,
                false => self.failed += 1,
            },
            CaseResult::Broken(_) => self.broken += 1,
        }
    }

    fn end(&self, notes: &mut dyn Write) -> Result<(), Failure> {
        let wrong = self.failed + self.ruled_out + self.without_expectation + self.broken;
        let all = self.passed + self.updated + wrong;
        if wrong == 0 {
            let updated = match self.updated {
                0 => String::new(),
                updated => format!(", {updated} updated: review them before you commit"),
            };
            writeln!(notes, "{}: {} passed{updated}", cases(all), self.passed)?;
            return Ok(());
        }
        // `--update` would not fix a case that cannot be read, or whose outcome is ruled out.
        let advice = match self.failed + self.without_expectation {
            0 => "",
            _ => "; if the new outcome is right, save it with `slipring test --update`",
        };
        Err(anyhow!("{wrong} of {} failed{advice}", cases(all)).into())
    }
}

/// Runs the cases for another command, and shows those that fail.
pub fn check(files: &[PathBuf], runner: &mut Runner, output: &mut dyn Write) -> Result<(), Failure> {
    let mut summary = Summary::default();
    for file in files {
        let (result, _) = judge(file, runner, false);
        summary.count(&result);
        if !matches!(result, CaseResult::Passed) {
            output.write_all(render(&case::name(file), &result, &Palette::of_stdout()).as_bytes())?;
        }
    }
    summary.end(&mut io::sink())
}

/// Formats a count: `1 case`, `2 cases`.
pub fn cases(count: usize) -> String {
    match count {
        1 => "1 case".to_owned(),
        _ => format!("{count} cases"),
    }
}
