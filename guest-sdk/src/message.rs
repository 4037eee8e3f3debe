//! The message that a transform receives. A native test creates one with [`Message::new`] and the `with_…` functions.

use std::str;

use serde::Deserialize;

use crate::{Context as _, Error, Result, json, time};

/// A message from JetStream or Redis.
///
/// ```
/// use slipring_sdk::Message;
///
/// let message = Message::new("orders.eu.paid", r#"{"id":17}"#).with_header("Trace", "4bf9").with_sequence(42);
/// assert_eq!(message.token(1)?, "eu");
/// assert_eq!(message.header("Trace"), Some("4bf9"));
/// assert_eq!(message.sequence, 42);
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The subject that the message was published to, not the filter that it matched. In Redis, the key.
    pub subject: String,
    /// The bytes as they were published. See [`json`](Self::json) and [`text`](Self::text).
    pub payload: Vec<u8>,
    /// Names and values, sorted by name. The relay sorts them, so the same message always looks the same. A name
    /// may occur more than once; its values keep the order of the message. See [`header`](Self::header).
    pub headers: Vec<(String, String)>,
    /// The name of the stream. In Redis, the key.
    pub stream: String,
    /// The sequence in the stream. Sequences start at 1 and rise, with gaps for messages of other subjects. In Redis,
    /// the ID as one number, which rises too, or 0 if the ID does not fit.
    pub sequence: u64,
    /// The time at which the message was stored, in nanoseconds since 1970-01-01 UTC. For a list in Redis, the time at
    /// which the relay took it. The module's clock shows the same time. See [`timestamp_ms`](Self::timestamp_ms) and
    /// [`timestamp_rfc3339`](Self::timestamp_rfc3339).
    pub timestamp: u64,
    /// How often the message has been delivered. 1 is the first time. From Redis, it is 2 whenever the message is
    /// redelivered. The count is not a part of the message: output that depends on it differs between a message and its
    /// retry.
    pub deliveries: u32,
}

impl Message {
    /// Returns a message for a test, with no headers, stream `TEST`, sequence 1, timestamp 0, and on its first
    /// delivery.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("telemetry.pump-7", [0x01, 0xf4]);
    /// assert_eq!(message.payload, [0x01, 0xf4]);
    /// assert_eq!(message.deliveries, 1);
    /// ```
    pub fn new(subject: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            subject: subject.into(),
            payload: payload.into(),
            headers: Vec::new(),
            stream: "TEST".to_owned(),
            sequence: 1,
            timestamp: 0,
            deliveries: 1,
        }
    }

    /// Adds a header. You can add the same name more than once.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("a", "").with_header("Tag", "red").with_header("Tag", "round");
    /// assert_eq!(message.headers.len(), 2);
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the name of the stream.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// assert_eq!(Message::new("a", "").with_stream("ORDERS").stream, "ORDERS");
    /// ```
    #[must_use]
    pub fn with_stream(mut self, stream: impl Into<String>) -> Self {
        self.stream = stream.into();
        self
    }

    /// Sets the sequence in the stream.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// assert_eq!(Message::new("a", "").with_sequence(7).sequence, 7);
    /// ```
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Self {
        self.sequence = sequence;
        self
    }

    /// Sets the time at which the message was stored, in nanoseconds since 1970-01-01 UTC.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let second = 1_000_000_000;
    /// assert_eq!(Message::new("a", "").with_timestamp(5 * second).timestamp, 5_000_000_000);
    /// ```
    #[must_use]
    pub fn with_timestamp(mut self, nanoseconds: u64) -> Self {
        self.timestamp = nanoseconds;
        self
    }

    /// Sets how often the message has been delivered. 1 is the first time.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// assert_eq!(Message::new("a", "").with_deliveries(2).deliveries, 2);
    /// ```
    #[must_use]
    pub fn with_deliveries(mut self, deliveries: u32) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// Returns a token of the subject, which dots separate. The first one has the index 0.
    ///
    /// # Errors
    /// If the subject has fewer tokens.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("orders.eu.paid", "");
    /// assert_eq!((message.token(0)?, message.token(2)?), ("orders", "paid"));
    /// let error = message.token(3).unwrap_err().to_string();
    /// assert_eq!(error, "the subject \"orders.eu.paid\" has 3 tokens, so there is none with the index 3");
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn token(&self, index: usize) -> Result<&str> {
        self.subject.split('.').nth(index).with_context(|| {
            let (subject, count) = (&self.subject, self.subject.split('.').count());
            let tokens = if count == 1 { "token" } else { "tokens" };
            format!("the subject {subject:?} has {count} {tokens}, so there is none with the index {index}")
        })
    }

    /// Returns the [timestamp](Self::timestamp) in milliseconds since 1970, as JavaScript counts.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("a", "").with_timestamp(1_793_520_000_250_000_000);
    /// assert_eq!(message.timestamp_ms(), 1_793_520_000_250);
    /// ```
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp / 1_000_000
    }

    /// Returns the [timestamp](Self::timestamp) as text (RFC 3339), in UTC, with as many digits of the second as it
    /// has.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("a", "").with_timestamp(1_793_520_000_250_000_000);
    /// assert_eq!(message.timestamp_rfc3339(), "2026-11-01T08:00:00.25Z");
    /// ```
    pub fn timestamp_rfc3339(&self) -> String {
        time::rfc3339(self.timestamp)
    }

    /// Returns the payload as text.
    ///
    /// # Errors
    /// If the payload is not UTF-8. The error names the first byte that is not.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// assert_eq!(Message::new("a", "Grüße").text()?, "Grüße");
    /// assert!(Message::new("a", [b'a', 0xff]).text().is_err());
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn text(&self) -> Result<&str> {
        str::from_utf8(&self.payload)
            .map_err(|error| Error::msg(format_args!("the payload is not UTF-8 text: {error}")))
    }

    /// Reads the payload as JSON and returns the value. It may borrow from the message: a `&str` field costs no
    /// copy, but fails on a string with escapes. `Cow<str>` with `#[serde(borrow)]` accepts both.
    ///
    /// # Errors
    /// If the payload is empty, is not JSON, or is not the JSON that `T` expects. The error names the key and the
    /// position.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use slipring_sdk::Message;
    ///
    /// #[derive(Deserialize)]
    /// struct Order<'a> {
    ///     id: u64,
    ///     status: &'a str,
    /// }
    ///
    /// let message = Message::new("orders.paid", r#"{"id":17,"status":"paid"}"#);
    /// let order: Order = message.json()?;
    /// assert_eq!((order.id, order.status), (17, "paid"));
    ///
    /// let error = Message::new("orders.paid", r#"{"id":"17"}"#).json::<Order>().err().unwrap();
    /// assert!(error.to_string().contains("id: invalid type: string \"17\", expected u64"));
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        json::read("the payload", &self.payload)
    }

    /// Returns the kind of marker, or `None` for an ordinary message. A marker has no payload. It says that a key of
    /// a key-value bucket was deleted, or that JetStream removed the last message of the subject. Any key-value
    /// bucket may hold markers, and so may any stream whose messages expire, if it is configured to.
    ///
    /// ```
    /// use slipring_sdk::{Marker, Message, Output, Publication, Result};
    ///
    /// fn orders(message: &Message) -> Result<Output> {
    ///     if message.marker().is_some() {
    ///         // Subscribers learn that there is nothing any more. `Output::drop()` would leave the last state.
    ///         return Ok(Publication::json_text("orders:17", "null").into());
    ///     }
    ///     Ok(Publication::json_text("orders:17", message.text()?).into())
    /// }
    ///
    /// let message = Message::new("$KV.orders.17", "").with_header("Nats-Marker-Reason", "MaxAge");
    /// assert_eq!(message.marker(), Some(Marker::Expired));
    /// assert_eq!(orders(&message)?.publications()[0].body.text(), Some("null"));
    /// assert_eq!(Message::new("$KV.orders.17", "{}").marker(), None);
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn marker(&self) -> Option<Marker> {
        if let Some(reason) = self.header("Nats-Marker-Reason") {
            return Some(match reason {
                "MaxAge" => Marker::Expired,
                "Purge" => Marker::Purged,
                _ => Marker::Deleted,
            });
        }
        match self.header("KV-Operation")? {
            "DEL" => Some(Marker::Deleted),
            "PURGE" => Some(Marker::Purged),
            _ => None,
        }
    }

    /// Returns the first value of a header, if there is one. The name is case-sensitive, as it is in NATS and its
    /// clients.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("a", "").with_header("Nats-Msg-Id", "x1");
    /// assert_eq!(message.header("Nats-Msg-Id"), Some("x1"));
    /// assert_eq!(message.header("nats-msg-id"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Returns all values of a header, in the order of the message.
    ///
    /// ```
    /// use slipring_sdk::Message;
    ///
    /// let message = Message::new("a", "").with_header("Tag", "red").with_header("Tag", "round");
    /// assert_eq!(message.header_values("Tag").collect::<Vec<_>>(), ["red", "round"]);
    /// ```
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The reason for a [marker](Message::marker).
///
/// ```
/// use slipring_sdk::{Marker, Message};
///
/// let message = Message::new("$KV.orders.17", "").with_header("KV-Operation", "DEL");
/// assert_eq!(message.marker(), Some(Marker::Deleted));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Marker {
    /// Somebody deleted the key, or the last message of the subject.
    Deleted,
    /// Somebody purged the key or the subject, with all earlier messages.
    Purged,
    /// The key, or the last message of the subject, expired.
    Expired,
}
