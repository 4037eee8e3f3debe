//! Compares a new version with the one that runs on another machine. Its file stays there: the new version runs here on the
//! last messages of the relay, and the relay is asked what its version makes of them.

use std::time::{Duration, Instant};

use super::super::comparison::Tally;
use super::super::failure::{Failure, told_once};
use super::super::try_module;
use super::compared::{Compared, EXAMPLES, first, same, told};
use super::follow::look;
use super::lines::Lines;
use super::version::Ready;
use crate::admin::Client;
use crate::json::{Report, Sample};

/// How long the messages may take. A relay calls modules for others one at a time.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn outcomes(ready: &Ready, client: &Client, last: u64, lines: &mut Lines<'_>) -> Result<Compared, Failure> {
    let name = &ready.name;
    let versions = match look(client, name) {
        Ok((Some(_), versions)) => versions,
        Ok((None, _)) => return first(name, lines),
        Err(error) => return Ok(Compared::Not(told_once(&error))),
    };
    let Some(running) = versions.versions.into_iter().find(|version| version.running) else {
        return Ok(Compared::Not("no version of it is running there".to_owned()));
    };
    if running.version == ready.id.name() {
        return same(&running.version, lines);
    }
    let asked = client.last_messages(name, last);
    let tally = asked.and_then(|messages| tally(ready, client, &running.version, messages));
    match tally {
        Ok(tally) if tally.messages > 0 => {
            let address = client.address();
            let what = format!("with the last messages of {name} at {address}, and what its version makes of them");
            told(&tally, &what, lines)
        }
        Ok(_) => Ok(Compared::Not("the relay has no message of it yet".to_owned())),
        Err(error) => Ok(Compared::Not(told_once(&error))),
    }
}

/// Runs both versions on the messages, until the time is over.
fn tally(ready: &Ready, client: &Client, running: &str, messages: Vec<Sample>) -> anyhow::Result<Tally> {
    let name = &ready.name;
    let mut tally = Tally::new(EXAMPLES);
    let mut instance = ready.module.instance();
    let stamp = try_module::stamp(name, None, ready.config.version);
    let begun = Instant::now();
    for sample in messages {
        if begun.elapsed() > PATIENCE && tally.messages > 0 {
            break;
        }
        let old = client.attempt(name, &sample)?;
        anyhow::ensure!(
            old.version == running,
            "the version {} has taken over there meanwhile",
            old.version
        );
        let message = sample.message(1, try_module::STREAM)?;
        let outcome = stamp.outcome(&message, instance.call(&message));
        // A report leaves out the same as that of the relay.
        let new = Report::of(&outcome).into_outcome()?;
        tally.add(message.place.into(), &message, &old.outcome, &new);
    }
    Ok(tally)
}
