//! What can become of a request, as far as the scheduler has to tell it apart.

/// Centrifugo's `internal server error`: temporary, and ambiguous, since an engine that timed out may have executed the command.
pub(super) const INTERNAL: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One reply for each channel of each command, in the order of the request.
    Replies(Vec<Reply>),
    /// The request as it is cannot be taken, and nothing of it was executed.
    Refused { status: u16, reason: String },
    /// The endpoint takes no requests, or not with this key. Nothing was executed.
    Denied { reason: String },
    /// Whether it was executed is not known.
    Lost { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Published, or suppressed by its key or version, which looks the same. The position is absent without history.
    Confirmed(Option<Position>),
    Failed {
        code: u32,
        message: String,
    },
}

/// Where a channel's history holds the publication. A suppressed repeat answers with the position of the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    /// A hash of the history's epoch, which is compared and nothing else.
    pub epoch: u64,
}

impl Position {
    /// Whether this one is known to be before the other. Offsets of different epochs say nothing.
    pub(super) fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.offset < other.offset
    }
}

/// Whether an error of one publication, with this code, may be gone the next time.
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
}
