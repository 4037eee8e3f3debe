//! The connection to NATS that all pipelines share. It waits for a server at the start and reconnects by itself. It
//! reports every lost connection, because deliveries of the old connection cannot be relied on after that. Deliveries
//! come over connections of their own (`nats/wire.rs`).

pub mod denials;
pub mod headers;
pub mod raw;
pub mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{ConnectOptions, Event, ServerError};
use tokio::sync::watch;
use tracing::{info, warn};

use self::denials::Denials;
use crate::config::{Nats as Config, NatsAuth};

/// A connection that stays up once it was made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Nats {
    pub client: async_nats::Client,
    pub jetstream: jetstream::Context,
    pub link: watch::Receiver<Link>,
    /// The permissions that were found missing, on this connection and on those beside it.
    pub denials: Arc<Denials>,
    /// The settings for further connections beside this one.
    pub config: Arc<Config>,
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
    #[error("reading the NATS credentials failed")]
    Credentials(#[source] std::io::Error),
    #[error(
        "no connection to NATS at {servers} within {limit:?}; check that it is running and that `nats.servers` is right"
    )]
    Unreachable {
        servers: String,
        limit: Duration,
        /// The error of the last attempt, if one has ended.
        source: Option<async_nats::ConnectError>,
    },
}

/// The longest pause between two attempts to connect.
const MAX_CONNECT_DELAY: Duration = Duration::from_secs(5);

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

/// How many commands, mostly acks, may wait for the connection's task.
const CLIENT_CAPACITY: usize = 16_384;

/// Connects, and waits for a server if there is none. Returns an error early only if waiting cannot help.
pub async fn connect(config: &Config) -> Result<Nats, ConnectError> {
    let servers = config.servers.join(", ");
    let mut said: Option<(String, Instant)> = None;
    connect_by(config, |error| {
        let text = error.to_string();
        // An unchanged state is repeated now and then.
        if said
            .as_ref()
            .is_none_or(|(before, when)| *before != text || when.elapsed() >= SAY_AGAIN)
        {
            warn!(
                servers,
                error = text,
                "cannot connect to NATS, retrying; check `nats.servers`"
            );
            said = Some((text, Instant::now()));
        }
    })
    .await
}

/// Connects, and waits at most `limit`.
pub async fn connect_within(config: &Config, limit: Duration) -> Result<Nats, ConnectError> {
    let mut last = None;
    let connecting = connect_by(config, |error| last = Some(error));
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::Unreachable {
            servers: config.servers.join(", "),
            limit,
            source: last,
        }),
    }
}

async fn connect_by(config: &Config, mut failed: impl FnMut(async_nats::ConnectError)) -> Result<Nats, ConnectError> {
    let (sender, link) = watch::channel(Link::default());
    let denials = Arc::<Denials>::default();
    let mut attempt = 0;
    let client = loop {
        let options = options(config, sender.clone(), Arc::clone(&denials))?;
        match options.connect(config.servers.as_slice()).await {
            Ok(client) => break client,
            Err(error) => failed(error),
        }
        tokio::time::sleep(connect_delay(attempt)).await;
        attempt += 1;
    };
    let server = client.server_info();
    info!(
        server = server.server_name,
        version = server.version,
        "connected to NATS"
    );
    Ok(Nats {
        jetstream: jetstream::new(client.clone()),
        client,
        link,
        denials,
        config: Arc::new(config.clone()),
    })
}

fn options(config: &Config, link: watch::Sender<Link>, denials: Arc<Denials>) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name("slipring")
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .client_capacity(CLIENT_CAPACITY)
        // A dead peer is noticed after two intervals without a reply.
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            note(&event, &link, &denials);
            std::future::ready(())
        });
    if let Some(file) = &config.tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match &config.auth {
        NatsAuth::None => options,
        NatsAuth::Credentials(text) => options.credentials(text.expose()).map_err(ConnectError::Credentials)?,
        NatsAuth::NKey(seed) => options.nkey(seed.expose().to_owned()),
        NatsAuth::Token(token) => options.token(token.expose().to_owned()),
        NatsAuth::User { user, password } => options.user_and_password(user.clone(), password.expose().to_owned()),
    })
}

/// async-nats also asks for a delay before its first attempt, which is number 1.
fn reconnect_delay(attempt: usize) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        attempt => connect_delay(attempt),
    }
}

fn connect_delay(attempt: usize) -> Duration {
    let factor = 1_u32 << attempt.min(10);
    (Duration::from_millis(100) * factor).min(MAX_CONNECT_DELAY)
}

fn note(event: &Event, link: &watch::Sender<Link>, denials: &Denials) {
    match event {
        Event::Connected => {
            link.send_modify(|link| {
                *link = Link {
                    connected: true,
                    generation: link.generation + 1,
                }
            });
            if link.borrow().generation > 1 {
                info!("reconnected to NATS");
            }
        }
        Event::Disconnected => {
            link.send_modify(|link| link.connected = false);
            warn!("lost the connection to NATS, reconnecting");
        }
        Event::Closed => link.send_modify(|link| link.connected = false),
        Event::ServerError(ServerError::Other(error)) if denials.record(error, Instant::now()) => {
            warn!(
                error,
                "NATS denies this user a permission; `slipring check --permissions` lists what is needed"
            );
        }
        Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
            warn!(%event, "the NATS client reported a problem")
        }
        Event::LameDuckMode => info!("the NATS server is about to shut down (lame duck mode)"),
        Event::Draining => info!("draining the connection to NATS"),
    }
}
