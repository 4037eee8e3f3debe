//! What a client asks a consumer for.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The JSON of a pull. What is not set is not sent.
#[derive(Debug, Default, Serialize)]
pub struct PullRequest<'a> {
    /// The most messages.
    pub batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Asks only for what is available now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_wait: bool,
    /// How long the server may take.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nanoseconds")]
    pub expires: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nanoseconds")]
    pub idle_heartbeat: Option<Duration>,
    /// The priority group of a consumer that is pinned to one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'a str>,
    /// The pin of this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
}

fn nanoseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_nanos()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_not_sent() {
        let json = |request: &PullRequest<'_>| serde_json::to_string(request).unwrap();
        let least = PullRequest {
            batch: 3,
            no_wait: true,
            ..PullRequest::default()
        };
        assert_eq!(json(&least), r#"{"batch":3,"no_wait":true}"#);
        let most = PullRequest {
            batch: 1,
            max_bytes: Some(2),
            no_wait: false,
            expires: Some(Duration::from_secs(5)),
            idle_heartbeat: Some(Duration::from_millis(1)),
            group: Some("slipring"),
            id: Some("pin"),
        };
        let expected =
            r#"{"batch":1,"max_bytes":2,"expires":5000000000,"idle_heartbeat":1000000,"group":"slipring","id":"pin"}"#;
        assert_eq!(json(&most), expected);
    }
}
