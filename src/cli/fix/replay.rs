//! Publishes the dead letter, here or where the version went.

use anyhow::anyhow;

use super::super::deployment::{Lines, Options};
use super::super::failure::Failure;
use super::child;
use super::interrupted::Interrupted;
use crate::admin::Client;

/// Replays it with `slipring dead-letters replay`.
pub fn here(number: u64, options: &Options, interrupted: &Interrupted, lines: &mut Lines<'_>) -> Result<(), Failure> {
    lines.say(format_args!("replaying the dead letter {number}"))?;
    match interrupted.run(&mut child::replay(number, options)?)?.success() {
        true => Ok(()),
        false => Err(still_there(number, &format!("slipring dead-letters replay {number}"))),
    }
}

/// Has it replayed by the relay that runs the new version. `again` is the command that goes on.
pub fn at(
    number: u64,
    relay: &Client,
    again: &str,
    interrupted: &Interrupted,
    lines: &mut Lines<'_>,
) -> Result<(), Failure> {
    let address = relay.address();
    lines.say(format_args!("the relay at {address} replays the dead letter {number}"))?;
    interrupted.says(format!(
        "the new version is deployed, and the relay finishes what is in flight. `{again}` goes on if the dead letter \
         {number} is still there"
    ));
    let replayed = relay.replay(number, |paused| match paused {
        Some(trouble) => lines.say(format_args!(
            "publishing is paused and will resume by itself: {trouble}"
        )),
        None => lines.say("publishing resumed"),
    });
    let replayed = replayed.map_err(|error| {
        error.context(format!(
            "the new version is deployed, but the dead letter {number} may still be there, and `{again}` goes on"
        ))
    })?;
    for rejected in &replayed.failures {
        lines.say(format_args!("{}: rejected again: {}", rejected.number, rejected.reason))?;
    }
    lines.say(&replayed.text)?;
    match replayed.ok && replayed.failures.is_empty() {
        true => Ok(()),
        false => Err(still_there(number, again)),
    }
}

fn still_there(number: u64, command: &str) -> Failure {
    anyhow!("the new version is deployed, but the dead letter {number} is still there: `{command}`").into()
}
