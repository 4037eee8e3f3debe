//! One run of a pipeline. Everything that can happen to it is an [`Event`], and [`Run::handle`] handles all of them.
//!
//! [`pipeline::Run`](slipring_core::pipeline::run::Run) makes the decisions and does no I/O. The parts that do I/O
//! (source, requests, acks, dead letters, workers) are started here and report back as events. Cancelling a run at any
//! point loses nothing, because unacked messages are redelivered.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_core::pipeline::run::{self, Action, DeadLetter, Ended, Halted, Limits};
use slipring_core::pipeline::{self, Budget, Flow, Supervision, of_outcome};
use slipring_core::place::Place;
use slipring_core::read::{Again, Incarnation, Missed, Position};
use slipring_core::window::Ticket;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::judge::{Judge, Refused};
use super::say;
use super::{Assignment, Owner, Recent, Shared, at};
use crate::clock;
use crate::dead_letter::Sender;
use crate::memory::Account;
use crate::message::Message;
use crate::publish::{Answer, Client, RequestId};
use crate::source::{Ack, Delivery, Lease, News, Over, Receipt, Source};
use crate::status::{ModuleBoard, State};
use crate::transform::{Chunk, Held, Piece, Transformed, Workers};

/// How often gauges are updated and messages in progress are reported.
const TICK: Duration = Duration::from_secs(1);

/// The most messages that a worker may have at once, enough to keep it busy.
const MAX_TRANSFORMING: usize = 512;

/// How many bytes the workers may make before the pipeline has counted them, if there is that much room. It is enough
/// to keep them from waiting often. They may always make what is expected of each of them.
const HEADROOM: usize = 256 * 1024;

struct Run<'a> {
    shared: &'a Arc<Shared>,
    board: &'a ModuleBoard,
    recent: &'a Recent,
    assignment: Assignment,
    source: Source,
    run: run::Run<Receipt>,
    /// A client with its own connections.
    centrifugo: Arc<Client>,
    workers: Workers,
    threads: usize,
    /// Messages to transform on this thread, outside of its runtime.
    here: Vec<(Ticket, Arc<Message>)>,
    /// The memory that the pipeline may hold.
    account: Account,
    requests: JoinSet<(RequestId, Answer, Duration)>,
    dead_letters: JoinSet<Ticket>,
    /// Checks whether a new version is at fault for what Centrifugo refused.
    judge: Option<Judge>,
    /// The lease on publishing, with standby.
    lease: Option<Lease>,
    stream: Option<Incarnation>,
    /// Where earlier runs have ended.
    resume: Option<Position>,
    /// Messages were delivered since the last tick.
    given: bool,
    /// The last reported problem of the source. Each problem is reported once.
    complaint: Option<String>,
}

#[derive(Debug)]
enum Event {
    Source(News),
    /// `None` means that the workers are gone.
    Transformed(Option<Piece>),
    Answered(Result<(RequestId, Answer, Duration), JoinError>),
    DeadLettered(Result<Ticket, JoinError>),
    Assigned,
    Tick,
    /// The time of a wakeup that the run asked for.
    Wakeup,
    Stop,
    /// Stop without finishing anything.
    Leave,
    Deadline,
}

/// Returns how the run ended, and where the pipeline was halted if the run has not found out whether the cause is over.
/// Everything but calls of the module happens in `runtime`, which has no other thread.
pub(super) fn run(runtime: &Runtime, owner: &mut Owner, supervision: &mut Supervision) -> (Ended, Option<Place>) {
    let Owner {
        shared,
        assignments,
        recent,
        board,
        stop,
        leave,
        ..
    } = owner;
    let trying = supervision.trying();
    let assignment = assignments.borrow_and_update().clone();
    let config = Arc::clone(&assignment.config);
    let threads = threads(board, config.workers);
    let tap = shared.taps.of(board.name());
    let (workers, mut outcomes) = match Workers::spawn_tapped(board.name(), threads, of_outcome, tap) {
        Ok(spawned) => spawned,
        Err(error) => {
            let reason = format!("starting {threads} worker threads failed: {error}");
            let halted = Halted {
                reason,
                by: assignment.module.load_id(),
                again: Some(trying.unwrap_or_default()),
            };
            return (Ended::Halted(halted), trying);
        }
    };
    let entered = runtime.enter();
    let centrifugo = match shared.centrifugo.apart() {
        Ok(centrifugo) => Arc::new(centrifugo),
        Err(error) => {
            let error = anyhow::Error::new(error);
            return (Ended::Renew(format!("{error:#}")), trying);
        }
    };
    let endpoints = centrifugo.endpoints();
    let flow = Flow::new(
        board.name().into(),
        config.settings(&shared.publish),
        shared.publish.limits(),
        endpoints,
        fastrand::u64(..),
    );
    let limits = Limits {
        transforming: MAX_TRANSFORMING * threads,
        grace: shared.grace,
    };
    let mut run = Run {
        shared,
        board,
        recent,
        assignment,
        source: Source::new(&shared.connections, &config, shared.standby.clone(), supervision.read()),
        run: run::Run::begin(Instant::now(), flow, limits, trying, shared.standby.is_some()),
        centrifugo,
        workers,
        threads,
        here: Vec::new(),
        account: shared.memory.open(),
        requests: JoinSet::new(),
        dead_letters: JoinSet::new(),
        judge: None,
        lease: None,
        stream: None,
        resume: supervision.position(),
        given: false,
        complaint: None,
    };
    board.no_run();
    board.loaded(run.assignment.module.sha256());
    board.set_source(&config.stream, &config.consumer, config.source.server());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    drop(entered);
    loop {
        let working = run.work(&mut outcomes, assignments, supervision, &mut tick, stop, leave);
        if runtime.block_on(working).is_break() {
            break;
        }
        run.transform_here();
    }
    let trying = run.run.trying();
    supervision.ends_at(run.run.position());
    // This comes first, so the workers make nothing more.
    drop(outcomes);
    let ended = runtime.block_on(run.end());
    board.no_run();
    (ended, trying)
}

/// Returns the number of threads for the module. More threads than cores would only take time from each other.
fn threads(board: &ModuleBoard, workers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if workers > cores {
        info!(
            module = board.name(),
            workers, cores, "`workers` is more than the number of cores; the module runs on one thread per core"
        );
    }
    workers.clamp(1, cores)
}

impl Run<'_> {
    /// Handles events until the run is done, or until there are messages to transform on this thread.
    async fn work(
        &mut self,
        outcomes: &mut UnboundedReceiver<Piece>,
        assignments: &mut watch::Receiver<Assignment>,
        supervision: &mut Supervision,
        tick: &mut Interval,
        stop: &CancellationToken,
        leave: &CancellationToken,
    ) -> ControlFlow<()> {
        let mut taken_over = 0;
        loop {
            self.balance(taken_over);
            self.carry_out();
            if self.run.is_done(Instant::now()) {
                return ControlFlow::Break(());
            }
            let event = self.next_event(outcomes, assignments, tick, stop, leave).await;
            taken_over = self.handle(event, assignments, supervision);
            if !self.here.is_empty() {
                return ControlFlow::Continue(());
            }
        }
    }

    async fn next_event(
        &mut self,
        outcomes: &mut UnboundedReceiver<Piece>,
        assignments: &mut watch::Receiver<Assignment>,
        tick: &mut Interval,
        stop: &CancellationToken,
        leave: &CancellationToken,
    ) -> Event {
        let room = self.run.room(Instant::now());
        let (wakeup, deadline) = (self.run.next_wakeup(), self.run.deadline());
        let ending = deadline.is_some();
        // The order puts work that is nearest to its end first, because that makes room for the rest.
        tokio::select! {
            biased;
            () = leave.cancelled() => Event::Leave,
            () = stop.cancelled(), if !ending => Event::Stop,
            () = at(deadline), if ending => Event::Deadline,
            // A closed watch means that the owner is gone. It stops the pipeline first.
            Ok(()) = assignments.changed(), if !ending => Event::Assigned,
            Some(answered) = self.requests.join_next() => Event::Answered(answered),
            Some(stored) = self.dead_letters.join_next() => Event::DeadLettered(stored),
            transformed = outcomes.recv() => Event::Transformed(transformed),
            _ = tick.tick() => Event::Tick,
            () = at(wakeup), if wakeup.is_some() => Event::Wakeup,
            news = self.source.next(room) => Event::Source(news),
        }
    }

    /// Returns how many bytes of outcomes were taken over from the workers.
    fn handle(
        &mut self,
        event: Event,
        assignments: &mut watch::Receiver<Assignment>,
        supervision: &mut Supervision,
    ) -> usize {
        let mut taken_over = 0;
        match event {
            Event::Source(News::StandingBy(active)) => {
                info!(
                    module = self.board.name(),
                    reason = %active,
                    "standing by until this relay may read from the consumer"
                );
                // What was in the way is over. If it comes again, it is told again.
                self.complaint = None;
                self.board.set_state(State::Standby, Some(active.to_string()));
            }
            Event::Source(News::Began(stream, again)) => self.begin(stream, again),
            Event::Source(News::Delivered(deliveries, missed)) => {
                for missed in missed {
                    let known = self.stream;
                    if let Some(missed) = known.and_then(|stream| supervision.missed(stream, missed)) {
                        self.alarm(missed);
                    }
                }
                if let (Some(stream), Some(last)) = (self.stream, deliveries.last()) {
                    supervision.has_read(stream, last.message.place);
                }
                self.deliver(deliveries);
            }
            Event::Source(News::Over(Over { reason, lost })) => {
                let error: &dyn std::error::Error = &*reason;
                warn!(
                    module = self.board.name(),
                    error, "reading was interrupted, continuing with the first unsettled message"
                );
                self.run.over(Instant::now(), lost);
            }
            Event::Source(News::Trouble(error)) => {
                self.run.failed(Instant::now());
                self.complain(&error);
            }
            Event::Transformed(Some(Piece { outcomes, bytes })) => {
                taken_over = bytes;
                let now = clock::now();
                for Transformed {
                    ticket,
                    outcome,
                    by,
                    took,
                } in outcomes
                {
                    self.board.metrics().transformed(took);
                    let transformed = pipeline::Transformed { ticket, outcome, by };
                    self.run.transformed(now, transformed);
                }
            }
            Event::Transformed(None) => self.renew("the worker threads ended unexpectedly, which is a bug in Slipring"),
            Event::Answered(Ok((id, answer, took))) => {
                self.board.metrics().answered(answer.outcome(), took);
                self.run.answered(clock::now(), id, answer);
            }
            Event::DeadLettered(Ok(ticket)) => self.run.stored(clock::now(), ticket),
            Event::Answered(Err(error)) | Event::DeadLettered(Err(error)) => {
                self.renew(&format!(
                    "a task of the pipeline failed unexpectedly, which is a bug in Slipring: {error}"
                ));
            }
            Event::Assigned => self.swap(assignments.borrow_and_update().clone()),
            Event::Tick => self.tick(),
            Event::Wakeup => {}
            Event::Stop => {
                self.board.set_state(State::Draining, None);
                self.run.stop(Instant::now());
            }
            Event::Leave => self.run.leave(Instant::now()),
            Event::Deadline => {
                self.requests.abort_all();
                self.dead_letters.abort_all();
            }
        }
        taken_over
    }

    /// Counts what the pipeline holds and divides the room. Workers come before reading. The workers leave as much room
    /// as the outcomes of their messages are expected to take.
    fn balance(&mut self, taken_over: usize) {
        let (run, account, waiting) = (&mut self.run, &self.account, self.source.waiting());
        let (own, transforming, threads) = (run.held(), run.transforming(), self.threads);
        let left = run.room_to_make();
        let (mut elsewhere, mut limit) = (0, 0);
        let stuck = self.workers.balance(taken_over, |Held { bytes, expected }| {
            let headroom = if transforming > 0 {
                HEADROOM.max(expected.saturating_mul(threads + 1))
            } else {
                0
            };
            let wanted = bytes.max(bytes.saturating_add(headroom).min(left));
            // Waiting messages take the same memory once they are taken in.
            let holding = account.hold(own + waiting + bytes, own + waiting + wanted);
            elsewhere = bytes.max(expected.saturating_mul(transforming));
            limit = holding.held + holding.free;
            (holding.held - own - waiting, run.is_idle())
        });
        run.budget(Budget {
            elsewhere,
            limit,
            stuck,
        });
    }

    /// An epoch has started.
    fn begin(&mut self, stream: Incarnation, again: Again) {
        self.stream = Some(stream);
        if !self.run.began(Instant::now(), stream, again) {
            return;
        }
        self.complaint = None;
        self.lease = self.source.lease().cloned();
        self.board.metrics().epoch_began();
        if !self.run.is_halted() {
            self.board.set_state(State::Running, None);
        }
        info!(
            module = self.board.name(),
            stream = self.assignment.config.stream,
            "reading starts at the first unsettled message"
        );
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        let now = clock::now();
        self.given |= !deliveries.is_empty();
        let nothing_to_do = self.run.transforming() == 0;
        let messages = self.run.deliver(now, deliveries);
        if messages.is_empty() {
            return;
        }
        let Assignment {
            module, config, trial, ..
        } = &self.assignment;
        self.recent
            .extend(messages.iter().map(|(_, message)| message), config.probe);
        let trial = trial.as_ref().filter(|trial| trial.is_on(now.instant)).cloned();
        if nothing_to_do && trial.is_none() && self.workers.here(module, messages.len()).is_some() {
            self.here = messages;
            return;
        }
        self.workers.submit(Chunk {
            module: Arc::clone(module),
            trial,
            messages,
        });
    }

    /// Transforms the messages for this thread, as far as that is quick. The workers get the others.
    fn transform_here(&mut self) {
        let module = &self.assignment.module;
        let mut messages = VecDeque::from(std::mem::take(&mut self.here));
        if let Some(mut here) = self.workers.here(module, messages.len()) {
            here.forget_others();
            while let Some((ticket, message)) = messages.front() {
                let Some((outcome, took)) = here.call(message) else {
                    break;
                };
                self.board.metrics().transformed(took);
                let transformed = pipeline::Transformed {
                    ticket: *ticket,
                    outcome,
                    by: module.loaded().clone(),
                };
                self.run.transformed(clock::now(), transformed);
                messages.pop_front();
                if self.run.room_to_make() == 0 {
                    break;
                }
            }
        }
        if !messages.is_empty() {
            self.workers.submit(Chunk {
                module: Arc::clone(module),
                trial: None,
                messages: messages.into(),
            });
        }
    }

    /// Reports messages lost to the stream's limits. Someone has to raise these limits or `max_age`.
    fn alarm(&mut self, missed: Missed) {
        let Missed {
            first,
            last,
            messages,
            exact,
        } = missed;
        let (module, stream) = (self.board.name(), &self.assignment.config.stream);
        if exact {
            self.board.metrics().missed(messages);
            error!(
                target: "slipring::losses",
                module,
                stream, %first, %last, messages, "messages were removed from the stream before they could be read"
            );
        } else {
            warn!(
                target: "slipring::losses",
                module,
                stream,
                %first,
                %last,
                "messages were removed from the stream before they could be read; it is unknown how many of them the \
                 module missed, so none is counted"
            );
        }
    }

    fn swap(&mut self, assignment: Assignment) {
        if !assignment.can_follow(&self.assignment) {
            // For such a change the owner stops this pipeline and starts another.
            return;
        }
        if assignment.is_same(&self.assignment) {
            // Its trial is over.
            self.assignment = assignment;
            return;
        }
        info!(
            module = self.board.name(),
            old = &*self.assignment.version,
            new = &*assignment.version,
            "swapped the module"
        );
        self.board.swapped(assignment.module.sha256());
        self.run
            .configure(Instant::now(), assignment.config.settings(&self.shared.publish));
        self.assignment = assignment;
    }

    /// Carries out the actions of the run.
    fn carry_out(&mut self) {
        let now = Instant::now();
        self.run.lease(now, self.lease.as_ref().map(Lease::current));
        self.send_requests();
        let (mut acks, mut refused) = (Vec::new(), Vec::new());
        for action in self.run.take_actions(now) {
            match action {
                Action::Ack(receipt) => acks.push(Ack::Done(receipt)),
                Action::InProgress(receipt) => acks.push(Ack::InProgress(receipt)),
                Action::Store(letter) => self.store(letter),
                Action::Refused(message, rejection, by) => refused.push((message, rejection, by)),
                Action::Say(notice) => say::notice(self.board, notice),
                Action::Close => self.source.close(),
                Action::Recovered => {
                    self.board.set_state(State::Running, None);
                    info!(
                        module = self.board.name(),
                        "the cause of the halt is gone, the pipeline resumes"
                    );
                }
            }
        }
        self.board.metrics().count(&self.run.take_counters());
        self.source.acknowledge(acks);
        self.judge(refused);
        if self.run.opens(now) {
            self.source.open(self.run.position().or(self.resume));
        }
    }

    /// Sends the requests that are ready. Messages that are too old for it are settled.
    fn send_requests(&mut self) {
        while let Some(request) = self.run.next_request(clock::now()) {
            if !request.is_empty() {
                self.board.metrics().requested(request.len());
            }
            let (centrifugo, lease) = (Arc::clone(&self.centrifugo), self.lease.clone());
            self.requests.spawn(async move {
                let start = Instant::now();
                // The process may have been stopped since this was decided.
                let answer = if holds(lease.as_ref()) {
                    centrifugo.send(&request).await
                } else {
                    Answer::Lost {
                        reason: "another relay may have taken over".to_owned(),
                    }
                };
                (request.id(), answer, start.elapsed())
            });
        }
    }

    /// Has it checked whether a new version is at fault for what Centrifugo refused.
    fn judge(&mut self, mut refused: Vec<Refused>) {
        let Assignment { module, trial, .. } = &self.assignment;
        refused.retain(|(.., by)| by.id == module.load_id());
        let trial = trial.clone().filter(|trial| trial.is_on(Instant::now()));
        if trial.is_none() {
            // It holds the version before.
            self.judge = None;
        }
        let Some(trial) = trial.filter(|_| !refused.is_empty()) else {
            return;
        };
        let judge = self.judge.take().filter(|judge| judge.is_of(&trial));
        let judge = judge.unwrap_or_else(|| Judge::of(trial));
        judge.hear(refused);
        self.judge = Some(judge);
    }

    /// Stores a dead letter, however long that takes.
    fn store(&mut self, letter: DeadLetter) {
        let shared = Arc::clone(self.shared);
        let board = self.board.clone();
        self.dead_letters.spawn(async move {
            let DeadLetter {
                ticket,
                message,
                rejection,
                by,
                results,
            } = letter;
            let sender = Sender {
                module: board.name(),
                sha256: &by.sha256,
            };
            let letters = &shared.dead_letters;
            let failed = |why| board.letter_not_stored(message.place, why);
            letters
                .store(sender, &message, &rejection, results.as_ref(), failed)
                .await;
            board.letter_stored(message.place);
            ticket
        });
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.run.tick(now);
        let settled_through = self.run.window().settled_through();
        let given = std::mem::take(&mut self.given);
        say::gauges(self.board, now.instant, self.run.gauges(now), settled_through, given);
        self.board.metrics().in_flight(self.requests.len());
    }

    /// Reports a problem with reading once.
    fn complain(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if self.complaint.as_ref() != Some(&text) {
            warn!(
                module = self.board.name(),
                error = text,
                "cannot read messages, retrying"
            );
            self.board.set_state(State::Waiting, Some(text.clone()));
            self.complaint = Some(text);
        }
    }

    fn renew(&mut self, reason: &str) {
        self.run.renew(Instant::now(), reason);
    }

    async fn end(mut self) -> Ended {
        // This is logged first, because the acks may take some time.
        if let Some((messages, first, last)) = self.run.window().unsettled() {
            warn!(
                module = self.board.name(),
                messages,
                %first,
                %last,
                "the pipeline ended with unsettled messages, which will be delivered again; `first` and `last` are their \
                 lowest and highest sequence"
            );
        }
        // Whatever is still being stored reports nothing after this.
        self.dead_letters.shutdown().await;
        self.source.end(self.run.releases()).await;
        self.run.end()
    }
}

/// Returns true if no other relay may publish now.
fn holds(lease: Option<&Lease>) -> bool {
    lease.is_none_or(|lease| lease.is_valid(Instant::now()))
}
