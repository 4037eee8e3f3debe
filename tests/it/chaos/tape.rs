//! Reads from a connection's tape what Centrifugo confirmed: HTTP/1.1, one request after the other, each a batch.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use slipring_support::proxy::Tape;

/// A publication that Centrifugo confirmed.
#[derive(Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub channel: String,
    pub offset: u64,
    pub number: u64,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    commands: Vec<Command>,
}

#[derive(Deserialize)]
struct Command {
    publish: Option<Publish>,
    broadcast: Option<Broadcast>,
}

#[derive(Deserialize)]
struct Publish {
    channel: String,
    data: u64,
}

#[derive(Deserialize)]
struct Broadcast {
    channels: Vec<String>,
    data: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    publish: Option<Position>,
    broadcast: Option<Responses>,
}

#[derive(Deserialize)]
struct Responses {
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    result: Option<Position>,
}

#[derive(Deserialize)]
struct Position {
    offset: u64,
}

/// Returns everything that is confirmed on the tape, in the order of the answers. An incomplete last answer
/// confirms nothing.
pub fn confirmed(tape: &Tape) -> Result<Vec<Confirmed>> {
    let mut confirmed = Vec::new();
    let (mut requests, mut answers) = (&tape.requests[..], &tape.answers[..]);
    while let Some((head, answer)) = take_message(&mut answers)? {
        let (_, request) = take_message(&mut requests)?.context("an answer without a request")?;
        if !head.starts_with("HTTP/1.1 200") {
            continue;
        }
        let commands = serde_json::from_slice::<Batch>(&request)
            .context("reading a request")?
            .commands;
        let replies = serde_json::from_slice::<Answer>(&answer)
            .context("reading an answer")?
            .replies;
        ensure!(
            commands.len() == replies.len(),
            "{} replies to {} commands",
            replies.len(),
            commands.len()
        );
        for pair in commands.into_iter().zip(replies) {
            note(pair, &mut confirmed);
        }
    }
    Ok(confirmed)
}

fn note((command, reply): (Command, Reply), confirmed: &mut Vec<Confirmed>) {
    let mut add = |channel, number, position: Option<Position>| {
        confirmed.extend(position.map(|Position { offset }| Confirmed {
            channel,
            offset,
            number,
        }));
    };
    if let Some(Publish { channel, data }) = command.publish {
        add(channel, data, reply.publish);
    } else if let Some(Broadcast { channels, data }) = command.broadcast {
        let responses = reply.broadcast.map(|broadcast| broadcast.responses);
        for (channel, response) in channels.into_iter().zip(responses.into_iter().flatten()) {
            add(channel, data, response.result);
        }
    }
}

/// Takes the next HTTP message, its head and its body, or nothing if it is incomplete.
fn take_message(bytes: &mut &[u8]) -> Result<Option<(String, Vec<u8>)>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("the head of a message")?;
    let headers: BTreeMap<String, &str> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut rest = &bytes[end + END.len()..];
    let body = match (headers.get("content-length"), headers.get("transfer-encoding")) {
        (Some(length), _) => take(&mut rest, length.parse()?).map(<[u8]>::to_vec),
        (None, Some(&"chunked")) => take_chunks(&mut rest)?,
        (None, Some(other)) => bail!("transfer-encoding {other}"),
        (None, None) => Some(Vec::new()),
    };
    let Some(body) = body else { return Ok(None) };
    let head = head.to_owned();
    *bytes = rest;
    Ok(Some((head, body)))
}

fn take_chunks(bytes: &mut &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?, 16).context("the size of a chunk")?;
        *bytes = &bytes[end + 2..];
        let (Some(chunk), Some(_)) = (take(bytes, size), take(bytes, 2)) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(commands: &Value) -> String {
        let body = json!({ "commands": commands }).to_string();
        format!(
            "POST /api/batch HTTP/1.1\r\nX-API-Key: k\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn tape(requests: &[String], answers: &[String]) -> Tape {
        Tape {
            label: 0,
            requests: requests.concat().into_bytes(),
            answers: answers.concat().into_bytes(),
        }
    }

    fn publish(number: u64) -> Value {
        json!([{ "publish": { "channel": "a", "data": number, "idempotency_key": "k" } }])
    }

    fn yes(channel: &str, offset: u64, number: u64) -> Confirmed {
        Confirmed {
            channel: channel.to_owned(),
            offset,
            number,
        }
    }

    const ANSWER: &str = r#"{"replies":[{"publish":{"offset":4,"epoch":"e"}}]}"#;

    #[test]
    fn answers_of_either_form_are_matched_with_their_requests() {
        let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
        let (left, right) = ANSWER.split_at(10);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{left}\r\n{:x}\r\n{right}\r\n0\r\n\r\n",
            right.len()
        );
        let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno".to_owned();
        let requests = [1, 2, 3].map(|number| request(&publish(number)));
        let tape = tape(&requests, &[plain, refused, chunked]);
        assert_eq!(confirmed(&tape).unwrap(), [yes("a", 4, 1), yes("a", 4, 3)]);
    }

    #[test]
    fn an_answer_that_is_cut_off_confirms_nothing() {
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
        for length in 0..whole.len() {
            let tape = tape(&[request(&publish(1))], &[whole[..length].to_owned()]);
            assert_eq!(confirmed(&tape).unwrap(), [], "{length} bytes");
        }
    }

    #[test]
    fn what_failed_is_not_confirmed_and_a_broadcast_is_in_each_channel() {
        let commands = json!([
            { "publish": { "channel": "a", "data": 1 } },
            { "broadcast": { "channels": ["b", "c", "d"], "data": 2 } },
        ]);
        let answer = json!({ "replies": [
            { "error": { "code": 100, "message": "internal" } },
            { "broadcast": { "responses": [
                { "result": { "offset": 7 } }, { "error": { "code": 100 } }, { "result": { "offset": 8 } },
            ] } },
        ] });
        let answer = answer.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let tape = tape(&[request(&commands)], &[answer]);
        assert_eq!(confirmed(&tape).unwrap(), [yes("b", 7, 2), yes("d", 8, 2)]);
    }
}
