//! Shows messages of a stream: the module's outcomes, the time and memory of the calls, and the requests to Centrifugo.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::value::RawValue;
use slipring_core::read::Incarnation;
use tokio::runtime::Runtime;

use super::super::failure::Failure;
use super::requests::requests;
use super::{Args, Summary};
use crate::cli::held::Held;
use crate::cli::report;
use crate::cli::selection::Selection;
use crate::cli::timing::{median, microseconds, timed};
use crate::config::{Config, ModuleConfig, covers};
use crate::json::on_one_line;
use crate::message::{Message, Outcome};
use crate::pipeline::Stamp;
use crate::publish::Namespaces;
use crate::transform::{Instance, Module};

/// A message selected by its sequence is passed to the module repeatedly, for this time or this often.
const MEASURED_FOR: Duration = Duration::from_millis(200);
const MEASURED_CALLS: usize = 100;

/// The output for a message beside its outcome.
#[derive(Debug, Serialize)]
struct Details<'a> {
    requests: Vec<Cow<'a, RawValue>>,
    /// `None` if the call returned no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_us: Option<f64>,
    memory_bytes: usize,
}

/// What a relay with this configuration would make of the stream.
struct Trial<'a> {
    config: &'a ModuleConfig,
    relay: &'a Config,
    instance: Instance,
    /// That of the stream.
    incarnation: Incarnation,
    summary: Summary,
    times: Vec<Duration>,
    memory: usize,
    namespaces: Namespaces,
}

/// Returns the namespaces that the module published to.
pub fn execute(
    args: &Args,
    selection: Selection<'_>,
    module: &Arc<Module>,
    config: &ModuleConfig,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Namespaces, Failure> {
    let relay = args.config.load()?;
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    let stored = runtime.block_on(async { Held::open(&relay, selection, Some(config)).await })?;
    let subjects = selection.subjects;
    let mut trial = Trial {
        config,
        relay: &relay,
        instance: module.instance(),
        incarnation: stored.incarnation(),
        summary: Summary::default(),
        times: Vec::new(),
        memory: 0,
        namespaces: Namespaces::default(),
    };
    let mut output = BufWriter::new(output);
    // Calls block, so they are made here and not in a task.
    if let Some(place) = args.seq {
        let message = runtime.block_on(stored.message(place))?;
        trial.run(&message, MEASURED_CALLS, &mut output)?;
        tell_of_subjects(subjects, &message, notes)?;
    }
    if let Some(count) = args.last {
        let mut messages = runtime.block_on(stored.last(count, subjects))?;
        while let Some(message) = runtime.block_on(messages.next())? {
            trial.run(&message, 1, &mut output)?;
        }
        if trial.summary.messages == 0 {
            writeln!(notes, "{}", stored.holds_nothing(subjects))?;
        }
    }
    output.flush()?;
    Ok(trial.tell(notes)?)
}

impl Trial<'_> {
    fn run(&mut self, message: &Message, calls: usize, output: &mut dyn Write) -> io::Result<()> {
        if self.summary.messages == 0 {
            // The first call also starts the instance.
            self.instance.call(message);
        }
        let (outcome, took) = timed(&mut self.instance, message);
        let memory = self.instance.memory();
        let mut times = Vec::from_iter(took);
        let begun = Instant::now();
        while !times.is_empty() && times.len() < calls && begun.elapsed() < MEASURED_FOR {
            times.extend(timed(&mut self.instance, message).1);
        }
        let stamp = Stamp {
            module: self.instance.module().name(),
            incarnation: Some(self.incarnation),
            idempotency: self.relay.publish.idempotency,
            version: self.config.version,
        };
        let outcome = stamp.outcome(message, outcome);
        let publications = match &outcome {
            Outcome::Publish(publications) => publications.as_slice(),
            _ => &[],
        };
        let requests = requests(&self.relay.publish, self.config, publications);
        let details = Details {
            requests: requests.iter().map(|body| on_one_line(body)).collect(),
            call_us: median(times.clone()).map(microseconds),
            memory_bytes: memory,
        };
        self.summary.count(&outcome);
        self.namespaces.extend(Namespaces::of(&outcome));
        self.times.append(&mut times);
        self.memory = self.memory.max(memory);
        report::write_with(output, message.place.into(), message, &outcome, &details)
    }

    fn tell(self, notes: &mut dyn Write) -> io::Result<Namespaces> {
        writeln!(notes, "{}", self.summary)?;
        let calls = self.times.len();
        if let Some(median) = median(self.times) {
            let of = if calls == 1 {
                "one call".to_owned()
            } else {
                format!("median of {calls}")
            };
            let (used, limit) = (mebibytes(self.memory), mebibytes(self.config.memory));
            writeln!(
                notes,
                "a call took {median:.1?} ({of}; {:?} is the limit), the module used {used} of memory \
                 ({limit} is the limit)",
                self.config.timeout
            )?;
        }
        Ok(self.namespaces)
    }
}

/// `--subject` and `--seq` exclude each other, so these are the module's subjects, if it reads this stream.
fn tell_of_subjects(subjects: &[String], message: &Message, notes: &mut dyn Write) -> io::Result<()> {
    let matches = subjects.is_empty() || subjects.iter().any(|subject| covers(subject, &message.subject));
    if !matches {
        let (subject, subjects) = (&message.subject, subjects.join(", "));
        writeln!(
            notes,
            "the relay would not pass this message to the module: the subject {subject} matches none of the subjects \
             in the .toml: {subjects}"
        )?;
    }
    Ok(())
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
