//! Says what is left where when a person stops the command.

use std::io::Write;
use std::process::{self, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for Ctrl-C.
const EXIT_CODE: i32 = 130;

/// Watches for Ctrl-C and SIGTERM.
#[derive(Debug, Clone)]
pub struct Interrupted(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: String,
    /// Another command has the terminal, and decides what a signal means.
    child: Option<Pid>,
}

impl Interrupted {
    pub fn watch(runtime: &Runtime) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            left: "nothing was changed".to_owned(),
            child: None,
        }));
        let _context = runtime.enter();
        let doing = "catching signals failed";
        let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
        let mut terminate = signal(SignalKind::terminate()).context(doing)?;
        let seen = Self(Arc::clone(&state));
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    // The terminal sends it to the other command as well.
                    _ = interrupt.recv() => seen.stop(|_| {}),
                    _ = terminate.recv() => seen.stop(|child| {
                        let _ = kill_process(child, Signal::TERM);
                    }),
                }
            }
        });
        Ok(Self(state))
    }

    /// Sets what is said from now on.
    pub fn says(&self, left: String) {
        self.lock().left = left;
    }

    /// Runs another command, which gets the same signals.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<ExitStatus> {
        let mut child = {
            let mut state = self.lock();
            let child = command.spawn().context("cannot start this program again")?;
            state.child = Some(Pid::from_child(&child));
            child
        };
        let ended = child.wait();
        self.lock().child = None;
        ended.context("cannot wait for the other command")
    }

    fn stop(&self, tell: impl FnOnce(Pid)) {
        let state = self.lock();
        match state.child {
            // While the lock is held, nobody has waited for it yet, so the ID is still its own or that of a zombie.
            Some(child) => tell(child),
            None => {
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stderr(), "\nstopped: {}", state.left);
                process::exit(EXIT_CODE);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
