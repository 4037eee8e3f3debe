//! The threads that run a module. Chunks go to them in turn and their outcomes come back in the order of the chunks, however
//! many threads there are and whichever is done first.
//!
//! Threads and not tasks: a guest's call takes the processor until it returns.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::console::lock;
use super::instance::Instance;
use super::module::Module;
use super::trial::Trial;
use crate::message::{Message, Outcome};

/// A guest takes up to 512 KiB of it (see `engine`), the host's own functions below and above it the rest.
const STACK: usize = 2 * 1024 * 1024;

/// Messages for one version of a module. A swap happens between two chunks; only what fails its trial ends in the middle of one.
#[derive(Debug)]
pub struct Chunk {
    pub module: Arc<Module>,
    /// The module is new, and still has to show that it is good.
    pub trial: Option<Arc<Trial>>,
    /// Each with the number by which its owner knows it.
    pub messages: Vec<(u64, Arc<Message>)>,
}

#[derive(Debug)]
pub struct Transformed {
    pub ticket: u64,
    pub outcome: Outcome,
    /// Of the module whose outcome it is. Its address says which load of the module.
    pub sha256: Arc<str>,
    /// Retries included.
    pub took: Duration,
}

/// Dropping it lets the threads finish what was submitted, and then end; the receiver ends after the last outcome. Once the
/// receiver is dropped, they end with the call that is under way.
///
/// The receiver also ends when a thread panicked: outcomes are missing then, and nothing that comes after them may be used.
#[derive(Debug)]
pub struct Workers {
    queues: Vec<mpsc::Sender<Job>>,
    submitted: u64,
}

#[derive(Debug)]
struct Job {
    number: u64,
    chunk: Chunk,
}

impl Workers {
    pub fn spawn(name: &str, count: usize) -> io::Result<(Self, UnboundedReceiver<Vec<Transformed>>)> {
        let (sender, receiver) = unbounded_channel();
        let results = Arc::new(Mutex::new(Sequencer::new(sender)));
        let mut queues = Vec::with_capacity(count);
        for index in 0..count.max(1) {
            let (queue, jobs) = mpsc::channel();
            let results = Results(Arc::clone(&results));
            let thread = thread::Builder::new().name(format!("{name} {index}")).stack_size(STACK);
            // Its end shows in the receiver.
            thread.spawn(move || work(&jobs, &results))?;
            queues.push(queue);
        }
        Ok((Self { queues, submitted: 0 }, receiver))
    }

    /// Does not wait: how much is under way is the caller's to bound.
    pub fn submit(&mut self, chunk: Chunk) {
        let number = self.submitted;
        self.submitted += 1;
        let turn = usize::try_from(number % self.queues.len() as u64).unwrap_or_default();
        // It fails only when that thread panicked, and then the receiver has ended.
        let _ = self.queues[turn].send(Job { number, chunk });
    }
}

fn work(jobs: &mpsc::Receiver<Job>, results: &Results) {
    let mut guests = Guests::default();
    for Job { number, chunk } in jobs {
        let wanted = || !lock(&results.0).is_abandoned();
        let transformed = transform(&mut guests, chunk, wanted);
        lock(&results.0).deliver(number, transformed);
        if !wanted() {
            return;
        }
    }
}

fn transform(guests: &mut Guests, chunk: Chunk, wanted: impl Fn() -> bool) -> Vec<Transformed> {
    let Chunk {
        module,
        trial,
        messages,
    } = chunk;
    let trial = trial.as_deref();
    guests.keep([Some(&module), trial.map(Trial::predecessor)]);
    let mut before = Instant::now();
    let one = |(ticket, message): (u64, Arc<Message>)| {
        let (module, outcome) = match trial {
            Some(trial) => guests.call_on_trial(&module, trial, &message),
            None => (&module, guests.of(&module).call(&message)),
        };
        let after = Instant::now();
        let took = after - std::mem::replace(&mut before, after);
        Transformed {
            ticket,
            outcome,
            sha256: module.sha256().clone(),
            took,
        }
    };
    messages.into_iter().take_while(|_| wanted()).map(one).collect()
}

/// A thread's instances: of the module at work, and of the one before it as long as that is needed.
#[derive(Default)]
struct Guests(Vec<Instance>);

impl Guests {
    /// Only of these modules.
    fn keep(&mut self, modules: [Option<&Arc<Module>>; 2]) {
        let is_kept = |instance: &Instance| {
            let mut modules = modules.iter().flatten();
            modules.any(|module| Arc::ptr_eq(module, instance.module()))
        };
        self.0.retain(is_kept);
    }

    fn of(&mut self, module: &Arc<Module>) -> &mut Instance {
        let found = self
            .0
            .iter()
            .position(|instance| Arc::ptr_eq(instance.module(), module));
        let index = found.unwrap_or_else(|| {
            self.0.push(module.instance());
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// What this module makes of the message, or the one before it once this one has failed.
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

/// A thread's handle to the sequencer, which it closes if it panics.
struct Results(Arc<Mutex<Sequencer<Vec<Transformed>>>>);

impl Drop for Results {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0).close();
        }
    }
}

/// Passes items on in the order of their numbers.
struct Sequencer<T> {
    next: u64,
    early: BTreeMap<u64, T>,
    sender: Option<UnboundedSender<T>>,
}

impl<T> Sequencer<T> {
    fn new(sender: UnboundedSender<T>) -> Self {
        Self {
            next: 0,
            early: BTreeMap::new(),
            sender: Some(sender),
        }
    }

    fn deliver(&mut self, number: u64, item: T) {
        self.early.insert(number, item);
        let Some(sender) = &self.sender else { return };
        while let Some(item) = self.early.remove(&self.next) {
            self.next += 1;
            // Nobody listens any more when the pipeline ended first; what is left has no owner then.
            let _ = sender.send(item);
        }
    }

    /// Nobody will ever take an outcome.
    fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(UnboundedSender::is_closed)
    }

    fn close(&mut self) {
        self.sender = None;
        self.early.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_of_their_numbers() {
        let (sender, mut receiver) = unbounded_channel();
        let mut sequencer = Sequencer::new(sender);
        for number in [2, 0, 3, 1, 5] {
            sequencer.deliver(number, number);
        }
        let received: Vec<u64> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(received, [0, 1, 2, 3]);
        sequencer.deliver(4, 4);
        assert_eq!(
            std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>(),
            [4, 5]
        );
    }

    #[test]
    fn a_panic_ends_the_receiver_even_while_other_threads_live() {
        let (sender, mut receiver) = unbounded_channel();
        let other = Arc::new(Mutex::new(Sequencer::new(sender)));
        let results = Results(Arc::clone(&other));
        thread::spawn(move || {
            let _results = results;
            panic!("as a defect of the host would");
        })
        .join()
        .expect_err("it panicked");
        assert!(receiver.blocking_recv().is_none());
        lock(&other).deliver(0, Vec::new());
        assert!(lock(&other).early.len() <= 1);
    }
}
