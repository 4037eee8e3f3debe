//! The possible results of a request, as far as the scheduler distinguishes them.

/// Centrifugo's `internal server error`. It is temporary and ambiguous: after a timeout in its engine, the command may
/// have been executed.
pub(super) const INTERNAL: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One reply for each channel of each command, in the order of the request.
    Replies(Vec<Reply>),
    /// The request was refused as a whole, and nothing in it was executed.
    Refused { status: u16, reason: String },
    /// The endpoint takes no requests, or none with this key. Nothing was executed.
    Denied { reason: String },
    /// It is unknown whether the request was executed.
    Lost { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Published, or suppressed by its key or version; the replies look the same. The position is absent without
    /// history.
    Confirmed(Option<HistoryPosition>),
    Failed {
        code: u32,
        message: String,
    },
}

/// The position of a publication in a channel's history. The reply to a suppressed repeat carries the position of the
/// first publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPosition {
    pub offset: u64,
    /// A hash of the history's epoch, used only for comparison.
    pub epoch: u64,
}

impl HistoryPosition {
    /// Returns true if this position is known to precede the other. Offsets of different epochs are not comparable.
    pub(super) fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.offset < other.offset
    }
}

/// What an answer says of its request, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Everything in it was confirmed, or refused for good.
    Ok,
    /// At least one of its publications has to be sent again.
    Temporary,
    /// It was refused as a whole.
    Refused,
    /// The endpoint takes no requests.
    Denied,
    /// No usable answer came.
    Lost,
}

impl RequestOutcome {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Temporary, Self::Refused, Self::Denied, Self::Lost];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Temporary => "temporary",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Lost => "lost",
        }
    }
}

impl Answer {
    pub fn outcome(&self) -> RequestOutcome {
        let is_temporary = |reply: &Reply| matches!(reply, Reply::Failed { code, .. } if may_pass(*code));
        match self {
            Self::Replies(replies) if replies.iter().any(is_temporary) => RequestOutcome::Temporary,
            Self::Replies(_) => RequestOutcome::Ok,
            Self::Refused { .. } => RequestOutcome::Refused,
            Self::Denied { .. } => RequestOutcome::Denied,
            Self::Lost { .. } => RequestOutcome::Lost,
        }
    }
}

/// Returns true if an error with this code may be temporary for the publication.
pub(super) fn may_pass(code: u32) -> bool {
    code == INTERNAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_internal_error_of_a_publication_may_pass() {
        let passing: Vec<u32> = (0..1_000).filter(|code| may_pass(*code)).collect();
        assert_eq!(passing, [100]);
    }

    #[test]
    fn an_answer_says_what_became_of_its_request() {
        let failed = |code| Reply::Failed {
            code,
            message: String::new(),
        };
        let replies = |replies: &[Reply]| Answer::Replies(replies.to_vec()).outcome();
        assert_eq!(replies(&[]), RequestOutcome::Ok);
        assert_eq!(replies(&[Reply::Confirmed(None), failed(102)]), RequestOutcome::Ok);
        assert_eq!(replies(&[failed(102), failed(100)]), RequestOutcome::Temporary);
        let reason = String::new;
        let refused = Answer::Refused {
            status: 400,
            reason: reason(),
        };
        let others = [
            refused,
            Answer::Denied { reason: reason() },
            Answer::Lost { reason: reason() },
        ];
        assert_eq!(
            others.map(|answer| answer.outcome().as_str()),
            ["refused", "denied", "lost"]
        );
        assert_eq!(
            RequestOutcome::ALL.map(|outcome| outcome as usize),
            [0, 1, 2, 3, 4],
            "an index"
        );
        assert_eq!(
            RequestOutcome::ALL[..2].iter().map(|o| o.as_str()).collect::<Vec<_>>(),
            ["ok", "temporary"]
        );
    }

    #[test]
    fn positions_are_compared_within_an_epoch() {
        let at = |offset, epoch| HistoryPosition { offset, epoch };
        assert!(at(1, 7).is_before(at(2, 7)));
        assert!(!at(2, 7).is_before(at(2, 7)) && !at(3, 7).is_before(at(2, 7)));
        assert!(!at(1, 7).is_before(at(2, 8)));
    }
}
