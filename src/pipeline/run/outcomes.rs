//! From the worker's outcome to the ack: what becomes of each message.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::Subject;
use tracing::{info, warn};

use super::Run;
use crate::config::OnReject;
use crate::dead_letter::Sender;
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::pipeline::stamp::Stamp;
use crate::publish::{Answer, Concluded, RequestId};
use crate::transform::Transformed;
use crate::window::{Conclusion, Ticket};

impl Run<'_> {
    pub(super) fn take_outcome(&mut self, transformed: Transformed) {
        if self.halting {
            // It comes again once the pipeline resumes, behind the message that halted it.
            return;
        }
        let Transformed { ticket, outcome, took } = transformed;
        self.board.metrics().transformed(took);
        let Some(message) = self.window.message(ticket).cloned() else {
            return;
        };
        match outcome {
            Outcome::Drop => {
                self.board.metrics().dropped();
                self.refusals.success(Stage::Transform);
                self.settle(ticket);
            }
            Outcome::Reject(rejection) => self.reject(ticket, &message, rejection),
            Outcome::Publish(publications) => match self.stamp().all(&message, publications) {
                Ok(stamped) => {
                    self.refusals.success(Stage::Transform);
                    let bytes = stamped.iter().map(|(publication, _)| publication.size()).sum();
                    self.window.expect(ticket, stamped.len(), bytes);
                    for (publication, key) in stamped {
                        self.scheduler.push(ticket, publication, key);
                    }
                }
                Err(rejection) => self.reject(ticket, &message, rejection),
            },
        }
    }

    pub(super) fn stamp(&self) -> Stamp<'_> {
        Stamp {
            module: self.board.name(),
            created: self.stream.map_or(0, |stream| stream.created),
            idempotency: self.shared.publish.idempotency,
            version: self.assignment.config.version,
        }
    }

    pub(super) fn take_answer(&mut self, id: RequestId, answer: Answer, took: Duration) {
        self.board.metrics().answered(took);
        let before = self.scheduler.trouble().map(str::to_owned);
        let concluded = self.scheduler.complete(Instant::now(), id, answer);
        let after = self.scheduler.trouble().map(str::to_owned);
        if before != after {
            match &after {
                Some(trouble) => warn!(module = self.board.name(), trouble, "publishing is paused"),
                None => info!(module = self.board.name(), "publishing goes on"),
            }
            self.board.set_trouble(after);
        }
        for Concluded { ticket, result } in concluded {
            if result.is_ok() {
                self.board.metrics().published();
            }
            match self.window.conclude(ticket, result) {
                None => {}
                Some(Conclusion::Confirmed) => {
                    self.refusals.success(Stage::Publish);
                    self.settle(ticket);
                }
                Some(Conclusion::Rejected(message, rejection)) => self.reject(ticket, &message, rejection),
            }
        }
    }

    pub(super) fn reject(&mut self, ticket: Ticket, message: &Arc<Message>, rejection: Rejection) {
        if self.halting {
            // It comes again, and so must what is behind it on its channel.
            self.scheduler.freeze();
            return;
        }
        let stage = rejection.stage;
        self.board.metrics().rejected(rejection.stage);
        let in_a_row = self
            .refusals
            .rejected(Instant::now(), self.board.name(), message, &rejection);
        let max = self.assignment.config.max_consecutive_rejects;
        if in_a_row > max {
            self.halt(
                stage,
                format!(
                    "more than {max} messages in a row were rejected, the last one (sequence {}) because: {}",
                    message.sequence, rejection.reason
                ),
            );
            return;
        }
        match self.assignment.config.on_reject {
            OnReject::Drop => self.settle(ticket),
            OnReject::Halt => self.halt(
                stage,
                format!(
                    "the message with sequence {} was rejected, and `on_reject` is `halt`: {}",
                    message.sequence, rejection.reason
                ),
            ),
            OnReject::DeadLetter => {
                let (shared, message) = (Arc::clone(self.shared), Arc::clone(message));
                let (name, module) = (self.board.name().to_owned(), Arc::clone(&self.assignment.module));
                self.dead_letters.spawn(async move {
                    let sender = Sender {
                        module: &name,
                        sha256: module.sha256(),
                    };
                    shared.dead_letters.store(sender, &message, &rejection).await;
                    ticket
                });
            }
        }
    }

    pub(super) fn settle(&mut self, ticket: Ticket) {
        if let Some(message) = self.window.message(ticket) {
            self.board.metrics().settled(age(message));
        }
        for reply in self.window.settle(ticket) {
            self.ack(reply);
        }
    }

    pub(super) fn ack(&self, reply: Subject) {
        self.board.metrics().acked();
        self.acks.ack(reply);
    }
}

/// How long ago JetStream stored it.
pub(super) fn age(message: &Message) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(message.timestamp))
}
