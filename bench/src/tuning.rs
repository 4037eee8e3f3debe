//! What settings of Centrifugo and of the relay change: the relay with one of them at a time, beside the relay without.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::centrifugo::Api;
use crate::options::Options;
use crate::statistics::{Spread, distinct, in_turn, ratios_in_words, thousands};
use crate::table::table;
use crate::throughput::{self, Run, Setup, World};

/// GRPC, idempotency keys, versions, histories that keep everything, strict order.
const BASE: Setup = Setup::over(Api::Grpc);

/// What the others are compared with.
const REFERENCE: &str = "base";

#[derive(Debug, Clone, Copy)]
struct Case {
    /// For `--only` and for files.
    name: &'static str,
    title: &'static str,
    setup: Setup,
}

const CASES: [Case; 13] = [
    case(REFERENCE, "GRPC, keys, histories that keep everything", BASE),
    // Its ratio shows how far two equal things differ.
    case("base-again", "the same again", BASE),
    case("http", "HTTP", Setup::over(Api::Http)),
    case(
        "no-keys",
        "`idempotency = false`",
        Setup {
            publish: "idempotency = false",
            ..BASE
        },
    ),
    case(
        "history",
        "`history_size: 10`",
        Setup {
            history: Some(10),
            ..BASE
        },
    ),
    case(
        "histograms",
        "`prometheus.native_histograms: true`",
        Setup {
            centrifugo: |config| config["prometheus"] = json!({ "native_histograms": true }),
            ..BASE
        },
    ),
    case(
        "gogc",
        "`GOGC=400` for Centrifugo",
        Setup {
            environment: &[("GOGC", "400")],
            ..BASE
        },
    ),
    case(
        "all",
        "the four together",
        Setup {
            publish: "idempotency = false",
            history: Some(10),
            centrifugo: |config| config["prometheus"] = json!({ "native_histograms": true }),
            environment: &[("GOGC", "400")],
            ..BASE
        },
    ),
    case(
        "window",
        "`window = 16384`",
        Setup {
            module: "window = 16384",
            ..BASE
        },
    ),
    case(
        "flight-2",
        "`max_in_flight = 2`",
        Setup {
            publish: "max_in_flight = 2",
            ..BASE
        },
    ),
    case(
        "flight-3",
        "`max_in_flight = 3`",
        Setup {
            publish: "max_in_flight = 3",
            ..BASE
        },
    ),
    case(
        "batched",
        "`order = \"batched\"`",
        Setup {
            publish: "order = \"batched\"",
            ..BASE
        },
    ),
    case(
        "batched-window",
        "`order = \"batched\"`, `window = 16384`",
        Setup {
            publish: "order = \"batched\"",
            module: "window = 16384",
            ..BASE
        },
    ),
];

const fn case(name: &'static str, title: &'static str, setup: Setup) -> Case {
    Case { name, title, setup }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub runs: Vec<Run>,
}

pub async fn run(options: &Options) -> Result<Results> {
    let cases: Vec<Case> = CASES.into_iter().filter(|case| options.wants(case.name)).collect();
    ensure!(
        !cases.is_empty(),
        "there is no case whose name begins with {}; there are {}",
        options.only.join(" or "),
        CASES.map(|case| case.name).join(", ")
    );
    let messages = options.messages(400_000, 4_000);
    println!("Filling two streams with {messages} messages …");
    let world = World::start(options, messages).await?;
    let mut results = Results {
        messages,
        runs: Vec::new(),
    };
    let rounds = options.rounds(4, 1);
    for round in 1..=rounds {
        for &delay_ms in &options.delays {
            for case in in_turn(round, &cases) {
                let title = format!("round {round} of {rounds}, {}, {delay_ms} ms", case.title);
                let measured = throughput::one_as(&world, case.setup, Duration::from_millis(delay_ms))
                    .await
                    .with_context(|| title.clone())?;
                let run = Run::new(case.name, delay_ms, round, measured);
                println!("{title}: {run}");
                results.runs.push(run);
            }
        }
    }
    Ok(results)
}

impl Results {
    fn at(&self, delay_ms: u64) -> String {
        let of = |case: &str, number: &dyn Fn(&Run) -> Option<f64>| -> Vec<(usize, f64)> {
            let runs = self.runs.iter();
            let runs = runs.filter(|run| run.way == case && run.delay_ms == delay_ms);
            runs.filter_map(|run| Some((run.round, number(run)?))).collect()
        };
        let rows = CASES.iter().filter_map(|case| {
            let median = |number: &dyn Fn(&Run) -> Option<f64>| {
                Spread::of(of(case.name, number).into_iter().map(|(_, number)| number)).map(|spread| spread.median)
            };
            let ratio =
                |number: &dyn Fn(&Run) -> Option<f64>| ratios_in_words(&of(case.name, number), &of(REFERENCE, number));
            let rate = |run: &Run| Some(run.messages_per_second);
            let centrifugo = |run: &Run| run.cpu_per_million("centrifugo");
            let seconds = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds:.2}"));
            Some([
                case.title.to_owned(),
                thousands(median(&rate)?),
                ratio(&rate),
                seconds(median(&centrifugo)),
                ratio(&centrifugo),
                seconds(median(&|run| run.cpu_per_million("nats-server"))),
                seconds(median(&Run::between)),
                median(&|run| run.per_request).map_or_else(String::new, thousands),
            ])
        });
        let head = [
            "setting",
            "messages/s",
            "to the first",
            "CPU s/million: Centrifugo",
            "to the first",
            "NATS",
            "relay",
            "publications a request",
        ];
        table(head, &rows.collect::<Vec<_>>())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n## Tuning\n\n{} messages of {} bytes on {} channels.",
            thousands(self.messages as f64),
            throughput::SIZE,
            thousands(throughput::KEYS.into())
        )?;
        for delay_ms in distinct(self.runs.iter().map(|run| run.delay_ms)) {
            match delay_ms {
                0 => writeln!(f, "\n### No added delay\n")?,
                _ => writeln!(f, "\n### A round trip of {delay_ms} ms more\n")?,
            }
            write!(f, "{}", self.at(delay_ms))?;
        }
        Ok(())
    }
}
