//! `slipring dead-letters show`: shows everything about a dead letter.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::config_file::ConfigFile;
use super::super::failure::Failure;
use super::super::printable::{printable, printable_json};
use super::Session;
use super::text::{Facts, hex_dump, missing, shortened};
use crate::dead_letter::{Opened, ReadError, Reader};
use crate::message::Results;

/// The most names of channels on which a publication was refused.
const MAX_NAMES: usize = 10;

/// Show dead letters with all headers and the payload
///
/// A text payload is shown as text, any other payload in hexadecimal.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters show 17
  slipring dead-letters show 17 --payload > order.json
  slipring dead-letters show 17 18 --json | jq .reason

`slipring try` can read these fields of the output of --json:
  slipring dead-letters show 17 --json |
    jq -c '{subject, headers, stream, sequence, timestamp, payload}' |
    slipring try orders.wasm

With --json, a message that cannot be read is shown as bytes: `headers_base64`,
and `subject_base64` if the subject is not a line of text.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Their numbers, as shown by `slipring dead-letters list`
    #[arg(value_name = "NUMBER", required = true)]
    numbers: Vec<u64>,
    /// Print one line of JSON per dead letter, for programs; `payload` holds text, `payload_base64` bytes
    #[arg(long)]
    json: bool,
    /// Print only the payload, unchanged
    #[arg(long, conflicts_with = "json")]
    payload: bool,
}

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    if args.payload && args.numbers.len() > 1 {
        let wrong = "--payload takes one NUMBER: several payloads could not be told apart";
        return Err(Failure::Usage(wrong.to_owned()));
    }
    let session = Session::open(&args.config)?;
    let Some(reader) = &session.letters.reader else {
        return Err(anyhow!(session.no_stream()).into());
    };
    let mut output = BufWriter::new(output);
    let mut absent = Vec::new();
    let mut first = true;
    for &number in &args.numbers {
        let Some(opened) = session
            .runtime
            .block_on(open(reader, number))
            .map_err(anyhow::Error::from)?
        else {
            absent.push(number);
            continue;
        };
        if args.payload {
            output.write_all(&opened.payload)?;
        } else if args.json {
            writeln!(output, "{}", json(&opened))?;
        } else {
            let between = if first { "" } else { "\n" };
            write!(output, "{between}{}", render(&opened))?;
        }
        first = false;
    }
    output.flush()?;
    no_such(&absent, reader)
}

async fn open(reader: &Reader, number: u64) -> Result<Option<Opened>, ReadError> {
    match reader.find(number).await? {
        Some(letter) => reader.fetch(letter.numbers()).await,
        None => Ok(None),
    }
}

/// Returns the error for numbers that do not exist.
pub fn no_such(absent: &[u64], reader: &Reader) -> Result<(), Failure> {
    if absent.is_empty() {
        return Ok(());
    }
    let numbers: Vec<String> = absent.iter().map(ToString::to_string).collect();
    Err(anyhow!("there is no dead letter {} in {}", numbers.join(", "), reader.name()).into())
}

/// The payload stands as it is if it is text, and in hexadecimal digits otherwise.
pub(super) fn render(opened: &Opened) -> String {
    let Opened { letter, payload, .. } = opened;
    let mut text = format!(
        "dead letter {} of {}, stored {}, {} bytes\n",
        letter.number(),
        printable(&letter.module),
        letter.stored,
        payload.len()
    );
    if let Some(missing) = missing(letter) {
        text.push_str(&format!("{missing}\n"));
    }
    for (name, value) in letter.own_headers() {
        text.push_str(&format!("{}: {}\n", printable(name), printable(value)));
    }
    if let Some(results) = &letter.results {
        text.push_str(&told(results));
    }
    for (name, value) in letter.message_headers() {
        text.push_str(&format!("{}: {}\n", printable(name), printable(value)));
    }
    if let Some(unreadable) = opened.contents().unreadable {
        text.push_str(&format!(
            "\nthe raw header block, {} bytes:\n{}",
            unreadable.headers.len(),
            hex_dump(&unreadable.headers)
        ));
    }
    text.push('\n');
    match std::str::from_utf8(payload) {
        Ok(payload) if !payload.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) => {
            text.push_str(&printable(&payload.replace('\r', "")));
            if !payload.ends_with('\n') && !payload.is_empty() {
                text.push('\n');
            }
        }
        _ => text.push_str(&hex_dump(payload)),
    }
    text
}

/// Describes what a replay publishes and what it does not.
fn told(results: &Results) -> String {
    let (all, refused) = (results.channels(), results.refused().count());
    let mut names: Vec<String> = results
        .refused()
        .take(MAX_NAMES)
        .map(|name| shortened(name, 80))
        .collect();
    if refused > MAX_NAMES {
        names.push("…".to_owned());
    }
    format!("(refused on {refused} of {all} channels: {})\n", names.join(", "))
}

/// The fields of `list --json` and the rest.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    facts: Facts<'a>,
    /// The bytes of a subject that is not one line of text, and the header block of an unreadable message.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_base64: Option<String>,
    /// The headers of the message itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, Vec<&'a str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

pub(super) fn json(opened: &Opened) -> String {
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let contents = opened.contents();
    for (name, value) in &contents.headers {
        headers.entry(name).or_default().push(value);
    }
    let unreadable = contents.unreadable.as_deref();
    let payload = std::str::from_utf8(&opened.payload).ok();
    let whole = Whole {
        facts: Facts::of(&opened.letter),
        subject_base64: opened.raw.subject.as_ref().map(|subject| STANDARD.encode(subject)),
        headers_base64: unreadable.map(|unreadable| STANDARD.encode(&unreadable.headers)),
        headers: unreadable.is_none().then_some(headers),
        payload,
        payload_base64: payload.is_none().then(|| STANDARD.encode(&opened.payload)),
    };
    printable_json(&serde_json::to_string(&whole).expect("texts and numbers are JSON"))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::text::tests::letter;
    use super::*;
    use crate::dead_letter::Raw;

    fn opened(payload: &'static [u8]) -> Opened {
        Opened {
            letter: letter(),
            payload: bytes::Bytes::from_static(payload),
            raw: Raw::default(),
        }
    }

    #[test]
    fn a_letter_is_its_headers_and_its_payload() {
        assert_snapshot!(render(&opened(b"{\"name\": 7}")), @r#"
        dead letter 17 of orders, stored 2026-11-01T08:00:00Z, 11 bytes
        Slipring-Code: rejected
        Trace: 1

        {"name": 7}
        "#);
        assert_snapshot!(render(&opened(b"\x1b[2J")), @r#"
        dead letter 17 of orders, stored 2026-11-01T08:00:00Z, 4 bytes
        Slipring-Code: rejected
        Trace: 1

        00000000  1b 5b 32 4a                                      |.[2J|
        "#);
    }

    #[test]
    fn programs_get_text_or_base64() {
        assert_snapshot!(json(&opened(b"{}")), @r#"
        {"number":17,"stored":"2026-11-01T08:00:00Z","module":"orders","stage":"transform","code":"rejected","reason":"missing field `id` at line 1 column 2","subject":"orders.7","stream":"ORDERS","sequence":42,"timestamp":"2026-11-01T08:00:00Z","module_sha256":"ab12","size":11,"headers":{"Trace":["1"]},"payload":"{}"}
        "#);
        assert!(json(&opened(b"\xff")).ends_with(r#""payload_base64":"/w=="}"#));
    }
}
