//! The token that a relay creates when none is configured, in a file that only its user can read. The commands of the
//! same user find it there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::geteuid;
use tempfile::NamedTempFile;
use tracing::warn;

use crate::config::Secret;

/// A file with a fresh token. Dropping it removes the file, if it still holds this token.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    token: Secret,
}

impl TokenFile {
    /// Saves a new token in the first usable of these directories. The address must be in use by this relay, so that
    /// no other one has the same file.
    pub fn create(dirs: &[PathBuf], address: SocketAddr) -> io::Result<Self> {
        let token = random()?;
        let mut trouble = io::Error::new(io::ErrorKind::NotFound, "there is no directory for it");
        for dir in dirs {
            let path = dir.join(name(address));
            match save(dir, &path, &token) {
                Ok(()) => return Ok(Self { path, token }),
                Err(error) => trouble = io::Error::new(error.kind(), format!("{}: {error}", dir.display())),
            }
        }
        Err(trouble)
    }

    pub fn token(&self) -> &Secret {
        &self.token
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let removed = match read(&self.path) {
            Ok((token, _)) if token == self.token => fs::remove_file(&self.path),
            _ => return,
        };
        if let Err(error) = removed {
            let error = &error as &dyn std::error::Error;
            warn!(path = %self.path.display(), error, "the file with the relay's token cannot be removed");
        }
    }
}

/// Returns the newest token of a relay at this address. On failure, returns the files where it could have been.
pub(super) fn find(dirs: &[PathBuf], address: SocketAddr) -> Result<Secret, String> {
    let mut newest: Option<(Secret, SystemTime)> = None;
    let mut places = Vec::new();
    for dir in dirs {
        let mut place = dir.join(name(address)).display().to_string();
        for address in listening(address) {
            match is_private(dir).and_then(|()| read(&dir.join(name(address)))) {
                Ok((token, at)) if newest.as_ref().is_none_or(|(_, before)| at > *before) => newest = Some((token, at)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => place = format!("{} ({error})", dir.display()),
                _ => {}
            }
        }
        places.push(place);
    }
    newest.map(|(token, _)| token).ok_or_else(|| places.join(" or "))
}

/// Returns the addresses on which a relay may listen that is reached under `address`.
fn listening(address: SocketAddr) -> Vec<SocketAddr> {
    let port = address.port();
    let mut addresses = vec![address];
    if address.ip().is_loopback() {
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        addresses.extend(everywhere.map(|ip| SocketAddr::new(ip, port)));
    }
    addresses
}

fn name(address: SocketAddr) -> String {
    format!("{}-{}.token", address.ip(), address.port())
}

fn random() -> io::Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

fn save(dir: &Path, path: &Path, token: &Secret) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let found = fs::metadata(parent)?;
    // After `sudo -E` the session's directory is another user's. In a directory such as /tmp, which is root's, others
    // may not rename ours.
    let sticky = found.mode() & 0o1000 != 0;
    if found.uid() != geteuid().as_raw() && !sticky {
        return Err(io::Error::other(format!(
            "{} belongs to another user",
            parent.display()
        )));
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => is_private(dir)?,
    }
    // Created with mode 0600 under a name that did not exist. The rename replaces whatever is there, also a link.
    let mut file = NamedTempFile::new_in(dir)?;
    writeln!(file, "{}", token.expose())?;
    file.persist(path)?;
    Ok(())
}

/// Fails unless this is a directory, no link to one, that only this user can open.
fn is_private(dir: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(dir)?;
    let (mode, uid) = (found.mode() & 0o7777, geteuid().as_raw());
    if found.is_dir() && found.uid() == uid && mode & 0o077 == 0 {
        return Ok(());
    }
    let kind = if found.is_dir() {
        "a directory"
    } else {
        "not a directory"
    };
    Err(io::Error::other(format!(
        "it is {kind} (mode {mode:04o}, user {}); it must be a directory with mode 0700 of user {uid}",
        found.uid()
    )))
}

fn read(path: &Path) -> io::Result<(Secret, SystemTime)> {
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    let written = file.metadata()?.modified()?;
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text)?;
    Ok((Secret::new(text.trim()), written))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const HERE: &str = "127.0.0.1:8787";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn places(root: &Path) -> Vec<PathBuf> {
        ["first", "second"]
            .map(|name| root.join(name).join("slipring"))
            .to_vec()
    }

    /// Returns a directory with `first` and `second` in it.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in ["first", "second"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        root
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn only_its_user_can_read_it() {
        let root = root();
        let file = TokenFile::create(&places(root.path()), address(HERE)).unwrap();
        assert_eq!(file.path(), root.path().join("first/slipring/127.0.0.1-8787.token"));
        let found = fs::symlink_metadata(file.path()).unwrap();
        assert!(found.is_file() && found.uid() == geteuid().as_raw());
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
        assert_eq!(
            fs::read_dir(file.path().parent().unwrap()).unwrap().count(),
            1,
            "nothing else is left"
        );
        assert_eq!(file.token().expose().len(), 43);
        assert_eq!(format!("{file:?}").matches("***").count(), 1);
    }

    #[test]
    fn the_commands_find_it_under_the_address_of_the_relay() {
        let root = root();
        let dirs = places(root.path());
        for (listen, asked) in [
            (HERE, HERE),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("[::]:3", "127.0.0.1:3"),
            ("10.0.0.7:4", "10.0.0.7:4"),
        ] {
            let file = TokenFile::create(&dirs, address(listen)).unwrap();
            assert_eq!(
                find(&dirs, address(asked)).as_ref(),
                Ok(file.token()),
                "{listen} {asked}"
            );
        }
        assert!(find(&dirs, address("127.0.0.1:8788")).is_err(), "another relay's");
        let _file = TokenFile::create(&dirs, address("127.0.0.1:5")).unwrap();
        assert!(find(&dirs, address("10.0.0.7:5")).is_err(), "another machine's");
    }

    #[test]
    fn two_relays_have_two_and_remove_only_their_own() {
        let root = root();
        let dirs = places(root.path());
        let one = TokenFile::create(&dirs, address(HERE)).unwrap();
        let other = TokenFile::create(&dirs, address("127.0.0.1:8788")).unwrap();
        assert_ne!(one.token(), other.token());
        drop(one);
        assert_eq!(find(&dirs, address("127.0.0.1:8788")).as_ref(), Ok(other.token()));
        let told = find(&dirs, address(HERE)).unwrap_err();
        let shown = told.replace(&root.path().display().to_string(), "");
        assert_eq!(
            shown,
            "/first/slipring/127.0.0.1-8787.token or /second/slipring/127.0.0.1-8787.token"
        );

        let successor = TokenFile::create(&dirs, address("127.0.0.1:8788")).unwrap();
        drop(other);
        assert_eq!(find(&dirs, address("127.0.0.1:8788")).as_ref(), Ok(successor.token()));
        let path = successor.path().to_owned();
        drop(successor);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_relay_left_is_replaced() {
        let root = root();
        let dirs = places(root.path());
        let killed = TokenFile::create(&dirs, address(HERE)).unwrap();
        let left = killed.token().clone();
        std::mem::forget(killed);
        let next = TokenFile::create(&dirs, address(HERE)).unwrap();
        assert_ne!(*next.token(), left);
        assert_eq!(find(&dirs, address(HERE)).as_ref(), Ok(next.token()));
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let root = root();
        let dirs = places(root.path());
        drop(TokenFile::create(&dirs, address(HERE)).unwrap());
        let victim = root.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let path = dirs[0].join("127.0.0.1-8787.token");
        symlink(&victim, &path).unwrap();
        assert!(find(&dirs, address(HERE)).is_err(), "a link is not read");
        let file = TokenFile::create(&dirs, address(HERE)).unwrap();
        assert!(fs::symlink_metadata(file.path()).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn a_directory_that_others_can_open_is_passed_over() {
        let root = root();
        let dirs = places(root.path());
        fs::create_dir(&dirs[0]).unwrap();
        fs::set_permissions(&dirs[0], fs::Permissions::from_mode(0o755)).unwrap();
        let file = TokenFile::create(&dirs, address(HERE)).unwrap();
        assert!(file.path().starts_with(&dirs[1]));
        drop(file);

        fs::remove_dir_all(&dirs[1]).unwrap();
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&elsewhere, &dirs[1]).unwrap();
        let error = TokenFile::create(&dirs, address(HERE)).unwrap_err().to_string();
        assert!(
            error.contains("it is not a directory") && error.contains("must be a directory with mode 0700"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_of_another_user_is_passed_over() {
        if !geteuid().is_root() {
            // Only root can give a directory away.
            return;
        }
        let root = root();
        let dirs = places(root.path());
        for given in [dirs[0].clone(), dirs[1].parent().unwrap().to_owned()] {
            DirBuilder::new().mode(0o700).recursive(true).create(&given).unwrap();
            std::os::unix::fs::chown(&given, Some(65_534), None).unwrap();
        }
        let error = TokenFile::create(&dirs, address(HERE)).unwrap_err().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
        let told = find(&dirs, address(HERE)).unwrap_err();
        assert!(told.contains("user 65534"), "{told}");
    }
}
