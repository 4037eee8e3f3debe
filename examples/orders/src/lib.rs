//! Publishes each order to its own channel, `orders:<id>`: JSON in, JSON out.
//!
//! The example shows how to read a payload, drop a message (subscribers should not see drafts), send subscribers
//! only a part of it (no customer, no unit prices), and set a version. With a version, an old state never replaces a
//! newer one.

use serde::{Deserialize, Serialize};
use slipring_sdk::prelude::*;

#[derive(Deserialize)]
struct Order {
    id: u64,
    /// Rises with every change.
    revision: u64,
    status: Status,
    lines: Vec<Line>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Status {
    Draft,
    Paid,
    Shipped,
    Delivered,
}

#[derive(Deserialize)]
struct Line {
    quantity: u32,
    price_cents: u32,
}

impl Line {
    /// The product of two 32-bit numbers fits into 64 bits.
    fn total_cents(&self) -> u64 {
        u64::from(self.quantity) * u64::from(self.price_cents)
    }
}

/// The data that subscribers see.
#[derive(Serialize)]
struct View {
    status: Status,
    items: u64,
    total_cents: u64,
}

#[transform]
fn orders(message: &Message) -> Result<Output> {
    if message.marker().is_some() {
        // In a key-value bucket, a marker says that the order was deleted or expired. Subscribers keep its last state.
        return Ok(Output::drop());
    }
    let order: Order = message.json()?;
    if order.status == Status::Draft {
        return Ok(Output::drop());
    }
    let view = View {
        status: order.status,
        items: order.lines.iter().map(|line| u64::from(line.quantity)).sum(),
        total_cents: order.lines.iter().map(Line::total_cents).sum(),
    };
    Ok(Publication::json(format!("orders:{}", order.id), &view)?
        .version(order.revision)
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_becomes_a_view_with_its_revision_as_version() -> Result<()> {
        let message = Message::new(
            "orders.paid",
            r#"{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":450},{"quantity":1,"price_cents":99}]}"#,
        );
        let view = r#"{"status":"paid","items":3,"total_cents":999}"#;
        assert_eq!(
            orders(&message)?,
            Publication::json_text("orders:17", view).version(3).into()
        );
        Ok(())
    }

    #[test]
    fn a_draft_is_dropped() -> Result<()> {
        let message = Message::new("orders.draft", r#"{"id":17,"revision":1,"status":"draft","lines":[]}"#);
        assert_eq!(orders(&message)?, Output::drop());
        Ok(())
    }

    #[test]
    fn an_unknown_status_is_rejected_by_name() {
        let message = Message::new("orders.lost", r#"{"id":17,"revision":4,"status":"lost","lines":[]}"#);
        let error = orders(&message).unwrap_err().to_string();
        assert!(error.contains("status: unknown variant `lost`"), "{error}");
    }

    #[test]
    fn the_samples_are_orders() -> Result<()> {
        let outputs: Vec<Output> = slipring_sdk::samples(include_str!("../samples.jsonl"))?
            .iter()
            .map(orders)
            .collect::<Result<_>>()?;
        let dropped = outputs.iter().filter(|output| output.publications().is_empty()).count();
        assert_eq!((outputs.len(), dropped), (6, 1));
        Ok(())
    }
}
