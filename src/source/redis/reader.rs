//! The pipeline's side: opens epochs when told to, passes on what comes, and settles.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use slipring_core::read::{Position, Room};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::super::standing_by::{self, Hearer};
use super::super::{Ack, Lease, News, Over, Receipt};
use super::begin::begin;
use super::entry::Entries;
use super::epoch::{Epoch, EpochEnd, Setup};
use super::keys::Keys;
use super::settle::Settler;
use super::{holder, scripts};
use crate::config::{ModuleConfig, RedisSource, Standby};
use crate::redis::{Error, Server};

/// How long a lease lasts that no other relay waits for.
const TTL: Duration = Duration::from_secs(10);

/// How long giving up the lease may delay the end of a pipeline.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Reader {
    setup: Arc<Setup>,
    /// Hears of the relay that reads while this one waits.
    standing_by: Hearer,
    /// With standby.
    lease: Option<Lease>,
    state: State,
    /// The number of epochs so far.
    epochs: u64,
    /// The token of the newest epoch.
    token: Option<Arc<str>>,
    /// Renews the lease.
    renewing: Option<AbortOnDropHandle<()>>,
    /// Settles over the connection of the newest epoch, even after it was closed.
    settler: Option<Settler>,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Epoch, Error>> + Send>>),
    Open(Box<Epoch>),
    Closed,
}

impl Reader {
    pub fn new(server: Option<Server>, config: &ModuleConfig, source: RedisSource, standby: Option<&Standby>) -> Self {
        let setup = Setup {
            server,
            keys: Keys::of(&source, &config.stream, &config.consumer),
            group: config.consumer.clone(),
            deliver: config.deliver,
            entries: Entries::of(config, &source),
            source,
            reader: holder::new(standby.and_then(|standby| standby.name.as_deref())),
            ttl: standby.map_or(TTL, |standby| standby.ttl),
            shared: standby.is_some(),
            other: Mutex::default(),
            looked_at: AtomicBool::new(false),
            newest: Mutex::default(),
        };
        Self {
            setup: Arc::new(setup),
            standing_by: standing_by::channel().1,
            lease: None,
            state: State::Closed,
            epochs: 0,
            token: None,
            renewing: None,
            settler: None,
        }
    }

    pub fn open(&mut self, position: Option<Position>) {
        let (waiting, standing_by) = standing_by::channel();
        self.standing_by = standing_by;
        self.epochs += 1;
        let opening = begin(Arc::clone(&self.setup), self.epochs, position, waiting);
        self.state = State::Opening(Box::pin(opening));
    }

    pub async fn next(&mut self, room: Option<Room>) -> News {
        match &mut self.state {
            State::Closed => std::future::pending().await,
            State::Opening(opening) => {
                let opened = tokio::select! {
                    biased;
                    opened = opening => opened,
                    active = self.standing_by.next() => return News::StandingBy(active),
                };
                match opened {
                    Ok(mut epoch) => {
                        self.renewing = epoch.renewing.take();
                        self.lease = self.setup.shared.then(|| epoch.lease.clone());
                        self.token = Some(epoch.token());
                        self.settler = Some(Settler::start(
                            Arc::clone(&self.setup),
                            epoch.token(),
                            epoch.connection(),
                            epoch.teller(),
                        ));
                        let began = News::Began(epoch.incarnation, epoch.again);
                        self.state = State::Open(Box::new(epoch));
                        began
                    }
                    Err(error) => {
                        self.state = State::Closed;
                        News::Trouble(error.into())
                    }
                }
            }
            State::Open(epoch) => match epoch.next(room).await {
                Ok((deliveries, missed)) => News::Delivered(deliveries, missed),
                Err(end) => {
                    self.state = State::Closed;
                    News::Over(Over {
                        lost: self.setup.shared && matches!(end, EpochEnd::Taken { .. }),
                        reason: end.into(),
                    })
                }
            },
        }
    }

    /// Whatever came was handed on at once.
    pub fn waiting(&self) -> usize {
        0
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Redis does not deliver again by itself, so it need not know what is in progress.
    pub fn acknowledge(&mut self, acks: Vec<Ack>) {
        let places: Vec<_> = acks
            .into_iter()
            .filter_map(|ack| match ack {
                Ack::Done(Receipt::Redis(place)) => Some(place),
                Ack::Done(Receipt::JetStream(_)) | Ack::InProgress(_) => None,
            })
            .collect();
        if let Some(settler) = self.settler.as_ref().filter(|_| !places.is_empty()) {
            settler.settle(places);
        }
    }

    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    pub async fn end(self, release: bool) {
        if let Some(settler) = self.settler {
            settler.flush().await;
        }
        let lease = self.lease.filter(|lease| release && lease.is_valid(Instant::now()));
        let (Some(_), Some(token)) = (lease, self.token) else {
            return;
        };
        let setup = &self.setup;
        let releasing = async {
            let server = setup.server.as_ref().ok_or(Error::NotConfigured)?;
            let mut connection = server.connect(&setup.keys.source).await?;
            let mut call = scripts::RENEW.key(&setup.keys.lease);
            call.key(&setup.keys.state);
            let reply = call.arg(&*token).arg(0).invoke_async::<String>(&mut connection).await;
            reply.map_err(|error| server.error("giving up the lease", error))
        };
        match timeout(RELEASE_TIMEOUT, releasing).await {
            Ok(Ok(reply)) if reply == "ok" => debug!(key = setup.keys.source, "gave up the lease"),
            Ok(Ok(_)) => debug!(key = setup.keys.source, "the lease is not this epoch's any more"),
            Ok(Err(error)) => warn!(
                key = setup.keys.source,
                error = &error as &dyn std::error::Error,
                "cannot give up the lease; another relay takes over when it expires"
            ),
            Err(_) => warn!(
                key = setup.keys.source,
                "Redis did not confirm in time that the lease was given up; another relay takes over when it expires, at the latest"
            ),
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Opening(_) => "opening",
            State::Open(_) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("Reader").field("state", &state).finish_non_exhaustive()
    }
}
