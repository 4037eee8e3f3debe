//! Decides from successive scans which changes to report. A file counts once two scans [`SETTLE`] apart saw the same
//! content, and a module is reported once both of its files are settled. Files in the first scan that nobody has
//! touched for a long time count at once, so a restart does not wait. This code does no I/O and reads no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::change::{Change, Missing};
use super::scan::{Content, Kind, Part, Scan, Sight, Signature};

/// `cp`, compilers and editors write in pieces, with much shorter pauses than this.
const SETTLE: Duration = Duration::from_millis(150);

/// A program that has just truncated its file may take some time. Nobody creates an empty file on purpose.
const SETTLE_EMPTY: Duration = Duration::from_secs(1);

/// How often all contents are read again, for file systems whose times and sizes come from a stale cache.
const REREAD: Duration = Duration::from_secs(30);

/// A file that is still changing after this time is logged, so nobody waits in vain.
const RESTLESS: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Settle {
    dir: PathBuf,
    files: BTreeMap<Part, File>,
    /// The last reported state of each module.
    told: BTreeMap<String, Told>,
    trouble: Option<String>,
    reread: Option<Instant>,
    /// Set once the directory was read.
    begun: bool,
}

#[derive(Debug)]
struct File {
    settled: Content,
    /// The signature at the last reading.
    signature: Option<Signature>,
    unsettled: Option<Unsettled>,
}

/// The content seen last, if it differs from the settled one.
#[derive(Debug)]
struct Unsettled {
    content: Content,
    since: Instant,
    /// When the file lost its settled content.
    began: Instant,
}

/// The last reported state, so that only news is reported.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Present { wasm_sha256: String, toml_sha256: String },
    Waiting(Missing),
    Unreadable(PathBuf, String),
}

impl Settle {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            files: BTreeMap::new(),
            told: BTreeMap::new(),
            trouble: None,
            reread: None,
            begun: false,
        }
    }

    /// Returns the files that the next scan can skip if they still have this signature.
    pub fn known(&mut self, now: Instant) -> BTreeMap<Part, Signature> {
        if self.reread.is_none_or(|last| now >= last + REREAD) {
            self.reread = Some(now);
            return BTreeMap::new();
        }
        let of = |(part, file): (&Part, &File)| {
            let due = file.unsettled.as_ref().is_some_and(|unsettled| unsettled.due() <= now);
            file.signature
                .filter(|_| !due)
                .map(|signature| (part.clone(), signature))
        };
        self.files.iter().filter_map(of).collect()
    }

    /// Returns when a file may have settled and should be read again.
    pub fn next_due(&self) -> Option<Instant> {
        self.files
            .values()
            .filter_map(|file| Some(file.unsettled.as_ref()?.due()))
            .min()
    }

    pub fn observe(&mut self, scan: Scan) -> Vec<Change> {
        let (started, finished) = (scan.started, scan.finished);
        let mut changes = Vec::new();
        let trouble = match scan.files {
            Ok(files) => {
                self.see(files, started, finished);
                None
            }
            Err(trouble) => {
                // Forget unsettled content. It may have come from the removal of the directory.
                self.files.values_mut().for_each(File::forget_unsettled);
                Some(trouble)
            }
        };
        if trouble != self.trouble {
            self.trouble.clone_from(&trouble);
            changes.push(Change::Directory { trouble });
        }
        if self.trouble.is_none() {
            changes.extend(self.news(finished));
            self.files
                .retain(|_, file| file.settled != Content::Absent || file.unsettled.is_some());
        }
        changes
    }

    fn see(&mut self, mut files: BTreeMap<Part, Sight>, started: Instant, finished: Instant) {
        for (part, file) in &mut self.files {
            let absent = Sight::Looked {
                content: Content::Absent,
                signature: None,
                at_rest: false,
            };
            file.see(files.remove(part).unwrap_or(absent), started, finished);
        }
        let first = !mem::replace(&mut self.begun, true);
        for (part, sight) in files {
            let file = match sight {
                Sight::Looked {
                    content,
                    signature,
                    at_rest: true,
                } if first => File::settled(content, signature),
                sight => {
                    let mut file = File::new();
                    file.see(sight, started, finished);
                    file
                }
            };
            self.files.insert(part, file);
        }
    }

    /// Returns the changes of settled modules since they were last reported. Modules that end come first.
    fn news(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let modules: BTreeSet<String> = self
            .files
            .keys()
            .map(|part| &part.module)
            .chain(self.told.keys())
            .cloned()
            .collect();
        for module in modules {
            let Some(change) = self.state_of(&module, now) else {
                continue;
            };
            let tell = Told::of(&change);
            if tell.as_ref() != self.told.get(&module) {
                match tell {
                    Some(tell) => self.told.insert(module, tell),
                    None => self.told.remove(&module),
                };
                changes.push(change);
            }
        }
        changes.sort_by_key(|change| matches!(change, Change::Present { .. }));
        changes
    }

    /// Returns `None` while one of its files is unsettled.
    fn state_of(&self, module: &str, now: Instant) -> Option<Change> {
        let name = module.to_owned();
        let part = |kind| Part {
            module: name.clone(),
            kind,
        };
        let unreadable = |kind: Kind, error: String| {
            Some(Change::Unreadable {
                name: name.clone(),
                path: part(kind).path(&self.dir),
                error,
            })
        };
        let file = |kind| self.files.get(&part(kind));
        for kind in [Kind::Wasm, Kind::Toml] {
            if let Some(unsettled) = file(kind).and_then(|file| file.unsettled.as_ref()) {
                let restless = now >= unsettled.began + RESTLESS;
                return restless
                    .then(|| {
                        unreadable(
                            kind,
                            format!(
                                "has been changing for {} s; it is read once it stops changing",
                                RESTLESS.as_secs()
                            ),
                        )
                    })
                    .flatten();
            }
        }
        let settled = |kind| file(kind).map_or(&Content::Absent, |file| &file.settled);
        match (settled(Kind::Wasm), settled(Kind::Toml)) {
            (Content::Unreadable(error), _) => unreadable(Kind::Wasm, error.clone()),
            (_, Content::Unreadable(error)) => unreadable(Kind::Toml, error.clone()),
            (Content::Absent, Content::Absent) => Some(Change::Gone { name }),
            (Content::Absent, Content::Whole(_)) => Some(Change::Waiting {
                name,
                missing: Missing::Wasm,
            }),
            (Content::Whole(_), Content::Absent) => Some(Change::Waiting {
                name,
                missing: Missing::Toml,
            }),
            (Content::Whole(wasm), Content::Whole(toml)) => match std::str::from_utf8(&toml.bytes) {
                Ok(text) => Some(Change::Present {
                    wasm: wasm.bytes.clone(),
                    wasm_sha256: wasm.sha256.clone(),
                    toml: text.to_owned(),
                    toml_sha256: toml.sha256.clone(),
                    name,
                }),
                Err(error) => unreadable(Kind::Toml, format!("is not UTF-8 from byte {} on", error.valid_up_to())),
            },
        }
    }
}

impl File {
    fn new() -> Self {
        Self::settled(Content::Absent, None)
    }

    fn settled(settled: Content, signature: Option<Signature>) -> Self {
        Self {
            settled,
            signature,
            unsettled: None,
        }
    }

    fn see(&mut self, sight: Sight, started: Instant, finished: Instant) {
        let Sight::Looked { content, signature, .. } = sight else {
            return;
        };
        self.signature = signature;
        if content == self.settled {
            self.unsettled = None;
            return;
        }
        match &mut self.unsettled {
            Some(unsettled) if unsettled.content == content => {
                if started >= unsettled.due() {
                    self.settled = content;
                    self.unsettled = None;
                }
            }
            // The time between two readings counts from the end of the first to the start of the second.
            Some(unsettled) => (unsettled.content, unsettled.since) = (content, finished),
            None => {
                self.unsettled = Some(Unsettled {
                    content,
                    since: finished,
                    began: finished,
                })
            }
        }
    }

    fn forget_unsettled(&mut self) {
        if self.unsettled.take().is_some() {
            self.signature = None;
        }
    }
}

impl Unsettled {
    fn due(&self) -> Instant {
        let empty = matches!(&self.content, Content::Whole(whole) if whole.bytes.is_empty());
        self.since + if empty { SETTLE_EMPTY } else { SETTLE }
    }
}

impl Told {
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Present {
                wasm_sha256,
                toml_sha256,
                ..
            } => Some(Self::Present {
                wasm_sha256: wasm_sha256.clone(),
                toml_sha256: toml_sha256.clone(),
            }),
            Change::Waiting { missing, .. } => Some(Self::Waiting(*missing)),
            Change::Unreadable { path, error, .. } => Some(Self::Unreadable(path.clone(), error.clone())),
            Change::Gone { .. } | Change::Directory { .. } => None,
        }
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
