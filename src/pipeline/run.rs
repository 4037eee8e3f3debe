//! One run of a pipeline: everything that can happen to it is an [`Event`], and [`Run::handle`] is where each is dealt with.
//!
//! The parts that decide (window, scheduler) do no I/O; what does I/O (source, requests, acks, dead letters, workers) reports
//! back as events. Cancelling a run anywhere loses nothing: what is not acked is delivered again.

mod ending;
mod outcomes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::ending::{Ending, EndingKind};
use self::outcomes::age;
use super::intake::{Intake, News};
use super::refusals::Refusals;
use super::{Assignment, Ended, Shared};
use crate::admin::{ModuleBoard, State};
use crate::publish::{Answer, RequestId, Scheduler};
use crate::source::{ACK_WAIT, Acks, Delivery, Room, StreamIdentity};
use crate::transform::{Chunk, Transformed, Workers};
use crate::window::{Arrival, Limits, Ticket, Window};

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
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
