//! A page of the manual as blocks. The instructions for a block follow its language, where a reader does not see them.
//!
//! | info string | |
//! |---|---|
//! | `sh` | typed; it must succeed |
//! | `sh fails` | it must exit with 1 |
//! | `sh until` | typed again until it prints what the page says |
//! | `sh terminal=NAME` | runs in a terminal of its own |
//! | `LANGUAGE not-run` | only shown |
//! | `LANGUAGE file=PATH` | saved to this file |
//! | `diff file=PATH` | applied to this file; `@@` separates two places |
//! | `text` | the output of the command before; `…` means any text, a line of it any lines |
//! | `text terminal=NAME` | what appears next in that terminal |
//!
//! A block in an HTML comment is run, too: it checks what a reader sees in a browser, with `seen` beside this file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub struct Page {
    pub name: String,
    pub blocks: Vec<Block>,
}

pub struct Block {
    /// Where it begins.
    pub line: usize,
    pub kind: Kind,
    pub text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Command { fails: bool, until: bool },
    Terminal(String),
    NotRun,
    File(PathBuf),
    Change(PathBuf),
    Output,
    TerminalOutput(String),
}

impl Page {
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut blocks = Vec::new();
        let mut lines = (1..).zip(text.lines());
        while let Some((line, text)) = lines.next() {
            if let Some(info) = text.strip_prefix("```") {
                let kind = kind(info).with_context(|| format!("docs/{name}:{line}"))?;
                let inside = lines.by_ref().map(|(_, text)| text).take_while(|text| *text != "```");
                let text = inside.map(|text| format!("{text}\n")).collect();
                blocks.push(Block { line, kind, text });
            }
        }
        Ok(Self { name, blocks })
    }
}

impl Block {
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }
}

fn kind(info: &str) -> Result<Kind> {
    let (language, what) = info.split_once(' ').unwrap_or((info, ""));
    Ok(match (language, what, what.split_once('=')) {
        (_, "not-run", _) => Kind::NotRun,
        ("sh", "" | "fails" | "until", _) => Kind::Command {
            fails: what == "fails",
            until: what == "until",
        },
        ("sh", _, Some(("terminal", name))) => Kind::Terminal(name.to_owned()),
        ("text", "", _) => Kind::Output,
        ("text", _, Some(("terminal", name))) => Kind::TerminalOutput(name.to_owned()),
        ("diff", _, Some(("file", path))) => Kind::Change(path.into()),
        (_, _, Some(("file", path))) => Kind::File(path.into()),
        _ => bail!("{info:?} does not say what is to be done with this block"),
    })
}
