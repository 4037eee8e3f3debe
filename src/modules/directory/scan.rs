//! Looks at the directory once: lists the files that count and reads those that may have changed. This is blocking I/O
//! and keeps nothing from earlier looks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::permissions;
use crate::hash;

/// Far larger than any configuration that a person writes.
const MAX_TOML_BYTES: u64 = 1000 * 1000;

/// A program that writes a file in pieces makes no pauses of this length. It also tolerates a file server whose clock
/// is slow by as much.
const REST: Duration = Duration::from_secs(10);

/// Which files are accepted.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Refuse files that users other than this one and root can change.
    pub strict: bool,
    /// The most bytes of a .wasm file. A larger file may be a core dump or an archive, and would be read into memory.
    pub max_wasm: u64,
}

/// One of the two files of a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub module: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Wasm,
    Toml,
}

#[derive(Debug)]
pub struct Scan {
    pub started: Instant,
    pub finished: Instant,
    /// Every file that counts, or why the directory could not be read.
    pub files: Result<BTreeMap<Part, Sight>, String>,
}

#[derive(Debug)]
pub enum Sight {
    /// The file still has the known signature.
    Unchanged,
    Looked {
        content: Content,
        signature: Option<Signature>,
        /// Set if nobody has touched the file for [`REST`].
        at_rest: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Absent,
    Whole(Whole),
    /// The reason, as a predicate of the file's path.
    Unreadable(String),
}

/// The content of a file. Contents are equal if their hashes are.
#[derive(Debug, Clone)]
pub struct Whole {
    pub bytes: Arc<[u8]>,
    /// In hexadecimal.
    pub sha256: String,
}

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Whole {}

/// If the signature is unchanged, the content most likely is too. A time alone is not sufficient, because `cp -p`,
/// `tar` and `rsync` set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Part {
    /// Accepts names like `orders.wasm` and `orders.toml`. Names with a leading dot or another ending belong to editors
    /// and copying tools (`.orders.toml.swp`, `4913`, `orders.toml~`), or are the links of a ConfigMap (`..data`).
    pub fn of(file_name: &OsStr) -> Option<Self> {
        let file_name = file_name.to_string_lossy();
        let (stem, ending) = file_name.rsplit_once('.')?;
        let kind = match ending {
            "wasm" => Kind::Wasm,
            "toml" => Kind::Toml,
            _ => return None,
        };
        (!stem.is_empty() && !stem.starts_with('.')).then(|| Self {
            module: stem.to_owned(),
            kind,
        })
    }

    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.kind.file(&self.module))
    }
}

impl Kind {
    fn ending(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Toml => "toml",
        }
    }

    /// Returns the name of this file of a module.
    pub fn file(self, module: &str) -> String {
        format!("{module}.{}", self.ending())
    }

    fn max_bytes(self, rules: Rules) -> u64 {
        match self {
            Self::Wasm => rules.max_wasm,
            Self::Toml => MAX_TOML_BYTES,
        }
    }
}

impl Whole {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            sha256: hash::sha256(&bytes),
            bytes: bytes.into(),
        }
    }
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Checks both times: a copy may inherit the modification time of its original, but nobody can set the change time.
    fn is_at_rest(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rested = |(seconds, _): (i64, i64)| {
            let since = u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs);
            // One more second, because fractions of a second are ignored.
            now >= since + REST + Duration::from_secs(1)
        };
        rested(self.modified) && rested(self.changed)
    }
}

#[cfg(test)]
impl Signature {
    pub fn made_up(number: u64) -> Self {
        Self {
            device: 0,
            inode: number,
            size: 0,
            modified: (0, 0),
            changed: (0, 0),
        }
    }
}

/// Scans the directory. Files that still have their known signature are not read. Files that the rules refuse count as
/// unreadable.
pub fn scan(dir: &Path, known: &BTreeMap<Part, Signature>, rules: Rules) -> Scan {
    let started = Instant::now();
    let files = list(dir, rules.strict).map(|parts| {
        let look_at = |part: Part| {
            let sight = look(&part.path(dir), part.kind, known.get(&part), rules);
            (part, sight)
        };
        parts.into_iter().map(look_at).collect()
    });
    Scan {
        started,
        finished: Instant::now(),
        files,
    }
}

/// Returns the whole listing or an error. Half a listing would make modules disappear.
fn list(dir: &Path, strict: bool) -> Result<Vec<Part>, String> {
    let trouble = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => format!("the modules directory {} does not exist", dir.display()),
        ErrorKind::NotADirectory => format!("the modules directory {} is not a directory", dir.display()),
        _ => format!("the modules directory {} cannot be read: {error}", dir.display()),
    };
    if strict {
        let metadata = fs::metadata(dir).map_err(trouble)?;
        permissions::check(&metadata).map_err(|error| format!("the modules directory {} {error}", dir.display()))?;
    }
    let mut parts = Vec::new();
    for entry in fs::read_dir(dir).map_err(trouble)? {
        parts.extend(Part::of(&entry.map_err(trouble)?.file_name()));
    }
    Ok(parts)
}

fn look(path: &Path, kind: Kind, known: Option<&Signature>, rules: Rules) -> Sight {
    let unreadable = |error: String| Sight::Looked {
        content: Content::Unreadable(error),
        signature: None,
        at_rest: false,
    };
    // The original name is not UTF-8, so this path does not exist.
    if path.to_string_lossy().contains(char::REPLACEMENT_CHARACTER) {
        return unreadable("has a name that is not UTF-8".to_owned());
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return missing(path),
        Err(error) => return unreadable(format!("cannot be read: {error}")),
    };
    // Check this before opening. Opening a pipe would wait for its other end.
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a directory"
        } else {
            "a device, a pipe or a socket"
        };
        return unreadable(format!("is {what}; a file is needed"));
    }
    if rules.strict
        && let Err(error) = permissions::check(&metadata)
    {
        return unreadable(error);
    }
    let max = kind.max_bytes(rules);
    if metadata.len() > max {
        return unreadable(too_large(metadata.len(), kind, max));
    }
    if known == Some(&Signature::of(&metadata)) {
        return Sight::Unchanged;
    }
    match read(path, max) {
        Ok((bytes, _)) if bytes.len() as u64 > max => unreadable(too_large(bytes.len() as u64, kind, max)),
        Ok((bytes, signature)) => Sight::Looked {
            content: Content::Whole(Whole::new(bytes)),
            signature: Some(signature),
            at_rest: signature.is_at_rest(SystemTime::now()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => missing(path),
        Err(error) => unreadable(format!("cannot be read: {error}")),
    }
}

/// Describes a file that was listed and not found: it was removed meanwhile, or it is a broken symbolic link.
fn missing(path: &Path) -> Sight {
    let content = match fs::read_link(path) {
        Ok(target) => Content::Unreadable(format!(
            "is a symbolic link to {}, which does not exist",
            target.display()
        )),
        Err(_) => Content::Absent,
    };
    Sight::Looked {
        content,
        signature: None,
        at_rest: false,
    }
}

/// Returns the signature from before reading, so a write during the read is noticed the next time. If the file grows
/// meanwhile, at most one byte more than allowed is read.
fn read(path: &Path, max: u64) -> std::io::Result<(Vec<u8>, Signature)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::with_capacity(metadata.len().min(max) as usize);
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes, Signature::of(&metadata)))
}

fn too_large(bytes: u64, kind: Kind, max: u64) -> String {
    let hint = match kind {
        Kind::Wasm => "; `modules.max_file_size` sets the limit",
        Kind::Toml => "",
    };
    format!(
        "has {bytes} bytes or more; a .{} may have at most {max}{hint}",
        kind.ending()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const RULES: Rules = Rules {
        strict: false,
        max_wasm: 1_000_000,
    };

    fn content_of(dir: &Path, file: &str) -> Content {
        let part = Part::of(OsStr::new(file)).expect("a module's file");
        match scan(dir, &BTreeMap::new(), RULES)
            .files
            .expect("a directory")
            .remove(&part)
        {
            Some(Sight::Looked { content, .. }) => content,
            Some(Sight::Unchanged) => panic!("{file} should have been read"),
            None => Content::Absent,
        }
    }

    #[test]
    fn only_plain_names_count() {
        for name in ["orders.wasm", "orders.toml", "my.orders.wasm", "a~.toml"] {
            assert!(Part::of(OsStr::new(name)).is_some(), "{name} should count");
        }
        for name in [
            ".orders.toml.swp",
            "4913",
            "orders.toml~",
            "#orders.toml#",
            ".#orders.toml",
            ".hidden.wasm",
            ".wasm",
            "..data",
            "orders.wasm.tmp",
            "orders",
            "orders.WASM",
        ] {
            assert_eq!(Part::of(OsStr::new(name)), None, "{name} should not count");
        }
    }

    #[test]
    fn a_known_signature_saves_the_reading_and_a_write_breaks_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("orders.toml"), "a = 1").unwrap();
        let part = Part::of(OsStr::new("orders.toml")).unwrap();
        let mut known = BTreeMap::new();
        match scan(dir.path(), &known, RULES).files.unwrap().remove(&part) {
            Some(Sight::Looked {
                content: Content::Whole(whole),
                signature: Some(signature),
                ..
            }) => {
                assert_eq!(&*whole.bytes, b"a = 1");
                // The same hash that sha256sum prints.
                assert_eq!(
                    whole.sha256,
                    "b5bc1ffd90912fb18bef6e7d80909192c7a6492896320156d67fbaf104c6544a"
                );
                known.insert(part.clone(), signature);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            scan(dir.path(), &known, RULES).files.unwrap()[&part],
            Sight::Unchanged
        ));
        fs::write(dir.path().join("orders.toml"), "a = 10").unwrap();
        assert!(matches!(
            scan(dir.path(), &known, RULES).files.unwrap()[&part],
            Sight::Looked { .. }
        ));
    }

    #[test]
    fn a_file_is_at_rest_ten_seconds_after_its_last_change() {
        let touched = |modified: i64, changed: i64| Signature {
            modified: (modified, 999_999_999),
            changed: (changed, 999_999_999),
            ..Signature::made_up(1)
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(touched(989, 989).is_at_rest(now));
        assert!(!touched(989, 990).is_at_rest(now), "copied with its old time");
        assert!(!touched(990, 989).is_at_rest(now));
        assert!(!touched(2_000, 2_000).is_at_rest(now), "the clock was set back");
    }

    #[test]
    fn a_file_that_was_just_written_is_not_at_rest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.toml");
        fs::write(&file, "a = 1").unwrap();
        let old = SystemTime::now() - Duration::from_secs(3_600);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let sights = scan(dir.path(), &BTreeMap::new(), RULES).files.unwrap();
        assert!(
            sights
                .values()
                .all(|sight| matches!(sight, Sight::Looked { at_rest: false, .. })),
            "{sights:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let check = |file: &str, expected: &str| match content_of(path, file) {
            Content::Unreadable(error) => assert!(error.contains(expected), "{error}"),
            other => panic!("{file}: {other:?}"),
        };
        fs::create_dir(path.join("folder.wasm")).unwrap();
        check("folder.wasm", "is a directory; a file is needed");
        std::os::unix::fs::symlink("nowhere", path.join("link.toml")).unwrap();
        check("link.toml", "is a symbolic link to nowhere, which does not exist");
        File::create(path.join("huge.wasm"))
            .unwrap()
            .set_len(RULES.max_wasm + 1)
            .unwrap();
        check(
            "huge.wasm",
            "has 1000001 bytes or more; a .wasm may have at most 1000000; `modules.max_file_size` sets",
        );
        fs::write(path.join(OsStr::from_bytes(b"caf\xe9.toml")), "").unwrap();
        check("caf\u{FFFD}.toml", "has a name that is not UTF-8");
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket.toml")).unwrap();
        check("socket.toml", "is a device, a pipe or a socket");
        std::os::unix::fs::symlink("loop.wasm", path.join("loop.wasm")).unwrap();
        check("loop.wasm", "cannot be read: ");
        assert_eq!(content_of(path, "other.wasm"), Content::Absent);
    }

    #[test]
    fn what_others_may_change_is_not_taken_if_it_is_to_be_strict() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.toml");
        fs::write(&file, "a = 1").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let part = Part::of(OsStr::new("orders.toml")).unwrap();
        let sight = |strict| {
            scan(dir.path(), &BTreeMap::new(), Rules { strict, ..RULES })
                .files
                .map(|mut files| files.remove(&part))
        };
        let is_unreadable = |sight: &Option<Sight>| {
            let Some(Sight::Looked { content, .. }) = sight else {
                return false;
            };
            matches!(content, Content::Unreadable(error) if error.contains("mode 0666"))
        };
        mode(dir.path(), 0o755);
        mode(&file, 0o666);
        assert!(!is_unreadable(&sight(false).unwrap()));
        assert!(is_unreadable(&sight(true).unwrap()));
        mode(&file, 0o644);
        assert!(!is_unreadable(&sight(true).unwrap()));
        mode(dir.path(), 0o775);
        let trouble = sight(true).unwrap_err();
        assert!(trouble.contains("is writable by other users (mode 0775)"), "{trouble}");
        assert!(sight(false).is_ok());
    }

    #[test]
    fn a_missing_directory_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let trouble = scan(&dir.path().join("modules"), &BTreeMap::new(), RULES)
            .files
            .unwrap_err();
        assert!(trouble.ends_with("modules does not exist"), "{trouble}");
        fs::write(dir.path().join("modules"), "").unwrap();
        let trouble = scan(&dir.path().join("modules"), &BTreeMap::new(), RULES)
            .files
            .unwrap_err();
        assert!(trouble.ends_with("is not a directory"), "{trouble}");
    }
}
