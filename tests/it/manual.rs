//! The manual in `docs/`, typed as a reader types it: every block of its pages is run, written or compared, in order. A
//! page has an empty folder, where `slipring up` starts servers of its own. MANUAL_PAGE=testing.md runs one page. With `--nocapture` it shows
//! what was typed and printed, which it always does for a page that fails.

mod desk;
mod expected;
mod page;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use slipring_support::workspace;

use self::desk::Desk;
use self::page::{Kind, Page};

/// Blocks of all pages that are shown but not run: a CI's own file, and a command that waits for a person.
const NOT_RUN: usize = 2;

/// In the order of the index.
const PAGES: [&str; 10] = [
    "first-transform.md",
    "fan-out.md",
    "versions.md",
    "drop-and-reject.md",
    "settings.md",
    "testing.md",
    "debugging.md",
    "swapping.md",
    "size-and-speed.md",
    "limits.md",
];

const RECORDING: &str = "recording.md";

/// Pages that this test does not run. Unit tests of the relay compare some of them with the code: `config::reference`
/// the keys, `status::metrics` the metrics, `dead_letter::header` the headers, `admin::tests` the paths,
/// `source::jetstream::fitness` the table of `streams.md`, `commands::cases` `crates-that-work.md`, and `sources::from_benthos` follows `from-benthos.md`.
const NOT_TYPED: [&str; 25] = [
    "README.md",
    RECORDING,
    "crates-that-work.md",
    "dev.md",
    "from-benthos.md",
    "operating/connecting.md",
    "operating/deploying.md",
    "operating/grpc.md",
    "operating/health.md",
    "operating/installing.md",
    "operating/loading.md",
    "operating/page.md",
    "operating/permissions.md",
    "operating/running.md",
    "operating/standby.md",
    "operating/tuning.md",
    "redis.md",
    "reference/api.md",
    "reference/crate.md",
    "reference/dead-letters.md",
    "reference/metrics.md",
    "reference/module.md",
    "reference/relay.md",
    "streams.md",
    "up.md",
];

fn docs() -> PathBuf {
    workspace().join("docs")
}

/// Returns the script of the recording. `docs/recording.md` holds the output.
fn script() -> Result<Page> {
    Page::read(&workspace().join("tests/it/manual/recording.md"))
}

/// One test for all pages, because they share the builds of the crates that all modules need.
#[tokio::test(flavor = "multi_thread")]
async fn the_manual_does_what_it_says() -> Result<()> {
    let only = std::env::var("MANUAL_PAGE").ok();
    let mut wrong = Vec::new();
    for name in PAGES
        .into_iter()
        .filter(|name| only.as_deref().is_none_or(|only| only == *name))
    {
        let page = Page::read(&docs().join(name))?;
        let begun = Instant::now();
        let (transcript, problems) = Desk::open("CARGO_BUILD_BUILD_DIR", "manual")?.follow(&page).await?;
        println!("--- {name}, {:.1} s", begun.elapsed().as_secs_f64());
        if only.is_some() || !problems.is_empty() {
            println!("{}\n{transcript}", problems.join("\n"));
        }
        wrong.extend(problems);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn what_is_not_run_is_counted_and_every_page_is_in_the_index() -> Result<()> {
    let mut not_run = 0;
    for name in PAGES {
        let page = Page::read(&docs().join(name))?;
        not_run += page.blocks.iter().filter(|block| block.kind == Kind::NotRun).count();
    }
    ensure!(not_run == NOT_RUN, "{not_run} blocks are marked as not run");
    let index = std::fs::read_to_string(docs().join("README.md"))?;
    let (decisions, mut there): (Vec<_>, Vec<_>) = pages_in("")?
        .into_iter()
        .partition(|page| page.starts_with("decisions/"));
    there.sort();
    let mut known = Vec::from(PAGES);
    known.extend(NOT_TYPED);
    known.sort_unstable();
    ensure!(there == known, "docs/ holds {there:?}, and {known:?} are known here");
    let linked = |name: &&str| *name == "README.md" || index.contains(&format!("]({name})"));
    ensure!(
        known.iter().all(linked),
        "each of {known:?} must be linked from the index"
    );
    ensure!(
        index.contains("](decisions/README.md)"),
        "the list of decisions must be linked from the index"
    );
    let list = std::fs::read_to_string(docs().join("decisions/README.md"))?;
    for page in decisions.iter().filter_map(|page| page.strip_prefix("decisions/")) {
        ensure!(
            page == "README.md" || list.contains(&format!("]({page})")),
            "docs/decisions/README.md does not list {page}"
        );
    }
    Ok(())
}

/// Returns the paths, relative to `docs/`, of all pages in this folder and its sub-folders.
fn pages_in(folder: &str) -> Result<Vec<String>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(docs().join(folder))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name in UTF-8")?;
        let path = match folder {
            "" => name,
            _ => format!("{folder}/{name}"),
        };
        if entry.file_type()?.is_dir() {
            pages.extend(pages_in(&path)?);
        } else if path.ends_with(".md") {
            pages.push(path);
        }
    }
    Ok(pages)
}

/// Prints the text of `docs/recording.md`. From the second run on, the dependencies of the module are compiled already.
#[tokio::test(flavor = "multi_thread")]
async fn recording() -> Result<()> {
    let (transcript, problems) = Desk::open("SLIPRING_BUILD_CACHE", "recording")?
        .follow(&script()?)
        .await?;
    println!("{transcript}");
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The output differs from run to run, but what was typed does not.
#[test]
fn the_recording_is_of_its_script() -> Result<()> {
    let file = docs().join(RECORDING);
    let recorded = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    for block in script()?.blocks {
        if let Kind::Command { .. } | Kind::Terminal(_) = block.kind {
            let missing = block.lines().find(|line| !recorded.contains(&format!("$ {line}\n")));
            ensure!(
                missing.is_none(),
                "docs/{RECORDING} does not show {missing:?}: record it anew"
            );
        }
    }
    Ok(())
}
