//! Asks Redis how far a module's reader is.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use slipring_core::place::Place;
use slipring_core::read::Incarnation;
use tokio::time::timeout;

use super::super::{INSPECT_TIMEOUT, InspectError, ReaderState};
use super::entry::id;
use super::keys::Keys;
use crate::config::{ModuleConfig, RedisSource};
use crate::redis::{Error, Server};

const LOOKING: &str = "asking Redis for the state of the list or stream";

pub async fn inspect(
    server: &Server,
    config: &ModuleConfig,
    source: &RedisSource,
) -> Result<ReaderState, InspectError> {
    let keys = Keys::of(source, &config.stream, &config.consumer);
    let asking = async {
        let connection = server.shared(&keys.source).await?;
        server.checked(
            LOOKING,
            match source {
                RedisSource::List { .. } => list(connection, &keys).await.map(Some),
                RedisSource::Stream { .. } => stream(connection, &keys, &config.consumer).await,
            },
        )
    };
    match timeout(INSPECT_TIMEOUT, asking).await {
        Ok(Ok(Some(state))) => Ok(state),
        Ok(Ok(None)) => Err(InspectError::Absent),
        Ok(Err(error)) => Err(InspectError::Failed(error.into())),
        Err(_) => {
            server.forget();
            Err(InspectError::Late { server: "Redis" })
        }
    }
}

/// Says what the key of a module holds now. The error says what to change.
pub async fn look_at(server: &Server, config: &ModuleConfig, source: &RedisSource) -> Result<String, Error> {
    let key = &config.stream;
    let wanted = match source {
        RedisSource::List { .. } => "list",
        RedisSource::Stream { .. } => "stream",
    };
    let mut connection = server.shared(key).await?;
    let found: String = server.checked(LOOKING, redis::cmd("TYPE").arg(key).query_async(&mut connection).await)?;
    let length = match source {
        RedisSource::List { .. } => "LLEN",
        RedisSource::Stream { .. } => "XLEN",
    };
    match found.as_str() {
        "none" => Ok(format!("`{key}` holds nothing yet")),
        found if found == wanted => {
            let length: u64 =
                server.checked(LOOKING, redis::cmd(length).arg(key).query_async(&mut connection).await)?;
            let messages = if length == 1 { "message" } else { "messages" };
            Ok(format!("the {wanted} `{key}` holds {length} {messages}"))
        }
        _ => Err(Error::Kind {
            key: key.clone(),
            found,
            wanted,
        }),
    }
}

/// Returns the incarnation of what a module reads, if a relay has read it.
pub async fn incarnation(
    server: &Server,
    config: &ModuleConfig,
    source: &RedisSource,
) -> Result<Option<Incarnation>, Error> {
    let keys = Keys::of(source, &config.stream, &config.consumer);
    let mut connection = server.shared(&keys.source).await?;
    let mut command = redis::cmd("HGET");
    command.arg(&keys.state).arg("incarnation");
    let found: Option<String> = server.checked(LOOKING, command.query_async(&mut connection).await)?;
    Ok(found.and_then(|number| number.parse().ok()).map(Incarnation))
}

async fn list(mut connection: MultiplexedConnection, keys: &Keys) -> Result<ReaderState, RedisError> {
    type Facts = (u64, Vec<Option<String>>);
    let (pending, facts): Facts = redis::pipe()
        .cmd("LLEN")
        .arg(&keys.source)
        .cmd("HMGET")
        .arg(&keys.state)
        .arg(&["taken", "done", "last", "settled"])
        .query_async(&mut connection)
        .await?;
    let fact = |at: usize| facts.get(at).and_then(Option::as_deref);
    let count = |at: usize| fact(at).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    Ok(ReaderState {
        pending,
        ack_pending: count(0).saturating_sub(count(1)),
        delivered: place(fact(2)),
        ack_floor: place(fact(3)),
        paused_for: None,
    })
}

async fn stream(
    mut connection: MultiplexedConnection,
    keys: &Keys,
    group: &str,
) -> Result<Option<ReaderState>, RedisError> {
    let exists: bool = redis::cmd("EXISTS")
        .arg(&keys.source)
        .query_async(&mut connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    type Facts = HashMap<String, Value>;
    let (groups, stream, (settled, read)): (Vec<Facts>, Facts, (Option<String>, Option<u64>)) = redis::pipe()
        .cmd("XINFO")
        .arg("GROUPS")
        .arg(&keys.source)
        .cmd("XINFO")
        .arg("STREAM")
        .arg(&keys.source)
        .cmd("HMGET")
        .arg(&keys.state)
        .arg(&["settled", "read"])
        .query_async(&mut connection)
        .await?;
    let named = |facts: &Facts| facts.get("name") == Some(&Value::BulkString(group.as_bytes().to_vec()));
    let Some(facts) = groups.into_iter().find(named) else {
        return Ok(None);
    };
    let count = |facts: &Facts, name: &str| match facts.get(name) {
        Some(Value::Int(count)) => Some(u64::try_from(*count).unwrap_or(0)),
        _ => None,
    };
    // Redis does not know its `lag` where entries were deleted, or for a group that begins in the middle.
    let unread = || count(&stream, "entries-added")?.checked_sub(count(&facts, "entries-read").max(read)?);
    let delivered = facts.get("last-delivered-id").and_then(id).unwrap_or_default();
    let newest = match stream.get("last-entry") {
        Some(Value::Array(entry)) => entry.first().and_then(id).unwrap_or_default(),
        _ => Place::default(),
    };
    let pending = match newest > delivered {
        true => count(&facts, "lag").or_else(unread).unwrap_or(1),
        false => 0,
    };
    Ok(Some(ReaderState {
        pending,
        ack_pending: count(&facts, "pending").unwrap_or(0),
        delivered,
        ack_floor: place(settled.as_deref()),
        paused_for: None,
    }))
}

fn place(text: Option<&str>) -> Place {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
