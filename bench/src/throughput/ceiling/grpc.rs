//! Batches for the method `Batch` of Centrifugo's GRPC API, with the few fields of its messages that are needed here.
//! See <https://centrifugal.dev/docs/server/server_api#grpc-api>.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{BATCH, idempotency_key};
use crate::event::Event;
use crate::throughput::world::SIZE;

const METHOD: &str = "/centrifugal.centrifugo.api.CentrifugoApi/Batch";

pub struct Lane {
    client: Grpc<Channel>,
    authorization: MetadataValue<Ascii>,
    batches: Vec<BatchRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchRequest {
    #[prost(message, repeated, tag = "1")]
    commands: Vec<Command>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Command {
    #[prost(message, optional, tag = "4")]
    publish: Option<PublishRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PublishRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
    #[prost(string, tag = "6")]
    idempotency_key: String,
    #[prost(uint64, tag = "8")]
    version: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchResponse {
    #[prost(message, repeated, tag = "1")]
    replies: Vec<Reply>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(message, optional, tag = "2")]
    error: Option<Error>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Error {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Lane {
    pub async fn prepare(endpoint: &str, key: &str, events: &[Event], keys: bool) -> Result<Self> {
        let address = endpoint.trim_start_matches("grpc://");
        let server = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = server
            .connect()
            .await
            .with_context(|| format!("connecting to {endpoint}"))?;
        Ok(Self {
            client: Grpc::new(channel),
            authorization: format!("apikey {key}").parse()?,
            batches: events.chunks(BATCH).map(|events| batch(events, keys)).collect(),
        })
    }

    /// Sends all batches while `go_on` returns true, and returns how many publications were confirmed.
    pub async fn send(mut self, go_on: impl Fn() -> bool) -> Result<u64> {
        let mut sent = 0;
        for batch in self.batches {
            if !go_on() {
                break;
            }
            let publications = batch.commands.len();
            let mut request = Request::new(batch);
            request
                .metadata_mut()
                .insert("authorization", self.authorization.clone());
            self.client.ready().await?;
            let codec: ProstCodec<BatchRequest, BatchResponse> = ProstCodec::default();
            let response = self
                .client
                .unary(request, PathAndQuery::from_static(METHOD), codec)
                .await?;
            let replies = response.into_inner().replies;
            ensure!(
                replies.len() == publications && replies.iter().all(|reply| reply.error.is_none()),
                "Centrifugo answered {publications} publications with {replies:?}"
            );
            sent += publications as u64;
        }
        Ok(sent)
    }
}

fn batch(events: &[Event], keys: bool) -> BatchRequest {
    let command = |event: &Event| Command {
        publish: Some(PublishRequest {
            channel: event.channel(),
            data: event.payload(SIZE).into(),
            idempotency_key: if keys { idempotency_key(*event) } else { String::new() },
            version: event.revision.into(),
        }),
    };
    BatchRequest {
        commands: events.iter().map(command).collect(),
    }
}
