//! Reads the replies of the scripts that take messages. No I/O.

use redis::Value;
use slipring_core::place::Place;
use slipring_core::read::Missed;

use super::entry::{Entries, entry, id};
use crate::message::Message;

/// What a script took.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where to continue reading what was not settled. `None` once all of it has come.
    pub(super) cursor: Option<String>,
    /// How many messages wait behind these, without those that still come again.
    pub(super) left: u64,
    /// Entries that were trimmed while they were pending.
    pub(super) trimmed: Vec<Place>,
    /// Entries that were trimmed before they were delivered.
    pub(super) unread: Option<Missed>,
    /// Nothing up to here is waited for.
    pub(super) delivered: Place,
    /// The next message needs more room.
    pub(super) has_no_room: bool,
    pub(super) messages: Vec<Message>,
}

/// Reads the reply of `take_list.lua`. `again` is the last message that was delivered before, while these come again, and
/// `cursor` is where they began.
pub(super) fn of_list(
    parts: Vec<Value>,
    entries: &Entries,
    again: Option<Place>,
    cursor: Option<&str>,
) -> Option<Taken> {
    let follows = number(parts.get(1)?)?;
    let left = number(parts.get(2)?)?;
    let mut rest = parts.into_iter().skip(3);
    let mut messages = Vec::with_capacity(rest.len() / 2);
    while let Some(at) = rest.next() {
        let at = id(&at)?;
        let Value::BulkString(payload) = rest.next()? else {
            return None;
        };
        messages.push(entries.of_list(at, payload, again.is_some_and(|through| at <= through)));
    }
    let newest = messages.last().map(|message| message.place);
    Some(Taken {
        // What follows the newest one.
        cursor: (follows == 1)
            .then(|| newest.map_or_else(|| cursor.map(str::to_owned), |newest| Some(newest.to_string())))
            .flatten(),
        left,
        trimmed: Vec::new(),
        unread: None,
        delivered: newest.unwrap_or_default(),
        has_no_room: follows == 2,
        messages,
    })
}

/// Reads the reply of `take_stream.lua`.
pub(super) fn of_stream(parts: Vec<Value>, entries: &Entries, again: Option<Place>) -> Option<Taken> {
    let cursor = text(parts.get(1)?)?;
    let left = number(parts.get(2)?)?;
    let Value::Array(trimmed) = parts.get(3)? else {
        return None;
    };
    let trimmed = trimmed.iter().map(id).collect::<Option<Vec<Place>>>()?;
    let delivered = id(parts.get(5)?)?;
    let Value::Array(unread) = parts.get(4)? else {
        return None;
    };
    let unread = match unread.as_slice() {
        [after, before, messages, exact] => Some(Missed {
            first: id(after)?.next(),
            // If nothing is left, the group was moved to the last one.
            last: id(before).map_or(delivered, Place::previous),
            messages: number(messages)?,
            exact: number(exact)? == 1,
        }),
        _ => None,
    };
    let has_no_room = number(parts.get(6)?)? == 1;
    let messages = parts
        .into_iter()
        .skip(7)
        .map(|value| {
            let (at, fields) = entry(value)?;
            Some(entries.of_stream(at, fields, again.is_some_and(|through| at <= through)))
        })
        .collect::<Option<Vec<Message>>>()?;
    Some(Taken {
        cursor: Some(cursor).filter(|cursor| !cursor.is_empty()),
        left,
        trimmed,
        unread,
        delivered,
        has_no_room,
        messages,
    })
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}
