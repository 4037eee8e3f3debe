//! What a tap shows of a message: a copy that is small, however large the message and its publications are. It is made on
//! the thread that transformed the message, so it costs little, and it keeps none of the message's own memory, which
//! counts as free once the message is settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Made;
use crate::message::{Body, Message, Outcome, Publication};

/// The most bytes of a payload, of a publication's data, of a subject, and of all headers together.
pub(super) const LONGEST: usize = 64 << 10;

/// The most bytes of all publications of a message.
pub(super) const PUBLICATIONS: usize = 256 << 10;

/// The most channels of a publication.
pub(super) const CHANNELS: usize = 100;

/// A message, and what the module made of it. Both are cut where they are long.
#[derive(Debug)]
pub struct Shown {
    pub(super) module: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) message: Message,
    /// The size of the whole payload.
    pub(super) size: usize,
    /// How many headers were left out.
    pub(super) more_headers: usize,
    pub(super) outcome: Outcome,
    /// What was left out of each publication.
    pub(super) cuts: Vec<Cut>,
    /// How many publications were left out.
    pub(super) more_publications: usize,
    pub(super) took: Duration,
    pub(super) at: Instant,
    /// How many messages were left out since the one that was shown before.
    pub(super) skipped: u64,
    bytes: usize,
}

/// What was left out of a publication.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub data: Option<CutData>,
    /// How many channels were left out.
    pub channels: usize,
}

/// The publication has only the beginning of its data, as bytes.
#[derive(Debug)]
pub(super) struct CutData {
    pub is_json: bool,
    /// The size of all of it.
    pub size: usize,
}

impl Shown {
    pub(super) fn of(made: &Made<'_>) -> Self {
        let (message, more_headers) = cut_message(made.message);
        let (outcome, cuts, more_publications) = cut_outcome(made.outcome);
        let held = match &outcome {
            Outcome::Publish(publications) => publications.iter().map(Publication::size).sum(),
            Outcome::Drop => 0,
            Outcome::Reject(rejection) => rejection.size(),
        };
        Self {
            module: Arc::clone(made.module),
            version: Arc::clone(made.version),
            bytes: size_of::<Self>() + message.size() + held + cuts.len() * size_of::<Cut>(),
            message,
            size: made.message.payload.len(),
            more_headers,
            outcome,
            cuts,
            more_publications,
            took: made.took,
            at: made.at,
            skipped: 0,
        }
    }

    /// Returns the memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns true if only the beginning of the payload is here.
    pub(super) fn is_truncated(&self) -> bool {
        self.message.payload.len() < self.size
    }
}

/// Returns a copy, and how many headers it lacks.
fn cut_message(message: &Message) -> (Message, usize) {
    let payload = &message.payload[..message.payload.len().min(LONGEST)];
    let mut room = LONGEST;
    let fits = |(name, value): &&(String, String)| {
        let size = size_of::<(String, String)>() + name.len() + value.len();
        take(&mut room, size)
    };
    let headers: Vec<_> = message.headers.iter().take_while(fits).cloned().collect();
    let more_headers = message.headers.len() - headers.len();
    let cut = Message {
        subject: message.subject[..message.subject.floor_char_boundary(LONGEST)].to_owned(),
        payload: Bytes::copy_from_slice(payload),
        headers,
        stream: Arc::clone(&message.stream),
        place: message.place,
        timestamp: message.timestamp,
        deliveries: message.deliveries,
        unreadable: None,
    };
    (cut, more_headers)
}

/// Returns a copy, what its publications lack, and how many publications it lacks.
fn cut_outcome(outcome: &Outcome) -> (Outcome, Vec<Cut>, usize) {
    let Outcome::Publish(publications) = outcome else {
        // The transform stage limits the length of a reason.
        return (outcome.clone(), Vec::new(), 0);
    };
    let mut room = PUBLICATIONS;
    let fits = |publication: &&Publication| take(&mut room, size_of_cut(publication));
    let shown = publications.iter().take_while(fits);
    let (shown, cuts): (Vec<_>, Vec<_>) = shown.map(cut_publication).unzip();
    let more = publications.len() - shown.len();
    (Outcome::Publish(shown), cuts, more)
}

/// Returns false if there is not that much room.
fn take(room: &mut usize, size: usize) -> bool {
    let left = room.checked_sub(size);
    *room = left.unwrap_or(0);
    left.is_some()
}

fn cut_publication(publication: &Publication) -> (Publication, Cut) {
    let size = publication.body.len();
    let (body, data) = match &publication.body {
        body if size <= LONGEST => (body.clone(), None),
        Body::Json(json) => {
            let end = json.get().floor_char_boundary(LONGEST);
            let begin = json.get().as_bytes()[..end].to_vec();
            (Body::Binary(begin), Some(CutData { is_json: true, size }))
        }
        Body::Binary(bytes) => {
            let begin = bytes[..LONGEST].to_vec();
            (Body::Binary(begin), Some(CutData { is_json: false, size }))
        }
    };
    let channels: Vec<_> = publication.channels.iter().take(CHANNELS).cloned().collect();
    let cut = Cut {
        data,
        channels: publication.channels.len() - channels.len(),
    };
    let publication = Publication {
        channels,
        body,
        version: publication.version,
        version_epoch: publication.version_epoch.clone(),
        tags: publication.tags.clone(),
        idempotency_key: publication.idempotency_key.clone(),
        delta: publication.delta,
        skip_history: publication.skip_history,
    };
    (publication, cut)
}

/// Returns about how many bytes a copy takes, without making it.
fn size_of_cut(publication: &Publication) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let channel = |channel: &Arc<str>| size_of::<Arc<str>>() + channel.len();
    let tag = |(name, value): &(String, String)| size_of::<(String, String)>() + name.len() + value.len();
    size_of::<Publication>()
        + publication.channels.iter().take(CHANNELS).map(channel).sum::<usize>()
        + publication.body.len().min(LONGEST)
        + publication.tags.iter().map(tag).sum::<usize>()
        + text(&publication.version_epoch)
        + text(&publication.idempotency_key)
}
