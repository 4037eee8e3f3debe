//! What happens while everything runs, one line for each event: swaps, rollbacks, dead letters, and warnings of the relay's log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::time::sleep;

use crate::admin::{Client, Event, Events};
use crate::status::{LiveSample, Mark, MarkKind, ModuleStatus, Status, version_name};

/// The pause before the next try to connect.
const RETRY: Duration = Duration::from_millis(500);

/// How many samples a dead letter may come after its rejection was counted.
const MISSES: u32 = 5;

/// How many dead letters are told one by one.
const TOLD: usize = 5;

/// How log lines begin that are told as dead letters or as marks already.
const TOLD_OTHERWISE: [&str; 4] = [
    "rejected a message",
    "refused the module's new files",
    "rolled back to the last proven version",
    "the pipeline is halted",
];

/// Reads the samples that the relay sends, over one connection after the other.
#[derive(Debug)]
pub struct Samples<'a> {
    client: &'a Client,
    events: Option<Events>,
}

impl<'a> Samples<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client, events: None }
    }

    /// Returns all samples as they come. It has no end.
    pub fn stream(self) -> impl Stream<Item = LiveSample> {
        stream::unfold(self, async |mut samples| {
            let sample = samples.next().await;
            Some((sample, samples))
        })
    }

    async fn next(&mut self) -> LiveSample {
        loop {
            match &mut self.events {
                None => match self.client.events("api/v1/events").await {
                    Ok(events) => self.events = Some(events),
                    Err(_) => sleep(RETRY).await,
                },
                Some(events) => match events.next().await {
                    Ok(Some(Event { name, data })) => {
                        let sample = serde_json::from_str(&data).ok().filter(|_| name == "sample");
                        if let Some(sample) = sample {
                            return sample;
                        }
                    }
                    Ok(None) | Err(_) => self.events = None,
                },
            }
        }
    }
}

/// A dead letter, as the admin API describes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Letter {
    pub number: u64,
    pub module: String,
    pub code: String,
    pub reason: String,
    pub channel: Option<String>,
    pub subject: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Letters {
    letters: Vec<Letter>,
}

/// What was told already.
#[derive(Debug, Default)]
pub struct Told {
    mark: u64,
    rejected: u64,
    letter: u64,
    /// How often there was no letter for a rejection.
    misses: u32,
    /// The modules that were running when everything was ready, each with what its mark says. That they have started is no
    /// news.
    started: BTreeMap<String, Option<String>>,
}

impl Told {
    pub async fn from(client: &Client, status: &Status) -> Self {
        Self {
            mark: 0,
            rejected: rejected(status),
            letter: newest(client, 1).await.first().map_or(0, |letter| letter.number),
            misses: 0,
            started: status.modules.iter().map(started).collect(),
        }
    }

    /// Returns a line for each new mark.
    pub fn marks(&mut self, marks: &[Mark]) -> Vec<String> {
        let mut lines = Vec::new();
        for mark in marks.iter().filter(|mark| mark.id > self.mark) {
            let name = mark.module.as_deref().unwrap_or("relay");
            let first = self.started.get(name).filter(|_| mark.kind == MarkKind::Started);
            lines.extend(match (mark.kind, first) {
                (_, Some(first)) if first.as_ref().is_none_or(|first| *first == mark.text) => None,
                // A swap right after the start.
                (_, Some(_)) => Some(format!("{name}: {}", mark.text.replace("started with", "swapped to"))),
                (MarkKind::Refused, _) => Some(format!("{name}: the new version was refused: {}", mark.text)),
                (MarkKind::Halted, _) => Some(format!("{name} is halted: {}", mark.text)),
                (MarkKind::Failed, _) => Some(format!("{name} has failed: {}", mark.text)),
                _ => Some(format!("{name}: {}", mark.text)),
            });
        }
        self.mark = marks.iter().map(|mark| mark.id).fold(self.mark, u64::max);
        lines
    }

    /// Returns the dead letters that were stored since the last call, the oldest first.
    pub async fn letters(&mut self, client: &Client, status: &Status) -> Vec<Letter> {
        let rejected = rejected(status);
        if rejected == self.rejected {
            return Vec::new();
        }
        let mut letters = newest(client, 50).await;
        letters.retain(|letter| letter.number > self.letter);
        letters.reverse();
        // The count may be ahead of the letter. Then a later sample shows it, unless the module stores none (`on_reject`).
        self.misses += 1;
        if let Some(last) = letters.last() {
            self.letter = last.number;
        }
        if !letters.is_empty() || self.misses == MISSES {
            self.rejected = rejected;
            self.misses = 0;
        }
        letters
    }
}

/// Returns a line for each letter, or for the rest of many. `fix` completes the line for a module with this name.
pub fn of_letters(letters: &[Letter], fix: impl Fn(&str, u64) -> String) -> Vec<String> {
    let line = |letter: &Letter| {
        let subject = letter.subject.as_deref().unwrap_or("a message");
        let Letter {
            number, module, reason, ..
        } = letter;
        format!(
            "{module}: {subject} became dead letter {number}: {reason}  (`{}`)",
            fix(module, *number)
        )
    };
    let mut lines: Vec<String> = letters.iter().take(TOLD).map(line).collect();
    if letters.len() > TOLD {
        let more = letters.len() - TOLD;
        lines.push(format!("and {more} more dead letters: `slipring dead-letters list`"));
    }
    lines
}

/// Returns the name of a module, and the text of the mark for its start, if that is known.
fn started(module: &ModuleStatus) -> (String, Option<String>) {
    let version = module.sha256.as_deref().zip(module.toml_sha256.as_deref());
    let text = version.map(|(wasm, toml)| format!("started with {}", version_name(wasm, toml)));
    (module.name.clone(), text)
}

fn rejected(status: &Status) -> u64 {
    status.modules.iter().map(|module| module.rejected).sum()
}

async fn newest(client: &Client, count: usize) -> Vec<Letter> {
    let letters = client.get(&format!("api/v1/dead-letters?limit={count}")).await;
    letters.map(|Letters { letters }| letters).unwrap_or_default()
}

/// The relay's log, from where it was read last.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
    /// The beginning of a line.
    line: String,
}

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            line: String::new(),
        }
    }

    /// Returns what is new and needs attention.
    pub fn warnings(&mut self) -> Vec<String> {
        let text = self.more().unwrap_or_default();
        self.line.push_str(&text);
        let Some(end) = self.line.rfind('\n') else {
            return Vec::new();
        };
        let rest = self.line.split_off(end + 1);
        let lines = std::mem::replace(&mut self.line, rest);
        lines.lines().filter_map(warning).collect()
    }

    fn more(&mut self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes)? as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the line without its time, if it is a warning or an error that is not told otherwise.
fn warning(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(' ')?;
    let (level, rest) = rest.trim_start().split_once(' ')?;
    let rest = rest.trim_start();
    let is_told = TOLD_OTHERWISE.iter().any(|told| rest.starts_with(told));
    (matches!(level, "WARN" | "ERROR") && !is_told).then(|| format!("relay: {}: {rest}", level.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_needs_attention_is_taken_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.log");
        let mut log = Log::new(path.clone());
        assert_eq!(log.warnings(), [""; 0], "there is no log yet");
        let first = "2026-11-23T21:35:04Z  INFO admin server listening\n2026-11-23T21:35:05Z  WARN publishing is pau";
        fs::write(&path, first).unwrap();
        assert_eq!(log.warnings(), [""; 0]);
        let more = "sed module=shop\n2026-11-23T21:35:06Z  WARN rejected a message module=shop\n\
                    2026-11-23T21:35:06Z ERROR refused the module's new files module=shop\n\
                    2026-11-23T21:35:07Z ERROR panicked\n";
        fs::write(&path, format!("{first}{more}")).unwrap();
        assert_eq!(
            log.warnings(),
            [
                "relay: warn: publishing is paused module=shop",
                "relay: error: panicked"
            ]
        );
        assert_eq!(log.warnings(), [""; 0]);
    }

    #[test]
    fn each_mark_is_told_once_and_the_first_start_is_no_news() {
        let mark = |id, kind, text: &str| Mark {
            id,
            kind,
            module: Some("shop".to_owned()),
            text: text.to_owned(),
            ..Mark::default()
        };
        let mut told = Told {
            started: [("shop".to_owned(), Some("started with a-b".to_owned()))].into(),
            ..Told::default()
        };
        let mut marks = vec![mark(1, MarkKind::Started, "started with a-b")];
        assert_eq!(told.marks(&marks), [""; 0]);
        marks.push(mark(2, MarkKind::Swap, "swapped to c-d"));
        marks.push(mark(3, MarkKind::Refused, "no such export"));
        assert_eq!(
            told.marks(&marks),
            [
                "shop: swapped to c-d",
                "shop: the new version was refused: no such export"
            ]
        );
        assert_eq!(told.marks(&marks), [""; 0]);
        // It was swapped before the relay has marked its start.
        marks.push(mark(4, MarkKind::Started, "started with e-f"));
        assert_eq!(told.marks(&marks), ["shop: swapped to e-f"]);
    }

    #[test]
    fn many_letters_are_counted() {
        let letters: Vec<Letter> = (1..=7)
            .map(|number| Letter {
                number,
                module: "shop".to_owned(),
                reason: "no status".to_owned(),
                subject: Some("shop.7".to_owned()),
                ..Letter::default()
            })
            .collect();
        let lines = of_letters(&letters, |module, number| format!("slipring fix {number} {module}"));
        assert_eq!(
            lines[0],
            "shop: shop.7 became dead letter 1: no status  (`slipring fix 1 shop`)"
        );
        assert_eq!(lines[5..], ["and 2 more dead letters: `slipring dead-letters list`"]);
    }
}
