//! Publishes an event to the channel of each user that it concerns, `notifications:user-<id>`: a broadcast.
//!
//! The example shows how to publish to many channels at once, borrow from the message instead of copying, use the
//! message's timestamp as the clock, and add tags, which let a subscriber filter without reading the data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use slipring_sdk::prelude::*;

#[derive(Deserialize)]
struct Event<'a> {
    kind: &'a str,
    actor: u64,
    /// `Cow`, because a string with an escape such as `\n` cannot be borrowed.
    #[serde(borrow)]
    text: Cow<'a, str>,
    /// All followers, who may include the actor.
    followers: Vec<u64>,
}

/// The data that subscribers see.
#[derive(Serialize)]
struct Notification<'a> {
    text: &'a str,
    /// Milliseconds since 1970.
    at: u64,
}

#[transform]
fn notifications(message: &Message) -> Result<Output> {
    let event: Event = message.json()?;
    // They may turn out to be none. A publication without channels is left out.
    let others = event.followers.iter().filter(|user| **user != event.actor);
    let channels: Channels = others.map(|user| format!("notifications:user-{user}")).collect();
    let notification = Notification {
        text: &event.text,
        at: message.timestamp_ms(),
    };
    let publication = Publication::json(channels, &notification)?
        .tag("kind", event.kind)
        .tag("actor", event.actor.to_string());
    Ok(publication.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_but_the_actor_is_notified() -> Result<()> {
        let payload = r#"{"kind":"comment","actor":17,"text":"Nice!\nReally.","followers":[17,23,42]}"#;
        let output = notifications(&Message::new("notifications.comment", payload).with_timestamp(1_500_000_000))?;
        let expected = Publication::json_text(
            ["notifications:user-23", "notifications:user-42"],
            r#"{"text":"Nice!\nReally.","at":1500}"#,
        );
        assert_eq!(output, expected.tag("kind", "comment").tag("actor", "17").into());
        Ok(())
    }

    #[test]
    fn who_talks_to_themselves_notifies_nobody() -> Result<()> {
        let payload = r#"{"kind":"like","actor":17,"text":"17 liked it","followers":[17]}"#;
        assert_eq!(
            notifications(&Message::new("notifications.like", payload))?,
            Output::drop()
        );
        Ok(())
    }

    #[test]
    fn the_samples_are_events() -> Result<()> {
        let outputs: Vec<Output> = slipring_sdk::samples(include_str!("../samples.jsonl"))?
            .iter()
            .map(notifications)
            .collect::<Result<_>>()?;
        let channels: Vec<usize> = outputs
            .iter()
            .map(|output| output.publications().iter().map(|one| one.channels.len()).sum())
            .collect();
        assert_eq!(channels, [2, 1, 0, 3]);
        Ok(())
    }
}
