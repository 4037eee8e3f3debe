//! Detects changes in a module's folder by content. File system events only say when to look again, and a poll looks
//! anyway, because network file systems send none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use xxhash_rust::xxh3::xxh3_64;

use super::super::project::CASES;

/// Folders that tools create and nobody edits, even if no .gitignore names them.
const MADE: [&str; 3] = ["target", "node_modules", "__pycache__"];

pub struct Files {
    dir: PathBuf,
    /// The files that count in the folder of a prebuilt module: the module, its `.toml` and its cases. `None` if the
    /// module is built here. Then all files count that no build makes.
    only: Option<[OsString; 3]>,
    known: BTreeMap<PathBuf, Seen>,
    hints: Option<Hints>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    content: u64,
}

/// While this is the same, the content need not be read again. The modification time alone is not sufficient, because
/// tools set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    inode: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

/// Watches each directory separately. Ignored directories cause most of the events, so nothing is watched recursively.
struct Hints {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Files {
    /// Takes the current files as known. `module` is a prebuilt module. `wake` is called from another thread when it is
    /// time to look.
    pub fn new(dir: &Path, module: Option<&Path>, wake: impl Fn() + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening and reading are also reported, including this program's own.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                wake();
            }
        });
        let mut files = Self {
            dir: dir.to_owned(),
            only: module.map(|module| {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
                [name(module), name(&module.with_extension("toml")), CASES.into()]
            }),
            known: BTreeMap::new(),
            // Without events, the folder is polled.
            hints: watcher.ok().map(|watcher| Hints {
                watcher,
                watched: BTreeSet::new(),
            }),
        };
        files.look();
        files
    }

    /// Returns the files that are new, changed or gone since the last look, with the folder as the user named it.
    pub fn look(&mut self) -> BTreeSet<PathBuf> {
        let (mut found, mut dirs) = (BTreeMap::new(), BTreeSet::new());
        let only = self.only.clone();
        let walk = WalkBuilder::new(&self.dir)
            // A .gitignore may name a prebuilt module.
            .standard_filters(only.is_none())
            .hidden(true)
            // Only its own .gitignore files count, not those of the folders above it.
            .parents(false)
            .require_git(false)
            .filter_entry(move |entry| match &only {
                Some(names) => entry.depth() != 1 || names.iter().any(|name| name == entry.file_name()),
                None => !MADE.iter().any(|made| entry.file_name() == *made),
            })
            .build();
        for entry in walk.flatten() {
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if metadata.is_dir() {
                dirs.insert(entry.into_path());
            } else if self.counts(entry.path())
                && let Some(seen) = self.see(entry.path(), &metadata)
            {
                found.insert(entry.into_path(), seen);
            }
        }
        if let Some(hints) = &mut self.hints {
            hints.attach(dirs);
        }
        let known = std::mem::replace(&mut self.known, found);
        let content = |files: &BTreeMap<PathBuf, Seen>, path: &PathBuf| files.get(path).map(|seen| seen.content);
        let all: BTreeSet<&PathBuf> = known.keys().chain(self.known.keys()).collect();
        all.into_iter()
            .filter(|path| content(&known, path) != content(&self.known, path))
            .cloned()
            .collect()
    }

    /// Files that a build makes do not cause another build.
    fn counts(&self, path: &Path) -> bool {
        let made = path.extension().is_some_and(|extension| extension == "wasm") && self.only.is_none();
        !made && path.file_name().is_some_and(|name| name != "Cargo.lock")
    }

    fn see(&self, path: &Path, metadata: &Metadata) -> Option<Seen> {
        let stamp = Stamp {
            len: metadata.len(),
            inode: metadata.ino(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        match self.known.get(path) {
            Some(seen) if seen.stamp == stamp => Some(*seen),
            _ => Some(Seen {
                stamp,
                content: xxh3_64(&fs::read(path).ok()?),
            }),
        }
    }
}

impl Hints {
    fn attach(&mut self, dirs: BTreeSet<PathBuf>) {
        for dir in dirs.difference(&self.watched) {
            // The directory may be gone, or the limit of watches may be reached. The poll then finds its changes.
            let _ = self.watcher.watch(dir, RecursiveMode::NonRecursive);
        }
        // The watch of a removed directory ends by itself.
        self.watched = dirs;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    #[test]
    fn content_counts_and_what_is_made_does_not() {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write(".gitignore", "/out\n");
        let source = folder.write("src/lib.rs", "1");
        let mut files = Files::new(folder.0.path(), None, || {});
        assert_eq!(files.look(), BTreeSet::new());

        folder.write("src/lib.rs", "1");
        for made in [
            "target/x",
            "out/x",
            "node_modules/x",
            ".hidden",
            "shop.wasm",
            "Cargo.lock",
        ] {
            folder.write(made, "made");
        }
        assert_eq!(files.look(), BTreeSet::new(), "the same again is no change");

        folder.write("src/lib.rs", "2");
        let case = folder.write("cases/a.json", "{}");
        assert_eq!(files.look(), BTreeSet::from([source.clone(), case]));
        fs::remove_file(&source).unwrap();
        assert_eq!(files.look(), BTreeSet::from([source]));
        assert_eq!(files.look(), BTreeSet::new());
    }

    #[test]
    fn a_module_that_nothing_builds_here_counts_and_what_belongs_to_it() {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write(".gitignore", "/shop.wasm\n*.json\n");
        let mut files = Files::new(folder.0.path(), Some(Path::new("shop.wasm")), || {});
        for other in ["other.wasm", "shop.js", "src/shop.wasm", "cases/.a.json.new"] {
            folder.write(other, "1");
        }
        assert_eq!(files.look(), BTreeSet::new());
        let counts = ["shop.wasm", "shop.toml", "cases/a.json"].map(|name| folder.write(name, "1"));
        assert_eq!(files.look(), BTreeSet::from(counts));
    }

    #[test]
    fn a_save_is_told_in_new_folders_too() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (told, waked) = mpsc::channel();
        let mut files = Files::new(folder.0.path(), None, move || {
            // The receiver is gone once the test is over.
            let _ = told.send(());
        });
        let wakes = || waked.recv_timeout(Duration::from_secs(10)).expect("an event");
        folder.write("src/a/lib.rs", "1");
        wakes();
        files.look();
        while waked.try_recv().is_ok() {}
        folder.write("src/a/lib.rs", "2");
        wakes();
    }
}
