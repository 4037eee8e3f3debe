//! What a transform is given. A native test makes one with [`Message::new`] and the `with_…` functions.

use std::str;

use serde::Deserialize;

use crate::{Error, Result, json};

/// What JetStream delivered.
///
/// ```
/// use slipring_sdk::Message;
///
/// let message = Message::new("orders.eu.paid", r#"{"id":17}"#).with_header("Trace", "4bf9").with_sequence(42);
/// assert_eq!(message.subject.split('.').nth(1), Some("eu"));
/// assert_eq!(message.header("Trace"), Some("4bf9"));
/// assert_eq!(message.sequence, 42);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The subject that it was published to, not the filter that it matched.
    pub subject: String,
    /// The bytes as published; see [`json`](Self::json) and [`text`](Self::text).
    pub payload: Vec<u8>,
    /// Names and values, by name in alphabetical order: the relay sorts them, so that the same message always looks the same. A name may
    /// come more than once, with its values in the order of the message; see [`header`](Self::header).
    pub headers: Vec<(String, String)>,
    /// The stream's name.
    pub stream: String,
    /// The sequence in the stream: from 1, rising, with gaps where other subjects are.
    pub sequence: u64,
    /// When JetStream stored it, in nanoseconds since 1970-01-01 UTC. This is also where the module's clock stands.
    pub timestamp: u64,
    /// How often JetStream has delivered it: 1 the first time. Not a part of the message: output that depends on it differs
    /// between a message and its retry.
    pub deliveries: u32,
}

impl Message {
    /// A message for a test: no headers, stream `TEST`, sequence 1, timestamp 0, first delivery.
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

    /// Adds a header; the same name may be added again.
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

    /// Sets the stream's name.
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

    /// Sets when it was stored, in nanoseconds since 1970-01-01 UTC.
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

    /// Sets how often it has been delivered; 1 is the first time.
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

    /// The payload as text.
    ///
    /// # Errors
    /// If it is not UTF-8; the error says from which byte on.
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

    /// The payload read as JSON. The result may borrow from the message: a `&str` field costs no copy (but refuses a text with
    /// escapes; `Cow<str>` with `#[serde(borrow)]` takes both).
    ///
    /// # Errors
    /// If it is empty, not JSON, or other JSON than `T` expects. The error names the key and the place.
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

    /// Why the message is a marker, if it is one. A marker has no payload: it says that a key of a key-value bucket was deleted, or that
    /// JetStream removed the last message of the subject. Every stream whose messages expire may hold them, if it is configured so, and
    /// every key-value bucket.
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

    /// The first value of a header. Upper and lower case differ, as they do for NATS itself and its clients.
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

    /// Every value of a header, in the order of the message.
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

/// What a [marker](Message::marker) stands for.
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
    /// Somebody purged the key or the subject, with all that was there before.
    Purged,
    /// The time of the key, or of the last message of the subject, ran out.
    Expired,
}
