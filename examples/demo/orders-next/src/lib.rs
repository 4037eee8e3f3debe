//! The orders example after a change: subscribers see the currency too. The demo swaps the example for this version.

use serde::{Deserialize, Serialize};
use slipring_sdk::{Message, Output, Publication, Result, transform};

#[derive(Deserialize)]
struct Order {
    id: u64,
    revision: u64,
    status: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    quantity: u64,
    price_cents: u64,
}

#[derive(Serialize)]
struct View {
    status: String,
    items: u64,
    total_cents: u64,
    currency: &'static str,
}

#[transform]
fn orders(message: &Message) -> Result<Output> {
    let order: Order = message.json()?;
    if order.status == "draft" {
        return Ok(Output::drop());
    }
    let view = View {
        status: order.status,
        items: order.lines.iter().map(|line| line.quantity).sum(),
        total_cents: order.lines.iter().map(|line| line.quantity * line.price_cents).sum(),
        currency: "EUR",
    };
    Ok(Publication::json(format!("orders:{}", order.id), &view)?
        .version(order.revision)
        .into())
}
