//! Replays dead letters. Each message goes through the current version of its module, and the publications that failed
//! before are published. A letter is removed once all of them are confirmed, so a replay may end at any point and be
//! started again. A letter that is confirmed only in part is replaced by one that records this, before any later letter
//! is removed. Otherwise the next replay would publish that part again, after newer publications.
//!
//! A replay shares only the decisions with the pipeline. It has no consumer, no window and no acks. A message that is
//! rejected again keeps its letter.

mod counts;
mod line;
mod origins;
mod plan;

pub use self::counts::Counts;
pub use self::origins::Origins;
pub use self::plan::Plan;

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet};
use tracing::debug;

use self::line::{Gone, Line};
use self::origins::Identity;
use slipring_core::pipeline::{of_outcome, of_waiting};
use slipring_core::read::Incarnation;
use slipring_core::stamp::Stamp;

use super::Assignment;
use crate::config::{self, VersionSource};
use crate::dead_letter::{DeadLetters, Opened, ReadError, Reader, Sender, StoreError, Unfit};
use crate::message::{Changed, Message, Outcome, Publication, Rejection, Results, Stage};
use crate::publish::{Answer, Client, Concluded, RequestId, Scheduler};
use crate::shutdown::Shutdown;
use crate::transform::{Chunk, Module, Piece, Transformed, Workers};

/// The most letters in progress. With this number publishing is still faster than removing, and both a stop by Ctrl-C
/// and a repeat after a crash take little time.
const MAX_LETTERS: usize = 256;

/// The most letters that the module may have at once, whose outcomes may be large.
const MAX_TRANSFORMING: usize = 64;

/// How many letters are read ahead, because each takes a request to the server.
const READ_AHEAD: usize = 16;

/// How many letters are removed before their removal is reported.
const REMOVED_AT_ONCE: usize = 64;

/// How many removal requests are sent to the server at the same time.
const REMOVALS: usize = 16;

/// How often a request to the server is repeated, and after which pause, before the replay gives up. Each request has
/// its own timeout.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// The replay of one module's letters.
#[derive(Debug)]
pub struct Replay {
    pub reader: Reader,
    pub dead_letters: Arc<DeadLetters>,
    pub centrifugo: Arc<Client>,
    pub publish: config::Publish,
    /// How long a stopping replay waits for what is in flight.
    pub grace: Duration,
    pub assignment: Assignment,
    pub origins: Arc<Origins>,
    /// Also publishes what was confirmed before.
    pub whole: bool,
    /// Letters that were replaced by others, but not removed because the replay died.
    pub replaced: Arc<HashSet<u64>>,
}

/// The result for a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Everything it became is confirmed, and it is removed.
    Published,
    /// The module dropped the message, and the letter is removed.
    Dropped,
    /// Everything that the module makes of it was confirmed before, and it is removed.
    NothingLeft,
    /// The letter stays.
    Rejected(Rejection),
    /// The letter remained from an interrupted removal, or another one replaces it. It is removed as well.
    Remains,
    /// Someone else has removed it.
    Gone,
}

/// Progress for a waiting user.
#[derive(Debug)]
pub enum News<'a> {
    /// The letter with this number is done.
    Ended(u64, &'a Fate),
    /// Publishing pauses for this reason.
    Paused(&'a str),
    Resumed,
}

/// Replays the letters of one module after the other, until it is told to stop. Tells the news with the name of the
/// module.
pub async fn run_all(
    replays: Vec<(Replay, Vec<Vec<u64>>)>,
    shutdown: &Shutdown,
    mut tell: impl FnMut(&str, News<'_>),
) -> anyhow::Result<()> {
    for (replay, letters) in replays {
        if shutdown.drain.is_cancelled() {
            break;
        }
        let module = Arc::clone(&replay.assignment.module);
        replay
            .run(letters, shutdown, &mut |news: News<'_>| tell(module.name(), news))
            .await?;
    }
    Ok(())
}

impl Replay {
    /// Returns what the relay would send to Centrifugo for the message: publications with their keys, and with versions
    /// if the relay sets them. The keys are the same as the first time, so Centrifugo suppresses what was shown
    /// recently.
    fn stamp(
        &self,
        message: &Message,
        publications: Vec<Publication>,
    ) -> Result<Vec<(Publication, Option<String>)>, Rejection> {
        let version = self.assignment.config.version;
        let identity = self.origins.get(&message.stream);
        let same = |stream: &Identity| stream.mirror || stream.created <= i128::from(message.timestamp);
        if version == VersionSource::Sequence && !identity.is_some_and(same) {
            return Err(Rejection {
                stage: Stage::Transform,
                code: "version".into(),
                channel: None,
                reason: format!(
                    "the stream `{}` that held the message no longer exists, and with `version = \"sequence\"` the \
                     message's sequence cannot be compared with the sequences of a new stream",
                    message.stream
                ),
            });
        }
        let stamp = Stamp {
            module: self.assignment.module.name(),
            incarnation: Some(Incarnation(identity.map_or(0, |identity| identity.created))),
            idempotency: self.publish.idempotency,
            version,
        };
        Ok(stamp.all(message, publications))
    }

    /// Returns the rest of the message that has to be published, with what `stamp` adds. Publications that were
    /// confirmed before are left out, because they would be shown again after newer ones. The result is empty if
    /// nothing is left.
    pub fn left(
        &self,
        message: &Message,
        publications: Vec<Publication>,
        results: Option<&Results>,
    ) -> Result<Vec<(Publication, Option<String>)>, Rejection> {
        let stamped = self.stamp(message, publications)?;
        match results.filter(|_| !self.whole) {
            Some(results) => results.left(stamped).map_err(changed),
            None => Ok(stamped),
        }
    }

    /// Replays the letters in this order. Each is given by its numbers. Returns how many were left when the replay was
    /// told to stop.
    pub async fn run(
        &self,
        letters: Vec<Vec<u64>>,
        shutdown: &Shutdown,
        tell: &mut impl FnMut(News<'_>),
    ) -> anyhow::Result<usize> {
        let total = letters.len();
        let (workers, mut outcomes) = Workers::spawn(
            self.assignment.module.name(),
            self.assignment.config.workers,
            of_outcome,
        )?;
        let letters = stream::iter(letters).map(async |numbers| {
            let opened = patiently(|| self.reader.fetch(&numbers)).await;
            opened.map(|opened| (numbers, opened))
        });
        let mut letters = std::pin::pin!(letters.buffered(READ_AHEAD));
        let mut run = Run {
            replay: self,
            line: Line::default(),
            workers,
            transforming: 0,
            scheduler: Scheduler::new(self.publish.limits(), fastrand::u64(..))
                .with_endpoints(self.centrifugo.endpoints()),
            requests: JoinSet::new(),
            removals: JoinSet::new(),
            exhausted: false,
            deadline: None,
            leaving: false,
            failed: None,
            ended: 0,
        };
        while !run.is_done() {
            run.balance(0);
            let event = run.next_event(&mut letters, &mut outcomes, shutdown).await;
            run.handle(event, tell);
            run.remove();
            run.send_requests();
        }
        match run.failed {
            Some(error) => Err(error.context(format!(
                "the replay stopped; dead letters left unchanged: {}",
                total - run.ended
            ))),
            None => Ok(total - run.ended),
        }
    }
}

/// A replay in progress.
struct Run<'a> {
    replay: &'a Replay,
    line: Line,
    workers: Workers,
    /// Letters that the module has not returned yet.
    transforming: usize,
    scheduler: Scheduler,
    requests: JoinSet<(RequestId, Answer)>,
    /// One removal runs at a time, so letters leave in order.
    removals: JoinSet<Result<Vec<Gone>, RemoveError>>,
    exhausted: bool,
    /// Set once the replay was told to stop. What is in progress may finish until then.
    deadline: Option<tokio::time::Instant>,
    leaving: bool,
    failed: Option<anyhow::Error>,
    /// Letters that are done.
    ended: usize,
}

type Fetched = Result<(Vec<u64>, Option<Opened>), ReadError>;

#[derive(Debug, thiserror::Error)]
enum RemoveError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("storing the rest of the dead letter {number} failed")]
    Store { number: u64, source: StoreError },
}

enum Event {
    Letter(Option<Box<Fetched>>),
    /// `None` means that the worker threads are gone.
    Transformed(Option<Piece>),
    Answered(Result<(RequestId, Answer), JoinError>),
    Removed(Result<Result<Vec<Gone>, RemoveError>, JoinError>),
    Wakeup,
    Stop,
    Leave,
}

impl Run<'_> {
    async fn next_event(
        &mut self,
        letters: &mut (impl Stream<Item = Fetched> + Unpin),
        outcomes: &mut UnboundedReceiver<Piece>,
        shutdown: &Shutdown,
    ) -> Event {
        let takes_in = !self.exhausted
            && self.deadline.is_none()
            && self.transforming < MAX_TRANSFORMING
            && self
                .line
                .has_room(MAX_LETTERS, self.replay.assignment.config.window_bytes);
        let wakeup = self.scheduler.next_wakeup();
        tokio::select! {
            biased;
            () = shutdown.now.cancelled() => Event::Leave,
            () = at(self.deadline), if self.deadline.is_some() => Event::Leave,
            () = shutdown.drain.cancelled(), if self.deadline.is_none() => Event::Stop,
            Some(removed) = self.removals.join_next() => Event::Removed(removed),
            Some(answered) = self.requests.join_next() => Event::Answered(answered),
            transformed = outcomes.recv() => Event::Transformed(transformed),
            () = at(wakeup.map(Into::into)), if wakeup.is_some() => Event::Wakeup,
            letter = letters.next(), if takes_in => Event::Letter(letter.map(Box::new)),
        }
    }

    fn handle(&mut self, event: Event, tell: &mut impl FnMut(News<'_>)) {
        match event {
            Event::Letter(None) => self.exhausted = true,
            Event::Letter(Some(fetched)) => match *fetched {
                Ok((numbers, opened)) => self.take_in(numbers, opened),
                Err(error) => self.fail(error.into()),
            },
            Event::Transformed(Some(Piece { outcomes, bytes })) => {
                self.transforming -= outcomes.len();
                for Transformed { ticket, outcome, .. } in outcomes {
                    self.take_outcome(ticket, outcome);
                }
                self.balance(bytes);
            }
            Event::Transformed(None) => {
                self.fail(anyhow::anyhow!(
                    "the worker threads ended unexpectedly, which is a bug in Slipring"
                ));
                self.leaving = true;
            }
            Event::Answered(Ok((id, answer))) => self.take_answer(id, answer, tell),
            Event::Removed(Ok(Ok(gone))) => {
                for Gone { numbers, fate, .. } in &gone {
                    self.ended += 1;
                    tell(News::Ended(numbers[0], fate));
                }
            }
            Event::Removed(Ok(Err(error))) => {
                // The next replay publishes again, with the same keys, what was published and not removed.
                self.fail(error.into());
                self.leaving = true;
            }
            Event::Answered(Err(error)) | Event::Removed(Err(error)) => {
                self.fail(
                    anyhow::Error::new(error)
                        .context("a task of the replay failed unexpectedly, which is a bug in Slipring"),
                );
                self.leaving = true;
            }
            Event::Wakeup => {}
            Event::Stop => self.stop(),
            Event::Leave => self.leaving = true,
        }
    }

    fn take_in(&mut self, numbers: Vec<u64>, opened: Option<Opened>) {
        let Some(opened) = opened else {
            self.line.take_in_ended(numbers, Fate::Gone);
            return;
        };
        if numbers.iter().any(|number| self.replay.replaced.contains(number)) {
            self.line.take_in_ended(numbers, Fate::Remains);
            return;
        }
        match opened.message() {
            Ok(message) => {
                let ticket = self.line.take_in(numbers, message.size());
                self.transforming += 1;
                self.workers.submit(Chunk {
                    module: Arc::clone(&self.replay.assignment.module),
                    trial: None,
                    messages: vec![(ticket, self.line.hold(ticket, message, opened.letter.results))],
                });
            }
            Err(Unfit::Remains) => self.line.take_in_ended(numbers, Fate::Remains),
            Err(unfit) => self.line.take_in_ended(numbers, Fate::Rejected(unreadable(&unfit))),
        }
    }

    /// Tells the workers how much they may make. The total stays within the module's `window_bytes`.
    fn balance(&self, taken_over: usize) {
        let used = self.line.bytes() + self.scheduler.held();
        let room = self.replay.assignment.config.window_bytes.saturating_sub(used);
        let idle = self.scheduler.is_idle();
        self.workers.balance(taken_over, |held| (room.max(held.bytes), idle));
    }

    fn take_outcome(&mut self, ticket: u64, outcome: Outcome) {
        let Some(message) = self.line.release(ticket) else {
            return;
        };
        let fate = match outcome {
            Outcome::Drop => Fate::Dropped,
            Outcome::Reject(rejection) => Fate::Rejected(rejection),
            Outcome::Publish(publications) => match self.replay.left(&message, publications, self.line.results(ticket))
            {
                Err(rejection) => Fate::Rejected(rejection),
                Ok(stamped) if stamped.is_empty() => Fate::NothingLeft,
                Ok(stamped) => {
                    let bytes = stamped.iter().map(|(publication, _)| of_waiting(publication)).sum();
                    self.line.expect(ticket, stamped.len(), bytes);
                    for (publication, key) in stamped {
                        self.scheduler.push(ticket, publication, key);
                    }
                    return;
                }
            },
        };
        self.line.end(ticket, fate);
    }

    fn take_answer(&mut self, id: RequestId, answer: Answer, tell: &mut impl FnMut(News<'_>)) {
        let before = self.scheduler.trouble().is_some();
        let concluded = self.scheduler.complete(Instant::now(), id, answer);
        match (before, self.scheduler.trouble()) {
            (false, Some(trouble)) => tell(News::Paused(trouble)),
            (true, None) => tell(News::Resumed),
            _ => {}
        }
        for Concluded { ticket, result, share } in concluded {
            self.line.conclude(ticket, result, share);
        }
    }

    fn send_requests(&mut self) {
        while let Some(request) = self.scheduler.next_request(Instant::now()) {
            let centrifugo = Arc::clone(&self.replay.centrifugo);
            self.requests
                .spawn(async move { (request.id(), centrifugo.send(&request).await) });
        }
    }

    /// Removes letters that are done from the front of the line, unless a removal is in progress.
    fn remove(&mut self) {
        if !self.removals.is_empty() || self.leaving {
            return;
        }
        // A replaced letter goes only after all earlier letters are gone, and before any later one goes.
        let gone: Vec<Gone> = if self.line.gives_way() {
            self.line.pop().into_iter().collect()
        } else {
            let next = || (!self.line.gives_way()).then(|| self.line.pop()).flatten();
            std::iter::from_fn(next).take(REMOVED_AT_ONCE).collect()
        };
        if gone.is_empty() {
            return;
        }
        let letters = Letters {
            reader: self.replay.reader.clone(),
            dead_letters: Arc::clone(&self.replay.dead_letters),
            module: Arc::clone(&self.replay.assignment.module),
        };
        self.removals.spawn(async move {
            // The requests go out in order. Each one is carried out whatever happens to this process, so no letter goes
            // before an earlier one.
            let deal_with = |gone: Gone| letters.clone().deal_with(gone);
            stream::iter(gone).map(deal_with).buffered(REMOVALS).try_collect().await
        });
    }

    fn fail(&mut self, error: anyhow::Error) {
        self.failed.get_or_insert(error);
        self.stop();
    }

    fn stop(&mut self) {
        self.deadline
            .get_or_insert_with(|| tokio::time::Instant::now() + self.replay.grace);
    }

    fn is_done(&self) -> bool {
        if self.leaving {
            return true;
        }
        let quiet = self.requests.is_empty() && self.removals.is_empty();
        // Without Centrifugo there is nothing to wait for.
        let stopped = self.deadline.is_some() && self.scheduler.trouble().is_some();
        let taken_in = self.exhausted || self.deadline.is_some();
        quiet && (stopped || (taken_in && self.line.is_empty()))
    }
}

/// What the removal of letters needs.
#[derive(Clone)]
struct Letters {
    reader: Reader,
    dead_letters: Arc<DeadLetters>,
    module: Arc<Module>,
}

impl Letters {
    async fn deal_with(self, gone: Gone) -> Result<Gone, RemoveError> {
        let numbers = &gone.numbers;
        match (&gone.fate, &gone.results) {
            (Fate::Published | Fate::Dropped | Fate::NothingLeft | Fate::Remains, _) => {
                patiently(|| self.reader.remove(numbers)).await?;
            }
            (Fate::Rejected(rejection), Some(results)) => self.replace(numbers, rejection, results).await?,
            (Fate::Rejected(_) | Fate::Gone, _) => {}
        }
        Ok(gone)
    }

    /// Stores the rest of a letter before the letter is removed. If only the first step happens, the number in the new
    /// letter tells the next replay that the old one is done.
    async fn replace(&self, numbers: &[u64], rejection: &Rejection, results: &Results) -> Result<(), RemoveError> {
        let Some(opened) = patiently(|| self.reader.fetch(numbers)).await? else {
            return Ok(());
        };
        // The letter could be read before.
        let Ok(message) = opened.message() else { return Ok(()) };
        let sender = Sender {
            module: self.module.name(),
            sha256: self.module.sha256(),
        };
        let store = || self.dead_letters.replace(numbers, sender, &message, rejection, results);
        let number = numbers[0];
        patiently(store)
            .await
            .map_err(|source| RemoveError::Store { number, source })?;
        patiently(|| self.reader.remove(numbers)).await?;
        Ok(())
    }
}

fn changed(
    Changed {
        channel,
        before,
        confirmed,
        now,
    }: Changed,
) -> Rejection {
    let reason = format!(
        "on the channel `{channel}`, {confirmed} of the message's {before} publications were confirmed. The module now \
         returns {now}, so it is unknown which are left. Use `--whole` to publish all of them"
    );
    Rejection {
        stage: Stage::Transform,
        code: "changed".into(),
        channel: Some(channel),
        reason,
    }
}

fn unreadable(unfit: &Unfit) -> Rejection {
    Rejection {
        stage: Stage::Transform,
        code: "unreadable".into(),
        channel: None,
        reason: unfit.to_string(),
    }
}

/// Repeats a request when the server does not reply, because most interruptions are short.
async fn patiently<T, E: Error, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => debug!(error = error.to_string(), "the server did not reply, retrying"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    ask().await
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
