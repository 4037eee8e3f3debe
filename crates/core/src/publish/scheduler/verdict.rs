//! Decides what a reply means for one publication on one channel. The table of answers is in
//! `publish/centrifugo/class.rs` of the relay.

use super::queues::{ChannelId, ItemId, Queues};
use super::rejection;
use crate::message::Rejection;
use crate::publish::answer::{self, HistoryPosition, Reply};

/// What becomes of an item on one of its channels.
#[derive(Debug)]
pub(super) enum Verdict {
    Done,
    Refused(Rejection),
    /// The item is sent again.
    Keep,
}

/// Returns what the reply means for the item, and updates what is known of its channel.
pub(super) fn judge(queues: &mut Queues, item: ItemId, channel: ChannelId, reply: Reply) -> Verdict {
    let item = &mut queues.items[item];
    let channel = &mut queues.channels[channel];
    match reply {
        Reply::Confirmed(position) => {
            if !channel.run.broken && item.may_be_found_misplaced() && is_before(position, channel.last) {
                channel.run.broken = true;
                // Repeats are compared only with each other. Otherwise this would never end if offsets went back.
                channel.last = None;
            }
            if channel.run.broken {
                channel.run.inverted = true;
                item.repeats += 1;
                return Verdict::Keep;
            }
            channel.failures = 0;
            channel.last = position.or(channel.last);
            Verdict::Done
        }
        Reply::Failed { code, .. } if answer::may_pass(code) => {
            channel.run.backs_off = true;
            channel.run.broken = true;
            Verdict::Keep
        }
        Reply::Failed { code, message } => Verdict::Refused(rejection::by_code(code, &message, &channel.name)),
    }
}

fn is_before(position: Option<HistoryPosition>, last: Option<HistoryPosition>) -> bool {
    position
        .zip(last)
        .is_some_and(|(position, last)| position.is_before(last))
}
