//! The messages that a source still holds, for commands that run a module on them. Reading leaves no trace.

#[cfg(feature = "redis")]
use std::collections::VecDeque;
use std::sync::Arc;

use slipring_core::place::Place;
use slipring_core::read::Incarnation;

use super::connection::connect;
use super::selection::Selection;
use super::stored::{self, Stored};
use crate::config::{self, Config, ModuleConfig};
use crate::message::Message;
#[cfg(feature = "redis")]
use crate::source::redis;

/// A stream of JetStream, or what a module reads from Redis.
#[derive(Debug)]
pub enum Held {
    JetStream(Box<Stored>),
    #[cfg(feature = "redis")]
    Redis {
        held: Box<redis::Held>,
        incarnation: Incarnation,
    },
}

/// Messages in order, as they are read.
#[derive(Debug)]
pub enum Messages {
    JetStream(stored::Messages),
    #[cfg(feature = "redis")]
    Redis(VecDeque<Message>),
    #[cfg(feature = "redis")]
    Tap(Box<redis::Tap>),
}

impl Held {
    /// `module` is the one whose `.toml` names what is read, unless the selection names a stream of JetStream.
    pub async fn open(
        config: &Config,
        selection: Selection<'_>,
        module: Option<&ModuleConfig>,
    ) -> anyhow::Result<Self> {
        let module = module.filter(|module| module.stream == selection.stream);
        match module.map(|module| (module, &module.source)) {
            #[cfg(feature = "redis")]
            Some((module, config::Source::Redis(source))) => {
                let server = config.redis.clone().ok_or(crate::redis::Error::NotConfigured)?;
                let server = crate::redis::Server::new(server);
                let incarnation = redis::incarnation(&server, module, source).await?;
                Ok(Self::Redis {
                    held: Box::new(redis::Held::new(server, module, source)),
                    // No relay has read it yet.
                    incarnation: incarnation.unwrap_or_default(),
                })
            }
            #[cfg(not(feature = "redis"))]
            Some((_, config::Source::Redis(_))) => anyhow::bail!("this slipring was built without Redis"),
            Some((_, config::Source::JetStream)) | None => {
                let nats = connect(&config.nats).await?;
                Ok(Self::JetStream(Box::new(Stored::open(&nats, selection.stream).await?)))
            }
        }
    }

    /// Returns the incarnation, which the relay's idempotency keys and versions depend on.
    pub fn incarnation(&self) -> Incarnation {
        match self {
            Self::JetStream(stored) => stored.incarnation(),
            #[cfg(feature = "redis")]
            Self::Redis { incarnation, .. } => *incarnation,
        }
    }

    /// Returns the message at this place. The error for a missing one says what there is.
    pub async fn message(&self, place: Place) -> anyhow::Result<Message> {
        match (self, place) {
            (Self::JetStream(stored), Place::Sequence(sequence)) => stored.message(sequence).await,
            (Self::JetStream(_), Place::Id(..)) => {
                anyhow::bail!("{place} is an ID in Redis; a message of JetStream has a sequence, such as 42")
            }
            #[cfg(feature = "redis")]
            (Self::Redis { held, .. }, place) => {
                if let Place::Sequence(number) = place {
                    anyhow::bail!("{number} is a sequence; a message in Redis has an ID, such as 1795888251712-0");
                }
                let found = held.get(place).await?;
                found.ok_or_else(|| {
                    let key = held.key();
                    let settled = match held.is_list() {
                        true => "; if it was settled, it may have been removed (`source.keep`)",
                        false => "",
                    };
                    anyhow::anyhow!("`{key}` holds no message with the ID {place}{settled}")
                })
            }
        }
    }

    /// Returns the last messages, oldest first.
    pub async fn last(&self, count: u64, subjects: &[String]) -> anyhow::Result<Messages> {
        match self {
            Self::JetStream(stored) => Ok(Messages::JetStream(stored.last(count, subjects).await?)),
            #[cfg(feature = "redis")]
            Self::Redis { held, .. } => Ok(Messages::Redis(held.last(count).await?.into())),
        }
    }

    /// Returns the messages that arrive from now on. They never end by themselves.
    pub async fn tap(self, subjects: &[String]) -> anyhow::Result<Messages> {
        match self {
            Self::JetStream(stored) => Ok(Messages::JetStream(stored.tap(subjects).await?)),
            #[cfg(feature = "redis")]
            Self::Redis { held, .. } => Ok(Messages::Tap(Box::new(redis::Tap::open(*held).await?))),
        }
    }

    /// Says that nothing is there that matches.
    pub fn holds_nothing(&self, subjects: &[String]) -> String {
        match self {
            Self::JetStream(stored) => stored.holds_nothing(subjects),
            #[cfg(feature = "redis")]
            Self::Redis { held, .. } => format!("`{}` in Redis holds no message", held.key()),
        }
    }
}

impl Messages {
    /// Returns the next message, or `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Arc<Message>>> {
        match self {
            Self::JetStream(messages) => messages.next().await,
            #[cfg(feature = "redis")]
            Self::Redis(messages) => Ok(messages.pop_front().map(Arc::new)),
            #[cfg(feature = "redis")]
            Self::Tap(tap) => Ok(Some(Arc::new(tap.next().await?))),
        }
    }
}

/// Parses the place of a message: a sequence from 1 on, or an ID in Redis.
pub fn place(text: &str) -> Result<Place, String> {
    match text.parse() {
        Ok(Place::Sequence(0)) | Err(_) => {
            Err("it must be a sequence from 1 on, or an ID in Redis such as 1795888251712-0".to_owned())
        }
        Ok(place) => Ok(place),
    }
}
