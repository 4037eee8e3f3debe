use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use slipring_sdk::prelude::*;

#[derive(Deserialize)]
struct Invoice {
    id: u64,
    net: Decimal,
    tax_percent: Decimal,
}

#[derive(Serialize)]
struct View {
    total: Decimal,
}

pub fn invoice(message: &Message) -> Result<Publication> {
    let invoice: Invoice = message.json()?;
    let tax = invoice.net * invoice.tax_percent / Decimal::ONE_HUNDRED;
    let total = (invoice.net + tax).round_dp(2);
    Publication::json(format!("invoices:{}", invoice.id), &View { total })
}

#[test]
fn an_amount_keeps_its_cents() -> Result<()> {
    let payload = r#"{"id":17,"net":"0.10","tax_percent":"19"}"#;
    let (channel, text) = crate::published(&Message::new("crates.decimal", payload))?;
    assert_eq!(
        (channel.as_str(), text.as_str()),
        ("invoices:17", r#"{"total":"0.12"}"#)
    );
    Ok(())
}
