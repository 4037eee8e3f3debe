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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, Rejection, Stage};

    #[test]
    fn an_outcome_weighs_what_it_is_and_what_it_adds() {
        let publication = |channels: usize| {
            let channels = (0..channels).map(|number| number.to_string().as_str().into()).collect();
            Publication::new(channels, Body::Binary(vec![0; 1_000]))
        };
        let (one, ten) = (publication(1), publication(10));
        let size = |publication: &Publication| publication.size() + publish::queued_size(publication);
        assert!(one.size() > 1_000 && ten.size() > one.size());
        let sum = size(&one) + size(&ten);
        assert!(of_waiting(&one) < size(&one), "without its channels");
        assert_eq!(of_outcome(&Outcome::Publish(vec![one, ten])), sum);
        assert_eq!(of_outcome(&Outcome::Drop), 0);
        let rejection = Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "x".repeat(500),
        };
        let size = rejection.size();
        assert!(size >= 500);
        assert_eq!(of_outcome(&Outcome::Reject(rejection)), size);
    }
}
