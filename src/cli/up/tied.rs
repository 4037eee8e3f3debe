//! Starts a program that does not outlive its parent, even if that is killed.
//!
//! The kernel sends a signal to a process whose parent has ended if the process asked for it. Only the process itself can
//! ask, so this program starts itself first, asks, and becomes the other program.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// The first argument of such a process. It is no command for users and does not appear in `--help` or in completions.
const COMMAND: &str = "run-tied";

/// The exit code of a shell that cannot run a program.
const CANNOT_RUN: u8 = 126;

/// The instructions for such a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Tied {
    parent: String,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Tied {
    /// Parses the program's arguments if they are those of such a process.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter().skip(1);
        if arguments.next()? != COMMAND {
            return None;
        }
        Some(Self {
            parent: arguments.next()?.into_string().ok()?,
            program: arguments.next()?,
            arguments: arguments.collect(),
        })
    }

    /// Becomes the program. Returns only if that fails.
    pub fn run(&self) -> ExitCode {
        let error = match set_parent_process_death_signal(Some(Signal::KILL)) {
            Ok(()) if !self.has_parent() => return ExitCode::FAILURE,
            Ok(()) => Command::new(&self.program).args(&self.arguments).exec(),
            Err(error) => error.into(),
        };
        eprintln!("cannot start {}: {error}", self.program.display());
        ExitCode::from(CANNOT_RUN)
    }

    /// Returns false if the parent has ended before the signal was asked for.
    fn has_parent(&self) -> bool {
        getppid().is_some_and(|parent| parent.as_raw_nonzero().to_string() == self.parent)
    }
}

/// Returns the command line that starts `program` tied to this process. The signal comes when the thread ends that started
/// it, so this must be the main thread.
pub(super) fn command(program: &Path) -> io::Result<Command> {
    // This path still runs the current program after an upgrade has replaced its file.
    let own = Path::new("/proc/self/exe");
    let own = match own.exists() {
        true => own.to_owned(),
        false => std::env::current_exe()?,
    };
    let mut command = Command::new(own);
    command
        .arg0("slipring")
        .arg(COMMAND)
        .arg(getpid().as_raw_nonzero().to_string())
        .arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_command_line_is_understood() {
        let parsed = |line: &[&str]| Tied::from_arguments(line.iter().map(OsString::from));
        let tied = Tied {
            parent: "7".to_owned(),
            program: "sleep".into(),
            arguments: vec!["1".into(), "2".into()],
        };
        assert_eq!(parsed(&["slipring", "run-tied", "7", "sleep", "1", "2"]), Some(tied));
        assert_eq!(parsed(&["slipring", "run", "7", "sleep"]), None);
        assert_eq!(parsed(&["slipring", "run-tied", "7"]), None);
        assert_eq!(parsed(&["slipring"]), None);
    }
}
