//! Faults of the processes.

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Counts, Dice};
use crate::chaos::arena::Arena;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Relay(usize),
    Nats,
    Centrifugo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// kill -9
    Kill,
    /// SIGTERM
    Stop,
    /// SIGSTOP and SIGCONT
    Pause,
    /// kill -9 after preparation. For Centrifugo, the relays are cut off and the histories are read first. A relay
    /// first gets work that Centrifugo does not take.
    PreparedKill,
}

impl Victim {
    fn name(self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Nats => "nats-server",
            Self::Centrifugo => "Centrifugo",
        }
    }
}

impl Blow {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGTERM",
            Self::Pause => "SIGSTOP",
            Self::PreparedKill => "prepared kill -9",
        }
    }
}

/// Strikes until the time is over. On return, all processes run.
pub(super) async fn strike(arena: &mut Arena, mut dice: Dice) -> Result<Counts> {
    let mut counts = Counts::default();
    while !dice.is_over() {
        dice.pause(100..800).await;
        arena.witness.listen()?;
        arena.witness.subscribe(&arena.centrifugo).await?;
        arena.play_tapes()?;
        arena.check_relays()?;
        let mut blows = vec![choose(arena, &mut dice)];
        if dice.one_in(2) {
            let second = choose(arena, &mut dice);
            blows.extend((second.0 != blows[0].0).then_some(second));
        }
        for &(victim, blow) in &blows {
            arena
                .strike(victim, blow)
                .await
                .with_context(|| describe(victim, blow))?;
            counts.add((victim.name(), blow.name()));
        }
        sleep(dice.outage()).await;
        for (victim, blow) in blows {
            arena
                .recover(victim, blow)
                .await
                .with_context(|| describe(victim, blow))?;
        }
    }
    arena.witness.subscribe(&arena.centrifugo).await?;
    Ok(counts)
}

fn choose(arena: &Arena, dice: &mut Dice) -> (Victim, Blow) {
    let victim = match dice.random.u8(..3) {
        0 => Victim::Nats,
        1 => Victim::Centrifugo,
        _ => Victim::Relay(dice.random.usize(..arena.homes.len())),
    };
    let blow = match dice.random.u8(..4) {
        0 => Blow::Stop,
        1 => Blow::Pause,
        2 if victim != Victim::Nats => Blow::PreparedKill,
        _ => Blow::Kill,
    };
    (victim, blow)
}

fn describe(victim: Victim, blow: Blow) -> String {
    format!("{} of {}", blow.name(), victim.name())
}

impl Arena {
    async fn strike(&mut self, victim: Victim, blow: Blow) -> Result<()> {
        match (victim, blow) {
            (Victim::Relay(relay), Blow::Pause) => self.relay(relay)?.pause()?,
            (Victim::Relay(relay), Blow::Stop) => self.stop_relay(relay).await?,
            (Victim::Relay(relay), Blow::Kill | Blow::PreparedKill) => self.kill_relay(relay)?,
            (Victim::Nats, Blow::Pause) => self.nats.pause()?,
            (Victim::Nats, Blow::Stop) => self.nats.stop().await?,
            (Victim::Nats, Blow::Kill | Blow::PreparedKill) => self.nats.kill(),
            (Victim::Centrifugo, Blow::Pause) => self.centrifugo.pause()?,
            (Victim::Centrifugo, _) => self.end_centrifugo(blow).await?,
        }
        Ok(())
    }

    async fn recover(&mut self, victim: Victim, blow: Blow) -> Result<()> {
        match (victim, blow) {
            (Victim::Relay(relay), Blow::Pause) => self.relay(relay)?.resume(),
            (Victim::Relay(relay), _) => self.start_relay(relay).await,
            (Victim::Nats, Blow::Pause) => self.nats.resume(),
            (Victim::Nats, _) => self.nats.restart().await,
            (Victim::Centrifugo, Blow::Pause) => self.centrifugo.resume(),
            (Victim::Centrifugo, _) => self.restart_centrifugo().await,
        }
    }

    async fn end_centrifugo(&mut self, blow: Blow) -> Result<()> {
        let links = self.links.clone();
        if blow == Blow::PreparedKill {
            for link in links.iter() {
                link.centrifugo.change(|faults| faults.refuse = true);
                link.centrifugo.cut();
            }
            self.witness.read_histories(&self.centrifugo).await?;
        }
        match blow {
            Blow::Stop => self.centrifugo.stop().await?,
            _ => self.centrifugo.kill(),
        }
        self.centrifugo_ended().await?;
        if blow == Blow::PreparedKill {
            for link in links.iter() {
                link.centrifugo.change(|faults| faults.refuse = false);
            }
        }
        Ok(())
    }
}
