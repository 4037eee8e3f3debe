//! What waits weighs, in bytes of memory. The same sums are made where outcomes come into being and where they are taken over.

use crate::message::{Outcome, Publication};
use crate::publish;

/// Of an outcome that the pipeline has not taken over, with all that it will take then.
pub fn of_outcome(outcome: &Outcome) -> usize {
    let publication = |publication| Publication::size(publication) + publish::queued_size(publication);
    match outcome {
        Outcome::Publish(publications) => publications.iter().map(publication).sum(),
        Outcome::Drop => 0,
        Outcome::Reject(rejection) => rejection.size(),
    }
}

/// Of a publication that waits, beside what the scheduler counts for its channels.
pub fn of_waiting(publication: &Publication) -> usize {
    publication.size() + publish::waiting_size(publication)
}
