//! Does the same as `examples/orders`, with an output about as long as the input: parses an order, sums up its lines,
//! and publishes the result to a channel of its own with the order's revision as version.
//!
//! `bench/src/throughput/bento.rs` contains the same in Bento's mapping language, and `bench/src/arrived.rs`
//! checks the result.

use serde::{Deserialize, Serialize};
use slipring_sdk::{Message, Output, Publication, Result, transform};

#[derive(Deserialize)]
struct Order {
    id: u64,
    revision: u64,
    status: String,
    lines: Vec<Line>,
    note: String,
}

#[derive(Deserialize)]
struct Line {
    quantity: u32,
    price_cents: u32,
}

#[derive(Serialize)]
struct View {
    revision: u64,
    status: String,
    items: u64,
    total_cents: u64,
    lines: Vec<LineView>,
    note: String,
}

#[derive(Serialize)]
struct LineView {
    quantity: u32,
    total_cents: u64,
}

#[transform]
fn reshape(message: &Message) -> Result<Output> {
    let order: Order = message.json()?;
    let lines: Vec<LineView> = order.lines.iter().map(LineView::of).collect();
    let view = View {
        revision: order.revision,
        status: order.status,
        items: lines.iter().map(|line| u64::from(line.quantity)).sum(),
        total_cents: lines.iter().map(|line| line.total_cents).sum(),
        lines,
        note: order.note,
    };
    Ok(Publication::json(format!("bench:{}", order.id), &view)?
        .version(order.revision)
        .into())
}

impl LineView {
    fn of(line: &Line) -> Self {
        Self {
            quantity: line.quantity,
            total_cents: u64::from(line.quantity) * u64::from(line.price_cents),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_summed_up_on_a_channel_of_its_own() -> Result<()> {
        let order = r#"{"id":17,"revision":3,"status":"paid","lines":[{"quantity":2,"price_cents":450},{"quantity":1,"price_cents":99}],"note":"n"}"#;
        let view = r#"{"revision":3,"status":"paid","items":3,"total_cents":999,"lines":[{"quantity":2,"total_cents":900},{"quantity":1,"total_cents":99}],"note":"n"}"#;
        assert_eq!(
            reshape(&Message::new("bench.17", order))?,
            Publication::json_text("bench:17", view).version(3).into()
        );
        Ok(())
    }
}
