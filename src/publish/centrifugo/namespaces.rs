//! Asks Centrifugo whether it knows the namespaces of channels. A `history` of no messages changes nothing: an unknown
//! channel is an error of its own, also where the namespace keeps no history.

use serde::Deserialize;
use serde_json::json;
use tonic_prost::ProstCodec;

use super::super::namespaces::{Namespaces, UnknownNamespace};
use super::super::replies::Failure;
use super::{Client, Endpoint, grpc, http};
use crate::cause;

const METHOD: &str = "/centrifugal.centrifugo.api.CentrifugoApi/History";

impl Client {
    /// Returns the namespaces that Centrifugo does not know. `Err` says why the first endpoint gave no answer.
    pub async fn unknown_namespaces(&self, namespaces: &Namespaces) -> Result<Vec<UnknownNamespace>, String> {
        if namespaces.is_empty() {
            return Ok(Vec::new());
        }
        let mut why = None;
        for endpoint in &self.endpoints {
            match endpoint.histories(&namespaces.channels()).await {
                Ok(errors) => return Ok(namespaces.unknown(&errors)),
                Err(reason) => drop(why.get_or_insert_with(|| format!("Centrifugo at {}: {reason}", endpoint.url()))),
            }
        }
        Err(why.unwrap_or_default())
    }
}

impl Endpoint {
    /// Returns the code of Centrifugo's error for each channel, or `None` for a channel without one.
    async fn histories(&self, channels: &[&str]) -> Result<Vec<Option<u32>>, String> {
        match self {
            Self::Http(endpoint) => over_http(endpoint, channels).await,
            Self::Grpc(endpoint) => {
                let mut errors = Vec::with_capacity(channels.len());
                for channel in channels {
                    errors.push(over_grpc(endpoint, channel).await?);
                }
                Ok(errors)
            }
        }
    }
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    error: Option<Failure>,
}

async fn over_http(endpoint: &http::Endpoint, channels: &[&str]) -> Result<Vec<Option<u32>>, String> {
    let history = |channel: &&str| json!({ "history": { "channel": channel, "limit": 0 } });
    let commands: Vec<_> = channels.iter().map(history).collect();
    let body = endpoint.ask(json!({ "commands": commands }).to_string()).await?;
    let batch: Batch = serde_json::from_slice(&body).map_err(|error| cause::of(&error))?;
    if batch.replies.len() != channels.len() {
        return Err(format!(
            "{} replies to {} commands",
            batch.replies.len(),
            channels.len()
        ));
    }
    let code = |reply: Reply| reply.error.map(|failure| failure.code);
    Ok(batch.replies.into_iter().map(code).collect())
}

async fn over_grpc(endpoint: &grpc::Endpoint, channel: &str) -> Result<Option<u32>, String> {
    let request = HistoryRequest {
        channel: channel.to_owned(),
    };
    let codec = ProstCodec::<HistoryRequest, HistoryResponse>::default();
    let response = endpoint.ask(METHOD, request, codec).await?;
    Ok(response.error.map(|error| error.code))
}

/// The part of Centrifugo's `HistoryRequest` that is needed here. Without a limit it asks for no messages.
#[derive(Clone, PartialEq, ::prost::Message)]
struct HistoryRequest {
    #[prost(string, tag = "1")]
    channel: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
struct HistoryResponse {
    #[prost(message, optional, tag = "1")]
    error: Option<HistoryError>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
struct HistoryError {
    #[prost(uint32, tag = "1")]
    code: u32,
}
