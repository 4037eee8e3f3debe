//! The memory available to the relay: the machine's, or less if a cgroup (version 1 or 2) limits it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The smallest default, on any machine. With less, many modules would wait for each other.
const LEAST: usize = 256 << 20;

/// The default of `memory_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultLimit {
    pub bytes: usize,
    found: Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Machine(usize),
    Cgroup(usize),
    Nothing,
}

/// Returns half of the available memory, but at least 256 MiB.
pub fn default_limit() -> DefaultLimit {
    limit_under(Path::new("/"))
}

/// `root` is `/`, except in tests.
fn limit_under(root: &Path) -> DefaultLimit {
    let machine = fs::read_to_string(root.join("proc/meminfo"));
    let machine = machine.ok().and_then(|text| total(&text));
    let found = match (machine, cgroup_limit(root)) {
        (machine, Some(cgroup)) if machine.is_none_or(|machine| cgroup < machine) => Found::Cgroup(cgroup),
        (Some(machine), _) => Found::Machine(machine),
        (None, _) => Found::Nothing,
    };
    let bytes = match found {
        Found::Machine(bytes) | Found::Cgroup(bytes) => bytes / 2,
        Found::Nothing => 0,
    };
    DefaultLimit {
        bytes: bytes.max(LEAST),
        found,
    }
}

impl fmt::Display for DefaultLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes >> 20;
        match self.found {
            Found::Nothing => write!(f, "the minimum: the machine's memory size is unknown"),
            Found::Machine(bytes) | Found::Cgroup(bytes) if bytes / 2 < LEAST => {
                write!(f, "the minimum: only {} MiB are available", mib(bytes))
            }
            Found::Machine(bytes) => write!(f, "half of the machine's {} MiB", mib(bytes)),
            Found::Cgroup(bytes) => write!(f, "half of the {} MiB that the cgroup allows", mib(bytes)),
        }
    }
}

/// Returns `MemTotal` from `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns the smallest limit of the process's cgroup and its parents.
fn cgroup_limit(root: &Path) -> Option<usize> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let limits = groups.lines().filter_map(|line| {
        // `hierarchy:controllers:path`; version 2 names no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (kind, file) = match controllers {
            "" => ("cgroup2", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => ("cgroup", "memory.limit_in_bytes"),
            _ => return None,
        };
        let (inner, mounted) = mounts.lines().find_map(|line| mount(line, kind))?;
        let base = root.join(mounted.strip_prefix("/").ok()?);
        // A container sees its own group as the root of the mount, or as a path that does not exist there. Then the
        // mount itself is the group.
        let below = Path::new(group).strip_prefix(inner).unwrap_or(Path::new(""));
        let limits = below.ancestors().filter_map(|group| {
            let text = fs::read_to_string(base.join(group).join(file)).ok()?;
            // "max" means no limit.
            text.trim().parse::<usize>().ok()
        });
        limits.min()
    });
    limits.min()
}

/// Returns the mounted path and the mount point, if the line of `/proc/self/mountinfo` describes a cgroup file system
/// with the memory controller.
fn mount<'a>(line: &'a str, kind: &str) -> Option<(&'a str, PathBuf)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    if file_system.next()? != kind {
        return None;
    }
    let options = file_system.nth(1)?;
    if kind == "cgroup" && !options.split(',').any(|option| option == "memory") {
        return None;
    }
    let mut mount = mount.split(' ').skip(3);
    Some((mount.next()?, PathBuf::from(mount.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (usize, String) {
        let root = tempfile::tempdir().unwrap();
        let meminfo = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
        for (path, text) in files.iter().chain([&meminfo]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limit = limit_under(root.path());
        (limit.bytes >> 20, limit.to_string())
    }

    const V2: &str = "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "34 31 0:30 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n";

    #[test]
    fn without_a_cgroup_it_is_half_of_the_machine() {
        assert_eq!(machine(&[]), (4096, "half of the machine's 8192 MiB".to_owned()));
        let unlimited = [
            ("proc/self/cgroup", "4:memory:/\n0::/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&unlimited).0, 4096);
    }

    #[test]
    fn the_smallest_limit_of_a_cgroup_and_those_around_it_counts() {
        let files = [
            ("proc/self/cgroup", "0::/system.slice/slipring.service\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/system.slice/slipring.service/memory.max", "max\n"),
        ];
        assert_eq!(
            machine(&files),
            (512, "half of the 1024 MiB that the cgroup allows".to_owned())
        );
    }

    #[test]
    fn version_1_has_a_hierarchy_of_its_own_for_memory() {
        let files = [
            ("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "805306368\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&files).0, 384);
    }

    #[test]
    fn a_container_s_group_is_the_root_of_its_mount() {
        let mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        for group in ["4:memory:/docker/abc\n", "4:memory:/elsewhere\n"] {
            let files = [
                ("proc/self/cgroup", group),
                ("proc/self/mountinfo", mount),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "805306368\n"),
            ];
            assert_eq!(machine(&files).0, 384, "{group}");
        }
    }

    #[test]
    fn it_is_never_less_than_256_mib() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/memory.max", "134217728\n"),
        ];
        assert_eq!(
            machine(&files),
            (256, "the minimum: only 128 MiB are available".to_owned())
        );
    }
}
