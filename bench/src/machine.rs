//! The machine and the versions that were measured.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use slipring_support::servers::tool;
use slipring_support::workspace;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Each version as the program reports it.
    pub nats_server: String,
    pub centrifugo: String,
    pub bento: String,
    /// The commit, with a note if there were uncommitted changes.
    pub slipring: String,
}

impl Machine {
    pub fn describe() -> Result<Self> {
        let read = |file: &str| std::fs::read_to_string(file).with_context(|| format!("reading {file}"));
        let meminfo = read("/proc/meminfo")?;
        let kilobytes: u64 = field(&meminfo, "MemTotal")
            .and_then(|total| total.trim_end_matches(" kB").parse().ok())
            .context("MemTotal in /proc/meminfo")?;
        Ok(Self {
            // Not available on every architecture.
            cpu: field(&read("/proc/cpuinfo")?, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().context("counting cores")?.get(),
            memory_bytes: kilobytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            nats_server: version("nats-server", "--version"),
            centrifugo: version("centrifugo", "version"),
            bento: version("bento", "--version"),
            slipring: commit(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gibibytes = self.memory_bytes as f64 / f64::from(1 << 30);
        writeln!(
            f,
            "{}, {} core{}, {gibibytes:.0} GiB, Linux {}",
            self.cpu,
            self.cores,
            if self.cores == 1 { "" } else { "s" },
            self.kernel
        )?;
        write!(
            f,
            "nats-server {}, Centrifugo {}, Bento {}, slipring {}",
            self.nats_server, self.centrifugo, self.bento, self.slipring
        )
    }
}

/// Finds `name : value` in a file of `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn version(program: &str, ask: &str) -> String {
    let Ok(path) = tool(program) else {
        return "(not installed)".to_owned();
    };
    let said = output(Command::new(path).arg(ask)).unwrap_or_default();
    // The first word that begins with a number, whatever surrounds it.
    let words = said.split([' ', '\n', ',']).map(|word| word.trim_start_matches('v'));
    let mut versions = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    versions.next().unwrap_or("(unknown)").to_owned()
}

fn commit() -> String {
    let git = |arguments: &[&str]| output(Command::new("git").current_dir(workspace()).args(arguments));
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "(no commit)".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]).as_deref() {
        Some("") => commit,
        _ => format!("{commit} with changes"),
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::describe().unwrap();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 28, "{machine:?}");
        assert!(machine.nats_server.starts_with("2."), "{machine:?}");
        assert!(machine.centrifugo.starts_with("6."), "{machine:?}");
    }

    #[test]
    fn the_files_of_proc_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2:1 GHz\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU @ 2:1 GHz"));
        assert_eq!(field(cpuinfo, "MemTotal"), None);
    }
}
