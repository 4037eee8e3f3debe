//! What a module costs in each language: `make bench-languages` prints the table of `examples/languages/README.md`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipring::message::{Message, Outcome};
use slipring::transform::{Engine, Instance, Limits, Module};
use slipring_support::guests;

// The same allocator as in the relay.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// About 200 bytes, as in `bench/`.
const ORDER: &str = r#"{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":4500},{"quantity":1,"price_cents":990},{"quantity":3,"price_cents":1250}],"note":"lorem ipsum lorem ipsum lorem ipsum lorem"}"#;

/// All languages are measured in turn, this many times, and the medians count. A shared machine is slower for
/// seconds at a time.
const ROUNDS: usize = 5;

/// How long calls are made before they count, and how long while they count.
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(1);

/// Calls between two looks at the clock. The median of these batches is the result of a round.
const CALLS: u32 = 100;

struct Language {
    name: &'static str,
    wasm: Vec<u8>,
    rounds: Vec<Round>,
}

struct Round {
    load: Duration,
    /// How much longer the first call takes than the others.
    start: Duration,
    message: Duration,
    memory: usize,
}

fn main() -> Result<()> {
    let mut languages = vec![Language::new("Rust", guests::component("orders"))?];
    for (name, folder) in [("C", "c"), ("Go", "go"), ("JavaScript", "js"), ("Python", "python")] {
        languages.push(Language::new(name, guests::in_language(folder))?);
    }
    for _ in 0..ROUNDS {
        for language in &mut languages {
            let round = Round::of(&language.wasm);
            let round = round.with_context(|| format!("measuring the module in {}", language.name))?;
            language.rounds.push(round);
        }
    }
    println!(
        "| | module | to load it | to start an instance | a message | smallest to largest | memory of an instance |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for language in &languages {
        println!("{}", language.row());
    }
    Ok(())
}

impl Language {
    fn new(name: &'static str, file: Result<PathBuf>) -> Result<Self> {
        Ok(Self {
            name,
            wasm: fs::read(file?)?,
            rounds: Vec::new(),
        })
    }

    fn row(&self) -> String {
        let message = self.sorted(|round| round.message);
        format!(
            "| {} | {} | {} | {} | {} | {} to {} | {:.1} MiB |",
            self.name,
            kib(self.wasm.len()),
            shown(median(&self.sorted(|round| round.load))),
            shown(median(&self.sorted(|round| round.start))),
            shown(median(&message)),
            shown(message[0]),
            shown(message[message.len() - 1]),
            median(&self.sorted(|round| round.memory)) as f64 / f64::from(1 << 20),
        )
    }

    fn sorted<T: Ord>(&self, figure: impl Fn(&Round) -> T) -> Vec<T> {
        let mut figures: Vec<T> = self.rounds.iter().map(figure).collect();
        figures.sort_unstable();
        figures
    }
}

impl Round {
    /// Measures with a module's default limits, and nothing compiled before.
    fn of(wasm: &[u8]) -> Result<Self> {
        let engine = Engine::new(None)?;
        let limits = Limits::new(Duration::from_millis(100), 64 << 20);
        let message = message();
        let begun = Instant::now();
        let module = Module::load(&engine, "orders", wasm, "{}", limits)?;
        let load = begun.elapsed();
        let begun = Instant::now();
        let mut instance = module.instance();
        call(&mut instance, &message)?;
        let first = begun.elapsed();
        calls(&mut instance, &message, WARM_UP)?;
        let one = calls(&mut instance, &message, MEASURED)?;
        Ok(Self {
            load,
            start: first.saturating_sub(one),
            message: one,
            memory: instance.memory(),
        })
    }
}

fn median<T: Copy>(sorted: &[T]) -> T {
    sorted[sorted.len() / 2]
}

/// Returns how long one call takes.
fn calls(instance: &mut Instance, message: &Message, patience: Duration) -> Result<Duration> {
    let start = Instant::now();
    let mut batches = Vec::new();
    while start.elapsed() < patience {
        let start = Instant::now();
        for _ in 0..CALLS {
            call(instance, message)?;
        }
        batches.push(start.elapsed() / CALLS);
    }
    batches.sort_unstable();
    Ok(median(&batches))
}

fn call(instance: &mut Instance, message: &Message) -> Result<()> {
    let outcome = instance.call(message);
    ensure!(matches!(outcome, Outcome::Publish(_)), "{outcome:?}");
    Ok(())
}

fn message() -> Message {
    Message {
        timestamp: 1_790_000_000_123_456_789,
        ..Message::new("ORDERS", 17, "orders.paid", ORDER)
    }
}

fn kib(bytes: usize) -> String {
    match bytes >> 10 {
        kib if kib < 1024 => format!("{kib} KiB"),
        kib => format!("{:.1} MiB", kib as f64 / 1024.0),
    }
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.1} µs", seconds * 1e6),
    }
}
