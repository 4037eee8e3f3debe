//! Turns the standard output and error of a guest into log lines of limited length and rate, and keeps the last words
//! that explain a failed call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::last_words::{Lines, report_begins};

/// A longer line is cut. The rest is counted and not kept.
const MAX_LINE: usize = 1024;
const LINES_A_SECOND: u32 = 10;
const BURST: u32 = 100;
/// The most lines that are kept of a call, for whoever shows them beside its outcome.
const MAX_KEPT: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// The log of one module, shared by all its instances.
#[derive(Debug)]
pub(super) struct Log {
    module: String,
    rate: Mutex<Rate>,
    /// The lines since they were taken, if they are kept instead of logged.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<(Channel, String)>,
    more: usize,
}

impl Log {
    pub fn new(module: &str) -> Self {
        Self {
            module: module.to_owned(),
            rate: Mutex::new(Rate::new(Instant::now())),
            kept: Mutex::default(),
        }
    }

    /// Keeps the lines from now on instead of logging them.
    pub fn keep(&self) {
        lock(&self.kept).get_or_insert_default();
    }

    /// Returns the lines that were kept, and forgets them.
    pub fn take(&self) -> Vec<String> {
        let Kept { lines, more } = lock(&self.kept).as_mut().map(std::mem::take).unwrap_or_default();
        let rest = (more > 0).then(|| format!("… ({more} more lines)"));
        lines.into_iter().map(|(_, line)| line).chain(rest).collect()
    }

    /// Forgets the kept lines of a call, because it is made again.
    pub fn forget(&self) {
        if let Some(kept) = lock(&self.kept).as_mut() {
            *kept = Kept::default();
        }
    }

    /// Forgets the kept report of a panic. Nothing comes after it, and the rejection's reason tells it.
    pub fn forget_report(&self) {
        if let Some(kept) = lock(&self.kept).as_mut() {
            let lines = kept.lines.iter().enumerate();
            let errors = lines.filter(|(_, (channel, _))| *channel == Channel::Stderr);
            if let Some(begin) = report_begins(errors.map(|(at, (_, line))| (at, line.as_str()))) {
                let mut at = 0;
                kept.lines.retain(|(channel, _)| {
                    at += 1;
                    at <= begin || *channel == Channel::Stdout
                });
            }
        }
    }

    fn line(&self, channel: Channel, line: &str) {
        if let Some(kept) = lock(&self.kept).as_mut() {
            match kept.lines.len() {
                MAX_KEPT.. => kept.more += 1,
                _ => kept.lines.push((channel, line.to_owned())),
            }
            return;
        }
        let module = self.module.as_str();
        let verdict = lock(&self.rate).admit(Instant::now());
        match verdict {
            Admission::Suppress => return,
            Admission::SuppressFromHere => {
                tracing::warn!(
                    target: "slipring::guest",
                    module,
                    "the module logs too much: lines beyond {BURST} at once or {LINES_A_SECOND} a second are only counted"
                );
                return;
            }
            Admission::Show { suppressed: 0 } => {}
            Admission::Show { suppressed } => {
                tracing::warn!(target: "slipring::guest", module, suppressed, "lines of the module were not shown");
            }
        }
        match channel {
            Channel::Stdout => tracing::info!(target: "slipring::guest", module, stream = "stdout", "{line}"),
            Channel::Stderr => tracing::warn!(target: "slipring::guest", module, stream = "stderr", "{line}"),
        }
    }
}

/// The output of one instance.
#[derive(Debug)]
pub(super) struct Console {
    log: Arc<Log>,
    stdout: Line,
    stderr: Line,
    last_words: Lines,
    /// Set while the guest does again what it has logged before.
    muted: bool,
}

impl Console {
    pub fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            stdout: Line::default(),
            stderr: Line::default(),
            last_words: Lines::default(),
            muted: false,
        }
    }

    pub fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub fn write(&mut self, channel: Channel, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        // `split` returns at least one piece. The text after the last line break is the start of a line.
        let rest = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.line(channel).push(piece);
            self.end_line(channel);
        }
        self.line(channel).push(rest);
    }

    /// Ends a call. An unfinished line counts as a line, and the next call starts with no last words.
    pub fn end_call(&mut self) -> String {
        for channel in [Channel::Stdout, Channel::Stderr] {
            if !self.line(channel).text.is_empty() {
                self.end_line(channel);
            }
        }
        self.last_words.take()
    }

    fn line(&mut self, channel: Channel) -> &mut Line {
        match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        }
    }

    fn end_line(&mut self, channel: Channel) {
        let text = self.line(channel).end();
        if channel == Channel::Stderr {
            self.last_words.push(&text);
        }
        let text = harmless(&text);
        if !text.is_empty() && !self.muted {
            self.log.line(channel, &text);
        }
    }
}

/// Removes control characters. Otherwise a guest could forge log lines or move the terminal's cursor.
fn harmless(line: &str) -> String {
    line.trim_end().replace(char::is_control, " ")
}

/// Ignores poisoning. A panic leaves none of the guarded data half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    cut: usize,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(MAX_LINE - self.text.len());
        self.text.extend_from_slice(&bytes[..kept]);
        self.cut += bytes.len() - kept;
    }

    fn end(&mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        if self.cut > 0 {
            text.push_str(&format!("… ({} more bytes)", self.cut));
        }
        self.text.clear();
        self.cut = 0;
        text
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// `suppressed` is the number of lines hidden since the last shown one.
    Show {
        suppressed: u64,
    },
    SuppressFromHere,
    Suppress,
}

/// A token bucket. Once it is empty, nothing is shown until it holds a second's worth again. A flood then shows as one
/// paragraph per second instead of every tenth line with a count in between.
#[derive(Debug)]
struct Rate {
    tokens: u32,
    filled: Instant,
    suppressed: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
            suppressed: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> Admission {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            let gained = u32::try_from(seconds).unwrap_or(BURST).saturating_mul(LINES_A_SECOND);
            self.tokens = self.tokens.saturating_add(gained).min(BURST);
            self.filled += Duration::from_secs(seconds);
        }
        if self.tokens > 0 {
            self.tokens -= 1;
            return Admission::Show {
                suppressed: std::mem::take(&mut self.suppressed),
            };
        }
        self.suppressed += 1;
        if self.suppressed == 1 {
            Admission::SuppressFromHere
        } else {
            Admission::Suppress
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the last words of a call with these writes.
    fn words(writes: &[&[u8]]) -> Vec<String> {
        let mut console = Console::new(Arc::new(Log::new("test")));
        for bytes in writes {
            console.write(Channel::Stderr, bytes);
        }
        console.write(Channel::Stdout, b"not this");
        let words = console.end_call();
        assert_eq!(console.end_call(), "");
        words.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        assert_eq!(
            words(&[b"one", b" and\ntwo\n\nthr", b"ee"]),
            ["one and", "two", "", "three"]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let long = vec![b'x'; MAX_LINE + 7];
        let lines = words(&[&long, b"\nnext\n"]);
        assert_eq!(lines[0], format!("{}… (7 more bytes)", "x".repeat(MAX_LINE)));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn control_characters_do_not_reach_the_log() {
        assert_eq!(harmless("a\x1b[2Jb\rc\t"), "a [2Jb c");
    }

    #[test]
    fn kept_lines_are_those_of_the_call_without_the_report_of_its_panic() {
        let log = Arc::new(Log::new("test"));
        log.keep();
        let mut console = Console::new(Arc::clone(&log));
        console.write(Channel::Stdout, b"first attempt\n");
        log.forget();
        console.write(Channel::Stdout, b"looked up 7\n");
        console.write(
            Channel::Stderr,
            b"slow\nthread '<unnamed>' (1) panicked at src/lib.rs:1:2:\nboom\nnote: run",
        );
        console.end_call();
        log.forget_report();
        assert_eq!(log.take(), ["looked up 7", "slow"]);
        assert_eq!(log.take(), Vec::<String>::new());
        for _ in 0..=MAX_KEPT {
            console.write(Channel::Stdout, b"much\n");
        }
        assert_eq!(log.take().last().unwrap(), "… (1 more lines)");
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_counted() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for _ in 0..BURST {
            assert_eq!(rate.admit(start), Admission::Show { suppressed: 0 });
        }
        assert_eq!(rate.admit(start), Admission::SuppressFromHere);
        assert_eq!(rate.admit(start + Duration::from_millis(999)), Admission::Suppress);
        let later = start + Duration::from_secs(1);
        assert_eq!(rate.admit(later), Admission::Show { suppressed: 2 });
        for _ in 1..LINES_A_SECOND {
            assert_eq!(rate.admit(later), Admission::Show { suppressed: 0 });
        }
        assert_eq!(rate.admit(later), Admission::SuppressFromHere);
        assert_eq!(
            rate.admit(start + Duration::from_secs(3600)),
            Admission::Show { suppressed: 1 }
        );
    }
}
