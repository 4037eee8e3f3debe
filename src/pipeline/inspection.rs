//! Asks the server how far a pipeline is, for as long as the pipeline exists: also while it is halted, stands by or waits.
//! What a pipeline has been delivered says nothing about what it has not been delivered.

use std::convert::Infallible;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at};

use super::Assignment;
use crate::source::{self, Connections, InspectError, ReaderState};
use crate::status::{self, Consumer, ModuleBoard};

/// Asks again and again, and writes the answers on the board. Never ends.
pub(super) async fn inspect(
    connections: Connections,
    assignments: watch::Receiver<Assignment>,
    board: ModuleBoard,
) -> Infallible {
    // Many modules must not all ask at the same moment.
    let first = status::INTERVAL.mul_f64(fastrand::f64());
    let mut ticks = interval_at(tokio::time::Instant::now() + first, status::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let config = assignments.borrow().config.clone();
        let answer = source::inspect(&connections, &config).await;
        let now = Instant::now();
        match answer {
            Ok(ReaderState {
                pending,
                ack_pending,
                delivered,
                ack_floor,
                paused_for,
            }) => {
                let consumer = Consumer {
                    pending,
                    ack_pending,
                    delivered,
                    ack_floor,
                    paused_for,
                };
                board.inspected(now, consumer);
            }
            // That is trouble of its own, and of all modules.
            Err(InspectError::Disconnected) => board.not_asked(),
            Err(InspectError::Absent) => board.no_consumer(),
            Err(error) => board.not_inspected(now, format!("{:#}", anyhow::Error::new(error))),
        }
    }
}
