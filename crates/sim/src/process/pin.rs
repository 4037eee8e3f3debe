//! Waits for the pin and keeps it, as the relay's source does with standby.

use std::time::Duration;

use slipring_core::read::{HEARTBEAT, Lease};

use super::source::Source;
use super::{Process, RelayEvent, Running};
use crate::jetstream::{PinId, Pull};
use crate::world::{ToServer, World};

/// How long a pull of a standby relay lives, and how much later its answer may come.
const WAITING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the holder of the pin renews it.
const RENEW_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub(super) struct Pin {
    pub(super) id: PinId,
    pub(super) lease: Lease,
}

impl Process {
    /// Looks whether a relay is pinned, and pulls again.
    pub(super) fn ask_for_the_pin(&self, running: &mut Running, world: &mut World) {
        if let Source::Pinning { attempt, .. } = &mut running.source {
            let look = ToServer::Look {
                process: self.starts,
                attempt: *attempt,
            };
            self.send(world, look);
        }
    }

    pub(super) fn pull_for_the_pin(&self, running: &mut Running, world: &mut World) {
        let Source::Pinning {
            attempt,
            inbox,
            sent,
            pulls,
        } = &mut running.source
        else {
            return;
        };
        *pulls += 1;
        *sent = world.now;
        let unanswered = RelayEvent::Unanswered(*attempt, *pulls);
        self.later(world, WAITING + PATIENCE, unanswered);
        let inbox = *inbox.get_or_insert_with(|| {
            let inbox = world.identifier();
            world.open_inbox(self.id, inbox);
            self.send(world, ToServer::Bind);
            self.send(world, ToServer::Subscribe(inbox));
            inbox
        });
        let pull = Pull {
            inbox,
            batch: 1,
            max_bytes: None,
            expires: world.now + WAITING,
            heartbeat: world.now + HEARTBEAT,
            pin: None,
        };
        self.send(world, ToServer::Pull(pull));
    }

    /// Renews the pin at intervals until it is lost.
    pub(super) fn renew(&self, running: &Running, world: &mut World, id: PinId) {
        if !running
            .pin
            .is_some_and(|pin| pin.id == id && pin.lease.is_valid(world.now))
        {
            return;
        }
        let renew = ToServer::Renew {
            process: self.starts,
            id,
            sent: world.now,
        };
        self.send(world, renew);
        self.later(world, RENEW_EVERY, RelayEvent::Renew(id));
    }
}
