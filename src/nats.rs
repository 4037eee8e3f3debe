//! The connection to NATS that all pipelines share. It waits for a server at the start and reconnects by itself. It
//! reports every lost connection, because deliveries of the old connection cannot be relied on after that. Deliveries
//! come over connections of their own (`nats/wire.rs`).

pub mod denials;
pub mod headers;
mod lazy;
mod pace;
pub mod raw;
mod reason;
mod sign_in;
pub mod wire;

pub use lazy::Lazy;
pub use sign_in::Credentials;
#[cfg(any(test, fuzzing))]
pub(crate) use wire::fuzz;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{AuthError, ClientError, ConnectOptions, Event, ServerError};
use tokio::sync::watch;
use tracing::{info, warn};

use self::denials::Denials;
use self::pace::Pace;
use crate::config::Nats as Config;

/// A connection that stays up once it was made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Nats {
    pub client: async_nats::Client,
    pub jetstream: jetstream::Context,
    pub link: watch::Receiver<Link>,
    /// The permissions that were found missing, on this connection and on those beside it.
    pub denials: Arc<Denials>,
    /// Why there is no connection, in a sentence. `None` while there is one, and before the first failed attempt.
    pub trouble: watch::Receiver<Option<String>>,
    /// The settings for further connections beside this one.
    pub config: Arc<Config>,
    /// The secret for these connections, as its file holds it now.
    pub credentials: Arc<Credentials>,
}

/// The state of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    pub connected: bool,
    /// The number of connections made so far. A different number means a different connection.
    pub generation: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no connection to NATS at {servers} within {limit:?}; is it running, and is `nats.servers` right?")]
    Silent { servers: String, limit: Duration },
    /// The reason is a sentence that says what to change.
    #[error("{reason}")]
    Failed { reason: String },
}

impl Nats {
    /// Returns the subject to ask a consumer for messages.
    pub fn pull_subject(&self, stream: &str, consumer: &str) -> String {
        format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", self.config.api_prefix)
    }

    /// Returns the subject to create or change a consumer, without the filter that may follow.
    pub fn create_subject(&self, stream: &str, consumer: &str) -> String {
        format!("{}.CONSUMER.CREATE.{stream}.{consumer}", self.config.api_prefix)
    }
}

/// Returns how long the server keeps an idle consumer that exists only for reading: `wanted`, or the stream's limit if
/// that is shorter.
pub fn inactive_threshold(stream: &jetstream::stream::Config, wanted: Duration) -> Duration {
    let limit = stream.consumer_limits.as_ref().map(|limits| limits.inactive_threshold);
    limit
        .filter(|limit| !limit.is_zero())
        .map_or(wanted, |limit| limit.min(wanted))
}

/// How often the relay repeats that there is still no server.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// async-nats drops messages when a subscription's buffer is full. No window is larger than this.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// How many commands may wait for the connection's task.
const CLIENT_CAPACITY: usize = 16_384;

/// Connects, and waits for a server for as long as it takes.
pub async fn connect(config: &Config) -> Nats {
    connect_telling(config, drop).await
}

/// Does the same, and reports why there is no connection yet.
pub async fn connect_telling(config: &Config, tell: impl Fn(String)) -> Nats {
    let connecting = Connecting::new(config, true);
    let mut trouble = connecting.shared.trouble.subscribe();
    let connected = connecting.connect();
    let mut connected = std::pin::pin!(connected);
    loop {
        tokio::select! {
            nats = &mut connected => return nats,
            // The sender lives as long as the attempts.
            _ = trouble.changed() => {
                let reason = trouble.borrow_and_update().clone();
                reason.into_iter().for_each(&tell);
            }
        }
    }
}

/// Connects, and waits at most `limit`. Logs neither failed attempts nor the connection.
pub async fn connect_within(config: &Config, limit: Duration) -> Result<Nats, ConnectError> {
    let connecting = Connecting::new(config, false);
    let trouble = connecting.shared.trouble.subscribe();
    let connected = tokio::time::timeout(limit, connecting.connect()).await;
    connected.map_err(|_| match trouble.borrow().clone() {
        Some(reason) => ConnectError::Failed { reason },
        None => ConnectError::Silent {
            servers: config.servers.join(", "),
            limit,
        },
    })
}

/// A connection that is being made.
struct Connecting {
    shared: Arc<Shared>,
}

/// What the callbacks of the client share.
struct Shared {
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    pace: Pace,
    link: watch::Sender<Link>,
    denials: Arc<Denials>,
    trouble: watch::Sender<Option<String>>,
    /// What was logged last, and when.
    said: Mutex<Option<(String, Instant)>>,
    logs: bool,
}

impl Connecting {
    fn new(config: &Config, logs: bool) -> Self {
        let shared = Arc::new(Shared {
            credentials: Arc::new(Credentials::new(config.auth.clone())),
            config: Arc::new(config.clone()),
            pace: Pace::default(),
            link: watch::Sender::default(),
            denials: Arc::default(),
            trouble: watch::Sender::default(),
            said: Mutex::default(),
            logs,
        });
        Self { shared }
    }

    async fn connect(self) -> Nats {
        let Self { shared } = self;
        let config = Arc::clone(&shared.config);
        let client = loop {
            match options(&shared).connect(config.servers.as_slice()).await {
                Ok(client) => break client,
                Err(error) => shared.failed(&error.to_string(), None),
            }
        };
        let server = client.server_info();
        if shared.logs {
            // A server without a name of its own has its ID for a name.
            let name = (server.server_name != server.server_id).then_some(server.server_name.as_str());
            info!(
                servers = config.servers.join(", "),
                name,
                version = server.version,
                "connected to NATS"
            );
        }
        Nats {
            jetstream: jetstream::with_prefix(client.clone(), &config.api_prefix),
            client,
            link: shared.link.subscribe(),
            denials: Arc::clone(&shared.denials),
            trouble: shared.trouble.subscribe(),
            credentials: Arc::clone(&shared.credentials),
            config,
        }
    }
}

fn options(shared: &Arc<Shared>) -> ConnectOptions {
    let config = &shared.config;
    let [events, attempts, pace, auth] = [(); 4].map(|()| Arc::clone(shared));
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let signing = Arc::clone(&auth.credentials).sign_in(nonce);
        async { signing.await.map(async_nats::Auth::from).map_err(AuthError::new) }
    });
    options = options
        .name("slipring")
        .max_reconnects(None)
        // async-nats asks before each attempt, the first one included.
        .reconnect_delay_callback(move |_| pace.pace.delay())
        .reconnect_to_server_callback(move |servers, _| {
            attempts.tries_again(&servers);
            // async-nats chooses the server.
            std::future::ready(None)
        })
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .client_capacity(CLIENT_CAPACITY)
        .custom_inbox_prefix(&config.inbox_prefix)
        // A dead peer is noticed after two intervals without a reply.
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            events.note(&event);
            std::future::ready(())
        });
    if config.tls_first {
        options = options.tls_first();
    }
    if let Some(file) = &config.tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

impl Shared {
    /// Called before each attempt. Only the servers know why the attempt before has failed.
    fn tries_again(&self, servers: &[async_nats::Server]) {
        let failed = servers.iter().max_by_key(|server| server.failed_attempts);
        if let Some((server, error)) = failed.and_then(|server| Some((server, server.last_error.as_ref()?))) {
            self.failed(error, Some(server.addr.as_url_str()));
        }
    }

    /// Logs why there is no connection. An unchanged reason is repeated now and then.
    fn failed(&self, error: &str, server: Option<&str>) {
        let auth = self.credentials.newest();
        let reason = reason::explain(error, server, &self.config, &auth);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |(before, when): &(String, Instant)| *before == reason && when.elapsed() < SAY_AGAIN;
        if self.logs && !said.as_ref().is_some_and(is_old) {
            warn!(reason, "cannot connect to NATS, retrying");
            *said = Some((reason.clone(), Instant::now()));
        }
        self.trouble.send_replace(Some(reason));
    }

    fn note(&self, event: &Event) {
        let link = &self.link;
        match event {
            Event::Connected => {
                link.send_modify(|link| {
                    *link = Link {
                        connected: true,
                        generation: link.generation + 1,
                    }
                });
                self.trouble.send_replace(None);
                if link.borrow().generation > 1 {
                    info!("reconnected to NATS");
                }
            }
            Event::Disconnected => {
                link.send_modify(|link| link.connected = false);
                warn!("lost the connection to NATS, reconnecting");
            }
            Event::Closed => link.send_modify(|link| link.connected = false),
            // An attempt has failed, and `failed` says why.
            Event::ClientError(ClientError::Other(_)) if !link.borrow().connected => {}
            Event::ServerError(ServerError::Other(error)) if error.to_lowercase().contains("expired") => {
                self.failed(error, None);
            }
            Event::ServerError(ServerError::Other(error)) if self.denials.record(error, Instant::now()).is_some() => {
                // The health of the relay tells it, with the module.
                if !self.logs {
                    warn!(
                        error,
                        "NATS denies this user a permission; `slipring check --permissions` lists what is needed"
                    );
                }
            }
            Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                warn!(%event, "the NATS client reported a problem")
            }
            Event::LameDuckMode => info!("the NATS server is about to shut down (lame duck mode)"),
            Event::Draining => info!("draining the connection to NATS"),
        }
    }
}
