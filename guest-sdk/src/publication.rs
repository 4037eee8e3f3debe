//! The data that a transform sends to Centrifugo. A constructor creates a publication, and functions set its fields.

use serde::{Deserialize, Serialize};

use crate::{Channels, Error, Result, json};

/// One piece of data for one channel, or for several (a broadcast).
///
/// Read the fields in tests. To set them, use the functions of the same names.
///
/// ```
/// use slipring_sdk::Publication;
///
/// let publication = Publication::json("orders:17", &["paid"])?.version(3).tag("kind", "order");
/// assert_eq!(publication.channels, ["orders:17"]);
/// assert_eq!(publication.body.text(), Some(r#"["paid"]"#));
/// assert_eq!(publication.version, Some(3));
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// A publication without channels is left out, so a list of channels may turn out to be empty.
///
/// The relay rejects the message if a publication has
///
/// - a channel with an empty name, or with one of more than 255 bytes,
/// - a JSON body that is not JSON or is nested deeper than 9,990 levels,
/// - a version of 0, or of 2^53 or more.
///
/// The relay publishes the following, but warns once, because clients receive it only with some configurations of
/// Centrifugo: a channel with characters beyond ASCII, a binary body, or a body of more than a megabyte.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// One channel is a publish, several are a broadcast, none publishes nothing.
    pub channels: Vec<String>,
    /// The data that subscribers receive.
    pub body: Body,
    /// See [`version`](Self::version()).
    pub version: Option<u64>,
    /// See [`version_epoch`](Self::version_epoch()).
    pub version_epoch: Option<String>,
    /// Names and values. See [`tag`](Self::tag).
    pub tags: Vec<(String, String)>,
    /// See [`idempotency_key`](Self::idempotency_key()).
    pub idempotency_key: Option<String>,
    /// See [`delta`](Self::delta()).
    pub delta: bool,
    /// See [`skip_history`](Self::skip_history()).
    pub skip_history: bool,
}

impl Publication {
    /// Returns a publication of `value`, written as JSON.
    ///
    /// # Errors
    /// If `value` cannot be written as JSON: it has a map whose keys are neither strings nor numbers, or your own
    /// `Serialize` fails.
    ///
    /// ```
    /// use serde::Serialize;
    /// use slipring_sdk::Publication;
    ///
    /// #[derive(Serialize)]
    /// struct Order {
    ///     status: &'static str,
    /// }
    ///
    /// let publication = Publication::json("orders:17", &Order { status: "paid" })?;
    /// assert_eq!(publication.body.text(), Some(r#"{"status":"paid"}"#));
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn json(channels: impl Into<Channels>, value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = serde_json::to_string(value)
            .map_err(|error| Error::from(error).context("a publication cannot be written as JSON"))?;
        Ok(Self::new(channels.into(), Body::Json(text)))
    }

    /// Returns a publication of a text that is already JSON. The relay checks the text, and rejects the message if
    /// it is not JSON.
    ///
    /// ```
    /// use slipring_sdk::{Message, Publication};
    ///
    /// let message = Message::new("orders.paid", r#"{"id":17}"#);
    /// let publication = Publication::json_text("orders:17", message.text()?);
    /// assert_eq!(publication.body.text(), Some(r#"{"id":17}"#));
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn json_text(channels: impl Into<Channels>, text: impl Into<String>) -> Self {
        Self::new(channels.into(), Body::Json(text.into()))
    }

    /// Returns a publication of bytes, for clients that speak Centrifugo's Protobuf protocol.
    ///
    /// By default, clients speak JSON. Centrifugo closes the connection of each subscriber that does, with code
    /// 3506, and such a client does not reconnect. So one binary publication costs it all of its channels. In
    /// centrifuge-js, `import { Centrifuge } from "centrifuge/build/protobuf"` speaks Protobuf.
    ///
    /// ```
    /// use slipring_sdk::{Body, Publication};
    ///
    /// let publication = Publication::binary("telemetry:pump-7", [0x01, 0xf4]);
    /// assert_eq!(publication.body, Body::Binary(vec![0x01, 0xf4]));
    /// ```
    pub fn binary(channels: impl Into<Channels>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(channels.into(), Body::Binary(bytes.into()))
    }

    fn new(channels: Channels, body: Body) -> Self {
        Self {
            channels: channels.into_names(),
            body,
            version: None,
            version_epoch: None,
            tags: Vec::new(),
            idempotency_key: None,
            delta: false,
            skip_history: false,
        }
    }

    /// Sets the version of the data, from 1 to 2^53 - 1. Centrifugo suppresses a publication whose version is not
    /// above the channel's last one, so an old state never replaces a newer one.
    ///
    /// The channel needs history, and each of its publications must be a complete state whose version only rises.
    /// For Centrifugo, 0 means no version: if your numbers start at 0, add 1.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// assert_eq!(Publication::json_text("orders:17", "{}").version(3).version, Some(3));
    /// ```
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets the epoch of the version. In another epoch, versions may start again from a lower number. An empty epoch
    /// is none.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// let publication = Publication::json_text("orders:17", "{}").version(1).version_epoch("import-2");
    /// assert_eq!(publication.version_epoch.as_deref(), Some("import-2"));
    /// ```
    #[must_use]
    pub fn version_epoch(mut self, epoch: impl Into<String>) -> Self {
        self.version_epoch = Some(epoch.into());
        self
    }

    /// Sets a tag. Subscribers receive tags beside the data, and Centrifugo can filter by them. A name has one
    /// value, the last one that you set.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// let publication = Publication::json_text("news:all", "{}").tag("kind", "sport").tag("kind", "arts");
    /// assert_eq!(publication.tags, [("kind".to_string(), "arts".to_string())]);
    /// ```
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.tags.retain(|(other, _)| *other != name);
        self.tags.push((name, value.into()));
        self
    }

    /// Sets the key by which Centrifugo recognises a repeat, for 5 minutes. It replaces the relay's own key, which
    /// comes from the message's position in its stream. Set a key if the stream may contain the same event twice.
    /// With an empty key, the relay sends its own.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// let publication = Publication::json_text("orders:17", "{}").idempotency_key("order-17-paid");
    /// assert_eq!(publication.idempotency_key.as_deref(), Some("order-17-paid"));
    /// ```
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// If true, Centrifugo sends only the difference from the channel's previous publication, to subscribers that
    /// negotiated it.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// assert!(Publication::json_text("board:1", "{}").delta(true).delta);
    /// ```
    #[must_use]
    pub fn delta(mut self, delta: bool) -> Self {
        self.delta = delta;
        self
    }

    /// If true, Centrifugo keeps the publication out of the channel's history, so only subscribers that are
    /// connected at the moment receive it.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// assert!(Publication::json_text("typing:room-1", "{}").skip_history(true).skip_history);
    /// ```
    #[must_use]
    pub fn skip_history(mut self, skip_history: bool) -> Self {
        self.skip_history = skip_history;
        self
    }
}

/// The data that subscribers receive.
///
/// ```
/// use slipring_sdk::{Body, Publication};
///
/// assert_eq!(Publication::json_text("a", "[1]").body, Body::Json("[1]".to_string()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A JSON text, which the relay passes on unchanged.
    Json(String),
    /// Bytes, for clients that speak the Protobuf protocol.
    Binary(Vec<u8>),
}

impl Body {
    /// Returns the JSON text, or `None` if the body is binary.
    ///
    /// ```
    /// use slipring_sdk::Publication;
    ///
    /// assert_eq!(Publication::json_text("a", "[1]").body.text(), Some("[1]"));
    /// assert_eq!(Publication::binary("a", [1]).body.text(), None);
    /// ```
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Json(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Reads the JSON and returns the value, for a test.
    ///
    /// # Errors
    /// If the body is binary, is not JSON, or is not the JSON that `T` expects.
    ///
    /// ```
    /// use slipring_sdk::{Publication, Value, json};
    ///
    /// let publication = Publication::json_text("a", r#"{ "id": 17 }"#);
    /// assert_eq!(publication.body.json::<Value>()?, json!({ "id": 17 }));
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        match self {
            Self::Json(text) => json::read("the publication's body", text.as_bytes()),
            Self::Binary(_) => Err(Error::msg("the publication's body is binary, not JSON")),
        }
    }
}
