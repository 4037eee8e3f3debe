//! A program on a terminal that a test looks at: `script` has the terminal, and `vt100` knows what would be on it.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use slipring_support::eventually;
use vt100::Parser;

/// The program ends with this.
pub struct Terminal {
    /// `script`, whose terminal it is.
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Parser>>,
    reader: Option<JoinHandle<()>>,
    /// Where the shell around the program writes what it knows.
    dir: tempfile::TempDir,
}

impl Terminal {
    /// Runs the command of a shell on a terminal of this size. `prepare` sets its folder and its environment.
    pub fn run(
        command: &str,
        columns: u16,
        lines: u16,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let dir = tempfile::TempDir::with_prefix("slipring-terminal-")?;
        let place = dir.path().display();
        // Ctrl-C ends the program, and not the shell around it.
        let shell = format!(
            "trap : INT; stty rows {lines} cols {columns}; tty > {place}/tty; stty -g > {place}/before; \
             sh -c 'echo $$ > {place}/pid; exec {command}'; echo \"exit code $?\"; stty -g > {place}/after; echo ended"
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &shell, "/dev/null"]);
        prepare(&mut script)?;
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = script
            .spawn()
            .context("starting `script`, which comes with util-linux")?;
        let keys = child.stdin.take().context("its input")?;
        let mut output = child.stdout.take().context("its output")?;
        let screen = Arc::new(Mutex::new(Parser::new(at_least_one(lines), at_least_one(columns), 0)));
        let reader = std::thread::spawn({
            let screen = Arc::clone(&screen);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut bytes) {
                    screen
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .process(&bytes[..count]);
                }
            }
        });
        Ok(Self {
            child,
            keys,
            screen,
            reader: Some(reader),
            dir,
        })
    }

    fn look<T>(&self, look: impl FnOnce(&mut Parser) -> T) -> T {
        look(&mut self.screen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what is on the screen.
    pub fn text(&self) -> String {
        let text = self.look(|parser| parser.screen().contents());
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }

    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        self.keys.flush().context("pressing a key")
    }

    /// Waits until all of these are on the screen, and returns it.
    pub async fn shows(&self, patience: Duration, texts: &[&str]) -> Result<String> {
        let shown = async || {
            let text = self.text();
            ensure!(
                texts.iter().all(|expected| text.contains(expected)),
                "on the screen:\n{text}"
            );
            Ok(text)
        };
        eventually(patience, format!("{texts:?} on the screen"), shown).await
    }

    /// Changes the size, as somebody does who drags the corner of the window.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let tty = self.told("tty")?;
        self.look(|parser| parser.screen_mut().set_size(at_least_one(lines), at_least_one(columns)));
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let status = Command::new("stty")
            .args(["-F", &tty, "rows", &lines, "cols", &columns])
            .status()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid: i32 = self.told("pid")?.parse()?;
        let pid = Pid::from_raw(pid).context("a process")?;
        kill_process(pid, signal).context("signalling the program")
    }

    /// Waits for the end of the program, and checks that the terminal is as it was before.
    pub async fn is_restored(&self, patience: Duration) -> Result<String> {
        let text = self.shows(patience, &["exit code", "ended"]).await?;
        ensure!(self.told("before")? == self.told("after")?, "the modes of the terminal");
        self.look(|parser| {
            let screen = parser.screen();
            ensure!(!screen.alternate_screen(), "the screen of the program is left");
            ensure!(!screen.hide_cursor(), "the cursor is seen");
            ensure!(!screen.bracketed_paste(), "pastes are keys");
            Ok(())
        })?;
        Ok(text)
    }

    fn told(&self, name: &str) -> Result<String> {
        let file: &Path = &self.dir.path().join(name);
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

fn at_least_one(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap_or(NonZero::<u16>::MIN)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal goes away with it, and what runs there gets SIGHUP.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}
