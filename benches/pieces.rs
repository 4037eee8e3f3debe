//! What the pieces of the relay cost by themselves, to see the cost of a change early. Run `make bench-pieces` before
//! and after the change: Criterion compares with the previous run. `bench/` measures the relay as a whole.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subject;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::RawValue;
use slipring::config::Order;
use slipring::publish::{read_replies, write_body};
use slipring::transform::{self, Engine, Module};
use slipring_core::load::{Load, LoadId};
use slipring_core::message::{Body, Message, Outcome, Publication};
use slipring_core::publish::{self, Answer, Command, HistoryPosition, Reply, Request, Scheduler};
use slipring_core::window::{self, Arrival, Window};
use slipring_support::guests;

// The same allocator as in the relay.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Publications per request, by default.
const BATCH: u64 = 512;

/// Messages in the window.
const WINDOW: u64 = 8_192;

/// About 200 bytes, like the messages of `bench/`.
const ORDER: &str = r#"{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":4500},{"quantity":1,"price_cents":990},{"quantity":3,"price_cents":1250}],"note":"lorem ipsum lorem ipsum lorem ipsum lorem"}"#;

criterion_group!(pieces, scheduler, body, replies, window, transform);
criterion_main!(pieces);

/// One request, from pushing its publications to concluding from its answer. As many are pushed as leave, so the number
/// of waiting ones stays the same.
fn scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    group.throughput(Throughput::Elements(BATCH));
    let cases = [
        ("strict", Order::Strict, 1_000, 0),
        ("strict, 100,000 waiting", Order::Strict, 1_000, 100_000),
        ("strict, 100,000 channels", Order::Strict, 100_000, 100_000),
        ("batched", Order::Batched, 1_000, 0),
        ("batched, 10 channels, 100,000 waiting", Order::Batched, 10, 100_000),
    ];
    for (name, order, channels, waiting) in cases {
        let (mut scheduler, mut publications) = (new_scheduler(order), Publications::on(channels));
        push(&mut scheduler, publications.take(waiting));
        group.bench_function(name, |bencher| {
            let pushed_and_answered = |publications| {
                push(&mut scheduler, publications);
                let now = Instant::now();
                let request = scheduler.next_request(now).expect("something is ready");
                scheduler.complete(now, request.id(), confirmed(&request))
            };
            bencher.iter_batched(|| publications.take(BATCH), pushed_and_answered, BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// Writes the body for `/api/batch`.
fn body(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    let mut scheduler = new_scheduler(Order::Strict);
    push(&mut scheduler, Publications::on(1_000).take(BATCH));
    let request = scheduler.next_request(Instant::now()).expect("something is ready");
    group.throughput(Throughput::Elements(request.len() as u64));
    group.bench_function("of 512", |bencher| {
        bencher.iter(|| write_body(black_box(&request)));
    });
    group.finish();
}

/// Reads the replies of `/api/batch`.
fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replies");
    group.throughput(Throughput::Elements(BATCH));
    let reply = |offset| format!(r#"{{"publish":{{"offset":{offset},"epoch":"uVlfFSXk"}}}}"#);
    let all: Vec<String> = (1..=BATCH).map(reply).collect();
    let body = format!(r#"{{"replies":[{}]}}"#, all.join(","));
    let channels = || all.iter().map(|_| 1);
    group.bench_function("of 512", |bencher| {
        bencher.iter(|| read_replies(black_box(body.as_bytes()), channels()).expect("replies"));
    });
    group.finish();
}

/// From the arrival of each message to its ack, with all of them in the window at once.
fn window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(WINDOW));
    let messages: Vec<Arc<Message>> = (1..=WINDOW).map(|sequence| Arc::new(message(sequence))).collect();
    let limits = window::Limits {
        messages: WINDOW as usize,
        bytes: usize::MAX,
        age: Duration::from_secs(300),
    };
    let reply = Subject::from_static("$JS.ACK.BENCH.slipring-bench.1.17.17.1790000000123456789.8175");
    let by = Load {
        id: LoadId(1),
        sha256: "the module".into(),
    };
    group.bench_function("of 8,192", |bencher| {
        bencher.iter(|| {
            let mut window = Window::new(limits);
            let now = Instant::now();
            let mut tickets = Vec::with_capacity(messages.len());
            for message in &messages {
                match window.arrive(message, reply.clone(), now) {
                    Arrival::New(ticket) => tickets.push(ticket),
                    other => panic!("{other:?}"),
                }
            }
            let mut acks = 0;
            for &ticket in &tickets {
                window.expect(ticket, 1, 300, by.clone());
            }
            for ticket in tickets {
                window.conclude(ticket, Ok(())).expect("it was the only one");
                acks += window.settle(ticket).len();
            }
            acks
        });
    });
    group.finish();
}

/// One call of the guest of `bench/`, which parses an order and writes another one.
fn transform(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transform");
    group.throughput(Throughput::Elements(1));
    let wasm = guests::component("bench-guest").and_then(|file| Ok(std::fs::read(file)?));
    let wasm = wasm.expect("the guest of the bench, which `make guests` builds");
    let engine = Engine::new(None).expect("an engine");
    let limits = transform::Limits::new(Duration::from_millis(100), 64 << 20);
    let module = Module::load(&engine, "bench", &wasm, "{}", limits).expect("a good module");
    let mut instance = module.instance();
    let message = message(17);
    group.bench_function("one call", |bencher| {
        bencher.iter(|| match instance.call(black_box(&message)) {
            Outcome::Publish(publications) => publications,
            other => panic!("{other:?}"),
        });
    });
    group.finish();
}

fn message(sequence: u64) -> Message {
    Message {
        timestamp: 1_790_000_000_123_456_789,
        ..Message::new("BENCH", sequence, "BENCH.17", ORDER)
    }
}

/// Creates a scheduler with the relay's defaults.
fn new_scheduler(order: Order) -> Scheduler {
    let limits = publish::RequestLimits {
        order,
        max_batch: BATCH as usize,
        max_request_bytes: 1 << 20,
        max_in_flight: 8,
        busy_batch: 32,
    };
    Scheduler::new(limits, 48)
}

/// Publications that go to each channel in turn.
struct Publications {
    channels: Vec<String>,
    next: usize,
}

impl Publications {
    fn on(channels: usize) -> Self {
        Self {
            channels: (0..channels).map(|channel| format!("bench:{channel}")).collect(),
            next: 0,
        }
    }

    fn take(&mut self, count: u64) -> Vec<Publication> {
        (0..count).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> Publication {
        let channel = &self.channels[self.next % self.channels.len()];
        self.next += 1;
        Publication {
            version: Some(self.next as u64),
            ..Publication::new(
                vec![Arc::from(channel.as_str())],
                Body::Json(RawValue::from_string(ORDER.to_owned()).expect("an order is JSON")),
            )
        }
    }
}

fn push(scheduler: &mut Scheduler, publications: Vec<Publication>) {
    for publication in publications {
        scheduler.push(0, publication, Some("0123456789abcdef".to_owned()));
    }
}

/// Confirms every publication, each at a later position of its channel than the one before.
fn confirmed(request: &Request) -> Answer {
    let reply = |command: &Command| {
        let offset = command.publication().version?;
        Some(HistoryPosition { offset, epoch: 7 })
    };
    Answer::Replies(request.commands().iter().map(reply).map(Reply::Confirmed).collect())
}
