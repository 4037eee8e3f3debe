//! A running module: a store with one instance, which is reused for each call and dropped after a failure.

use std::sync::Arc;

use wasmtime::Store;

use super::bindings::Transform;
use super::bindings::slipring::transform::types as wit;
use super::failure::Failure;
use super::host::State;
use super::limits::{Limits, Timer};
use super::module::Module;
use super::outcome;
use crate::message::{Message, Outcome};

/// Belongs to one thread. Calls take at most twice the module's time-out plus its `init`, in processor time. They must
/// not be made in an async task: a guest's output passes through blocking calls of wasmtime-wasi, which panic there.
pub struct Instance {
    module: Arc<Module>,
    guest: Option<Guest>,
    memory: usize,
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

    /// Returns an outcome whatever the guest does. After a trap or a time-out the message is tried once more on a fresh
    /// instance, because earlier messages may have left the guest in a bad state.
    pub fn call(&mut self, message: &Message) -> Outcome {
        if let Some(unreadable) = &message.unreadable {
            return Outcome::Reject(unreadable.rejection());
        }
        let failure = match self.attempt(message) {
            Ok(outcome) => return self.checked(message, outcome),
            Err(failure) => failure,
        };
        tracing::debug!(
            module = self.module.name,
            stream = %message.stream,
            sequence = %message.place,
            code = failure.code,
            reason = failure.reason,
            "a call failed; trying once more on a fresh instance",
        );
        let outcome = self.attempt(message);
        let outcome = outcome.unwrap_or_else(|failure| Outcome::Reject(failure.into_rejection()));
        self.checked(message, outcome)
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
        let mut guest = match self.guest.take() {
            Some(guest) => guest,
            None => Guest::start(&self.module)?,
        };
        let returned = guest.call(&self.module, message);
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

struct Guest {
    store: Store<State>,
    exports: Transform,
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
        let exports = instance.and_then(|instance| module.indices.load(&mut store, &instance));
        let exports = exports.map_err(|error| start_failed(&mut store, &error, limits, "it cannot be instantiated"))?;
        let init = exports.call_init(&mut store, &module.settings);
        init.map_err(|error| start_failed(&mut store, &error, limits, "`init` failed"))?
            .map_err(|reason| Failure::new("init", &format!("`init` refused its settings: {reason}")))?;
        store.data_mut().end_call();
        let used = store.data().limiter.used();
        Ok(Self {
            store,
            exports,
            threshold: used + (limits.memory.saturating_sub(used)) / 2,
        })
    }

    fn call(&mut self, module: &Module, message: &Message) -> Result<Result<Vec<wit::Publication>, String>, Failure> {
        self.store.data_mut().begin_call(message, module.limits.timeout);
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
