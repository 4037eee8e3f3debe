//! The sources that replayed messages came from.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
#[cfg(feature = "redis")]
use slipring_core::read::Incarnation;

use crate::config;
use crate::dead_letter::{Servers, Session};
use crate::nats::Nats;
use crate::pipeline::Assignment;

/// The streams that the letters came from, if they still exist.
#[derive(Debug, Default)]
pub struct Origins(HashMap<String, Identity>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// The incarnation. For JetStream this is when the stream was created, in nanoseconds since 1970.
    pub(super) created: i128,
    /// Its messages may be older than the stream.
    pub(super) mirror: bool,
}

impl Origins {
    /// Looks up what the modules read, and the streams that the letters came from. Waits at most `limit` for a connection
    /// to NATS.
    pub async fn of<'a>(
        servers: &Servers,
        session: &Session,
        modules: &[Assignment],
        streams: impl IntoIterator<Item = &'a str>,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let mut origins = Self::default();
        if modules
            .iter()
            .any(|module| module.config.source == config::Source::JetStream)
        {
            let nats = match &session.nats {
                Some(nats) => nats.clone(),
                None => servers.nats(limit).await?,
            };
            origins.look_up(&nats, streams).await?;
        }
        #[cfg(feature = "redis")]
        for module in modules {
            if let (config::Source::Redis(source), Some(server)) = (&module.config.source, servers.redis()) {
                let config = &module.config;
                let incarnation = crate::source::redis::incarnation(server, config, source).await?;
                origins.add_redis(&config.stream, incarnation);
            }
        }
        Ok(origins)
    }

    pub(super) fn get(&self, stream: &str) -> Option<&Identity> {
        self.0.get(stream)
    }

    /// Adds streams of JetStream, as far as they exist.
    async fn look_up<'a>(&mut self, nats: &Nats, streams: impl IntoIterator<Item = &'a str>) -> anyhow::Result<()> {
        for name in streams {
            match nats.jetstream.get_stream(name).await {
                Ok(stream) => {
                    let info = stream.cached_info();
                    let identity = Identity {
                        created: info.created.unix_timestamp_nanos(),
                        mirror: info.config.mirror.is_some(),
                    };
                    self.0.insert(name.to_owned(), identity);
                }
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                    _ => {
                        return Err(anyhow::Error::new(error).context(format!("looking up the stream `{name}` failed")));
                    }
                },
            }
        }
        Ok(())
    }

    /// Adds a list or stream in Redis, if a relay has read it. Its IDs rise over all incarnations.
    #[cfg(feature = "redis")]
    fn add_redis(&mut self, key: &str, incarnation: Option<Incarnation>) {
        if let Some(Incarnation(created)) = incarnation {
            self.0.insert(key.to_owned(), Identity { created, mirror: true });
        }
    }
}
