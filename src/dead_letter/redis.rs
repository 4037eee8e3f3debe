//! Dead letters in a stream of Redis. Its IDs are `1-0`, `2-0` and so on, so that a letter has a number here, too.

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use jiff::Timestamp;
use redis::{Script, Value};

use super::header;
use super::letter::Letter;
use crate::redis::{Error, Server};

/// Letters in one reply during a scan, which has no payloads.
const BATCH: usize = 100;

/// For how long the same letter is stored only once. JetStream's default is the same.
const DUPLICATES: Duration = Duration::from_secs(120);

/// How many letters beyond their age are removed when one is stored.
const REMOVED: usize = 100;

const READING: &str = "reading dead letters from Redis";

/// The fields of a letter.
const MODULE: &str = "module";
const STORED: &str = "stored";
const PAYLOAD: &str = "payload";
/// The length of the payload, in the reply to a scan.
const SIZE: &str = "size";
/// A list of names and values, as JSON.
const HEADERS: &str = "headers";

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store.lua")));
static SCAN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scan.lua")));

/// Stores one letter, unless it was stored in the last two minutes.
pub(super) async fn store(
    server: &Server,
    stream: &str,
    module: &str,
    max_age: Option<Duration>,
    headers: &HeaderMap,
    payload: &Bytes,
) -> Result<(), Error> {
    let id = headers.get(header::ID).map(ToString::to_string).unwrap_or_default();
    let now = Timestamp::now();
    let oldest = max_age.and_then(|age| now.checked_sub(age).ok());
    let mut connection = server.shared(stream).await?;
    let mut call = STORE.key(stream);
    call.key(format!("{{{stream}}}:{id}"))
        .arg(DUPLICATES.as_secs())
        .arg(oldest.map_or_else(String::new, |oldest| oldest.as_millisecond().to_string()))
        .arg(REMOVED)
        .arg(MODULE)
        .arg(module)
        .arg(STORED)
        .arg(now.as_millisecond())
        .arg(PAYLOAD)
        .arg(payload.as_ref());
    // In one field, because a script cannot pass on as many arguments as there may be headers.
    let all = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.as_str())));
    let all: Vec<(String, &str)> = all.collect();
    call.arg(HEADERS).arg(serde_json::to_string(&all).unwrap_or_default());
    let stored = call.invoke_async::<u64>(&mut connection).await;
    server.checked("storing a dead letter in Redis", stored).map(drop)
}

/// A letter, or a part of one, with its payload.
pub(super) struct Stored {
    pub(super) letter: Letter,
    pub(super) payload: Bytes,
}

/// Returns true if the stream exists.
pub(super) async fn exists(server: &Server, stream: &str) -> Result<bool, Error> {
    let mut connection = server.shared(stream).await?;
    let exists = redis::cmd("EXISTS").arg(stream).query_async(&mut connection).await;
    server.checked(READING, exists)
}

/// Returns the letters after this number, up to the number `last`. An empty list is the end.
pub(super) async fn after(server: &Server, stream: &str, number: u64, last: u64) -> Result<Vec<Letter>, Error> {
    let mut connection = server.shared(stream).await?;
    let mut call = SCAN.key(stream);
    call.arg(format!("({number}-0"))
        .arg(format!("{last}-0"))
        .arg(BATCH)
        .arg(PAYLOAD)
        .arg(SIZE);
    let found = call.invoke_async::<Vec<Value>>(&mut connection).await;
    let found = server.checked(READING, found)?;
    Ok(found
        .into_iter()
        .filter_map(stored)
        .map(|stored| stored.letter)
        .collect())
}

pub(super) async fn get(server: &Server, stream: &str, number: u64) -> Result<Option<Stored>, Error> {
    let mut connection = server.shared(stream).await?;
    let id = format!("{number}-0");
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg(&id).arg(&id);
    let found: Vec<Value> = server.checked(READING, command.query_async(&mut connection).await)?;
    Ok(found.into_iter().find_map(stored))
}

/// Returns the number of the last letter.
pub(super) async fn last(server: &Server, stream: &str) -> Result<u64, Error> {
    let mut connection = server.shared(stream).await?;
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let newest: Vec<Value> = server.checked(READING, command.query_async(&mut connection).await)?;
    Ok(newest
        .into_iter()
        .next()
        .and_then(stored)
        .map_or(0, |stored| stored.letter.number()))
}

/// Returns true if the letter was still there.
pub(super) async fn remove(server: &Server, stream: &str, number: u64) -> Result<bool, Error> {
    let mut connection = server.shared(stream).await?;
    let mut command = redis::cmd("XDEL");
    command.arg(stream).arg(format!("{number}-0"));
    let removed: u64 = server.checked(
        "removing dead letters from Redis",
        command.query_async(&mut connection).await,
    )?;
    Ok(removed > 0)
}

/// Reads an entry. Anybody may store one, so a header that cannot be one is left out.
fn stored(value: Value) -> Option<Stored> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let number = std::str::from_utf8(&id).ok()?.split_once('-')?.0.parse().ok()?;
    let mut texts = fields.into_iter().map(|field| match field {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    });
    let (mut module, mut time, mut payload, mut headers) = (String::new(), 0, Bytes::new(), HeaderMap::new());
    let mut size = None;
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        let text = || String::from_utf8_lossy(&value).into_owned();
        match std::str::from_utf8(&name).unwrap_or_default() {
            MODULE => module = text(),
            STORED => time = text().parse().unwrap_or(0),
            PAYLOAD => payload = value.into(),
            SIZE => size = text().parse().ok(),
            HEADERS => {
                let pairs: Vec<(String, String)> = serde_json::from_slice(&value).unwrap_or_default();
                for (name, value) in pairs {
                    if let (Ok(name), Ok(value)) = (HeaderName::from_str(&name), HeaderValue::from_str(&value)) {
                        headers.append(name, value);
                    }
                }
            }
            _ => {}
        }
    }
    let subject = format!("{}.{module}", header::SUBJECT_PREFIX);
    let time = Timestamp::from_millisecond(time).unwrap_or_default();
    let letter = Letter::read(number, time, &subject, &headers, size.unwrap_or(payload.len()));
    Some(Stored { letter, payload })
}
