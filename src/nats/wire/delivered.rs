//! Reads what JetStream tells about a delivered message in its ack subject.

/// The delivery's message, stream and consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    pub consumer_sequence: u64,
    /// The stream sequence.
    pub sequence: u64,
    /// When the message was stored, in nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 at the first delivery.
    pub deliveries: u32,
    /// How many more messages the consumer has to deliver.
    pub pending: u64,
}

impl Delivered {
    /// Parses `$JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING`. A domain and an account
    /// hash may come before the stream, and more tokens may follow at the end.
    pub fn parse(reply: &str) -> Option<Self> {
        let words = reply.strip_prefix("$JS.ACK.")?;
        let with_domain = words.bytes().filter(|byte| *byte == b'.').count() >= 8;
        let mut words = words.split('.').skip(if with_domain { 4 } else { 2 });
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(Self {
            deliveries: u32::try_from(number()?).unwrap_or(u32::MAX),
            sequence: number()?,
            consumer_sequence: number()?,
            timestamp: number()?,
            pending: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_subject_of_either_form_says_the_same() {
        let expected = Some(Delivered {
            deliveries: 2,
            sequence: 30,
            consumer_sequence: 4,
            timestamp: 1_790_000_000_123_456_789,
            pending: 5,
        });
        let short = "$JS.ACK.ORDERS.slipring-orders.2.30.4.1790000000123456789.5";
        assert_eq!(Delivered::parse(short), expected);
        for prefix in ["$JS.ACK._.Hash", "$JS.ACK.hub.Hash"] {
            let long = short.replacen("$JS.ACK", prefix, 1);
            assert_eq!(Delivered::parse(&long), expected);
            assert_eq!(Delivered::parse(&format!("{long}.token")), expected);
        }
        for no in [
            "",
            "_INBOX.1",
            "$JS.ACK.",
            "$JS.ACK.A.B.1.2.3.4",
            "$JS.ACK.A.B.1.2.3.4.x",
        ] {
            assert_eq!(Delivered::parse(no), None, "{no}");
        }
    }
}
