//! Publishes each change of the table `orders`, which Debezium captured from PostgreSQL, to the customer and the staff.
//!
//! A customer has a channel for each order, which nobody else may subscribe to. The change's position in the database's
//! log is the version, so an old state never replaces a newer one. The staff's channel is a feed of all orders, without
//! the customers' addresses. Needs `REPLICA IDENTITY FULL`, so that a deleted row has all of its columns.

use serde::{Deserialize, Serialize};
use slipring_sdk::{Operation, prelude::*};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    namespace: String,
    staff: Vec<String>,
}

/// The columns that this module reads. What is not here reaches nobody.
#[derive(Deserialize)]
struct Order {
    id: u64,
    customer_id: u64,
    email: String,
    status: String,
    total_cents: u64,
}

#[derive(Serialize)]
struct View<'a> {
    order: u64,
    status: &'a str,
    total_cents: u64,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

#[transform]
fn order_updates(message: &Message, settings: &Settings) -> Result<Vec<Publication>> {
    let Some(change) = message.change()? else {
        return Ok(Vec::new());
    };
    let order: Order = change.row().context("the change of an order")?;
    let deleted = change.operation == Operation::Delete;
    let mut view = View {
        order: order.id,
        status: if deleted { "deleted" } else { &order.status },
        total_cents: order.total_cents,
        at: message.timestamp_rfc3339(),
        email: None,
    };
    let namespace = format!("{}:order-{}", settings.namespace, order.id);
    let version = change
        .origin
        .lsn
        .context("`source.lsn` is missing, which PostgreSQL's connector sets")?;
    let own = Publication::json(Channel::user(&namespace, order.customer_id)?, &view)?.version(version);
    let (_, domain) = order
        .email
        .split_once('@')
        .with_context(|| format!("order {} has no e-mail address", order.id))?;
    view.email = Some(format!("…@{domain}"));
    let staff = Publication::json(settings.staff.clone(), &view)?.tag("operation", change.operation.as_str());
    Ok(vec![own, staff])
}

#[test]
fn the_customer_and_the_staff_see_a_change_and_nobody_an_address() -> Result<()> {
    let settings = slipring_sdk::settings(include_str!("../order-updates.toml"))?;
    for message in slipring_sdk::samples(include_str!("../samples.jsonl"))? {
        for publication in order_updates(&message, &settings)? {
            let is_own = publication.channels == ["customers:order-17#42"];
            assert!(is_own || publication.channels == ["staff:orders"]);
            assert_eq!(publication.version.is_some(), is_own);
            assert!(!publication.body.text().context("JSON")?.contains("ada@"));
        }
    }
    Ok(())
}
