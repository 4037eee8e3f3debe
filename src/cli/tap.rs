//! `slipring tap`: shows messages as they pass through the modules of a running relay.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded;

use super::address::Address;
use super::failure::Failure;
use super::palette::Palette;
use super::printable::{one_line, printable_json};
use super::time_of_day::time_of_day;
use crate::admin::{Client, Event, Events};

/// Watch messages pass through a running relay
///
/// Prints one line per message once its module has returned: the local time, the subject, the channels that it is published to,
/// the module and its version, and how long the module took. A message that the module drops or rejects is shown, too.
///
/// The output is a sample. The relay sends at most `--rate` messages per second, and never delays a message for this command. The
/// number of messages not shown is printed to standard error. With --json, each line has all that the relay sends: payload, headers, publications. The command connects to
/// the relay at `admin.listen`, like `slipring status`. It needs the token that allows everything, because it shows payloads. Ctrl-C
/// ends it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring tap
  slipring tap --module orders --rate 50
  slipring tap --channel orders:7
  slipring tap --json --count 100 | jq 'select(.micros > 1000)'")]
pub struct Args {
    #[command(flatten)]
    relay: Address,
    /// Only messages of this module
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// Only messages that are published to this channel
    #[arg(long)]
    channel: Option<String>,
    /// Maximum messages per second, from 1 to 50
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=50))]
    rate: u8,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print each message as a line of JSON, for programs
    #[arg(long)]
    json: bool,
}

/// How often it is told how many messages were not shown.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most channels on a line. `--json` has all.
const CHANNELS: usize = 5;

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let client = args.relay.find()?;
    let mut printer = Printer {
        json: args.json,
        palette: Palette::of_stdout(),
        zone: TimeZone::system(),
        output,
        notes,
        skipped: 0,
        told: None,
    };
    let done = client.block_on(until_stopped(args, &client, &mut printer));
    printer.tell()?;
    done
}

async fn until_stopped(args: &Args, client: &Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let doing = "catching signals failed";
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    tokio::select! {
        done = follow(args, client, printer) => done,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn follow(args: &Args, client: &Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let mut events = client.events(&path(args)).await?;
    let mut left = args.count;
    while left != Some(0) {
        let Some(data) = message(&mut events, printer).await? else {
            return Err(anyhow!("the relay has closed the connection").into());
        };
        printer.print(&data)?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Returns the path of what the arguments ask for.
fn path(args: &Args) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("rate", &args.rate.to_string());
    for (name, value) in [("module", &args.module), ("channel", &args.channel)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("api/v1/tap?{}", query.finish())
}

/// Returns the next message, or `None` when there are no more. Tells meanwhile what was not shown.
async fn message(events: &mut Events, printer: &mut Printer<'_>) -> Result<Option<String>, Failure> {
    loop {
        let event = match printer.due() {
            Some(due) => match timeout_at(due, events.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    printer.tell()?;
                    continue;
                }
            },
            None => events.next().await?,
        };
        match event {
            Some(Event { name, data }) if name == "message" => return Ok(Some(data)),
            // Newer relays may send other events, too.
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// What a line shows of a message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    time: f64,
    module: String,
    version: String,
    subject: String,
    micros: u64,
    outcome: String,
    publications: Option<Vec<Publication>>,
    more_publications: usize,
    code: Option<String>,
    reason: Option<String>,
    skipped: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Publication {
    channels: Vec<String>,
    more_channels: usize,
}

struct Printer<'a> {
    json: bool,
    palette: Palette,
    zone: TimeZone,
    output: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    /// How many messages were not shown, as far as nobody was told.
    skipped: u64,
    told: Option<Instant>,
}

impl Printer<'_> {
    fn print(&mut self, data: &str) -> Result<(), Failure> {
        let message: Message = serde_json::from_str(data).context("a message from the relay cannot be read")?;
        self.skipped += message.skipped;
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.tell()?;
        }
        if self.json {
            // Between its parts JSON may have line breaks.
            writeln!(self.output, "{}", printable_json(&data.replace('\n', " ")))?;
        } else {
            writeln!(self.output, "{}", message.line(&self.palette, &self.zone))?;
        }
        Ok(())
    }

    /// Returns when to tell how many messages were not shown, if there are any.
    fn due(&self) -> Option<Instant> {
        let due = self.told.map_or_else(Instant::now, |told| told + INTERVAL);
        (self.skipped > 0).then_some(due)
    }

    /// Tells how many messages were not shown.
    fn tell(&mut self) -> Result<(), Failure> {
        match self.skipped {
            0 => return Ok(()),
            1 => writeln!(self.notes, "… 1 message not shown")?,
            more => writeln!(self.notes, "… {more} messages not shown")?,
        }
        self.skipped = 0;
        self.told = Some(Instant::now());
        Ok(())
    }
}

impl Message {
    fn line(&self, palette: &Palette, zone: &TimeZone) -> String {
        let Palette { bad, faint, .. } = palette;
        let time = time_of_day(self.time, zone, "%H:%M:%S%.3f");
        let what = match self.outcome.as_str() {
            "publish" => format!("→ {}", one_line(&self.channels())),
            "drop" => format!("{faint}dropped{faint:#}"),
            "reject" => format!("{bad}rejected{bad:#}{}", one_line(&self.why())),
            other => one_line(other),
        };
        let [subject, module, version] = [&self.subject, &self.module, &self.version].map(|text| one_line(text));
        let micros = self.micros;
        format!("{faint}{time}{faint:#}  {subject} {what}  {module} {version}  {micros} µs")
    }

    /// Returns the channels of all publications, or as many as a line has room for.
    fn channels(&self) -> String {
        let publications = self.publications.as_deref().unwrap_or_default();
        let channels = || publications.iter().flat_map(|publication| &publication.channels);
        let mut shown: Vec<&str> = channels().map(String::as_str).take(CHANNELS).collect();
        let cut: usize = publications.iter().map(|publication| publication.more_channels).sum();
        let more = match channels().count() + cut - shown.len() {
            0 => String::new(),
            more => format!("{more} more"),
        };
        let rest = match self.more_publications {
            0 => String::new(),
            1 => "another publication".to_owned(),
            more => format!("{more} more publications"),
        };
        shown.extend(
            [more.as_str(), rest.as_str()]
                .into_iter()
                .filter(|text| !text.is_empty()),
        );
        match shown.is_empty() {
            true => "no channel".to_owned(),
            false => shown.join(", "),
        }
    }

    /// Completes `rejected`.
    fn why(&self) -> String {
        let code = match self.code.as_deref() {
            None | Some("rejected") => String::new(),
            Some(code) => format!(" ({code})"),
        };
        let reason = self.reason.as_deref().unwrap_or_default();
        format!("{code}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use insta::assert_snapshot;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// Returns what was printed, and what was told.
    fn printed(json: bool, messages: &[&str]) -> Result<[String; 2], Failure> {
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer {
            json,
            palette: Palette::default(),
            zone: TimeZone::UTC,
            output: &mut output,
            notes: &mut notes,
            skipped: 0,
            told: None,
        };
        for message in messages {
            printer.print(message)?;
        }
        printer.tell()?;
        Ok([output, notes].map(|text| String::from_utf8(text).unwrap()))
    }

    const MESSAGES: [&str; 6] = [
        r#"{"time":1796083201.25,"module":"orders","version":"3045d0fa30ea-2a14983ed58f","subject":"orders.7","sequence":7,
            "headers":{},"payload":"{}","size":2,"truncated":false,"micros":12,"outcome":"publish",
            "publications":[{"channels":["orders:7","users:3"],"data":{"a":[1e999]}},{"channels":["all"],"data":1}],"skipped":0}"#,
        r#"{"time":1796083202.5,"module":"orders","version":"v","subject":"orders.8","micros":9,"outcome":"drop","skipped":40}"#,
        r#"{"time":1796083203,"module":"orders","version":"v","subject":"orders.9","micros":9,"outcome":"reject","code":"trap",
            "reason":"wasm trap: \u001b[2J\nunreachable","skipped":2}"#,
        r#"{"time":1796083203,"module":"o","version":"v","subject":"o.9","micros":9,"outcome":"reject","code":"rejected","reason":"no total"}"#,
        r#"{"time":1796083203,"module":"o","version":"v","subject":"o\u009b.9","micros":9,"outcome":"publish","publications":[
            {"channels":["a","b","c","d","\u202ee","f","g"],"more_channels":10},{"channels":["h"]}],"more_publications":3,"later":true}"#,
        r#"{"time":1796083203,"module":"o","version":"v","subject":"o","micros":9,"outcome":"publish","publications":[]}"#,
    ];

    #[test]
    fn a_message_is_a_line() {
        let [lines, notes] = printed(false, &MESSAGES).unwrap();
        assert_snapshot!(lines, @r#"
        00:00:01.250  orders.7 → orders:7, users:3, all  orders 3045d0fa30ea-2a14983ed58f  12 µs
        00:00:02.500  orders.8 dropped  orders v  9 µs
        00:00:03.000  orders.9 rejected (trap): wasm trap: \u{1b}[2J unreachable  orders v  9 µs
        00:00:03.000  o.9 rejected: no total  o v  9 µs
        00:00:03.000  o\u{9b}.9 → a, b, c, d, \u{202e}e, 13 more, 3 more publications  o v  9 µs
        00:00:03.000  o → no channel  o v  9 µs
        "#);
        assert_snapshot!(notes, @r#"
        … 40 messages not shown
        … 2 messages not shown
        "#);
    }

    #[test]
    fn programs_get_all_of_it_as_a_line() {
        let [lines, _] = printed(true, &MESSAGES).unwrap();
        assert_eq!(lines.lines().count(), MESSAGES.len());
        for (line, message) in lines.lines().zip(MESSAGES) {
            assert!(!line.contains(char::is_control), "{line:?}");
            let same = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(same(line), same(message));
        }
        let [line, _] = printed(true, &["{\"reason\":\"\u{9b}\"}"]).unwrap();
        assert_eq!(line, "{\"reason\":\"\\u009b\"}\n");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert_snapshot!(printed(true, &["<html>"]).unwrap_err(), @"a message from the relay cannot be read: expected value at line 1 column 1");
    }

    #[test]
    fn the_arguments_are_a_query() {
        let asked = |arguments: &[&str]| {
            let command = Command::try_parse_from(["tap"].iter().chain(arguments));
            command.map(|command| path(&command.args)).map_err(|error| error.kind())
        };
        assert_eq!(asked(&[]).unwrap(), "api/v1/tap?rate=10");
        assert_eq!(
            asked(&["--rate", "50", "--module", "orders", "--channel", "a&b c#ä"]).unwrap(),
            "api/v1/tap?rate=50&module=orders&channel=a%26b+c%23%C3%A4"
        );
        for wrong in [["--rate", "0"], ["--rate", "51"], ["--count", "0"]] {
            asked(&wrong).unwrap_err();
        }
    }
}
