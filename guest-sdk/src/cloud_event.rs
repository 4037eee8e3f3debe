//! Reads CloudEvents 1.0 as their NATS protocol binding describes them, in both of its modes.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Context as _, Error, Message, Result, Value, bail, ensure, from_json, json};

/// An event with the attributes of the [CloudEvents specification](https://cloudevents.io). See
/// [`Message::cloud_event`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudEvent<'a> {
    /// Together with [`source`](Self::source), it identifies the event.
    pub id: String,
    /// The context in which the event happened, as a URI reference.
    pub source: String,
    /// The attribute `type`, for example `com.example.order.paid`.
    pub event_type: String,
    /// What the event is about, in the context of its source.
    pub subject: Option<String>,
    /// When it happened, as text (RFC 3339).
    pub time: Option<String>,
    /// The media type of the data. Without one, it is JSON.
    pub data_content_type: Option<String>,
    /// The schema of the data, as a URI.
    pub data_schema: Option<String>,
    /// All other attributes by name, as text.
    pub extensions: BTreeMap<String, String>,
    /// The data. It is empty if the event has none. See [`json`](Self::json) and [`text`](Self::text).
    pub data: Cow<'a, [u8]>,
}

impl CloudEvent<'_> {
    /// Reads the data as JSON.
    ///
    /// # Errors
    /// If there is no data, or it is not the JSON that `T` expects. The error names the key.
    pub fn json<'de, T: Deserialize<'de>>(&'de self) -> Result<T> {
        from_json("the event's data", &self.data)
    }

    /// Returns the data as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.data).context("the event's data is not UTF-8 text")
    }
}

impl Message {
    /// Reads the message as a CloudEvent. In the binary mode, its attributes are headers (`ce-id`) and the payload is
    /// its data. In the structured mode, the payload is a JSON object with all of it.
    ///
    /// It needs the feature `cloudevents` of this crate.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use slipring_sdk::prelude::*;
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     id: u64,
    /// }
    ///
    /// #[transform]
    /// fn orders(message: &Message) -> Result<Publication> {
    ///     let event = message.cloud_event()?;
    ///     let order: Order = event.json()?;
    ///     Ok(Publication::json(format!("orders:{}", order.id), &event.event_type)?.idempotency_key(event.id))
    /// }
    ///
    /// let structured = Message::new(
    ///     "orders",
    ///     r#"{"specversion":"1.0","type":"com.example.paid","source":"/shop","id":"A-1","data":{"id":17}}"#,
    /// )
    /// .with_header("Content-Type", "application/cloudevents+json");
    /// let binary = Message::new("orders", r#"{"id":17}"#)
    ///     .with_header("ce-specversion", "1.0")
    ///     .with_header("ce-type", "com.example.paid")
    ///     .with_header("ce-source", "/shop")
    ///     .with_header("ce-id", "A-1");
    /// assert_eq!(orders(&structured)?, orders(&binary)?);
    /// assert_eq!(orders(&binary)?.channels, ["orders:17"]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// If the message is no CloudEvent of version 1, if an attribute that it must have is missing, or if an attribute
    /// or the data are not encoded as the specification says. A batch of events is refused.
    pub fn cloud_event(&self) -> Result<CloudEvent<'_>> {
        let content_type = self.header_in_any_case("content-type").unwrap_or_default();
        let content_type = content_type.to_ascii_lowercase();
        if content_type.starts_with("application/cloudevents-batch") {
            bail!("the message is a batch of CloudEvents, which the SDK does not read");
        }
        let is_binary = self.header_in_any_case("ce-specversion").is_some();
        // A publisher without headers can only mean the structured mode.
        if content_type.starts_with("application/cloudevents") || !is_binary {
            return structured(&self.payload);
        }
        binary(self, (!content_type.is_empty()).then_some(content_type))
    }

    /// NATS and its clients do not change names of headers, but clients of HTTP do, and gateways pass them on.
    fn header_in_any_case(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

fn structured(payload: &[u8]) -> Result<CloudEvent<'_>> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        json::read("the payload", payload).context("the message is no CloudEvent")?;
    let mut attributes = BTreeMap::new();
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in members {
        match name.as_ref() {
            "data" => data = Some(value.get()),
            "data_base64" => data_base64 = Some(value.get()),
            _ => {
                let value = attribute(from_json(&name, value.get())?).with_context(|| name.clone())?;
                attributes.extend(value.map(|value| (name.into_owned(), value)));
            }
        }
    }
    let mut event = event(attributes)?;
    event.data = match (data, data_base64) {
        (Some(_), Some(_)) => bail!("the event has both `data` and `data_base64`"),
        (None, None) => Cow::default(),
        (None, Some(text)) => {
            let text: String = from_json("data_base64", text)?;
            Cow::Owned(STANDARD.decode(text).context("data_base64")?)
        }
        (Some(json), None) if is_json(event.data_content_type.as_deref()) => Cow::Borrowed(json.as_bytes()),
        (Some(text), None) => {
            let text: String = from_json("data, whose content type is not JSON,", text)?;
            Cow::Owned(text.into_bytes())
        }
    };
    Ok(event)
}

/// Returns the attribute in the form that it has as a header. One that is null is not set.
fn attribute(value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err("an attribute is a text, a number or a boolean".into()),
    }
}

fn binary(message: &Message, content_type: Option<String>) -> Result<CloudEvent<'_>> {
    let mut attributes = BTreeMap::new();
    for (name, value) in &message.headers {
        let name = name.to_ascii_lowercase();
        if let Some(attribute) = name.strip_prefix("ce-") {
            let value = decode(value).with_context(|| format!("the header {name} is {value:?}"))?;
            attributes.insert(attribute.to_owned(), value);
        }
    }
    let mut event = event(attributes)?;
    // The binding for HTTP has it in this header, and gateways pass it on.
    event.data_content_type = event.data_content_type.or(content_type);
    event.data = Cow::Borrowed(&message.payload);
    Ok(event)
}

fn event(mut attributes: BTreeMap<String, String>) -> Result<CloudEvent<'static>> {
    let mut required = |name: &str| {
        let value = attributes.remove(name).filter(|value| !value.is_empty());
        value.with_context(|| format!("the message is no CloudEvent: its attribute `{name}` is missing"))
    };
    let version = required("specversion")?;
    let (id, source, event_type) = (required("id")?, required("source")?, required("type")?);
    ensure!(
        version.starts_with("1."),
        "the CloudEvent has `specversion` {version:?}, but only version 1 can be read"
    );
    Ok(CloudEvent {
        id,
        source,
        event_type,
        subject: attributes.remove("subject"),
        time: attributes.remove("time"),
        data_content_type: attributes.remove("datacontenttype"),
        data_schema: attributes.remove("dataschema"),
        extensions: attributes,
        data: Cow::default(),
    })
}

/// JSON is what `*/json` and `*/*+json` are, and data without a content type.
fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|content_type| {
        let media = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        media.ends_with("/json") || media.ends_with("+json")
    })
}

/// Decodes the value of a header: first double quotes, which older versions of the specification used, then
/// percent-encoding.
fn decode(value: &str) -> Result<String> {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.map_or(Cow::Borrowed(value), |value| {
        let mut characters = value.chars();
        let unescaped = std::iter::from_fn(|| match characters.next() {
            Some('\\') => characters.next(),
            other => other,
        });
        Cow::Owned(unescaped.collect())
    });
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        decoded.push(match first {
            b'%' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.context("% is not followed by two hexadecimal digits")?
            }
            other => *other,
        });
    }
    String::from_utf8(decoded).map_err(|_| Error::msg("its percent-encoding is not of UTF-8 text"))
}
