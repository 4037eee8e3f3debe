//! Takes the lease, prepares what is read, and renews the lease for as long as an epoch lasts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;
use slipring_core::place::Place;
use slipring_core::read::{self, Again, Incarnation, Position};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::super::standing_by::Teller;
use super::super::{Active, Lease};
use super::entry::id;
use super::epoch::{Epoch, EpochEnd, Found, Other, Setup, WAIT_SECONDS};
use super::keys::Keys;
use super::reply::text;
use super::{holder, scripts};
use crate::config::Deliver;
use crate::redis::{Error, Facts, Server};

/// How many times a lease is renewed within its time-to-live.
const RENEWALS: u32 = 5;

/// A relay that waits for the lease has looked at it less long ago, unless it was frozen.
const STALE: Duration = Duration::from_secs(2);

/// Waits for the lease, and prepares what is read. `standing_by` is told while another relay has the lease. If Redis has
/// forgotten what was settled, reading resumes at `position`.
pub(super) async fn begin(
    setup: Arc<Setup>,
    number: u64,
    position: Option<Position>,
    standing_by: Teller,
) -> Result<Epoch, Error> {
    let begun = take_the_lease(&setup, number, position, standing_by).await;
    if begun.is_err()
        && let Some(other) = &mut *setup.other()
    {
        other.doubt(Instant::now(), setup.ttl);
    }
    begun
}

async fn take_the_lease(
    setup: &Arc<Setup>,
    number: u64,
    position: Option<Position>,
    standing_by: Teller,
) -> Result<Epoch, Error> {
    let token: Arc<str> = format!("{}.{number}", setup.reader).into();
    let server = setup.server.as_ref().ok_or(Error::NotConfigured)?;
    let mut connection = server.connect(&setup.keys.source).await?;
    let wait = Duration::from_secs(WAIT_SECONDS.into());
    let waiter = server.connect_to_wait(&setup.keys.source, wait).await?;
    look_at(setup, server, &connection).await?;
    let Keys {
        lease,
        state,
        source,
        taken,
    } = &setup.keys;
    let fresh: i128 = (i128::from(fastrand::u64(1..)) << 32) | i128::from(fastrand::u32(..));
    let start = match setup.deliver {
        Deliver::New => "$".to_owned(),
        Deliver::All | Deliver::Sequence(_) => Place::Id(0, 0).to_string(),
        // The group begins after this ID.
        Deliver::Since(time) => match u64::try_from(time.as_millisecond()) {
            Ok(0) | Err(_) => Place::Id(0, 0).to_string(),
            Ok(milliseconds) => Place::Id(milliseconds, 0).previous().to_string(),
        },
    };
    let known = setup.newest().known();
    // Before the first message, `newest` is where reading began.
    let own = position
        .map(|position| position.next.previous())
        .or(known.map(|(_, newest)| newest));
    let (known, newest) = known.map_or_else(Default::default, |(incarnation, newest)| {
        (incarnation.0.to_string(), newest.to_string())
    });
    loop {
        let sent = Instant::now();
        let other = {
            let mut other = setup.other();
            if let Some(other) = other.as_mut().filter(|other| sent - other.seen > STALE) {
                other.doubt(sent, setup.ttl);
            }
            other.clone()
        };
        let lasts = other.as_ref().map(|other| other.until.saturating_duration_since(sent));
        let lasts = lasts.unwrap_or_default();
        let resume = own.max(other.as_ref().and_then(|other| other.settled));
        let (other, since) = other.map_or_else(Default::default, |other| (other.reader, other.epoch));
        let reply = scripts::BEGIN
            .key(lease)
            .key(state)
            .key(source)
            .key(taken)
            .arg(&setup.reader)
            .arg(&*token)
            .arg(setup.ttl_ms())
            .arg(i32::from(!setup.shared))
            .arg(fresh.to_string())
            .arg(setup.kind())
            .arg(&newest)
            .arg(&known)
            .arg(&setup.group)
            .arg(&start)
            .arg(resume.map_or_else(String::new, |place| place.to_string()))
            .arg(other)
            .arg(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX))
            .arg(since)
            .invoke_async::<Vec<Value>>(&mut connection)
            .await
            .map_err(|error| server.error(&format!("taking the lease of `{source}` in Redis"), error))?;
        let words: Vec<Option<String>> = reply.iter().map(text).collect();
        let word = |at: usize| words.get(at).and_then(Option::as_deref);
        match word(0) {
            Some("held") => {
                let now = Instant::now();
                let known = (word(1), word(2).and_then(|milliseconds| milliseconds.parse().ok()));
                if let (Some(reader), Some(milliseconds)) = known {
                    *setup.other() = Some(Other {
                        reader: reader.to_owned(),
                        epoch: number,
                        settled: reply.get(3).and_then(id),
                        seen: now,
                        until: now + Duration::from_millis(milliseconds),
                        is_unsure: false,
                    });
                } else if let Some(other) = &mut *setup.other() {
                    other.seen = now;
                    // A lease that ends by itself ends about when it should.
                    if lasts > setup.ttl / 10 {
                        other.doubt(now, setup.ttl);
                    }
                }
                let other = setup.other().as_ref().map(|other| holder::active(&other.reader));
                standing_by.stands_by(other.unwrap_or(Active::Unnamed));
                sleep((setup.ttl / RENEWALS / 2).min(Duration::from_millis(500))).await;
            }
            Some("kind") => {
                return Err(Error::Kind {
                    key: source.clone(),
                    found: word(1).unwrap_or_default().to_owned(),
                    wanted: setup.kind(),
                });
            }
            Some("ok") => {
                let incarnation = word(1).and_then(|number| number.parse().ok());
                let numbers = (incarnation, word(4).and_then(|number| number.parse().ok()));
                let ids = (reply.get(3).and_then(id), reply.get(5).and_then(id));
                let ((Some(incarnation), Some(messages)), (Some(settled), Some(through))) = (numbers, ids) else {
                    return Err(Error::Reply("begin.lua"));
                };
                match word(2) {
                    Some("group") => warn!(
                        key = source,
                        group = setup.group,
                        id = %settled,
                        "the consumer group was deleted; created it again after the last settled entry"
                    ),
                    Some("recreated") => warn!(
                        key = source,
                        "the stream in Redis was deleted and created again; reading it from its beginning"
                    ),
                    Some("behind") => warn!(
                        key = source,
                        newest, "Redis has lost messages that were read already, so some may be published again"
                    ),
                    Some("new") => {
                        let older = redis::cmd("XLEN").arg(source).query_async(&mut connection).await;
                        // Nothing depends on it.
                        let older: u64 = older.unwrap_or(0);
                        if older > 0 {
                            info!(
                                key = source,
                                group = setup.group,
                                older,
                                "begins with new messages and leaves out the older ones; to read these too, set `deliver = \"all\"` and \
                                 another `group` in the module's .toml"
                            );
                        }
                    }
                    _ => {}
                }
                if setup.shared {
                    info!(
                        key = source,
                        "reading from Redis; other relays stand by until this one stops"
                    );
                }
                setup.newest().handed_on(Incarnation(incarnation), settled);
                *setup.other() = None;
                standing_by.is_active();
                let (sender, lease) = Lease::new(read::Lease::given(sent, setup.ttl));
                let (tell, lost) = watch::channel(None);
                let renewing = renew(
                    Arc::clone(setup),
                    Arc::clone(&token),
                    connection.clone(),
                    sender,
                    tell.clone(),
                );
                return Ok(Epoch::new(
                    Arc::clone(setup),
                    token,
                    Found {
                        incarnation: Incarnation(incarnation),
                        again: Again { messages, through },
                        settled,
                    },
                    lease,
                    (connection, waiter),
                    (tell, lost),
                    AbortOnDropHandle::new(tokio::spawn(renewing)),
                ));
            }
            _ => return Err(Error::Reply("begin.lua")),
        }
    }
}

/// Refuses a server that cannot be used, and says once what weakens a promise.
async fn look_at(setup: &Setup, server: &Server, connection: &MultiplexedConnection) -> Result<(), Error> {
    let facts = Facts::ask(connection.clone()).await;
    let facts = facts.map_err(|error| server.error("reading the settings of Redis", error))?;
    if let Some(refusal) = facts.refusal() {
        return Err(Error::Refused(refusal));
    }
    if !setup.looked_at.swap(true, Ordering::Relaxed) {
        for warning in facts.warnings() {
            warn!(key = setup.keys.source, server = facts.name, "{warning}");
        }
    }
    Ok(())
}

/// Renews the lease until it is lost.
async fn renew(
    setup: Arc<Setup>,
    token: Arc<str>,
    mut connection: MultiplexedConnection,
    lease: watch::Sender<read::Lease>,
    tell: watch::Sender<Option<EpochEnd>>,
) {
    loop {
        sleep(setup.ttl / RENEWALS).await;
        let sent = Instant::now();
        let reply = scripts::RENEW
            .key(&setup.keys.lease)
            .key(&setup.keys.state)
            .arg(&*token)
            .arg(setup.ttl_ms())
            .invoke_async::<String>(&mut connection)
            .await;
        match reply.as_deref() {
            Ok("ok") => {
                lease.send_if_modified(|lease| lease.renewed(Instant::now(), sent));
            }
            Ok(_) => lease.send_modify(|lease| lease.lost(Instant::now())),
            Err(error) => {
                // The next epoch may still have the lease in time.
                debug!(error = error as &dyn std::error::Error, "the lease was not renewed");
                tell.send_replace(Some(setup.end_of("renewing the lease in Redis", error.clone())));
                return;
            }
        }
        if !lease.borrow().is_valid(Instant::now()) {
            tell.send_replace(Some(setup.taken()));
            return;
        }
    }
}
