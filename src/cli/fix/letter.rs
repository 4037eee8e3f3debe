//! Finds a dead letter, and makes a case of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use tokio::runtime::Runtime;

use super::super::case;
use super::super::dead_letters;
use super::super::deployment::Lines;
use super::super::redact::Redaction;
use crate::admin::Client;
use crate::config::Config;
use crate::json::Sample;
use crate::message::Message;

/// A dead letter, wherever it was found.
#[derive(Debug)]
pub struct Letter {
    pub module: String,
    pub stage: String,
    pub code: String,
    pub reason: String,
    /// Or the reason why it is not known.
    message: anyhow::Result<Message>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Recorded {
    Written,
    /// An earlier run has written it, and somebody may have changed it.
    There,
}

/// Looks in the server that the configuration names.
pub fn find(runtime: &Runtime, config: &Config, number: u64) -> anyhow::Result<Option<Letter>> {
    let stream = &config.dead_letters.stream;
    let opened = runtime.block_on(async {
        let reader = dead_letters::reader(config).await?;
        let reader =
            reader.with_context(|| format!("there are no dead letters: the stream {stream} does not exist"))?;
        match reader.find(number).await? {
            Some(letter) => anyhow::Ok(reader.fetch(letter.numbers()).await?),
            None => Ok(None),
        }
    })?;
    Ok(opened.map(|opened| Letter {
        message: opened.message().map_err(anyhow::Error::from),
        module: opened.letter.module,
        stage: opened.letter.stage,
        code: opened.letter.code,
        reason: opened.letter.reason,
    }))
}

/// Asks a relay, which has dead letters of its own.
pub fn find_at(relay: &Client, number: u64) -> anyhow::Result<Option<Letter>> {
    let found = relay.dead_letter(number)?;
    Ok(found.map(|letter| Letter {
        message: letter.message(),
        module: letter.module,
        stage: letter.stage,
        code: letter.code,
        reason: letter.reason,
    }))
}

/// Writes the case, unless it is there.
pub fn record(
    number: u64,
    letter: Letter,
    file: &Path,
    redact: &[String],
    redact_if_there: &[String],
    lines: &mut Lines<'_>,
) -> anyhow::Result<Recorded> {
    let mut redaction = Redaction::new(redact, redact_if_there);
    let shown = file.display();
    if file.exists() {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read the case {shown}"))?;
        let left = redaction.left_in(&text, None)?;
        ensure!(
            left.is_empty(),
            "{shown} exists already and still holds `{}`: remove the file, or redact it there",
            left.join("` and `")
        );
        let checked = redaction.check_case(&text);
        checked.with_context(|| format!("{shown} exists already, but without a field that --redact names"))?;
        return Ok(Recorded::There);
    }
    let message = letter.message;
    let message = message.with_context(|| format!("the message of the dead letter {number} cannot be read"))?;
    let redacted = redaction.apply(&message).map_err(|why| {
        anyhow!("no case was written, because the message cannot be searched for fields to redact: {why}")
    })?;
    redaction.check()?;
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
    case::create_not_rejected(file, &Sample::of(&redacted.message, ""))?;
    for line in redaction.elsewhere(&redacted) {
        lines.say(format_args!("warning: {line}"))?;
    }
    if redact.is_empty() && redact_if_there.is_empty() {
        lines.say("nothing in it is redacted (--redact): check the case before you commit it")?;
    }
    Ok(Recorded::Written)
}
