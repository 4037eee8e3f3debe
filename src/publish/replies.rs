//! Reads the replies of a batch: the JSON of `/api/batch`, and the replies' content in either API. The formats were
//! measured on Centrifugo 6.9.1. A reply in another format, or a wrong number of replies, is unreadable: nobody knows
//! what was executed.

use std::borrow::Cow;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use slipring_core::publish::{HistoryPosition, Reply};

#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the reply is not the JSON of a batch")]
    Json(#[from] serde_json::Error),
    #[error("{found} replies to {expected} commands")]
    Count { expected: usize, found: usize },
    #[error("the reply to command {index} has neither an error nor a result for each of its {channels} channels")]
    Shape { index: usize, channels: usize },
}

/// Without commands, Centrifugo leaves `replies` out.
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    replies: Vec<CommandReply<'a>>,
}

#[derive(Deserialize)]
pub(super) struct CommandReply<'a> {
    pub(super) error: Option<Failure>,
    #[serde(borrow)]
    pub(super) publish: Option<Published<'a>>,
    #[serde(borrow)]
    pub(super) broadcast: Option<Broadcast<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Broadcast<'a> {
    #[serde(borrow, default)]
    pub(super) responses: Vec<Response<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    pub(super) error: Option<Failure>,
    #[serde(borrow)]
    pub(super) result: Option<Published<'a>>,
}

#[derive(Deserialize, Clone)]
pub(super) struct Failure {
    pub(super) code: u32,
    #[serde(default)]
    pub(super) message: String,
}

/// Both fields are left out in a channel without history, and for `skip_history`.
#[derive(Deserialize)]
pub(super) struct Published<'a> {
    #[serde(default)]
    pub(super) offset: u64,
    #[serde(borrow, default)]
    pub(super) epoch: Cow<'a, str>,
}

/// Returns the reply for each channel of each command, from the JSON of a batch. `channels` gives the number of
/// channels of each command.
pub fn read(body: &[u8], channels: impl ExactSizeIterator<Item = usize>) -> Result<Vec<Reply>, Unreadable> {
    let Batch { replies } = serde_json::from_slice(body)?;
    gather(replies.into_iter(), channels)
}

/// Returns the reply for each channel of each command. `channels` gives the number of channels of each command.
pub(super) fn gather<'a>(
    replies: impl ExactSizeIterator<Item = CommandReply<'a>>,
    channels: impl ExactSizeIterator<Item = usize>,
) -> Result<Vec<Reply>, Unreadable> {
    if replies.len() != channels.len() {
        return Err(Unreadable::Count {
            expected: channels.len(),
            found: replies.len(),
        });
    }
    let mut all = Vec::with_capacity(channels.len());
    for (index, (command, channels)) in replies.zip(channels).enumerate() {
        let shape = || Unreadable::Shape { index, channels };
        match command {
            CommandReply {
                error: Some(failure), ..
            } => all.extend(std::iter::repeat_n(Reply::from(failure), channels)),
            CommandReply {
                publish: Some(published),
                ..
            } if channels == 1 => all.push(published.into()),
            CommandReply {
                broadcast: Some(Broadcast { responses }),
                ..
            } if responses.len() == channels => {
                for response in responses {
                    all.push(response.into_reply().ok_or_else(shape)?);
                }
            }
            _ => return Err(shape()),
        }
    }
    Ok(all)
}

impl Response<'_> {
    fn into_reply(self) -> Option<Reply> {
        match self {
            Self {
                error: Some(failure), ..
            } => Some(failure.into()),
            Self {
                result: Some(published),
                ..
            } => Some(published.into()),
            Self { .. } => None,
        }
    }
}

impl From<Failure> for Reply {
    fn from(Failure { code, message }: Failure) -> Self {
        Self::Failed { code, message }
    }
}

impl From<Published<'_>> for Reply {
    fn from(Published { offset, epoch }: Published<'_>) -> Self {
        Self::Confirmed((offset > 0).then(|| HistoryPosition {
            offset,
            epoch: xxh3_64(epoch.as_bytes()),
        }))
    }
}

/// The first byte is the number of commands, and each of the next ones a command's number of channels.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    let Some((commands, rest)) = input.split_first() else {
        return;
    };
    let Some((channels, body)) = rest.split_at_checked(usize::from(commands % 8)) else {
        return;
    };
    let channels = || channels.iter().map(|channels| usize::from(*channels).max(1));
    let protobuf = super::centrifugo::read_batch(body, channels());
    for replies in [Some(read(body, channels())), protobuf].into_iter().flatten() {
        match replies {
            Ok(replies) => assert_eq!(replies.len(), channels().sum::<usize>()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_for(body: &str, channels: &[usize]) -> Result<Vec<Reply>, Unreadable> {
        read(body.as_bytes(), channels.iter().copied())
    }

    fn failed(code: u32, message: &str) -> Reply {
        Reply::Failed {
            code,
            message: message.to_owned(),
        }
    }

    fn at(offset: u64, epoch: &str) -> Reply {
        Reply::Confirmed(Some(HistoryPosition {
            offset,
            epoch: xxh3_64(epoch.as_bytes()),
        }))
    }

    // As sent by Centrifugo 6.9.1.
    const MIXED: &str = r#"{"replies":[{"publish":{"offset":3,"epoch":"uVlfFSXk"}},{"error":{"code":102,"message":"unknown channel"}},{"error":{"code":107,"message":"bad request"}},{"publish":{}}]}"#;
    const BROADCAST: &str = r#"{"replies":[{"broadcast":{"responses":[{"result":{"offset":1,"epoch":"ACxXGByI"}},{"error":{"code":102,"message":"unknown channel"}},{"result":{"offset":1,"epoch":"iHRnEQcq"}},{"error":{"code":107,"message":"bad request"}},{"result":{}}]}}]}"#;

    #[test]
    fn publishes_and_their_errors() {
        let expected = [
            at(3, "uVlfFSXk"),
            failed(102, "unknown channel"),
            failed(107, "bad request"),
            Reply::Confirmed(None),
        ];
        assert_eq!(read_for(MIXED, &[1, 1, 1, 1]).unwrap(), expected);
    }

    #[test]
    fn a_broadcast_has_a_reply_for_each_channel() {
        let expected = [
            at(1, "ACxXGByI"),
            failed(102, "unknown channel"),
            at(1, "iHRnEQcq"),
            failed(107, "bad request"),
            Reply::Confirmed(None),
        ];
        assert_eq!(read_for(BROADCAST, &[5]).unwrap(), expected);
    }

    #[test]
    fn an_error_of_a_whole_broadcast_is_that_of_each_channel() {
        let body = r#"{"replies":[{"error":{"code":107,"message":"bad request"}},{"publish":{}}]}"#;
        let expected = [
            failed(107, "bad request"),
            failed(107, "bad request"),
            Reply::Confirmed(None),
        ];
        assert_eq!(read_for(body, &[2, 1]).unwrap(), expected);
    }

    #[test]
    fn what_does_not_answer_the_request_is_unreadable() {
        let check = |body: &str, channels: &[usize], expected: &str| {
            let error = read_for(body, channels).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        };
        check("", &[1], "not the JSON");
        check("Bad Gateway", &[1], "not the JSON");
        check(&MIXED[..MIXED.len() - 9], &[1, 1, 1, 1], "not the JSON");
        check("{}", &[1], "0 replies to 1 commands");
        check(MIXED, &[1, 1, 1], "4 replies to 3 commands");
        check(BROADCAST, &[4], "command 0 has neither");
        check(BROADCAST, &[1], "command 0 has neither");
        check(r#"{"replies":[{"publish":{}}]}"#, &[2], "command 0 has neither");
        check(r#"{"replies":[{"publish":{}},{}]}"#, &[1, 1], "command 1 has neither");
        check(
            r#"{"replies":[{"broadcast":{"responses":[{},{}]}}]}"#,
            &[2],
            "command 0 has neither",
        );
    }
}
