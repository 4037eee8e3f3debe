//! What can become of a request, as far as the scheduler has to tell it apart. Which status and which error means what is
//! decided in `replies` and `centrifugo`, for GRPC in the words of HTTP; what follows from it, in the scheduler.

/// Centrifugo's `internal server error`: temporary, and ambiguous, since an engine that timed out may have executed the command.
pub(super) const INTERNAL: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One reply for each channel of each command, in the order of the request.
    Replies(Vec<Reply>),
    /// HTTP 400 or 413, or what means the same over GRPC: the request as it is cannot be taken, and nothing of it was executed.
    Refused { status: u16, reason: String },
    /// HTTP 401, 403, 404 and the like: no request can succeed before somebody changes a configuration. Nothing was executed.
    Denied { reason: String },
    /// HTTP 5xx or 429, a time-out, a broken connection, an unreadable reply: whether it was executed is not known.
    Lost {
        reason: String,
        /// The next request goes to an endpoint that has not failed since the last success.
        elsewhere: bool,
    },
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
