//! Log lines on their way to a file or pipe, in a bounded queue with a writer thread of its own. Code that logs never
//! waits.
//!
//! `tracing-appender` has such a queue too, but it does not tell which lines failed to be written. At its end it prints
//! to standard output, which blocks forever if that is the pipe that nobody reads (0.2.5, `WorkerGuard::drop`).

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing::warn;

/// A line has a few hundred bytes, or 2 KiB with a long reason, so the queue holds about 8 MiB at most.
const LINES: usize = 4096;

/// The shortest time between two reports of lost lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before writing again to a full non-blocking pipe.
const FULL_PIPE: Duration = Duration::from_millis(10);

thread_local! {
    /// Takes what the writer's own thread logs. The queue may be full, and the writer cannot wait for itself.
    static OWN_LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Takes lines, each in one `write`. A clone is the same queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    entries: SyncSender<Entry>,
    lost: &'static AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before this entry has to be written.
    Flush(SyncSender<()>),
}

impl Queue {
    /// Starts the thread that writes to `out`. Lines that are not taken in time or cannot be written are counted in
    /// `lost`.
    pub(super) fn start(out: impl Write + Send + 'static, lost: &'static AtomicU64) -> anyhow::Result<Self> {
        Self::with(out, lost, report)
    }

    fn with(out: impl Write + Send + 'static, lost: &'static AtomicU64, report: fn(u64)) -> anyhow::Result<Self> {
        let (entries, receiver) = sync_channel(LINES);
        let writer = Writer {
            out,
            in_a_line: false,
            lost,
            report,
            reported: 0,
            report_at: Instant::now(),
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_all(&receiver))
            .context("cannot start the thread that writes the log")?;
        Ok(Self { entries, lost })
    }

    /// Waits until all lines so far are written, for at most `patience`.
    pub(super) fn flush_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (written, done) = sync_channel(1);
        let mut entry = Entry::Flush(written);
        while let Err(TrySendError::Full(again)) = self.entries.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = again;
            thread::sleep(FULL_PIPE);
        }
        // If it is late or the writer is gone, there is nothing more to wait for.
        let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_own = OWN_LINES.with_borrow_mut(|own| own.as_mut().map(|own| own.extend(line)).is_some());
        if !is_own && self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    out: W,
    /// The last line was cut off in the middle.
    in_a_line: bool,
    lost: &'static AtomicU64,
    /// Logs that this many lines were lost.
    report: fn(u64),
    /// How many lost lines the log has reported.
    reported: u64,
    report_at: Instant,
}

impl<W: Write> Writer<W> {
    fn write_all(mut self, entries: &Receiver<Entry>) {
        loop {
            // Lost lines are reported even if no others follow.
            let entry = match self.lost.load(Ordering::Relaxed) > self.reported {
                true => match entries.recv_timeout(REPORT_INTERVAL) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.report();
                        continue;
                    }
                    entry => entry.ok(),
                },
                false => entries.recv().ok(),
            };
            match entry {
                Some(Entry::Line(line)) => match self.write(&line) {
                    Ok(()) if Instant::now() >= self.report_at => self.report(),
                    Ok(()) => {}
                    Err(_) => {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                    }
                },
                Some(Entry::Flush(written)) => {
                    self.report();
                    // The waiting thread may be gone.
                    let _ = written.try_send(());
                }
                None => return,
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.in_a_line {
            self.write_some(b"\n")?;
        }
        self.write_some(line)?;
        self.in_a_line = false;
        Ok(())
    }

    fn write_some(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.in_a_line = true;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tries to report how many lines were lost since the last report.
    fn report(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost <= self.reported {
            return;
        }
        self.report_at = Instant::now() + REPORT_INTERVAL;
        OWN_LINES.set(Some(Vec::new()));
        (self.report)(lost - self.reported);
        let lines = OWN_LINES.take().unwrap_or_default();
        // If it cannot be written now, the next report covers it.
        if self.write(&lines).is_ok() {
            self.reported = lost;
        }
    }
}

fn report(lines: u64) {
    warn!(
        target: "slipring::log",
        lines,
        "log lines were lost: standard error did not take them in time"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, OnceLock, mpsc};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn counter() -> &'static AtomicU64 {
        Box::leak(Box::default())
    }

    /// Keeps what is written. Each write gets the next of `answers`; all later writes are accepted whole.
    #[derive(Clone, Default)]
    struct Paper {
        written: Arc<Mutex<Vec<u8>>>,
        answers: Arc<Mutex<Vec<io::Result<usize>>>>,
    }

    impl Paper {
        fn answering(answers: impl IntoIterator<Item = io::Result<usize>>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self {
                written: Arc::default(),
                answers: Arc::new(Mutex::new(answers)),
            }
        }

        fn text(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let taken = self.answers.lock().unwrap().pop().unwrap_or(Ok(text.len()))?;
            self.written.lock().unwrap().extend(&text[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(paper: &Paper, lines: &[&str]) -> (String, u64) {
        let lost = counter();
        let mut queue = Queue::start(paper.clone(), lost).unwrap();
        for line in lines {
            queue.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        queue.flush_within(PATIENCE);
        (paper.text(), lost.load(Ordering::Relaxed))
    }

    #[test]
    fn lines_are_written_in_order() {
        assert_eq!(
            written(&Paper::default(), &["a", "b", "c"]),
            ("a\nb\nc\n".to_owned(), 0)
        );
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_goes_on() {
        for failure in [ErrorKind::StorageFull, ErrorKind::BrokenPipe, ErrorKind::Other] {
            let paper = Paper::answering([Err(failure.into()), Err(failure.into())]);
            assert_eq!(written(&paper, &["a", "b", "c"]), ("c\n".to_owned(), 2));
        }
    }

    #[test]
    fn what_follows_half_a_line_begins_a_new_one() {
        let paper = Paper::answering([Ok(3), Err(ErrorKind::StorageFull.into())]);
        assert_eq!(written(&paper, &["a long line", "b"]), ("a l\nb\n".to_owned(), 1));
    }

    #[test]
    fn a_pipe_that_does_not_wait_is_tried_again() {
        let (full, interrupted) = (ErrorKind::WouldBlock.into(), ErrorKind::Interrupted.into());
        let paper = Paper::answering([Ok(2), Err(full), Err(interrupted)]);
        assert_eq!(written(&paper, &["abc", "d"]), ("abc\nd\n".to_owned(), 0));
    }

    /// Accepts nothing until it is told to.
    struct Still {
        go: mpsc::Receiver<()>,
        paper: Paper,
    }

    impl Write for Still {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // Returns when told, or when the sender is gone.
            let _ = self.go.recv();
            self.paper.write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_does_not_lose_the_report_of_lost_lines() {
        static QUEUE: OnceLock<Queue> = OnceLock::new();
        let (go, still) = mpsc::channel();
        let (paper, lost) = (Paper::default(), counter());
        let out = Still {
            go: still,
            paper: paper.clone(),
        };
        let report = |lines| writeln!(QUEUE.get().unwrap().clone(), "{lines} were lost").unwrap();
        let mut queue = QUEUE.get_or_init(|| Queue::with(out, lost, report).unwrap()).clone();
        // The writer holds one line and the queue is full.
        while lost.load(Ordering::Relaxed) < 10 {
            queue.write_all(b"a line\n").unwrap();
        }
        drop(go);
        queue.flush_within(PATIENCE);
        assert!(paper.text().starts_with("a line\n10 were lost\na line\n"));
        assert_eq!(lost.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn lost_lines_are_reported_although_no_others_follow() {
        static QUEUE: OnceLock<Queue> = OnceLock::new();
        let paper = Paper::answering([Err(ErrorKind::StorageFull.into())]);
        let lost = counter();
        let report = |lines| writeln!(QUEUE.get().unwrap().clone(), "{lines} was lost").unwrap();
        let mut queue = QUEUE
            .get_or_init(|| Queue::with(paper.clone(), lost, report).unwrap())
            .clone();
        queue.write_all(b"a line\n").unwrap();
        let until = Instant::now() + PATIENCE;
        while paper.text() != "1 was lost\n" {
            assert!(Instant::now() < until, "{:?}", paper.text());
            thread::sleep(FULL_PIPE);
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still() {
        let (go, still) = mpsc::channel();
        let lost = counter();
        let out = Still {
            go: still,
            paper: Paper::default(),
        };
        let mut queue = Queue::start(out, lost).unwrap();
        for _ in 0..LINES + 11 {
            queue.write_all(b"a line\n").unwrap();
        }
        // The writer may hold one of the lines.
        let dropped = lost.load(Ordering::Relaxed);
        assert!((10..=11).contains(&dropped), "{dropped} dropped");
        queue.flush_within(Duration::ZERO);
        drop(go);
        queue.flush_within(PATIENCE);
        assert_eq!(lost.load(Ordering::Relaxed), dropped);
    }
}
