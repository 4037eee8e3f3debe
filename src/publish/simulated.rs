//! A Centrifugo in memory and in simulated time, for the simulators of the scheduler and of whole pipelines. What it executes and
//! answers, and when, is decided by whoever plays a schedule.

mod centrifugo;
mod flight;

pub(crate) use self::centrifugo::{CURSED, Centrifugo, Command, PLAIN, POISON, UNKNOWN, error};
pub(crate) use self::flight::{Curse, Flight, Odds, Sent};
