//! A Centrifugo in memory and in simulated time. It models what each channel shows, and what is suppressed by key or
//! version. The player of a schedule decides what it executes and answers, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use slipring_core::message::Body;
use slipring_core::publish::{self, HistoryPosition, Reply, Request};

const KEYS_LAST: Duration = Duration::from_secs(300);

/// A channel with this prefix has no history, so positions are unknown and versions have no effect.
pub(crate) const PLAIN: &str = "plain:";

/// A channel with this prefix does not exist in Centrifugo.
pub(crate) const UNKNOWN: &str = "unknown:";

/// The defect of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    /// A request with it is unreadable.
    Poisoned,
    /// It never arrives while faults last, because something on the way answers instead.
    Cursed,
}

/// Returns the body of the publication with this number.
pub(crate) fn body(number: u64, ill: Option<Ill>) -> Body {
    let mut body = number.to_le_bytes().to_vec();
    body.push(match ill {
        None => 0,
        Some(Ill::Poisoned) => 1,
        Some(Ill::Cursed) => 2,
    });
    Body::Binary(body)
}

#[derive(Debug, Default)]
pub(crate) struct Centrifugo {
    /// Counts the starts of Centrifugo.
    epoch: u64,
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    shown: u64,
    /// When each key was first used, and for which position.
    keys: BTreeMap<String, (Instant, u64)>,
    /// The last version shown, with its epoch.
    version: Option<(String, u64)>,
}

/// A command as Centrifugo reads it from a request.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) channels: Vec<String>,
    pub(crate) number: u64,
    pub(crate) key: Option<String>,
    /// The version, with its epoch.
    version: Option<(String, u64)>,
    pub(crate) ill: Option<Ill>,
}

impl Centrifugo {
    /// Returns the reply on one of the command's channels, and whether subscribers saw the publication.
    pub(crate) fn execute(&mut self, now: Instant, channel: &str, command: &Command) -> (Reply, bool) {
        if channel.starts_with(UNKNOWN) {
            return (error(102, "unknown channel"), false);
        }
        let history = !channel.starts_with(PLAIN);
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.to_owned(), Channel::default());
        }
        let state = self.channels.get_mut(channel).expect("it was just inserted");
        let (offset, shown) = state.publish(now, command, history);
        let epoch = self.epoch;
        (
            Reply::Confirmed(history.then_some(HistoryPosition { offset, epoch })),
            shown,
        )
    }

    /// Restarts it without any memory.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.channels.clear();
    }
}

impl Channel {
    /// Returns the offset in the reply, and whether the publication was shown.
    fn publish(&mut self, now: Instant, command: &Command, history: bool) -> (u64, bool) {
        let used = command.key.as_ref().and_then(|key| self.keys.get(key));
        if let Some((_, offset)) = used.filter(|(first, _)| now < *first + KEYS_LAST) {
            return (*offset, false);
        }
        if let Some((epoch, version)) = &command.version
            && history
        {
            let late = |(last_epoch, last): &(String, u64)| last_epoch == epoch && version <= last;
            if self.version.as_ref().is_some_and(late) {
                return (self.shown, false);
            }
            self.version.clone_from(&command.version);
        }
        self.shown += 1;
        if let Some(key) = &command.key {
            self.keys.insert(key.clone(), (now, self.shown));
        }
        (self.shown, true)
    }
}

pub(crate) fn error(code: u32, message: &str) -> Reply {
    let message = message.to_owned();
    Reply::Failed { code, message }
}

/// Reads a request as Centrifugo does.
pub(crate) fn read(request: &Request) -> Vec<Command> {
    request.commands().iter().map(Command::of).collect()
}

impl Command {
    fn of(command: &publish::Command) -> Self {
        let publication = command.publication();
        let Body::Binary(body) = &publication.body else {
            panic!("{publication:?} is not of the traffic");
        };
        let (number, ill) = body.split_first_chunk().expect("it begins with its number");
        let epoch = publication.version_epoch.clone().unwrap_or_default();
        Self {
            channels: command.channels().iter().map(ToString::to_string).collect(),
            number: u64::from_le_bytes(*number),
            key: command.key().map(|key| key.into_owned()),
            version: publication.version.map(|version| (epoch, version)),
            ill: match ill {
                [1] => Some(Ill::Poisoned),
                [2] => Some(Ill::Cursed),
                _ => None,
            },
        }
    }
}
