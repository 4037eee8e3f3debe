//! What a module costs in each language: the table of `examples/languages/README.md`, which `make bench-languages` prints.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use slipring::message::{Message, Outcome};
use slipring::transform::{Engine, Instance, Limits, Module};
use slipring_support::guests;

// As in the relay's own process.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Some 200 bytes, as in `bench/`.
const ORDER: &str = r#"{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":4500},{"quantity":1,"price_cents":990},{"quantity":3,"price_cents":1250}],"note":"lorem ipsum lorem ipsum lorem ipsum lorem"}"#;

/// A module is loaded so often, and the fastest counts: what else the machine does only adds to it.
const LOADS: usize = 3;

/// Calls are made for so long before they count, and for so long while they do.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

/// Calls between two looks at the clock; the median of all such batches counts.
const CALLS: u32 = 100;

fn main() -> Result<()> {
    println!("| | module | to load it | to start an instance | a message | memory of an instance |");
    println!("|---|---:|---:|---:|---:|---:|");
    row("Rust", guests::component("orders"))?;
    for (name, language) in [("C", "c"), ("Go", "go"), ("JavaScript", "js"), ("Python", "python")] {
        row(name, guests::in_language(language)).with_context(|| format!("measuring the module in {name}"))?;
    }
    Ok(())
}

/// With the limits that a module has by default, and nothing compiled before.
fn row(name: &str, file: Result<PathBuf>) -> Result<()> {
    let wasm = fs::read(file?)?;
    let engine = Engine::new(None)?;
    let limits = Limits::new(Duration::from_millis(100), 64 << 20);
    let message = message();
    let (mut load, mut first) = (Duration::MAX, Duration::MAX);
    let mut instance = None;
    for _ in 0..LOADS {
        let start = Instant::now();
        let module = Module::load(&engine, "orders", &wasm, "{}", limits)?;
        load = load.min(start.elapsed());
        let start = Instant::now();
        call(instance.insert(module.instance()), &message)?;
        first = first.min(start.elapsed());
    }
    let mut instance = instance.context("the last of them")?;
    calls(&mut instance, &message, WARM_UP)?;
    let one = calls(&mut instance, &message, MEASURED)?;
    println!(
        "| {name} | {} | {} | {} | {:.1} µs | {:.1} MiB |",
        kib(wasm.len()),
        shown(load),
        shown(first.saturating_sub(one)),
        one.as_nanos() as f64 / 1e3,
        instance.memory() as f64 / f64::from(1 << 20),
    );
    Ok(())
}

/// How long one takes.
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
    Ok(batches[batches.len() / 2])
}

fn call(instance: &mut Instance, message: &Message) -> Result<()> {
    let outcome = instance.call(message);
    ensure!(matches!(outcome, Outcome::Publish(_)), "{outcome:?}");
    Ok(())
}

fn message() -> Message {
    Message {
        subject: "orders.paid".to_owned(),
        payload: Bytes::from_static(ORDER.as_bytes()),
        headers: Vec::new(),
        stream: Arc::from("ORDERS"),
        sequence: 17,
        timestamp: 1_790_000_000_123_456_789,
        deliveries: 1,
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
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}
