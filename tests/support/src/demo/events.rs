//! The sample events. Each one counts up in a field that the transforms pass on, so that the subscriber can tell
//! what is missing.

use serde_json::json;

/// Stream and subjects.
pub const STREAMS: [(&str, &str); 3] = [
    ("ORDERS", "orders.>"),
    ("NOTIFICATIONS", "notifications.>"),
    ("TELEMETRY", "telemetry.*"),
];

/// The open orders, each with its customer.
const ORDERS: [&str; 6] = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald"];

/// What happens to an order again and again.
const STATUSES: [&str; 3] = ["paid", "shipped", "delivered"];

/// What an order costs at least, in cents.
pub(super) const BASE_CENTS: u64 = 1_000;

const USERS: [u64; 3] = [17, 23, 42];
const DEVICES: [&str; 2] = ["pump-7", "pump-8"];

/// Every order with a number divisible by this is a draft, which the transform drops.
const DRAFTS: u64 = 5;

#[derive(Debug)]
pub struct Event {
    pub subject: String,
    pub payload: Vec<u8>,
    /// The channels on which it should arrive, and with which number. Empty if it should be dropped.
    pub arrives: Vec<(String, u64)>,
}

#[derive(Debug, Default)]
pub struct Events {
    made: u64,
}

/// Returns all channels that events can arrive on.
pub fn channels() -> Vec<String> {
    let orders = (0..ORDERS.len() as u64).map(order_channel);
    let users = USERS.iter().map(|user| format!("notifications:user-{user}"));
    let devices = DEVICES.iter().map(|device| format!("telemetry:{device}"));
    orders.chain(users).chain(devices).collect()
}

impl Events {
    pub fn make(&mut self) -> Event {
        let number = self.made / 3 + 1;
        let event = match self.made % 3 {
            0 => order(number),
            1 => notification(number),
            _ => reading(number),
        };
        self.made += 1;
        event
    }
}

fn order_channel(order: u64) -> String {
    format!("orders:{}", 1001 + order)
}

fn order(number: u64) -> Event {
    let count = ORDERS.len() as u64;
    let (order, round) = (number % count, number / count);
    let draft = number.is_multiple_of(DRAFTS);
    let at = |place: u64, length: usize| usize::try_from(place).unwrap_or_default() % length;
    let status = if draft {
        "draft"
    } else {
        STATUSES[at(round, STATUSES.len())]
    };
    // One cent more each time, so the number is in the view's `total_cents`.
    let cups = 1 + round % 4;
    let payload = json!({
        "id": 1001 + order,
        "revision": number,
        "status": status,
        "customer": ORDERS[at(order, ORDERS.len())],
        "lines": [
            { "sku": "cup", "quantity": cups, "price_cents": 150 },
            { "sku": "coffee", "quantity": 1, "price_cents": BASE_CENTS + number - cups * 150 },
        ],
    });
    Event {
        subject: format!("orders.{status}"),
        payload: payload.to_string().into_bytes(),
        arrives: if draft {
            Vec::new()
        } else {
            vec![(order_channel(order), number)]
        },
    }
}

fn notification(number: u64) -> Event {
    let [actor, followers @ ..] = USERS;
    let payload = json!({
        "kind": "comment",
        "actor": actor,
        "text": format!("comment {number}"),
        "followers": followers,
    });
    Event {
        subject: "notifications.comment".to_owned(),
        payload: payload.to_string().into_bytes(),
        arrives: followers
            .iter()
            .map(|user| (format!("notifications:user-{user}"), number))
            .collect(),
    }
}

fn reading(number: u64) -> Event {
    let device = DEVICES[usize::from(number.is_multiple_of(2))];
    // The temperature counts up in hundredths of a degree, and restarts before it exceeds 15 bits.
    let number = number % 30_000;
    let mut payload = vec![0, 1];
    payload.extend(u16::try_from(number).unwrap_or_default().to_be_bytes());
    Event {
        subject: format!("telemetry.{device}"),
        payload,
        arrives: vec![(format!("telemetry:{device}"), number)],
    }
}
