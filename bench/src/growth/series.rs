//! The series: what is varied.

use crate::options::Options;

#[derive(Debug, Clone)]
pub struct Series {
    /// For `--only` and for files.
    pub name: &'static str,
    pub title: &'static str,
    /// The others are compared with the first one.
    pub cases: Vec<Case>,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub label: String,
    pub load: Load,
    pub relay: Relay,
}

/// The content of the streams when the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub messages: usize,
    /// Also the number of channels.
    pub keys: u32,
    /// Bytes of a message.
    pub size: usize,
    /// Messages and channels are divided among this many streams, each with a module of its own.
    pub streams: u32,
}

/// How the relay is set up.
#[derive(Debug, Clone, Copy)]
pub struct Relay {
    /// Modules that have nothing to do.
    pub idle: u32,
    pub order: &'static str,
    pub window: usize,
    pub workers: usize,
}

/// The relay's defaults.
const RELAY: Relay = Relay {
    idle: 0,
    order: "strict",
    window: 4_096,
    workers: 1,
};

/// The largest size of a stream. Series with large messages have fewer of them.
const MAX_STREAM_BYTES: usize = 512 << 20;

pub fn all(options: &Options) -> Vec<Series> {
    let load = Load {
        messages: options.messages(400_000, 2_000),
        keys: if options.smoke { 100 } else { 1_000 },
        size: 200,
        streams: 1,
    };
    let backlog = options.messages(1_000_000, 2_000);
    let case = |label: &str, load: Load, relay: Relay| Case {
        label: label.to_owned(),
        load,
        relay,
    };
    vec![
        Series {
            name: "modules",
            title: "modules, one of which has work",
            cases: of(
                options,
                &[(1, "1"), (10, "10"), (100, "100")],
                &[(3, "3")],
                |&modules, label| {
                    let idle = modules - 1;
                    case(label, load, Relay { idle, ..RELAY })
                },
            ),
        },
        Series {
            name: "work",
            title: "modules that share the work",
            cases: of(options, &[(1, "1"), (10, "10")], &[(3, "3")], |&streams, label| {
                let messages = backlog;
                case(
                    label,
                    Load {
                        messages,
                        streams,
                        ..load
                    },
                    RELAY,
                )
            }),
        },
        Series {
            name: "channels",
            title: "channels",
            cases: of(
                options,
                &[
                    ((1_000, RELAY.order), "1,000"),
                    ((10, RELAY.order), "10"),
                    ((10, "batched"), "10, batched order"),
                    ((1_000_000, RELAY.order), "1,000,000"),
                ],
                &[((10, "batched"), "10, batched order"), ((4_000, RELAY.order), "4,000")],
                |&(keys, order), label| {
                    let messages = load.messages.max(keys as usize);
                    case(label, Load { messages, keys, ..load }, Relay { order, ..RELAY })
                },
            ),
        },
        Series {
            name: "size",
            title: "message size",
            cases: of(
                options,
                &[(100, "100 B"), (10 << 10, "10 KiB"), (256 << 10, "256 KiB")],
                &[(256 << 10, "256 KiB")],
                |&size, label| {
                    let bytes = if options.smoke { 32 << 20 } else { MAX_STREAM_BYTES };
                    let messages = load.messages.min(bytes / size);
                    case(label, Load { messages, size, ..load }, RELAY)
                },
            ),
        },
        Series {
            name: "window",
            title: "window",
            cases: of(
                options,
                &[
                    (4_096, "4,096 (default)"),
                    (256, "256"),
                    (1_024, "1,024"),
                    (65_536, "65,536"),
                ],
                &[(256, "256")],
                |&window, label| case(label, load, Relay { window, ..RELAY }),
            ),
        },
        Series {
            name: "workers",
            title: "workers",
            cases: of(
                options,
                &[(1, "1"), (2, "2"), (4, "4")],
                &[(2, "2")],
                |&workers, label| case(label, load, Relay { workers, ..RELAY }),
            ),
        },
    ]
}

/// Returns a case for each of the values, or for each of `smoke` in a smoke run.
fn of<T>(options: &Options, full: &[(T, &str)], smoke: &[(T, &str)], case: impl Fn(&T, &str) -> Case) -> Vec<Case> {
    let values = if options.smoke { smoke } else { full };
    values.iter().map(|(value, label)| case(value, label)).collect()
}
