//! A running module: a store with one instance, which is reused for each call and dropped after a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::TypedFunc;

use super::batch;
use super::bindings::slipring::transform::types as wit;
use super::bindings::{TRANSFORM_BATCH, Transform};
use super::failure::Failure;
use super::host::State;
use super::limits::{Limits, Timer};
use super::module::Module;
use super::outcome;
use crate::message::{Message, Outcome};

/// Belongs to one thread. Each message takes at most twice the module's timeout plus its `init`, in processor time, and
/// is transformed once more if a later message of the same call fails. Calls must not be made in an async task: a guest's
/// output passes through blocking calls of wasmtime-wasi, which panic there.
pub struct Instance {
    module: Arc<Module>,
    guest: Option<Guest>,
    memory: usize,
    /// The messages of a call with many, as the guest gets them.
    buffer: Vec<u8>,
    /// Set while messages are called again whose output was logged.
    muted: bool,
}

/// A call with many messages that ended without results.
struct Failed {
    /// Which message the guest was at.
    at: usize,
    failure: Failure,
}

impl Module {
    /// No code of the guest runs before the first call.
    pub fn instance(self: &Arc<Self>) -> Instance {
        Instance::new(Arc::clone(self))
    }
}

impl Instance {
    fn new(module: Arc<Module>) -> Self {
        Self {
            module,
            guest: None,
            memory: 0,
            buffer: Vec::new(),
            muted: false,
        }
    }

    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Returns the memory of the guest after the last call, all memories together, in bytes. A memory never shrinks, so
    /// this is also its maximum so far.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Returns an outcome whatever the guest does. After a trap or a timeout the message is tried once more on a fresh
    /// instance, because earlier messages may have left the guest in a bad state.
    pub fn call(&mut self, message: &Message) -> Outcome {
        if let Some(unreadable) = &message.unreadable {
            return Outcome::Reject(unreadable.rejection());
        }
        let failure = match self.attempt(message) {
            Ok(outcome) => return self.checked(message, outcome),
            Err(failure) => failure,
        };
        self.again(message, &failure)
    }

    /// Returns the outcome if the call succeeds and takes no longer than `limit` of processor time. Otherwise the message has
    /// to be called again, with all the time that it may take, and logs again what it logged here. Does not start a guest.
    pub fn call_soon(&mut self, message: &Message, limit: Duration) -> Option<Outcome> {
        if let Some(unreadable) = &message.unreadable {
            return Some(Outcome::Reject(unreadable.rejection()));
        }
        self.guest.as_ref()?;
        let limit = limit.min(self.module.limits.timeout);
        match self.attempt_within(message, Timer::new(limit).started()) {
            Ok(outcome) => Some(self.checked(message, outcome)),
            Err(failure) => {
                tracing::debug!(
                    module = self.module.name,
                    stream = %message.stream,
                    sequence = %message.place,
                    code = failure.code,
                    reason = failure.reason,
                    "a call on the pipeline's thread failed or took long; the module's own thread tries again",
                );
                None
            }
        }
    }

    /// Tries a message once more on a fresh instance.
    fn again(&mut self, message: &Message, failure: &Failure) -> Outcome {
        tracing::debug!(
            module = self.module.name,
            stream = %message.stream,
            sequence = %message.place,
            code = failure.code,
            reason = failure.reason,
            "a call failed; trying once more on a fresh instance",
        );
        self.guest = None;
        self.module.log.forget();
        let outcome = self.attempt(message);
        let outcome = outcome.unwrap_or_else(|failure| {
            if matches!(failure.code, "trap" | "exit") {
                self.module.log.forget_report();
            }
            Outcome::Reject(failure.into_rejection())
        });
        self.checked(message, outcome)
    }

    /// Returns the outcomes of the first messages, at least of one, and how long each took. They are the same as those of
    /// [`call`](Self::call), whatever the guest does. A module that takes many messages in one call gets them so.
    pub fn call_many(&mut self, messages: &[Arc<Message>]) -> Vec<(Outcome, Duration)> {
        let readable = messages.iter().take_while(|message| message.unreadable.is_none());
        let count = batch::size(readable.map(|message| batch::bytes_of(message)));
        match messages.get(..count) {
            Some(batch @ [_, _, ..]) if self.takes_many() => self.batch(batch),
            _ => messages.first().map(|message| self.one(message)).into_iter().collect(),
        }
    }

    fn one(&mut self, message: &Message) -> (Outcome, Duration) {
        let start = Instant::now();
        (self.call(message), start.elapsed())
    }

    fn takes_many(&mut self) -> bool {
        if self.module.one_by_one.load(Ordering::Relaxed) {
            return false;
        }
        if self.guest.is_none() {
            // If it cannot start, the call for one message says why.
            self.guest = Guest::start(&self.module).ok();
        }
        self.guest.as_ref().is_some_and(|guest| guest.transform_batch.is_some())
    }

    fn batch(&mut self, messages: &[Arc<Message>]) -> Vec<(Outcome, Duration)> {
        let Failed { at, failure } = match self.attempt_many(messages) {
            Ok(outcomes) => {
                let outcomes = messages.iter().zip(outcomes);
                let checked = outcomes.map(|(message, (outcome, took))| (self.checked(message, outcome), took));
                return checked.collect();
            }
            Err(failed) => failed,
        };
        let (before, from) = messages.split_at(at.min(messages.len() - 1));
        // What the messages before it became is lost with the instance. Whatever they log was logged.
        self.muted = true;
        let mut outcomes: Vec<_> = before.iter().map(|message| self.one(message)).collect();
        self.muted = false;
        let start = Instant::now();
        outcomes.push((self.again(&from[0], &failure), start.elapsed()));
        outcomes
    }

    /// Calls the guest with all of them. It may return results for the first ones only.
    fn attempt_many(&mut self, messages: &[Arc<Message>]) -> Result<Vec<(Outcome, Duration)>, Failed> {
        let limits = &self.module.limits;
        let mut guest = match self.guest.take() {
            Some(guest) => guest,
            None => Guest::start(&self.module).map_err(|failure| Failed { at: 0, failure })?,
        };
        batch::write(&mut self.buffer, messages);
        let called = guest.call_many(&self.module, messages, &self.buffer);
        self.memory = guest.memory();
        let (results, times) = called?;
        let outcomes = match batch::read(&results, times.len(), limits.max_output) {
            Ok(outcomes) if !outcomes.is_empty() => outcomes,
            // The call for one message says what is too large.
            Ok(_) => {
                let failure = Failure::new("output", "the message became too much");
                return Err(Failed { at: 0, failure });
            }
            Err(why) => {
                if !self.module.one_by_one.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        module = self.module.name,
                        "the module gets one message per call from now on, because what its `{TRANSFORM_BATCH}` returned \
                         does not have the format: {why}"
                    );
                }
                let failure = Failure::new("output", why);
                return Err(Failed { at: 0, failure });
            }
        };
        if !guest.has_grown() {
            self.guest = Some(guest);
        }
        let checked = outcomes.into_iter().map(|returned| outcome::check(returned, limits));
        Ok(checked.zip(times).collect())
    }

    /// Adds warnings about publications and an explanation for rejected markers.
    fn checked(&self, message: &Message, mut outcome: Outcome) -> Outcome {
        match &mut outcome {
            Outcome::Publish(publications) => self.module.doubts.look(&self.module.name, publications),
            Outcome::Reject(rejection) => {
                if let Some(marker) = message.marker() {
                    rejection.reason.push_str(&format!(
                        ". The message is a marker, which has no payload: {marker}. The SDK's `Message::marker` \
                         detects it"
                    ));
                }
            }
            Outcome::Drop => {}
        }
        outcome
    }

    /// A guest that is not put back at the end is dropped, because a trap makes its store unusable.
    fn attempt(&mut self, message: &Message) -> Result<Outcome, Failure> {
        self.attempt_within(message, Timer::new(self.module.limits.timeout))
    }

    fn attempt_within(&mut self, message: &Message, timer: Timer) -> Result<Outcome, Failure> {
        let mut guest = match self.guest.take() {
            Some(guest) => guest,
            None => Guest::start(&self.module)?,
        };
        if self.muted {
            guest.store.data_mut().mute(true);
        }
        let returned = guest.call(&self.module, message, timer);
        if self.muted {
            guest.store.data_mut().mute(false);
        }
        self.memory = guest.memory();
        let returned = returned?;
        if guest.has_grown() {
            tracing::debug!(
                module = self.module.name,
                bytes = guest.memory(),
                "replacing an instance that has grown"
            );
        } else {
            self.guest = Some(guest);
        }
        Ok(outcome::check(returned, &self.module.limits))
    }

    /// Only instantiates and runs `init`.
    pub(super) fn try_out(&mut self) -> Result<(), Failure> {
        self.guest = Some(Guest::start(&self.module)?);
        Ok(())
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

type TransformBatch = TypedFunc<(&'static [u8],), (Vec<u8>,)>;

const WRONG_TYPE: &str = "its `transform-batch` is not a function from list<u8> to list<u8>";

struct Guest {
    store: Store<State>,
    exports: Transform,
    /// A module need not have it.
    transform_batch: Option<TransformBatch>,
    /// The memory counts as grown above this many bytes.
    threshold: usize,
}

impl Guest {
    /// Instantiates and runs `init`.
    fn start(module: &Module) -> Result<Self, Failure> {
        let limits = &module.limits;
        let state = State::new(&module.name, limits, Arc::clone(&module.log));
        let mut store = Store::new(&module.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.max_output);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().timer.look()));
        store.set_epoch_deadline(Timer::FIRST_LOOK);

        let instance = module.pre.instantiate(&mut store);
        let exports = instance.and_then(|instance| {
            let exports = module.indices.load(&mut store, &instance)?;
            let function = instance.get_func(&mut store, TRANSFORM_BATCH);
            let typed = function.map(|function| function.typed(&store)).transpose();
            Ok((
                exports,
                typed.map_err(|error| wasmtime::Error::msg(format!("{WRONG_TYPE}: {error}")))?,
            ))
        });
        let (exports, transform_batch) =
            exports.map_err(|error| start_failed(&mut store, &error, limits, "it cannot be instantiated"))?;
        let init = exports.call_init(&mut store, &module.settings);
        init.map_err(|error| start_failed(&mut store, &error, limits, "`init` failed"))?
            .map_err(|reason| Failure::new("init", &format!("`init` refused its settings: {reason}")))?;
        store.data_mut().end_call();
        let used = store.data().limiter.used();
        Ok(Self {
            store,
            exports,
            transform_batch,
            threshold: used + (limits.memory.saturating_sub(used)) / 2,
        })
    }

    fn call(
        &mut self,
        module: &Module,
        message: &Message,
        timer: Timer,
    ) -> Result<Result<Vec<wit::Publication>, String>, Failure> {
        self.store.data_mut().begin_call(message, timer);
        self.store.set_epoch_deadline(Timer::FIRST_LOOK);
        let headers: Vec<(&str, &str)> = message
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let message = wit::Message {
            subject: &message.subject,
            payload: &message.payload,
            headers: &headers,
            stream_name: &message.stream,
            sequence: message.sequence(),
            timestamp: message.timestamp,
            deliveries: message.deliveries,
        };
        let returned = self.exports.call_transform(&mut self.store, message);
        let words = self.store.data_mut().end_call();
        returned.map_err(|error| Failure::of(&error, &words, &module.limits, module.limits.timeout))
    }

    /// Returns what the guest returned, and how long it was at each message that it began.
    fn call_many(
        &mut self,
        module: &Module,
        messages: &[Arc<Message>],
        buffer: &[u8],
    ) -> Result<(Vec<u8>, Vec<Duration>), Failed> {
        let timeout = module.limits.timeout;
        let Some(function) = &self.transform_batch else {
            let failure = Failure::new("output", "there is no function for many messages");
            return Err(Failed { at: 0, failure });
        };
        let start = Instant::now();
        self.store.data_mut().begin_batch(messages.to_vec(), timeout);
        self.store.set_epoch_deadline(Timer::FIRST_LOOK);
        let returned = function.call(&mut self.store, (buffer,));
        let end = Instant::now();
        let (begun, words) = (self.store.data_mut().end_batch(), self.store.data_mut().end_call());
        let at = begun.len().saturating_sub(1);
        match returned {
            // Called one by one, a message that was refused memory might have got it on a fresh instance.
            Ok(_) if words.memory_denied => {
                let failure = Failure::new("memory", "a message was refused memory");
                Err(Failed { at, failure })
            }
            Ok((results,)) => {
                // Each message ends where the next one begins. The first one takes the time before it as well.
                let mut starts = begun;
                if let Some(first) = starts.first_mut() {
                    *first = start;
                }
                let ends = starts.iter().skip(1).chain([&end]);
                let times = starts.iter().zip(ends).map(|(start, end)| *end - *start);
                Ok((results, times.collect()))
            }
            Err(error) => {
                let failure = Failure::of(&error, &words, &module.limits, timeout);
                Err(Failed { at, failure })
            }
        }
    }

    fn memory(&self) -> usize {
        self.store.data().limiter.used()
    }

    /// A memory never shrinks. The threshold is half of what was left after `init`, so a module that starts large is
    /// not restarted for every message.
    fn has_grown(&self) -> bool {
        self.memory() > self.threshold
    }
}

fn start_failed(store: &mut Store<State>, error: &wasmtime::Error, limits: &Limits, what: &str) -> Failure {
    let words = store.data_mut().end_call();
    let failure = Failure::of(error, &words, limits, limits.init_timeout);
    Failure::new(failure.code, &format!("{what}: {}", failure.reason))
}
