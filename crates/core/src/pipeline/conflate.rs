//! Where only the newest state of a channel matters: what waits for it at the beginning, and far behind.

pub(super) mod catch_up;
pub(super) mod gather;
