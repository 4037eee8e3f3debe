//! Asks the server for the state of a consumer. It needs no epoch, so it also works while nothing is read.

use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};

use super::settings::STREAM_NOT_FOUND;
use crate::nats::Nats;

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The state of a consumer, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerState {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: u64,
    /// The stream sequence of the newest delivery.
    pub delivered: u64,
    /// The stream sequence up to which everything is acknowledged.
    pub ack_floor: u64,
    /// How long the consumer stays paused, if it is.
    pub paused_for: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Neither is trouble: a pipeline creates its consumer, and waits for its stream.
    #[error("the consumer or its stream does not exist")]
    Absent,
    #[error("NATS did not reply within {} s", TIMEOUT.as_secs())]
    Late,
    #[error("asking for the state of the consumer failed")]
    Failed(#[source] async_nats::Error),
}

pub async fn inspect(nats: &Nats, stream: &str, consumer: &str) -> Result<ConsumerState, InspectError> {
    let subject = format!("CONSUMER.INFO.{stream}.{consumer}");
    // The server wants an empty request, and takes `{}` for one.
    let nothing = serde_json::json!({});
    let asking = nats.jetstream.request(subject, &nothing);
    let answer: Result<Response<Info>, _> = match tokio::time::timeout(TIMEOUT, asking).await {
        Ok(answer) => answer,
        Err(_) => return Err(InspectError::Late),
    };
    match answer {
        Ok(Response::Ok(info)) => Ok(state(&info)),
        Ok(Response::Err { error }) if is_absent(&error) => Err(InspectError::Absent),
        Ok(Response::Err { error }) => Err(InspectError::Failed(error.into())),
        Err(error) if error.kind() == RequestErrorKind::TimedOut => Err(InspectError::Late),
        Err(error) => Err(InspectError::Failed(error.into())),
    }
}

fn is_absent(error: &jetstream::Error) -> bool {
    error.error_code() == ErrorCode::CONSUMER_NOT_FOUND || error.error_code().0 == STREAM_NOT_FOUND
}

fn state(info: &Info) -> ConsumerState {
    ConsumerState {
        pending: info.num_pending,
        ack_pending: info.num_ack_pending as u64,
        delivered: info.delivered.stream_sequence,
        ack_floor: info.ack_floor.stream_sequence,
        paused_for: info.paused.then(|| info.pause_remaining.unwrap_or_default()),
    }
}
