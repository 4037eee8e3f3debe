//! A guest that misbehaves as its message asks, by the last token of its subject. For tests of the relay's limits.
//!
//! Not an example: most of this is what a transform must not do.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::Duration;

use serde::Deserialize;
use slipring_sdk::{Message, Output, Publication, Result, Value, bail, init, json, transform};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `init` fails with this text.
    fail: Option<String>,
    /// `init` panics.
    #[serde(default)]
    panic: bool,
    /// `init` never ends.
    #[serde(default)]
    r#loop: bool,
    /// Added to every publication as the tag `mark`, so that a test can tell which settings made it.
    mark: Option<String>,
    /// Rejects every message from this sequence on, like a version that turns out to be bad.
    refuse_from: Option<u64>,
    /// Traps from this sequence on, instead of rejecting.
    trap_from: Option<u64>,
    /// Publishes to a namespace that does not exist, from this sequence on.
    lost_from: Option<u64>,
    /// What to do with every message, instead of what its subject says.
    wish: Option<String>,
}

#[init]
fn prepare(settings: Settings) -> Result<Settings> {
    if let Some(text) = &settings.fail {
        bail!("{text}");
    }
    assert!(!settings.panic, "init was asked to panic");
    if settings.r#loop {
        loop_for_ever();
    }
    Ok(settings)
}

#[transform]
fn unruly(message: &Message, settings: &Settings) -> Result<Output> {
    if settings.refuse_from.is_some_and(|from| message.sequence >= from) {
        bail!("this version is bad");
    }
    assert!(
        settings.trap_from.is_none_or(|from| message.sequence < from),
        "this version is bad"
    );
    if settings.lost_from.is_some_and(|from| message.sequence >= from) {
        return Ok(marked(Publication::json_text("nowhere:1", "1").into(), settings));
    }
    let subjects = message.subject.rsplit('.').next().unwrap_or_default();
    let output = match settings.wish.as_deref().unwrap_or(subjects) {
        "ok" => ok(message)?,
        "channels" => channels(message)?,
        "publish" => publish(message)?,
        "binary" => Publication::binary("unruly:ok", message.payload.as_slice()).into(),
        "drop" => Output::drop(),
        "reject" => bail!("rejected as asked: {}", message.text()?),
        "report" => report(message)?,
        "headers" => Publication::json("unruly:ok", &message.headers)?.into(),

        "panic" => panic!("panicked as asked: {}", message.text()?),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "overflow" => Publication::json("unruly:ok", &overflow_the_stack(1))?.into(),

        "loop" => loop_for_ever(),
        "sleep" => sleep(),
        "eat" => eat_memory(),
        "chatter" => chatter(),
        "say" => say(message)?,

        "many" => vec![Publication::json_text("unruly:ok", "1"); amount(message)?].into(),
        // Digits, because a number is JSON without quotes: this takes only one allocation.
        "large" => Publication::json_text("unruly:ok", "1".repeat(amount(message)?)).into(),
        "broadcast" => Publication::json_text(many_channels(amount(message)?, 0), "1").into(),
        "strangers" => Publication::json_text(many_channels(amount(message)?, message.sequence), "1").into(),
        "spin" => spin(amount(message)?),
        "no-channels" => Publication::json_text(Vec::<String>::new(), "1").into(),
        "empty-channel" => Publication::json_text("", "1").into(),
        "long-channel" => Publication::json_text(format!("unruly:{}", "x".repeat(293)), "1").into(),
        "same-channel-twice" => Publication::json_text(["unruly:ok", "unruly:ok"], "1").into(),
        "broken-json" => Publication::json_text("unruly:ok", "{\"id\":").into(),
        "two-jsons" => Publication::json_text("unruly:ok", "1}, {\"publish\":{}").into(),
        "big-version" => Publication::json_text("unruly:ok", "1").version((1 << 53) + 1).into(),
        other => bail!("unruly does not know how to {other:?}"),
    };
    Ok(marked(output, settings))
}

fn marked(output: Output, settings: &Settings) -> Output {
    let Some(mark) = &settings.mark else { return output };
    output
        .into_iter()
        .map(|publication| publication.tag("mark", mark))
        .collect()
}

/// Publishes the JSON payload to the channel in the header `Channel`.
fn ok(message: &Message) -> Result<Output> {
    let channel = message.header("Channel").unwrap_or("unruly:ok");
    Ok(Publication::json_text(channel, message.text()?).into())
}

/// Publishes to each channel in the payload, a list of texts. The data of each publication is the channel's
/// index in the list.
fn channels(message: &Message) -> Result<Output> {
    let channels: Vec<String> = message.json()?;
    channels
        .into_iter()
        .zip(0..)
        .map(|(channel, place)| Publication::json(channel, &place))
        .collect()
}

/// One publication, with the options that the message asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    channels: Vec<String>,
    data: Option<Value>,
    /// Used instead of `data`.
    bytes: Option<Vec<u8>>,
    version: Option<u64>,
    version_epoch: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    idempotency_key: Option<String>,
    #[serde(default)]
    delta: bool,
    #[serde(default)]
    skip_history: bool,
}

/// Publishes what the payload, a list of [`Wish`]es, says.
fn publish(message: &Message) -> Result<Output> {
    let wishes: Vec<Wish> = message.json()?;
    wishes.into_iter().map(Wish::publication).collect()
}

impl Wish {
    fn publication(self) -> Result<Publication> {
        let mut publication = match self.bytes {
            Some(bytes) => Publication::binary(self.channels, bytes),
            None => Publication::json(self.channels, &self.data)?,
        };
        if let Some(version) = self.version {
            publication = publication.version(version);
        }
        if let Some(epoch) = self.version_epoch {
            publication = publication.version_epoch(epoch);
        }
        if let Some(key) = self.idempotency_key {
            publication = publication.idempotency_key(key);
        }
        for (name, value) in self.tags {
            publication = publication.tag(name, value);
        }
        Ok(publication.delta(self.delta).skip_history(self.skip_history))
    }
}

/// Reports what a guest can see of the outside world. It should be the message's timestamp and nothing else.
fn report(message: &Message) -> Result<Output> {
    let report = json!({ "timestamp": message.timestamp, "random": random(), "outside": outside() });
    Ok(Publication::json("unruly:ok", &report)?.into())
}

/// Returns hexadecimal text, because JSON readers may round a number of 64 bits.
fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

#[cfg(not(target_os = "unknown"))]
fn outside() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let start = std::time::Instant::now();
    black_box((0..100_000_u32).map(black_box).sum::<u32>());
    json!({
        "clock": now.map(|since| since.as_nanos().to_string()).map_err(|error| error.to_string()),
        "elapsed": start.elapsed().as_nanos().to_string(),
        "environment": std::env::vars().count(),
        "arguments": std::env::args().count(),
        "input": std::io::read_to_string(std::io::stdin()).map(|text| text.len()).map_err(|error| error.to_string()),
        "directory": std::fs::read_dir("/").map(|entries| entries.count()).map_err(|error| error.to_string()),
        "file": std::fs::read_to_string("/etc/hostname").map_err(|error| error.to_string()),
        "new file": std::fs::write("/tmp/unruly", "was here").map_err(|error| error.to_string()),
        "removal": std::fs::remove_file("/tmp/unruly").map_err(|error| error.to_string()),
        "network": std::net::TcpStream::connect("127.0.0.1:80").map(|_| "connected").map_err(|error| error.to_string()),
        "server": std::net::TcpListener::bind("127.0.0.1:0").map(|_| "bound").map_err(|error| error.to_string()),
        "datagrams": std::net::UdpSocket::bind("127.0.0.1:0").map(|_| "bound").map_err(|error| error.to_string()),
        "names": std::net::ToSocketAddrs::to_socket_addrs("localhost:80").map(Iterator::count).map_err(|error| error.to_string()),
        "process": std::process::Command::new("/bin/true").status().map(|_| "ran").map_err(|error| error.to_string()),
        "thread": std::thread::Builder::new().spawn(|| ()).map(|_| "ran").map_err(|error| error.to_string()),
    })
}

/// Without WASI, most of these calls panic, because there is no outside world to ask.
#[cfg(target_os = "unknown")]
fn outside() -> Value {
    Value::Null
}

/// Parses the payload, a number.
fn amount(message: &Message) -> Result<usize> {
    message.json()
}

/// The channels depend only on `mark`.
fn many_channels(count: usize, mark: u64) -> Vec<String> {
    (0..count).map(|number| format!("unruly:{mark}-{number}")).collect()
}

/// Takes time, one loop for each unit of the amount.
fn spin(amount: usize) -> Output {
    (0..amount).for_each(|turn| {
        black_box(turn);
    });
    Output::drop()
}

fn loop_for_ever() -> ! {
    loop {
        black_box(());
    }
}

/// Without WASI this panics, because nothing could wait.
fn sleep() -> Output {
    std::thread::sleep(Duration::from_secs(3600));
    Output::drop()
}

/// Allocates and touches 1 MiB at a time until there is no more.
fn eat_memory() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}

fn chatter() -> Output {
    for line in 0..100_000 {
        println!("line {line} of 100000, which nobody needs");
    }
    Publication::json_text("unruly:ok", "1").into()
}

/// Writes the payload to standard output.
fn say(message: &Message) -> Result<Output> {
    println!("{}", message.text()?);
    Ok(Output::drop())
}

/// The multiplication after the call keeps the compiler from turning this into a loop.
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn overflow_the_stack(depth: u64) -> u64 {
    black_box(depth).wrapping_mul(overflow_the_stack(depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Message::new("settings", text).json().expect("settings")
    }

    #[test]
    fn a_mark_reaches_every_publication() -> Result<()> {
        let settings = prepare(settings(r#"{"mark":"a"}"#))?;
        let output = unruly(&Message::new("x.channels", r#"["one","two"]"#), &settings)?;
        let expected =
            [("one", "0"), ("two", "1")].map(|(channel, text)| Publication::json_text(channel, text).tag("mark", "a"));
        assert_eq!(output, expected.into());
        Ok(())
    }

    #[test]
    fn ok_publishes_the_payload_to_the_channel_of_the_header() -> Result<()> {
        let message = Message::new("x.ok", r#"{"id":17}"#).with_header("Channel", "orders:17");
        let expected = Publication::json_text("orders:17", r#"{"id":17}"#);
        assert_eq!(unruly(&message, &settings("{}"))?, expected.into());
        Ok(())
    }

    #[test]
    fn publish_sets_what_is_wished() -> Result<()> {
        let wishes = r#"[{"channels":["a"],"bytes":[1,2],"version":3,"delta":true},{"channels":["a","b"],"data":{"id":1},
            "version_epoch":"e","tags":{"k":"v"},"idempotency_key":"once","skip_history":true}]"#;
        let output = unruly(&Message::new("x.publish", wishes), &settings("{}"))?;
        let expected = vec![
            Publication::binary("a", [1, 2]).version(3).delta(true),
            Publication::json_text(["a", "b"], r#"{"id":1}"#)
                .version_epoch("e")
                .tag("k", "v")
                .idempotency_key("once")
                .skip_history(true),
        ];
        assert_eq!(output, expected.into());
        Ok(())
    }

    #[test]
    fn init_fails_with_the_text_it_was_given() {
        let error = prepare(settings(r#"{"fail":"no such room"}"#))
            .err()
            .map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("no such room"));
    }

    #[test]
    fn an_unknown_wish_is_rejected() {
        let error = unruly(&Message::new("x.fly", ""), &settings("{}")).unwrap_err();
        assert_eq!(error.to_string(), "unruly does not know how to \"fly\"");
    }
}
