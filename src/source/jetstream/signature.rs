//! The name of the active relay, in the consumer's metadata. JetStream tells only the ID of the pin, so the name is
//! written beside that ID, and a name that an earlier pin has left names nobody.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{FromConsumer, Info, pull};
use async_nats::jetstream::stream::Stream;
use tokio::time::timeout;
use tracing::{debug, info};

use super::super::Active;
use super::pin::Pin;
use crate::nats::Nats;

const KEY: &str = "slipring-active";

/// How long writing the name may delay an epoch. What NATS does not allow gets no reply.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns who is pinned, as the consumer says.
pub(super) fn active(info: &Info) -> Active {
    let groups = info.priority_groups.iter();
    let pinned = groups.filter_map(|group| group.pinned_client_id.as_deref()).next();
    let signature = info.config.metadata.get(KEY);
    read(pinned, signature.map(String::as_str))
}

fn read(pinned: Option<&str>, signature: Option<&str>) -> Active {
    let Some(pinned) = pinned else {
        return Active::Nobody;
    };
    match signature.and_then(|signature| signature.split_once(' ')) {
        Some((id, name)) if id == pinned => Active::named(name),
        _ => Active::Unnamed,
    }
}

/// Writes the name of this relay beside its pin. Nothing depends on it, so any failure is left at that, until the next
/// pin. `info` has the consumer's newest settings, which stay as they are.
pub(super) async fn write(nats: &Nats, stream: &Stream, info: &Info, pin: &Pin, name: &str) {
    let signature = format!("{} {name}", pin.id());
    if pin.is_nameless() || info.config.metadata.get(KEY) == Some(&signature) {
        return;
    }
    // Another relay may have changed the consumer since.
    if !pin.lease().is_valid(Instant::now()) {
        return;
    }
    let Ok(mut signed) = pull::Config::try_from_consumer_config(info.config.clone()) else {
        return;
    };
    signed.metadata.insert(KEY.to_owned(), signature);
    // A relay may do without the permission to change its consumer.
    let _tolerated = nats
        .denials
        .tolerate(nats.create_subject(&info.stream_name, &info.name));
    let reason = match timeout(PATIENCE, stream.update_consumer(signed)).await {
        Ok(Ok(_)) => {
            debug!(consumer = info.name, name, "wrote this relay's name into the consumer");
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "NATS did not reply, or does not allow it".to_owned(),
    };
    pin.stays_nameless();
    info!(
        consumer = info.name,
        reason, "the relays that stand by do not learn this relay's name, as it cannot write it into the consumer"
    );
}

/// Removes what was written. Without standby nobody reads it.
pub(super) fn remove(consumer: &mut pull::Config) {
    consumer.metadata.remove(KEY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_only_for_its_own_pin() {
        for (pinned, signature, expected) in [
            (None, None, Active::Nobody),
            (None, Some("abc web-1"), Active::Nobody),
            (Some("abc"), None, Active::Unnamed),
            (Some("abc"), Some("xyz web-1"), Active::Unnamed),
            (Some("abc"), Some("abc"), Active::Unnamed),
            (
                Some("abc"),
                Some("abc web-1 (process 7)"),
                Active::named("web-1 (process 7)"),
            ),
        ] {
            assert_eq!(read(pinned, signature), expected, "{pinned:?}, {signature:?}");
        }
    }
}
