//! Reads the envelope in which Debezium publishes the change of a row.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{Context as _, Message, Result, from_json, json};

impl Message {
    /// Reads the payload as a change that Debezium captured, with or without the `schema` that Kafka Connect's
    /// converter puts around it. Returns `None` for a tombstone, which follows a delete and has no content.
    ///
    /// It needs the feature `debezium` of this crate.
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
    /// fn orders(message: &Message) -> Result<Option<Publication>> {
    ///     let Some(change) = message.change()? else { return Ok(None) };
    ///     let order: Order = change.row()?;
    ///     let publication = Publication::json(format!("orders:{}", order.id), change.operation.as_str())?;
    ///     Ok(Some(publication.version(change.origin.lsn.context("the change has no LSN")?)))
    /// }
    ///
    /// let message = Message::new(
    ///     "shop.public.orders",
    ///     r#"{
    ///         "before": null,
    ///         "after": { "id": 17, "status": "paid" },
    ///         "source": { "connector": "postgresql", "name": "shop", "ts_ms": 1793520000000, "lsn": 24023128 },
    ///         "op": "u",
    ///         "ts_ms": 1793520000142
    ///     }"#,
    /// );
    /// let publication = orders(&message)?.context("a publication")?;
    /// assert_eq!((publication.channels, publication.version), (vec!["orders:17".to_string()], Some(24023128)));
    /// assert_eq!(orders(&Message::new("shop.public.orders", ""))?, None);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// If the payload is not such an envelope. An event that is only the new row (Debezium's transformation
    /// `ExtractNewRecordState`) has none: read it with [`json`](Self::json).
    pub fn change(&self) -> Result<Option<Change<'_>>> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        let what = "the payload";
        let Some(shape): Option<Shape> = json::read(what, &self.payload)? else {
            return Ok(None);
        };
        if shape.op.is_none() && shape.payload.0 {
            let wrapped: Wrapped = json::read(what, &self.payload)?;
            return Ok(wrapped.payload);
        }
        json::read(what, &self.payload).map(Some)
    }
}

/// The keys that tell whether there is a `schema` around the change.
#[derive(Deserialize)]
struct Shape {
    op: Option<IgnoredAny>,
    #[serde(default)]
    payload: IsThere,
}

/// True if the key is there, whatever its value is. An `Option` would take null for a missing key.
#[derive(Default)]
struct IsThere(bool);

impl<'de> Deserialize<'de> for IsThere {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    payload: Option<Change<'a>>,
}

/// The change of a row. See [`Message::change`].
#[derive(Debug, Deserialize)]
#[non_exhaustive]
pub struct Change<'a> {
    /// What happened to the row.
    #[serde(rename = "op")]
    pub operation: Operation,
    /// Where the change comes from: `source` in the envelope.
    #[serde(rename = "source")]
    pub origin: Origin,
    /// When Debezium processed the change, in milliseconds since 1970. [`Origin::timestamp_ms`] is the time of the
    /// change itself.
    #[serde(rename = "ts_ms")]
    pub timestamp_ms: Option<u64>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
}

impl<'a> Change<'a> {
    /// Reads the row as it is after the change. Returns `None` for a delete or a truncation.
    ///
    /// # Errors
    /// If it is not the JSON that `T` expects. The error names the key.
    pub fn after<T: Deserialize<'a>>(&self) -> Result<Option<T>> {
        self.after.map(|row| from_json("`after`", row.get())).transpose()
    }

    /// Reads the row as it was before the change. Returns `None` if the envelope does not have it. PostgreSQL tells
    /// Debezium all columns only with `REPLICA IDENTITY FULL`. Otherwise it tells none for an update, and for a delete
    /// those of the primary key: the others are null.
    ///
    /// # Errors
    /// If it is not the JSON that `T` expects. The error names the key.
    pub fn before<T: Deserialize<'a>>(&self) -> Result<Option<T>> {
        self.before.map(|row| from_json("`before`", row.get())).transpose()
    }

    /// Reads the row that the change is about: as it is after the change, or was before a delete.
    ///
    /// # Errors
    /// If there is none, as for a truncation, or if it is not the JSON that `T` expects.
    pub fn row<T: Deserialize<'a>>(&self) -> Result<T> {
        if let Some(row) = self.after()? {
            return Ok(row);
        }
        let missing = || format!("the change ({}) has neither `after` nor `before`", self.operation);
        self.before()?.with_context(missing)
    }
}

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum Operation {
    /// `c`: it is new.
    #[serde(rename = "c")]
    Create,
    /// `u`: it was changed.
    #[serde(rename = "u")]
    Update,
    /// `d`: it was deleted.
    #[serde(rename = "d")]
    Delete,
    /// `r`: it was there when Debezium took a snapshot.
    #[serde(rename = "r")]
    Read,
    /// `t`: all rows of the table were deleted at once.
    #[serde(rename = "t")]
    Truncate,
    /// `m`: somebody wrote a message to PostgreSQL's log. There is no row.
    #[serde(rename = "m")]
    Message,
}

impl Operation {
    /// Returns a word for it: `create`, `update`, `delete`, `read`, `truncate` or `message`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
            Self::Message => "message",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a change comes from. Each connector sets some of these fields. If you need others, read the payload with
/// [`Message::json`] too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// `postgresql`, `mysql`, `mongodb` and so on.
    pub connector: String,
    /// The connector's `topic.prefix`.
    pub name: String,
    /// When the change was made in the database, in milliseconds since 1970.
    #[serde(rename = "ts_ms")]
    pub timestamp_ms: Option<u64>,
    /// The database.
    pub db: Option<String>,
    /// The schema of the table, in databases that have schemas.
    pub schema: Option<String>,
    /// The table.
    pub table: Option<String>,
    /// PostgreSQL: the position in its log. It rises with each change of a row, so it can be the version of a
    /// publication that shows the row.
    pub lsn: Option<u64>,
    /// MySQL and MariaDB: the binary log's file.
    pub file: Option<String>,
    /// MySQL and MariaDB: the position in the binary log's file.
    pub pos: Option<u64>,
}
