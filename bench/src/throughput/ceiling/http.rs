//! Batches for `/api/batch`.

use anyhow::Result;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use slipring_support::http_client;

use super::{BATCH, idempotency_key};
use crate::event::Event;
use crate::throughput::world::SIZE;

pub struct Lane {
    http: reqwest::Client,
    url: String,
    key: String,
    /// Each with its number of publications.
    batches: Vec<(Bytes, u64)>,
}

impl Lane {
    pub fn prepare(endpoint: &str, key: &str, events: &[Event], keys: bool) -> Self {
        let batches = events
            .chunks(BATCH)
            .map(|events| (body(events, keys), events.len() as u64));
        Self {
            http: http_client(),
            url: format!("{endpoint}/api/batch"),
            key: key.to_owned(),
            batches: batches.collect(),
        }
    }

    /// Sends all batches while `go_on` returns true, and returns how many publications were confirmed.
    pub async fn send(self, go_on: impl Fn() -> bool) -> Result<u64> {
        let mut sent = 0;
        for (body, publications) in self.batches {
            if !go_on() {
                break;
            }
            let request = self.http.post(&self.url).header("X-API-Key", &self.key).body(body);
            request.send().await?.error_for_status()?.bytes().await?;
            sent += publications;
        }
        Ok(sent)
    }
}

fn body(events: &[Event], keys: bool) -> Bytes {
    #[derive(Serialize)]
    struct Batch {
        commands: Vec<Command>,
    }
    #[derive(Serialize)]
    struct Command {
        publish: Publish,
    }
    #[derive(Serialize)]
    struct Publish {
        channel: String,
        data: Box<RawValue>,
        version: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    }
    let command = |event: &Event| {
        let publish = Publish {
            channel: event.channel(),
            data: RawValue::from_string(event.payload(SIZE)).expect("a payload is JSON"),
            version: event.revision.into(),
            idempotency_key: keys.then(|| idempotency_key(*event)),
        };
        Command { publish }
    };
    let commands = events.iter().map(command).collect();
    serde_json::to_vec(&Batch { commands })
        .expect("a batch can be written as JSON")
        .into()
}
