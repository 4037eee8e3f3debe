//! Estimates the memory of waiting outcomes and publications, in bytes. The code that creates an outcome and the code
//! that takes it over use the same sums.

use crate::message::{Outcome, Publication};
use crate::publish;

/// Returns the weight of an outcome that the pipeline has not taken over, including what it will add then.
pub fn of_outcome(outcome: &Outcome) -> usize {
    let publication = |publication| Publication::size(publication) + publish::queued_size(publication);
    match outcome {
        Outcome::Publish(publications) => publications.iter().map(publication).sum(),
        Outcome::Drop => 0,
        Outcome::Reject(rejection) => rejection.size(),
    }
}

/// Returns the weight of a waiting publication, without what the scheduler counts for its channels.
pub fn of_waiting(publication: &Publication) -> usize {
    publication.size() + publish::waiting_size(publication)
}
