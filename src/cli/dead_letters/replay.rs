//! `slipring dead-letters replay`: runs the messages of dead letters through their modules again and publishes the
//! results.

mod modules;
mod progress;

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use self::progress::Progress;
use super::super::config_file::ConfigFile;
use super::super::connection::TIMEOUT;
use super::super::failure::Failure;
use super::super::report::{self, Source};
use super::select::Selection;
use super::{Session, count, show};
use crate::dead_letter::{DeadLetters, Found, Opened, ReadError, Reader};
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::pipeline::keyed;
use crate::pipeline::replay::{Origins, Plan, Replay, run_all};
use crate::publish::Client;
use crate::shutdown::Shutdown;

/// Publish dead letters through the current version of their modules
///
/// Reads NAME.wasm and NAME.toml from the modules directory, runs each message through its module, and publishes the publications
/// that failed before. If these files were rolled back, the running version is used instead. Each channel gets the publications in the
/// order of the messages in their stream. A dead letter is removed when all its publications are confirmed, or when the module drops
/// it. A message that is rejected again stays, and is printed with the new reason.
///
/// Select the dead letters by number, by filters, or with --all: one of the three is required.
///
/// If Centrifugo refused only some of a message's publications, the dead letter says which. A channel on which all were confirmed
/// gets nothing more, whatever the module returns now. A channel on which all were refused, or a new channel, gets all that
/// the module returns. If a replay publishes only some of a message's publications, a new dead letter with the rest replaces the old
/// one.
///
/// You can interrupt a replay at any time and start it again: it continues with the remaining dead letters. A message that was
/// published, and whose dead letter was not yet removed, is published again with the same key, so Centrifugo shows it only once (within
/// five minutes). Ctrl-C finishes what is in flight; a second Ctrl-C exits at once. While Centrifugo is unavailable, the replay waits.
///
/// A relay may run at the same time. The module's `max_age` is ignored, because dead letters are old. A replayed publication appears
/// after later ones on its channel, because those were shown before and are not shown again. If its publication version is lower than
/// theirs, Centrifugo does not show it, and it counts as confirmed.
///
/// Exits with 1 if a message was rejected again, or if the replay stopped and left dead letters.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters replay 17 18
  slipring dead-letters replay --module orders --code trap --dry-run
  slipring dead-letters replay --module orders
  slipring dead-letters replay --all")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    selection: Selection,
    /// Publish all publications of each message, including those confirmed before
    #[arg(long)]
    whole: bool,
    /// Print what would be published, one line of JSON per dead letter, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one line of JSON per dead letter, for programs
    #[arg(long, conflicts_with = "dry_run")]
    json: bool,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let selection = args.selection.chosen()?;
    let session = Session::open(&args.config)?;
    let Some(reader) = &session.letters.reader else {
        return match args.selection.numbers.is_empty() {
            true => Ok(writeln!(notes, "{}", session.no_stream())?),
            false => Err(anyhow!(session.no_stream()).into()),
        };
    };
    let mut plan = Plan::default();
    let choose = selection.scan(reader, |letter| {
        plan.add(&letter);
        Ok::<_, ReadError>(())
    });
    let Found { absent, replaced } = session.runtime.block_on(choose).map_err(anyhow::Error::from)?;
    show::no_such(&absent, reader)?;

    // All modules are loaded before the first letter is published, because half a replay helps nobody.
    let assignments = modules::load(&session.config.modules, &plan)?;
    let (servers, letters) = (&session.servers, &session.letters);
    let origins = Origins::of(servers, letters, &assignments, plan.streams(), TIMEOUT);
    let origins = Arc::new(session.runtime.block_on(origins)?);
    let dead_letters = Arc::new(DeadLetters::new(letters.home.clone(), servers.config().clone()));
    let replaced = Arc::new(replaced);
    // The client of the GRPC API starts a task.
    let entered = session.runtime.enter();
    let centrifugo = Arc::new(Client::new(&session.config.centrifugo).context("cannot publish")?);
    drop(entered);
    let replays = plan.in_order().zip(assignments).map(|(letters, assignment)| {
        let replay = Replay {
            reader: reader.clone(),
            dead_letters: Arc::clone(&dead_letters),
            centrifugo: Arc::clone(&centrifugo),
            publish: session.config.publish.clone(),
            grace: session.config.shutdown.grace,
            assignment,
            origins: Arc::clone(&origins),
            whole: args.whole,
            replaced: Arc::clone(&replaced),
        };
        (replay, letters)
    });
    match args.dry_run {
        true => dry_run(&session, reader, replays, output, notes),
        false => run(
            &session,
            reader,
            replays.collect(),
            Progress::new(args.json, output, notes),
        ),
    }
}

fn run(
    session: &Session,
    reader: &Reader,
    replays: Vec<(Replay, Vec<Vec<u64>>)>,
    mut progress: Progress<'_>,
) -> Result<(), Failure> {
    progress.expect(replays.iter().map(|(_, letters)| letters.len()).sum());
    let replay = async {
        let shutdown = Shutdown::on_signals().context("catching signals failed")?;
        run_all(replays, &shutdown, |module, news| progress.note(module, &news)).await
    };
    let ended = session.runtime.block_on(replay);
    let (rejected, left) = progress.finish()?;
    ended?;
    let stream = reader.name();
    match (rejected, left) {
        (0, 0) => Ok(()),
        (0, left) => Err(anyhow!("stopped before the end: {} left in {stream}", count(left)).into()),
        (rejected, 0) => Err(anyhow!("rejected again, and still in {stream}: {}", count(rejected)).into()),
        (rejected, left) => {
            let (rejected, left) = (count(rejected), count(left));
            Err(anyhow!("stopped before the end: {left} left in {stream}, and {rejected} rejected again").into())
        }
    }
}

/// Shows what would be published. Calls block, so they are made here and not in a task.
fn dry_run(
    session: &Session,
    reader: &Reader,
    replays: impl Iterator<Item = (Replay, Vec<Vec<u64>>)>,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut published, mut dropped, mut rejected) = (0_usize, 0_usize, 0_usize);
    for (replay, letters) in replays {
        let mut instance = replay.assignment.module.instance();
        for numbers in letters {
            let opened = session
                .runtime
                .block_on(reader.fetch(&numbers))
                .map_err(anyhow::Error::from)?;
            let Some(opened) = opened else { continue };
            if numbers.iter().any(|number| replay.replaced.contains(number)) {
                continue;
            }
            let (message, outcome) = match opened.message() {
                Ok(message) => {
                    let outcome = left(&replay, &opened, &message, instance.call(&message));
                    (message, outcome)
                }
                Err(unfit) => (nothing(&opened), Outcome::Reject(unreadable(&unfit.to_string()))),
            };
            match &outcome {
                Outcome::Publish(_) => published += 1,
                Outcome::Drop => dropped += 1,
                Outcome::Reject(_) => rejected += 1,
            }
            report::write(output, Source::DeadLetter(numbers[0]), &message, &outcome)?;
        }
    }
    writeln!(
        notes,
        "{published} would be published, {dropped} dropped by the module, {rejected} rejected again; nothing was changed"
    )?;
    match rejected {
        0 => Ok(()),
        rejected => Err(anyhow!("{} would be rejected again", count(rejected)).into()),
    }
}

/// Returns the rest of the message that has to be published, with what the relay adds.
fn left(replay: &Replay, opened: &Opened, message: &Message, outcome: Outcome) -> Outcome {
    let Outcome::Publish(publications) = outcome else {
        return outcome;
    };
    match replay.left(message, publications, opened.letter.results.as_ref()) {
        Err(rejection) => Outcome::Reject(rejection),
        Ok(left) => Outcome::Publish(keyed(left)),
    }
}

fn unreadable(reason: &str) -> Rejection {
    Rejection {
        stage: Stage::Transform,
        code: "unreadable".into(),
        channel: None,
        reason: reason.to_owned(),
    }
}

/// A placeholder for a message that cannot be read.
fn nothing(opened: &Opened) -> Message {
    let origin = opened.letter.origin.as_ref();
    let subject = origin.map_or(String::new(), |origin| origin.subject.clone());
    Message::new("", 0, subject, opened.payload.clone())
}
