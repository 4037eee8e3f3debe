//! The threads that run a module. They get chunks in turn, and their outcomes come back in the order of the chunks,
//! regardless of the number and speed of the threads.
//!
//! They are threads and not tasks because a guest's call occupies the processor until it returns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, info};

use super::batch;
use super::console::lock;
use super::gate::{Gate, Held};
use super::instance::Instance;
use super::module::Module;
use super::trial::Trial;
use crate::load::Load;
use crate::message::{Message, Outcome};
use crate::tap::Tap;

/// What a thread needs that calls guests. A guest takes up to 512 KiB of it (see `settings`), and the host's own functions
/// below and above it take the rest.
pub const STACK: usize = 2 * 1024 * 1024;

/// Messages for one version of a module. A swap happens between two chunks. Only a version that fails its trial ends in
/// the middle of one.
#[derive(Debug)]
pub struct Chunk {
    pub module: Arc<Module>,
    /// Set while the module is new and its trial lasts.
    pub trial: Option<Arc<Trial>>,
    /// Each message with the owner's ticket for it.
    pub messages: Vec<(u64, Arc<Message>)>,
}

#[derive(Debug)]
pub struct Transformed {
    pub ticket: u64,
    pub outcome: Outcome,
    /// The load that made the outcome.
    pub by: Load,
    /// Includes retries.
    pub took: Duration,
}

/// Outcomes in stream order, and the bytes that they hold until they are taken over.
#[derive(Debug, Default)]
pub struct Piece {
    pub outcomes: Vec<Transformed>,
    pub bytes: usize,
}

/// Returns the memory that an outcome takes, including the queues, in bytes.
pub type Cost = fn(&Outcome) -> usize;

/// When this is dropped, the threads finish everything submitted and then end, and the receiver ends after the last
/// outcome. When the receiver is dropped, the threads end after their current call.
///
/// The receiver also ends when a thread panics. Outcomes are then missing, and nothing that comes after them may be
/// used.
#[derive(Debug)]
pub struct Workers {
    queues: Vec<mpsc::Sender<Job>>,
    submitted: u64,
    desk: Arc<Desk>,
    /// What the first thread works with.
    seat: Arc<Mutex<Seat>>,
}

#[derive(Debug)]
struct Job {
    number: u64,
    chunk: Chunk,
}

impl Workers {
    pub fn spawn(name: &str, count: usize, cost: Cost) -> io::Result<(Self, UnboundedReceiver<Piece>)> {
        Self::spawn_tapped(name, count, cost, Tap::default())
    }

    /// Spawns workers whose messages and outcomes are offered to this tap.
    pub fn spawn_tapped(
        name: &str,
        count: usize,
        cost: Cost,
        tap: Tap,
    ) -> io::Result<(Self, UnboundedReceiver<Piece>)> {
        let (sender, receiver) = unbounded_channel();
        let desk = Arc::new(Desk::new(sender, cost, tap));
        let mut queues = Vec::with_capacity(count);
        let first = Arc::<Mutex<Seat>>::default();
        for index in 0..count.max(1) {
            let (queue, jobs) = mpsc::channel();
            let hand = Hand::new(Arc::clone(&desk));
            let seat = match index {
                0 => Arc::clone(&first),
                _ => Arc::default(),
            };
            let thread = thread::Builder::new().name(format!("{name} {index}")).stack_size(STACK);
            // The receiver shows when the thread ends.
            thread.spawn(move || work(&jobs, hand, &seat))?;
            queues.push(queue);
        }
        let workers = Self {
            queues,
            submitted: 0,
            desk,
            seat: first,
        };
        Ok((workers, receiver))
    }

    /// Submits a chunk without waiting. The caller limits how much is in progress.
    pub fn submit(&mut self, chunk: Chunk) {
        let number = self.submitted;
        self.submitted += 1;
        let turn = usize::try_from(number % self.queues.len() as u64).unwrap_or_default();
        // This fails only if the thread panicked, and then the receiver has ended.
        let _ = self.queues[turn].send(Job { number, chunk });
    }

    /// Returns what the first thread works with, if it has nothing to do and this many messages would soon be transformed on
    /// the calling thread, which must not be one of an async runtime. Handing them to the thread would take longer.
    pub fn here(&self, module: &Arc<Module>, messages: usize) -> Option<Here<'_>> {
        let seat = self.seat.try_lock().ok()?;
        let module = Arc::clone(module);
        let tap = &self.desk.tap;
        seat.pace.is_short(messages).then_some(Here { seat, module, tap })
    }

    /// The owner has taken over outcomes that held `taken` bytes and counts them itself from now on. `room` gets what
    /// the workers hold, and returns how much they may hold and whether nothing is left of what the owner took over.
    /// Returns true if a worker cannot continue with that.
    pub fn balance(&self, taken: usize, room: impl FnOnce(Held) -> (usize, bool)) -> bool {
        let mut counter = lock(&self.desk.counter);
        let held = counter.gate.taken_over(taken);
        let (room, idle) = room(held);
        counter.gate.allow(room, idle);
        if counter.waiting.is_empty() {
            return false;
        }
        self.desk.news.notify_all();
        counter.is_stuck()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.desk.counter).gate.open();
        self.desk.news.notify_all();
    }
}

/// The place where workers deliver their outcomes.
#[derive(Debug)]
struct Desk {
    counter: Mutex<Counter>,
    /// Notified when a waiting worker may be able to continue.
    news: Condvar,
    cost: Cost,
    tap: Tap,
}

#[derive(Debug)]
struct Counter {
    results: Sequencer,
    gate: Gate,
    /// The chunks of the workers that wait at the gate.
    waiting: BTreeSet<u64>,
}

impl Desk {
    fn new(sender: UnboundedSender<Piece>, cost: Cost, tap: Tap) -> Self {
        Self {
            counter: Mutex::new(Counter {
                results: Sequencer::new(sender),
                gate: Gate::new(),
                waiting: BTreeSet::new(),
            }),
            news: Condvar::new(),
            cost,
            tap,
        }
    }
}

impl Counter {
    fn deliver(&mut self, number: u64, piece: Piece, last: bool) {
        let sent = self.results.deliver(number, piece, last);
        self.gate.sent(sent);
    }

    /// Returns true if workers wait and not even the frontmost may continue.
    fn is_stuck(&self) -> bool {
        !self.waiting.is_empty() && !self.gate.lets_in(self.waiting.contains(&self.results.next))
    }
}

/// A worker's access to the desk. If the worker panics, it closes the desk.
struct Hand {
    desk: Arc<Desk>,
    /// Outcomes that are not delivered yet.
    piece: Piece,
    call: Call,
}

/// A call that the gate admitted, and the sizes of its outcomes.
#[derive(Default)]
struct Call {
    counted: usize,
    made: Vec<usize>,
}

impl Hand {
    fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            piece: Piece::default(),
            call: Call::default(),
        }
    }

    /// Waits until one more message of this chunk may be transformed. Returns false if nobody wants its outcome any
    /// more.
    fn next(&mut self, number: u64) -> bool {
        let mut counter = lock(&self.desk.counter);
        counter
            .gate
            .leave(std::mem::take(&mut self.call.counted), self.call.made.drain(..));
        let mut entered = counter.gate.enter(false);
        if entered.is_none() && !self.piece.outcomes.is_empty() {
            // The earlier outcomes must be delivered first. Otherwise the worker would wait for itself.
            counter.deliver(number, std::mem::take(&mut self.piece), false);
        }
        while entered.is_none() && !counter.results.is_abandoned() {
            let in_front = counter.results.next == number;
            entered = counter.gate.enter(in_front);
            if entered.is_none() {
                counter.waiting.insert(number);
                counter = self.desk.news.wait(counter).unwrap_or_else(PoisonError::into_inner);
                counter.waiting.remove(&number);
            }
        }
        self.call.counted = entered.unwrap_or_default();
        !counter.results.is_abandoned()
    }

    /// Returns how many more messages, at most `most`, may be transformed in the call that was admitted.
    fn more(&mut self, most: usize) -> usize {
        let mut counter = lock(&self.desk.counter);
        let entered = (0..most).map_while(|_| counter.gate.enter(false));
        entered.fold(0, |more, counted| {
            self.call.counted += counted;
            more + 1
        })
    }

    /// Records an outcome of the call.
    fn made(&mut self, transformed: Transformed) {
        let made = (self.desk.cost)(&transformed.outcome) + size_of::<Transformed>();
        self.call.made.push(made);
        self.piece.bytes += made;
        self.piece.outcomes.push(transformed);
    }

    /// Ends the chunk. Returns false if nobody wants further outcomes.
    fn done(&mut self, number: u64) -> bool {
        let mut counter = lock(&self.desk.counter);
        counter
            .gate
            .leave(std::mem::take(&mut self.call.counted), self.call.made.drain(..));
        counter.deliver(number, std::mem::take(&mut self.piece), true);
        if !counter.waiting.is_empty() {
            // The waiting worker may be in front now.
            self.desk.news.notify_all();
        }
        !counter.results.is_abandoned()
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.desk.counter).results.close();
            self.desk.news.notify_all();
        }
    }
}

/// What a thread works with.
#[derive(Default)]
struct Seat {
    guests: Guests,
    pace: Pace,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// The calls of a module on the thread that reads its messages.
#[derive(Debug)]
pub struct Here<'a> {
    seat: MutexGuard<'a, Seat>,
    module: Arc<Module>,
    tap: &'a Tap,
}

impl Here<'_> {
    /// Returns the outcome of a message and how long it took, or `None` if it has to be submitted after all.
    pub fn call(&mut self, message: &Message) -> Option<(Outcome, Duration)> {
        let Seat { guests, pace } = &mut *self.seat;
        // Where one message took long, the next one may as well.
        let instance = guests.existing(&self.module).filter(|_| pace.is_sure())?;
        let start = Instant::now();
        let outcome = instance.call_soon(message, SOON);
        let took = start.elapsed();
        pace.saw(took);
        if outcome.is_none() {
            pace.failed();
        }
        let outcome = outcome?;
        if self.tap.wants() {
            self.tap.offer(self.module.version(), [(message, &outcome, took)]);
        }
        Some((outcome, took))
    }

    /// Drops the instances of all other modules.
    pub fn forget_others(&mut self) {
        self.seat.guests.keep([Some(&self.module), None]);
    }
}

fn work(jobs: &mpsc::Receiver<Job>, mut hand: Hand, seat: &Mutex<Seat>) {
    for Job { number, chunk } in jobs {
        let mut seat = lock(seat);
        transform(&mut seat, number, chunk, &mut hand);
        // Whoever gets the last outcome may want it.
        drop(seat);
        if !hand.done(number) {
            return;
        }
    }
}

/// Tracks how long a thread's calls take. In a backlog, a thread with long calls would occupy the processor all the
/// time. It therefore gives way to threads with short calls, to the requests and to the servers. It never regains its
/// priority, because only root may raise it.
#[derive(Debug)]
struct Pace {
    average: Duration,
    gives_way: bool,
    /// How many more calls must be quick before the next one is expected to be.
    unsure: u32,
}

impl Default for Pace {
    /// The first call shows whether calls are quick.
    fn default() -> Self {
        Self {
            average: QUICK,
            gives_way: false,
            unsure: CALLS,
        }
    }
}

/// Average calls longer than this are unusual for a transform between two messages.
const LONG: Duration = Duration::from_millis(5);

/// Messages whose calls are shorter on average than this may share one.
const QUICK: Duration = Duration::from_millis(1);

/// The number of calls in the average.
const CALLS: u32 = 16;

/// Messages that take no longer than this together are transformed where they are read.
const SHORT: Duration = Duration::from_micros(200);

/// How many calls must be quick, after one that was not, until messages are transformed where they are read.
const STEADY: u32 = 1_000;

/// The most processor time of such a call. It is looked at every 10 ms only, so it may get up to 20 ms more. Meanwhile the
/// module's acks and requests wait.
const SOON: Duration = Duration::from_millis(1);

/// With this niceness, a thread gets a tenth of the processor time of one without it if both are always busy.
const NICENESS: i32 = 10;

impl Pace {
    /// Returns true if it does not matter to the outcomes of some calls that they wait for those of others.
    fn is_quick(&self) -> bool {
        self.average < QUICK
    }

    /// Returns true if the last calls were all quick.
    fn is_sure(&self) -> bool {
        self.unsure == 0
    }

    /// Returns true if this many messages are expected to take a short time.
    fn is_short(&self, messages: usize) -> bool {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.is_sure() && self.average.saturating_mul(messages) <= SHORT
    }

    fn failed(&mut self) {
        self.unsure = STEADY;
    }

    fn saw(&mut self, time: Duration) {
        self.unsure = match time < QUICK {
            true => self.unsure.saturating_sub(1),
            false => STEADY,
        };
        self.average = self.average - self.average / CALLS + time / CALLS;
    }

    /// A call on the module's own thread took this long.
    fn took(&mut self, module: &str, time: Duration) {
        self.saw(time);
        if self.average > LONG && !self.gives_way {
            self.gives_way = true;
            info!(
                module,
                average_ms = self.average.as_millis(),
                "calls are slow, so this worker thread now runs at lower priority"
            );
            give_way();
        }
    }
}

/// On Linux, each thread has its own niceness.
#[cfg(target_os = "linux")]
fn give_way() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        debug!(%error, "a thread cannot lower its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

fn transform(seat: &mut Seat, number: u64, chunk: Chunk, hand: &mut Hand) {
    let Seat { guests, pace } = seat;
    let Chunk {
        module,
        trial,
        messages,
    } = chunk;
    let trial = trial.as_deref();
    guests.keep([Some(&module), trial.map(Trial::predecessor)]);
    let (mut tickets, mut messages): (VecDeque<_>, VecDeque<_>) = messages.into_iter().unzip();
    while !messages.is_empty() {
        if !hand.next(number) {
            return;
        }
        let rest = messages.make_contiguous();
        let (by, outcomes) = match trial {
            Some(trial) => {
                let start = Instant::now();
                let (by, outcome) = guests.call_on_trial(&module, trial, &rest[0]);
                (by, vec![(outcome, start.elapsed())])
            }
            None => {
                let most = if pace.is_quick() { batch::MAX_MESSAGES } else { 1 };
                let more = hand.more(most.min(rest.len()) - 1);
                (&module, guests.of(&module).call_many(&rest[..=more]))
            }
        };
        let tap = &hand.desk.tap;
        if tap.wants() {
            let made = rest.iter().zip(&outcomes);
            let made = made.map(|(message, (outcome, took))| (&**message, outcome, *took));
            tap.offer(by.version(), made);
        }
        // A message that is done is not held while those behind it wait at the gate.
        messages.drain(..outcomes.len());
        let done = tickets.drain(..outcomes.len());
        for (ticket, (outcome, took)) in done.zip(outcomes) {
            pace.took(&by.name, took);
            hand.made(Transformed {
                ticket,
                outcome,
                by: by.loaded().clone(),
                took,
            });
        }
    }
}

/// A thread's instances: one of the running module, and one of its predecessor for as long as it is needed.
#[derive(Default)]
struct Guests(Vec<Instance>);

impl Guests {
    /// Drops the instances of all other modules.
    fn keep(&mut self, modules: [Option<&Arc<Module>>; 2]) {
        let is_kept = |instance: &Instance| {
            let mut modules = modules.iter().flatten();
            modules.any(|module| module.load_id() == instance.module().load_id())
        };
        self.0.retain(is_kept);
    }

    /// Returns the instance of this module if there is one.
    fn existing(&mut self, module: &Arc<Module>) -> Option<&mut Instance> {
        let mut instances = self.0.iter_mut();
        instances.find(|instance| instance.module().load_id() == module.load_id())
    }

    fn of(&mut self, module: &Arc<Module>) -> &mut Instance {
        let found = self
            .0
            .iter()
            .position(|instance| instance.module().load_id() == module.load_id());
        let index = found.unwrap_or_else(|| {
            self.0.push(module.instance());
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// Returns the outcome of this module, or of its predecessor once this one has failed.
    fn call_on_trial<'a>(
        &mut self,
        module: &'a Arc<Module>,
        trial: &'a Trial,
        message: &Message,
    ) -> (&'a Arc<Module>, Outcome) {
        let predecessor = trial.predecessor();
        if trial.has_failed() {
            return (predecessor, self.of(predecessor).call(message));
        }
        let outcome = self.of(module).call(message);
        if let Outcome::Reject(rejection) = &outcome {
            let old = self.of(predecessor).call(message);
            if !trial.allows(message, rejection, &old) {
                return (predecessor, old);
            }
        }
        (module, outcome)
    }
}

/// Passes pieces on in the order of their chunks.
#[derive(Debug)]
struct Sequencer {
    next: u64,
    /// Pieces of later chunks, each with a flag that is set once its chunk is complete.
    early: BTreeMap<u64, (Piece, bool)>,
    sender: Option<UnboundedSender<Piece>>,
}

impl Sequencer {
    fn new(sender: UnboundedSender<Piece>) -> Self {
        Self {
            next: 0,
            early: BTreeMap::new(),
            sender: Some(sender),
        }
    }

    /// Takes in a piece of this chunk, which may be the last one. Returns the bytes of everything passed on.
    fn deliver(&mut self, number: u64, mut piece: Piece, last: bool) -> usize {
        let (waiting, whole) = self.early.entry(number).or_default();
        waiting.bytes += piece.bytes;
        waiting.outcomes.append(&mut piece.outcomes);
        *whole = last;
        let Some(sender) = &self.sender else { return 0 };
        let mut sent = 0;
        while let Some((piece, whole)) = self.early.get_mut(&self.next) {
            let piece = std::mem::take(piece);
            sent += piece.bytes;
            if !piece.outcomes.is_empty() {
                // Sending fails if the pipeline ended first. The rest then has no owner.
                let _ = sender.send(piece);
            }
            if !*whole {
                break;
            }
            self.early.remove(&self.next);
            self.next += 1;
        }
        sent
    }

    /// Returns true if nobody will ever take an outcome.
    fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(UnboundedSender::is_closed)
    }

    fn close(&mut self) {
        self.sender = None;
        self.early.clear();
    }
}

#[cfg(test)]
mod tests;
