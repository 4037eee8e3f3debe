//! Delays publications where only the newest state of a channel matters: at the start of a flow and far behind the
//! stream.

pub(super) mod catch_up;
pub(super) mod gather;
