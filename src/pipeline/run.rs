//! One run of a pipeline: everything that can happen to it is an [`Event`], and [`Run::handle`] is where each is dealt with.
//!
//! The parts that decide (window, scheduler) do no I/O; what does I/O (source, requests, acks, dead letters, workers) reports
//! back as events. Cancelling a run anywhere loses nothing: what is not acked is delivered again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::Subject;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::intake::{Intake, News};
use super::refusals::Refusals;
use super::stamp::Stamp;
use super::{Assignment, Ended, Shared};
use crate::admin::{ModuleBoard, State};
use crate::config::OnReject;
use crate::dead_letter::Sender;
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::publish::{Answer, Concluded, RequestId, Scheduler};
use crate::source::{ACK_WAIT, Acks, Delivery, Room, StreamIdentity};
use crate::transform::{Chunk, Transformed, Workers};
use crate::window::{Arrival, Conclusion, Limits, Ticket, Window};

/// A message that takes longer than this is reported as in progress, in good time before JetStream would deliver it again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);
const _: () = assert!(PROGRESS_INTERVAL.as_secs() * 2 < ACK_WAIT.as_secs());

/// How often gauges are brought up to date and messages in progress are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Messages a worker may have at once: enough that it never waits for more, and few enough that a module whose publications are
/// much larger than its messages is noticed in time.
const MAX_TRANSFORMING: usize = 512;

struct Run<'a> {
    shared: &'a Arc<Shared>,
    board: &'a ModuleBoard,
    assignment: Assignment,
    intake: Intake,
    /// The stream that the messages in the window came from.
    stream: Option<StreamIdentity>,
    window: Window,
    workers: Workers,
    /// Messages that the workers have and that are not back yet.
    transforming: usize,
    max_transforming: usize,
    scheduler: Scheduler,
    requests: JoinSet<(RequestId, Answer, Duration)>,
    dead_letters: JoinSet<Ticket>,
    acks: Acks,
    refusals: Refusals,
    /// Messages that the stream holds after the last one delivered.
    pending: u64,
    /// What the scheduler had retried when that was last counted.
    retried: u64,
    /// What was last said about the source, so that it is said once.
    complaint: Option<String>,
    ending: Option<Ending>,
    /// Messages that are not transformed yet stay with JetStream.
    halting: bool,
}

/// The run is coming to its end: nothing is pulled any more.
#[derive(Debug)]
struct Ending {
    kind: EndingKind,
    deadline: tokio::time::Instant,
}

#[derive(Debug)]
enum EndingKind {
    /// What was delivered is finished, then the pipeline stops.
    Drain,
    /// What was delivered is finished, then the pipeline starts afresh.
    Renew(String),
    /// What is before the message that halted it is finished as far as the order allows.
    Halt(String),
}

#[derive(Debug)]
enum Event {
    Source(News),
    /// `None`: the workers are gone.
    Transformed(Option<Vec<Transformed>>),
    Answered(Result<(RequestId, Answer, Duration), JoinError>),
    DeadLettered(Result<Ticket, JoinError>),
    Assigned,
    Tick,
    /// The scheduler asked to be woken.
    Wakeup,
    Stop,
    /// Stop, and finish nothing.
    Leave,
    Deadline,
}

pub(super) async fn run(
    shared: &Arc<Shared>,
    assignments: &mut watch::Receiver<Assignment>,
    board: &ModuleBoard,
    stop: &CancellationToken,
    leave: &CancellationToken,
) -> Ended {
    let assignment = assignments.borrow_and_update().clone();
    let config = Arc::clone(&assignment.config);
    let (workers, mut outcomes) = match Workers::spawn(board.name(), config.workers) {
        Ok(spawned) => spawned,
        Err(error) => return Ended::Halted(format!("starting {} worker threads failed: {error}", config.workers)),
    };
    let mut run = Run {
        shared,
        board,
        assignment,
        intake: Intake::open(shared.nats.clone(), Arc::clone(&config)),
        stream: None,
        window: Window::new(Limits {
            messages: config.window,
            bytes: config.window_bytes,
        }),
        workers,
        transforming: 0,
        max_transforming: MAX_TRANSFORMING * config.workers.max(1),
        scheduler: Scheduler::new((&shared.publish).into(), fastrand::u64(..)),
        requests: JoinSet::new(),
        dead_letters: JoinSet::new(),
        acks: Acks::start(shared.nats.client.clone()),
        refusals: Refusals::default(),
        pending: 0,
        retried: 0,
        complaint: None,
        ending: None,
        halting: false,
    };
    board.loaded(run.assignment.module.sha256());
    board.set_source(&config.stream, &config.consumer);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !run.is_done() {
        let event = run.next_event(&mut outcomes, assignments, &mut tick, stop, leave).await;
        run.handle(event, assignments);
        run.send_requests();
    }
    run.end().await
}

impl Run<'_> {
    async fn next_event(
        &mut self,
        outcomes: &mut UnboundedReceiver<Vec<Transformed>>,
        assignments: &mut watch::Receiver<Assignment>,
        tick: &mut Interval,
        stop: &CancellationToken,
        leave: &CancellationToken,
    ) -> Event {
        let room = Room {
            messages: self.window.room_messages(),
            bytes: self.window.room_bytes(),
            empty: self.window.is_empty(),
        };
        // What was asked for may have come to more than was thought, once it is transformed: then it waits outside.
        let takes_in = (room.bytes > 0 || room.empty) && self.transforming < self.max_transforming;
        let wakeup = self.scheduler.next_wakeup();
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        // In this order, so that what is nearest to its end goes first: it makes room for the rest.
        tokio::select! {
            biased;
            () = leave.cancelled() => Event::Leave,
            () = stop.cancelled(), if self.ending.is_none() => Event::Stop,
            () = at(deadline), if deadline.is_some() => Event::Deadline,
            // A closed watch means that the owner is gone, who stops the pipeline first.
            Ok(()) = assignments.changed(), if self.ending.is_none() => Event::Assigned,
            Some(answered) = self.requests.join_next() => Event::Answered(answered),
            Some(stored) = self.dead_letters.join_next() => Event::DeadLettered(stored),
            transformed = outcomes.recv() => Event::Transformed(transformed),
            _ = tick.tick() => Event::Tick,
            () = at(wakeup.map(Into::into)), if wakeup.is_some() => Event::Wakeup,
            news = self.intake.next(room), if takes_in => Event::Source(news),
        }
    }

    fn handle(&mut self, event: Event, assignments: &mut watch::Receiver<Assignment>) {
        match event {
            Event::Source(News::Began(stream)) => self.begin(stream),
            Event::Source(News::Delivered(deliveries)) => self.deliver(deliveries),
            Event::Source(News::Over(end)) => {
                self.window.begin_epoch();
                let error: &dyn std::error::Error = &end;
                warn!(
                    module = self.board.name(),
                    error, "the epoch is over, resetting the consumer"
                );
            }
            Event::Source(News::Trouble(error)) => self.complain(&anyhow::Error::new(error)),
            Event::Transformed(Some(chunk)) => {
                self.transforming -= chunk.len();
                for transformed in chunk {
                    self.take_outcome(transformed);
                }
            }
            Event::Transformed(None) => self.renew("the worker threads ended unexpectedly, a bug in Slipring"),
            Event::Answered(Ok((id, answer, took))) => self.take_answer(id, answer, took),
            Event::DeadLettered(Ok(ticket)) => {
                self.board.metrics().dead_lettered();
                self.settle(ticket);
            }
            Event::Answered(Err(error)) | Event::DeadLettered(Err(error)) => {
                self.renew(&format!("a task of the pipeline broke, a bug in Slipring: {error}"));
            }
            Event::Assigned => self.swap(assignments.borrow_and_update().clone()),
            Event::Tick => self.tick(),
            Event::Wakeup => {}
            Event::Stop => {
                self.board.set_state(State::Draining, None);
                self.end_with(EndingKind::Drain);
            }
            Event::Leave => {
                self.end_with(EndingKind::Drain);
                if let Some(ending) = &mut self.ending {
                    ending.deadline = tokio::time::Instant::now();
                }
            }
            Event::Deadline => {
                self.requests.abort_all();
                self.dead_letters.abort_all();
            }
        }
    }

    /// An epoch has begun.
    fn begin(&mut self, stream: StreamIdentity) {
        if self.stream.is_some_and(|known| known != stream) {
            // The same sequences name other messages now.
            self.renew("the stream was made anew");
            return;
        }
        self.stream = Some(stream);
        self.complaint = None;
        self.board.metrics().epoch_began();
        self.board.set_state(State::Running, None);
        info!(
            module = self.board.name(),
            stream = self.assignment.config.stream,
            "reading from the ack floor"
        );
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        let now = Instant::now();
        let max_age = self.assignment.config.max_age;
        let mut chunk = Vec::with_capacity(deliveries.len());
        for Delivery {
            message,
            reply,
            pending,
        } in deliveries
        {
            self.pending = pending;
            match self.window.arrive(&message, reply.clone(), now) {
                Arrival::New(ticket) => {
                    self.board.metrics().received();
                    if max_age.is_some_and(|max_age| age(&message) > max_age) {
                        self.board.metrics().expired();
                        self.settle(ticket);
                    } else {
                        chunk.push((ticket, message));
                    }
                }
                Arrival::Pending => {}
                Arrival::Settled => self.ack(reply),
                Arrival::Misplaced => {
                    self.renew("JetStream delivered a message between two that it had delivered one after the other");
                    // Those before it have a place in the window, and must leave it.
                    break;
                }
            }
        }
        if !chunk.is_empty() {
            self.transforming += chunk.len();
            self.workers.submit(Chunk {
                module: Arc::clone(&self.assignment.module),
                messages: chunk,
            });
        }
    }

    fn take_outcome(&mut self, transformed: Transformed) {
        if self.halting {
            // It comes again once the pipeline resumes, behind the message that halted it.
            return;
        }
        let Transformed { ticket, outcome, took } = transformed;
        self.board.metrics().transformed(took);
        let Some(message) = self.window.message(ticket).cloned() else {
            return;
        };
        match outcome {
            Outcome::Drop => {
                self.board.metrics().dropped();
                self.refusals.success(Stage::Transform);
                self.settle(ticket);
            }
            Outcome::Reject(rejection) => self.reject(ticket, &message, rejection),
            Outcome::Publish(publications) => match self.stamp().all(&message, publications) {
                Ok(stamped) => {
                    self.refusals.success(Stage::Transform);
                    let bytes = stamped.iter().map(|(publication, _)| publication.size()).sum();
                    self.window.expect(ticket, stamped.len(), bytes);
                    for (publication, key) in stamped {
                        self.scheduler.push(ticket, publication, key);
                    }
                }
                Err(rejection) => self.reject(ticket, &message, rejection),
            },
        }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp {
            module: self.board.name(),
            created: self.stream.map_or(0, |stream| stream.created),
            idempotency: self.shared.publish.idempotency,
            version: self.assignment.config.version,
        }
    }

    fn take_answer(&mut self, id: RequestId, answer: Answer, took: Duration) {
        self.board.metrics().answered(took);
        let before = self.scheduler.trouble().map(str::to_owned);
        let concluded = self.scheduler.complete(Instant::now(), id, answer);
        let after = self.scheduler.trouble().map(str::to_owned);
        if before != after {
            match &after {
                Some(trouble) => warn!(module = self.board.name(), trouble, "publishing is paused"),
                None => info!(module = self.board.name(), "publishing goes on"),
            }
            self.board.set_trouble(after);
        }
        for Concluded { ticket, result } in concluded {
            if result.is_ok() {
                self.board.metrics().published();
            }
            match self.window.conclude(ticket, result) {
                None => {}
                Some(Conclusion::Confirmed) => {
                    self.refusals.success(Stage::Publish);
                    self.settle(ticket);
                }
                Some(Conclusion::Rejected(message, rejection)) => self.reject(ticket, &message, rejection),
            }
        }
    }

    fn reject(&mut self, ticket: Ticket, message: &Arc<Message>, rejection: Rejection) {
        if self.halting {
            // It comes again, and so must what is behind it on its channel.
            self.scheduler.freeze();
            return;
        }
        let stage = rejection.stage;
        self.board.metrics().rejected(rejection.stage);
        let in_a_row = self
            .refusals
            .rejected(Instant::now(), self.board.name(), message, &rejection);
        let max = self.assignment.config.max_consecutive_rejects;
        if in_a_row > max {
            self.halt(
                stage,
                format!(
                    "more than {max} messages in a row were rejected, the last one (sequence {}) because: {}",
                    message.sequence, rejection.reason
                ),
            );
            return;
        }
        match self.assignment.config.on_reject {
            OnReject::Drop => self.settle(ticket),
            OnReject::Halt => self.halt(
                stage,
                format!(
                    "the message with sequence {} was rejected, and `on_reject` is `halt`: {}",
                    message.sequence, rejection.reason
                ),
            ),
            OnReject::DeadLetter => {
                let (shared, message) = (Arc::clone(self.shared), Arc::clone(message));
                let (name, module) = (self.board.name().to_owned(), Arc::clone(&self.assignment.module));
                self.dead_letters.spawn(async move {
                    let sender = Sender {
                        module: &name,
                        sha256: module.sha256(),
                    };
                    shared.dead_letters.store(sender, &message, &rejection).await;
                    ticket
                });
            }
        }
    }

    fn settle(&mut self, ticket: Ticket) {
        if let Some(message) = self.window.message(ticket) {
            self.board.metrics().settled(age(message));
        }
        for reply in self.window.settle(ticket) {
            self.ack(reply);
        }
    }

    fn ack(&self, reply: Subject) {
        self.board.metrics().acked();
        self.acks.ack(reply);
    }

    fn swap(&mut self, assignment: Assignment) {
        if !assignment.can_follow(&self.assignment) {
            // Its owner stops this pipeline and starts another for such a change.
            return;
        }
        info!(
            module = self.board.name(),
            old = self.assignment.module.sha256(),
            new = assignment.module.sha256(),
            "swapped the module"
        );
        self.board.swapped(assignment.module.sha256());
        self.assignment = assignment;
    }

    fn send_requests(&mut self) {
        while let Some(request) = self.scheduler.next_request(Instant::now()) {
            let shared = Arc::clone(self.shared);
            self.board.metrics().requested(request.len());
            self.requests.spawn(async move {
                let start = Instant::now();
                let answer = shared.centrifugo.send(&request).await;
                (request.id(), answer, start.elapsed())
            });
        }
    }

    fn tick(&mut self) {
        for reply in self.window.in_progress(Instant::now(), PROGRESS_INTERVAL) {
            self.acks.in_progress(reply);
        }
        let oldest = self.window.oldest_unsettled().map(|message| age(message));
        let unsettled = self.window.unsettled().map_or(0, |(count, ..)| count);
        let metrics = self.board.metrics();
        metrics.window(self.window.len(), self.window.bytes());
        metrics.in_flight(self.requests.len());
        if self.stream.is_some() {
            metrics.lag(self.pending + unsettled as u64, oldest);
        }
        let retried = self.scheduler.retried();
        metrics.retried(retried - self.retried);
        self.retried = retried;
    }

    /// Says once what stands in the way of reading.
    fn complain(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if self.complaint.as_ref() != Some(&text) {
            warn!(
                module = self.board.name(),
                error = text,
                "cannot read from JetStream, will try again"
            );
            self.board.set_state(State::Waiting, Some(text.clone()));
            self.complaint = Some(text);
        }
    }

    fn renew(&mut self, reason: &str) {
        self.end_with(EndingKind::Renew(reason.to_owned()));
    }

    /// Nothing that follows the message in the stream may be published. What the module refused has nothing behind it in the
    /// queues, and what is before it may go out; behind what Centrifugo refused, everything has to stay.
    fn halt(&mut self, stage: Stage, reason: String) {
        self.halting = true;
        if stage == Stage::Publish {
            self.scheduler.freeze();
        }
        self.end_with(EndingKind::Halt(reason));
    }

    /// The first ending counts, except that a halt goes before a drain: it publishes less.
    fn end_with(&mut self, kind: EndingKind) {
        if self.ending.is_some() && !matches!(kind, EndingKind::Halt(_)) {
            return;
        }
        debug!(module = self.board.name(), ?kind, "the run is ending");
        self.intake.close();
        let stopped = matches!(
            self.ending,
            Some(Ending {
                kind: EndingKind::Drain,
                ..
            })
        );
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        let deadline = deadline.unwrap_or_else(|| tokio::time::Instant::now() + self.shared.grace);
        // Told to stop and halted meanwhile: it stops.
        let kind = if stopped { EndingKind::Drain } else { kind };
        self.ending = Some(Ending { kind, deadline });
    }

    fn is_done(&self) -> bool {
        let Some(ending) = &self.ending else { return false };
        let quiet = self.requests.is_empty() && self.dead_letters.is_empty();
        let drained = if self.halting {
            self.scheduler.is_frozen() || self.scheduler.is_idle()
        } else {
            self.transforming == 0 && self.window.unsettled().is_none()
        };
        (quiet && drained) || tokio::time::Instant::now() >= ending.deadline
    }

    async fn end(self) -> Ended {
        // Said first, since the acks may take their time.
        if let Some((messages, first, last)) = self.window.unsettled() {
            warn!(
                module = self.board.name(),
                messages, first, last, "left unsettled, not acknowledged: these stream sequences are delivered again"
            );
        }
        self.acks.flush().await;
        match self.ending {
            Some(Ending {
                kind: EndingKind::Halt(reason),
                ..
            }) => Ended::Halted(reason),
            Some(Ending {
                kind: EndingKind::Renew(reason),
                ..
            }) => Ended::Renew(reason),
            Some(Ending {
                kind: EndingKind::Drain,
                ..
            })
            | None => Ended::Stopped,
        }
    }
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// How long ago JetStream stored it.
fn age(message: &Message) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(message.timestamp))
}
