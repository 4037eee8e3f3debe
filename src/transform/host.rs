//! Defines what a guest can reach: WASI 0.2 with nothing behind it, and the message's time and random numbers instead
//! of the machine's. This makes a transform a pure function.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Error, Result};
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::p2::{self, DynOutputStream, DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{BATCH, DIAGNOSTICS};
use super::console::{Channel, Console, Log, lock};
use super::last_words::LastWords;
use super::limits::{Limiter, Limits, Timer};
use super::random::Random;
use crate::message::Message;

/// The most streams and pollables that a guest may hold at once. Rust's standard library holds three.
const MAX_RESOURCES: usize = 1_000;
/// The most random bytes in one call. The host generates them.
const MAX_RANDOM_BYTES: u64 = 1024 * 1024;
/// The most bytes that a stream takes at once.
const STREAM_PERMIT: usize = 64 * 1024;
/// The most bytes of the panic text that a core module passes to the host.
const MAX_PANIC_TEXT: usize = 4 * 1024;
/// A wait of at most this many nanoseconds ends at once, a limited number of times per call. Go's runtime waits for a
/// millisecond two to seven times before it prints the text of a panic. Without these waits the text would be lost
/// (`freezetheworld` in runtime/proc.go, Go 1.26.8).
const MAX_PAUSE: u64 = 5_000_000;
const MAX_PAUSES: u32 = 10;

const NO_SLEEP: &str = "a transform cannot sleep or wait: its clock stands still at the message's own time";

/// The host's side of one instance.
pub(super) struct State {
    pub limiter: Limiter,
    /// Measures the current call, or `init`.
    pub timer: Timer,
    wasi: WasiCtx,
    table: ResourceTable,
    /// The message's timestamp, in nanoseconds since 1970.
    now: u64,
    /// Waits in this call that ended at once.
    pauses: u32,
    random: Random,
    /// The initial random state of every message.
    seed: Random,
    console: Arc<Mutex<Console>>,
    /// The panic text of a core module, which has no standard error.
    panic: Option<String>,
    batch: Batch,
}

/// The messages of a call with many.
#[derive(Default)]
struct Batch {
    messages: Vec<Arc<Message>>,
    timeout: Duration,
    /// When each message was begun.
    begun: Vec<Instant>,
}

impl State {
    /// Starts with the limits of `init`.
    pub fn new(module: &str, limits: &Limits, log: Arc<Log>) -> Self {
        let seed = Random::of_module(module);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            limiter: Limiter::new(limits.memory),
            timer: Timer::new(limits.init_timeout),
            // No files, arguments or environment, closed standard input, and no sockets. Even a socket that leads
            // nowhere would take one of the relay's file descriptors.
            wasi: WasiCtx::builder().allow_tcp(false).allow_udp(false).build(),
            table,
            now: 0,
            pauses: 0,
            random: seed.clone(),
            seed,
            console: Arc::new(Mutex::new(Console::new(log))),
            panic: None,
            batch: Batch::default(),
        }
    }

    pub fn begin_call(&mut self, message: &Message, timer: Timer) {
        self.timer = timer;
        self.now = message.timestamp;
        self.pauses = 0;
        self.random = self.seed.of_message(message);
    }

    /// Begins a call with many messages. Until the guest begins the first of them, this is a call with that one.
    pub fn begin_batch(&mut self, messages: Vec<Arc<Message>>, timeout: Duration) {
        if let Some(first) = messages.first() {
            self.begin_call(first, Timer::new(timeout));
        }
        let begun = Vec::with_capacity(messages.len());
        self.batch = Batch {
            messages,
            timeout,
            begun,
        };
    }

    /// The guest turns to a message of the batch. One that could begin a message again would have no timeout.
    fn begin(&mut self, index: u32) -> Result<()> {
        let next = self.batch.begun.len();
        let Some(message) = self.batch.messages.get(next).filter(|_| index as usize == next) else {
            return Err(Error::msg(format!(
                "`begin` was called with {index}, but the next message is number {next} of {}",
                self.batch.messages.len()
            )));
        };
        let message = Arc::clone(message);
        if next > 0 {
            // The memory that an earlier message was refused counts for the whole batch.
            self.panic = None;
            lock(&self.console).end_call();
            self.begin_call(&message, Timer::new(self.batch.timeout));
        }
        self.batch.begun.push(Instant::now());
        Ok(())
    }

    /// Ends a call with many messages. Returns when each of them was begun.
    pub fn end_batch(&mut self) -> Vec<Instant> {
        std::mem::take(&mut self.batch).begun
    }

    /// The guest does again what it has logged before.
    pub fn mute(&mut self, muted: bool) {
        lock(&self.console).mute(muted);
    }

    /// Returns what the guest reported about its own failure during the call that ends here, if anything.
    pub fn end_call(&mut self) -> LastWords {
        let stderr = lock(&self.console).end_call();
        LastWords {
            panic: self.panic.take(),
            stderr,
            memory_denied: self.limiter.take_denied(),
        }
    }
}

pub(super) fn linker(engine: &wasmtime::Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    p2::add_to_linker_sync(l)?;

    l.allow_shadowing(true);
    clocks::wall_clock::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::random::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::insecure::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::insecure_seed::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::stdout::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    cli::stderr::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    poll::add_to_linker::<State, Poll>(l, |state| Poll(&mut state.table))?;
    l.allow_shadowing(false);

    l.instance(DIAGNOSTICS)?
        .func_wrap("panicked", |mut store, (text,): (String,)| {
            let mut text = text;
            text.truncate(text.floor_char_boundary(MAX_PANIC_TEXT));
            let state: &mut State = store.data_mut();
            lock(&state.console).write(Channel::Stderr, format!("{text}\n").as_bytes());
            state.panic = Some(text);
            Ok(())
        })?;
    l.instance(BATCH)?.func_wrap("begin", |mut store, (index,): (u32,)| {
        store.set_epoch_deadline(Timer::FIRST_LOOK);
        let state: &mut State = store.data_mut();
        state.begin(index)
    })?;
    Ok(linker)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl clocks::wall_clock::Host for State {
    fn now(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(datetime(self.now))
    }

    fn resolution(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(datetime(1))
    }
}

fn datetime(nanoseconds: u64) -> clocks::wall_clock::Datetime {
    const SECOND: u64 = 1_000_000_000;
    clocks::wall_clock::Datetime {
        seconds: nanoseconds / SECOND,
        nanoseconds: u32::try_from(nanoseconds % SECOND).unwrap_or_default(),
    }
}

/// Epochs do not interrupt calls to the host, so a guest that could wait would hold its thread for as long as it likes.
impl clocks::monotonic_clock::Host for State {
    /// Never returns zero, not even before the first message. Go's runtime takes zero for a broken clock and exits.
    fn now(&mut self) -> Result<u64> {
        Ok(self.now.max(1))
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        let now = clocks::monotonic_clock::Host::now(self)?;
        clocks::monotonic_clock::Host::subscribe_duration(self, when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, duration: u64) -> Result<Resource<DynPollable>> {
        // A wait for zero time is no wait. Go's scheduler polls in this way.
        if duration > 0 {
            self.pauses += 1;
            if duration > MAX_PAUSE || self.pauses > MAX_PAUSES {
                return Err(Error::msg(NO_SLEEP));
            }
        }
        let over = self.table.push(Over)?;
        wasmtime_wasi::p2::subscribe(&mut self.table, over)
    }
}

/// A wait that has ended.
struct Over;

#[wasmtime_wasi::async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

/// Reports ready pollables, and never waits for others.
struct Poll<'a>(&'a mut ResourceTable);

impl HasData for Poll<'static> {
    type Data<'a> = Poll<'a>;
}

impl poll::Host for Poll<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        let mut ready = Vec::new();
        for (index, pollable) in (0..).zip(pollables) {
            if poll::HostPollable::ready(self.0, pollable)? {
                ready.push(index);
            }
        }
        if ready.is_empty() {
            Err(Error::msg(NO_SLEEP))
        } else {
            Ok(ready)
        }
    }
}

impl poll::HostPollable for Poll<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        poll::HostPollable::ready(self.0, pollable)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        if poll::HostPollable::ready(self.0, pollable)? {
            Ok(())
        } else {
            Err(Error::msg(NO_SLEEP))
        }
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        poll::HostPollable::drop(self.0, pollable)
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        random_bytes(&mut self.random, len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.next())
    }
}

impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        random_bytes(&mut self.random, len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.next())
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random.next(), self.random.next()))
    }
}

fn random_bytes(random: &mut Random, len: u64) -> Result<Vec<u8>> {
    match usize::try_from(len) {
        Ok(bytes) if len <= MAX_RANDOM_BYTES => Ok(random.bytes(bytes)),
        _ => Err(Error::msg(format!(
            "asked for {len} random bytes at once; the limit is {MAX_RANDOM_BYTES}"
        ))),
    }
}

impl cli::stdout::Host for State {
    fn get_stdout(&mut self) -> Result<Resource<DynOutputStream>> {
        open(self, Channel::Stdout)
    }
}

impl cli::stderr::Host for State {
    fn get_stderr(&mut self) -> Result<Resource<DynOutputStream>> {
        open(self, Channel::Stderr)
    }
}

fn open(state: &mut State, channel: Channel) -> Result<Resource<DynOutputStream>> {
    let stream: DynOutputStream = Box::new(Stream {
        channel,
        console: Arc::clone(&state.console),
    });
    Ok(state.table.push(stream)?)
}

struct Stream {
    channel: Channel,
    console: Arc<Mutex<Console>>,
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.console).write(self.channel, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STREAM_PERMIT)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}
