//! Returns the requests that the relay would send to Centrifugo for a single message. The relay's own code builds and
//! encodes them.

use std::time::Instant;

use serde_json::value::RawValue;

use crate::config::{ModuleConfig, Publish};
use crate::message::Publication;
use crate::publish::{Answer, Reply, Scheduler, write_body};

/// Returns the bodies of successive requests, assuming that each is confirmed.
pub fn requests(publish: &Publish, config: &ModuleConfig, publications: &[Publication]) -> Vec<Box<RawValue>> {
    // Nothing fails, so the seed for the pauses is never used.
    let mut scheduler = Scheduler::new(publish.limits(), 0);
    for publication in publications.iter().cloned() {
        if config.conflate {
            scheduler.push_newest(0, publication, None);
        } else {
            scheduler.push(0, publication, None);
        }
    }
    let now = Instant::now();
    let mut bodies = Vec::new();
    while let Some(request) = scheduler.next_request(now) {
        let body = String::from_utf8(write_body(&request).into()).expect("a body is text");
        bodies.push(RawValue::from_string(body).expect("a body is JSON"));
        let replies = vec![Reply::Confirmed(None); request.channels().sum()];
        scheduler.complete(now, request.id(), Answer::Replies(replies));
    }
    bodies
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::config::Order;
    use crate::message::Body;

    fn publication(channels: &[&str], version: u64, json: &str) -> Publication {
        Publication {
            version: Some(version),
            idempotency_key: Some("key".to_owned()),
            ..Publication::new(
                channels.iter().map(|channel| (*channel).into()).collect(),
                Body::Json(RawValue::from_string(json.to_owned()).unwrap()),
            )
        }
    }

    fn sent(order: Order, conflate: bool) -> String {
        let publish = Publish {
            order,
            idempotency: true,
            max_batch: 512,
            max_in_flight: 8,
        };
        let config = ModuleConfig {
            conflate,
            ..ModuleConfig::new("orders", "ORDERS")
        };
        let publications = [
            publication(&["a"], 7, "1"),
            publication(&["b", "c"], 7, "2"),
            publication(&["a"], 8, "{ \"n\": 3.0 }"),
        ];
        let requests = requests(&publish, &config, &publications);
        requests
            .iter()
            .map(|request| request.get())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn in_strict_order_a_channel_s_second_publication_is_in_a_request_of_its_own() {
        assert_snapshot!(sent(Order::Strict, false), @r#"
        {"commands":[{"publish":{"channel":"a","data":1,"idempotency_key":"key","version":7}},{"broadcast":{"channels":["b","c"],"data":2,"idempotency_key":"key","version":7}}]}
        {"commands":[{"publish":{"channel":"a","data":{ "n": 3.0 },"idempotency_key":"key","version":8}}]}
        "#);
    }

    #[test]
    fn in_batched_order_all_are_in_one() {
        assert_snapshot!(sent(Order::Batched, false), @r#"
        {"commands":[{"publish":{"channel":"a","data":1,"idempotency_key":"key","version":7}},{"broadcast":{"channels":["b","c"],"data":2,"idempotency_key":"key","version":7}},{"publish":{"channel":"a","data":{ "n": 3.0 },"idempotency_key":"key","version":8}}]}
        "#);
    }

    #[test]
    fn what_conflates_sends_the_newest_of_each_channel() {
        assert_snapshot!(sent(Order::Strict, true), @r#"
        {"commands":[{"publish":{"channel":"a","data":{ "n": 3.0 },"idempotency_key":"key","version":8}},{"broadcast":{"channels":["b","c"],"data":2,"idempotency_key":"key","version":7}}]}
        "#);
    }

    #[test]
    fn nothing_to_publish_is_no_request() {
        let publish = Publish {
            order: Order::Strict,
            idempotency: true,
            max_batch: 512,
            max_in_flight: 8,
        };
        assert!(requests(&publish, &ModuleConfig::new("orders", "ORDERS"), &[]).is_empty());
    }
}
