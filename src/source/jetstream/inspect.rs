//! Asks the server for the state of a consumer. It needs no epoch, so it also works while nothing is read.

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};

use super::super::{INSPECT_TIMEOUT, InspectError, ReaderState};
use super::settings::STREAM_NOT_FOUND;
use crate::config::ModuleConfig;
use crate::nats::Nats;

const LATE: InspectError = InspectError::Late { server: "NATS" };

pub async fn inspect(nats: &Nats, config: &ModuleConfig) -> Result<ReaderState, InspectError> {
    if !nats.link.borrow().connected {
        return Err(InspectError::Disconnected);
    }
    let subject = format!("CONSUMER.INFO.{}.{}", config.stream, config.consumer);
    // The server wants an empty request, and takes `{}` for one.
    let nothing = serde_json::json!({});
    let asking = nats.jetstream.request(subject, &nothing);
    let answer: Result<Response<Info>, _> = match tokio::time::timeout(INSPECT_TIMEOUT, asking).await {
        Ok(answer) => answer,
        Err(_) => return Err(LATE),
    };
    match answer {
        Ok(Response::Ok(info)) => Ok(state(&info)),
        Ok(Response::Err { error }) if is_absent(&error) => Err(InspectError::Absent),
        Ok(Response::Err { error }) => Err(InspectError::Failed(anyhow::Error::new(error))),
        Err(error) if error.kind() == RequestErrorKind::TimedOut => Err(LATE),
        Err(error) => Err(InspectError::Failed(anyhow::Error::new(error))),
    }
}

fn is_absent(error: &jetstream::Error) -> bool {
    error.error_code() == ErrorCode::CONSUMER_NOT_FOUND || error.error_code().0 == STREAM_NOT_FOUND
}

fn state(info: &Info) -> ReaderState {
    ReaderState {
        pending: info.num_pending,
        ack_pending: info.num_ack_pending as u64,
        delivered: info.delivered.stream_sequence.into(),
        ack_floor: info.ack_floor.stream_sequence.into(),
        paused_for: info.paused.then(|| info.pause_remaining.unwrap_or_default()),
    }
}
