//! Knows everything that was pushed, sent, shown and concluded, and reports broken promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use slipring_core::publish::{Concluded, Order, RequestId};

use super::driver::Setup;
use crate::centrifugo::{Command, Ill, PLAIN, UNKNOWN};

/// How long Centrifugo remembers keys.
const NO_REPEATS_FOR: Duration = Duration::from_secs(300);

/// How long a publication that is not behind a cursed one may wait for each cursed one, plus once more: some timeouts
/// of 8 s, and pauses.
const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Debug)]
pub(super) struct Checker {
    setup: Setup,
    pushed: Vec<Pushed>,
    channels: BTreeMap<String, Channel>,
    /// Error 100 was answered in this request for this publication on this channel.
    failed: BTreeSet<(RequestId, String, u64)>,
    concluded: usize,
    /// The number of publications that never arrive.
    cursed: u32,
}

#[derive(Debug)]
struct Pushed {
    channels: Vec<String>,
    at: Instant,
    /// The publication is cursed or waits for a cursed one.
    hindered: bool,
    poisoned: bool,
    concluded: bool,
    /// The publication must never be sent.
    obsolete: bool,
}

#[derive(Debug, Default)]
struct Channel {
    /// Publications in the order of pushing.
    pushed: Vec<u64>,
    shown: Vec<(Instant, u64)>,
    seen: BTreeSet<u64>,
    in_flight: Option<RequestId>,
    hindered: bool,
    /// A publication failed with error 100 here, which may lead to repeats in batched order.
    disturbed: bool,
}

impl Checker {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            pushed: Vec::new(),
            channels: BTreeMap::new(),
            failed: BTreeSet::new(),
            concluded: 0,
            cursed: 0,
        }
    }

    /// Publications are numbered in the order of pushing.
    pub(super) fn pushed(&mut self, now: Instant, channels: Vec<String>, ill: Option<Ill>) {
        let number = self.pushed.len() as u64;
        let behind = channels
            .iter()
            .any(|channel| self.channels.get(channel).is_some_and(|channel| channel.hindered));
        let cursed = ill == Some(Ill::Cursed);
        let hindered = behind || cursed;
        self.cursed += u32::from(cursed);
        for channel in &channels {
            let channel = self.channels.entry(channel.clone()).or_default();
            channel.pushed.push(number);
            channel.hindered |= hindered;
        }
        self.pushed.push(Pushed {
            channels,
            at: now,
            hindered,
            poisoned: ill == Some(Ill::Poisoned),
            concluded: false,
            obsolete: false,
        });
    }

    /// The last pushed publication replaced this one.
    pub(super) fn gave_up_its_place(&mut self, number: u64) -> Result<(), String> {
        let newest = self.pushed.last().map(|newest| newest.channels.clone());
        let pushed = &mut self.pushed[number as usize];
        let shown = |channel: &String| self.channels[channel].seen.contains(&number);
        if pushed.concluded || newest.as_ref() != Some(&pushed.channels) || pushed.channels.iter().any(shown) {
            return Err(format!("{number} gave up its place and was not to"));
        }
        pushed.concluded = true;
        pushed.obsolete = true;
        self.concluded += 1;
        Ok(())
    }

    pub(super) fn sent(&mut self, id: RequestId, commands: &[Command]) -> Result<(), String> {
        for Command { channels, number, .. } in commands {
            for channel in channels {
                let state = self
                    .channels
                    .get_mut(channel)
                    .ok_or(format!("{number} goes to {channel}"))?;
                let again = state.in_flight == Some(id) && self.setup.order == Order::Strict;
                if again || state.in_flight.is_some_and(|other| other != id) {
                    return Err(format!("{number} is sent while {channel} has a publication in flight"));
                }
                state.in_flight = Some(id);
            }
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, commands: &[Command]) {
        for channel in commands.iter().flat_map(|command| &command.channels) {
            self.channels.entry(channel.clone()).or_default().in_flight = None;
        }
    }

    pub(super) fn failed(&mut self, id: RequestId, channel: &str, number: u64) {
        self.failed.insert((id, channel.to_owned(), number));
        self.channels.entry(channel.to_owned()).or_default().disturbed = true;
    }

    pub(super) fn shown(&mut self, now: Instant, id: RequestId, channel: &str, number: u64) -> Result<(), String> {
        let batched = self.setup.order == Order::Batched;
        let state = self.channels.entry(channel.to_owned()).or_default();
        let last = state.shown.iter().rev().find(|(_, shown)| *shown == number);
        if let Some((last, _)) = last
            && self.setup.keys
            && now < *last + NO_REPEATS_FOR
            && !(batched && state.disturbed)
        {
            return Err(format!(
                "{number} is shown again on {channel}: {}",
                state.history(number)
            ));
        }
        if self.pushed[number as usize].obsolete {
            return Err(format!("{number} gave up its place and is shown on {channel}"));
        }
        let Pushed { at, hindered, .. } = self.pushed[number as usize];
        if self.setup.cursed && !hindered && now - at > PATIENCE * (self.cursed + 1) {
            return Err(format!("{number} waited for {:?}, and nothing is before it", now - at));
        }
        state.shown.push((now, number));
        if !state.seen.insert(number) {
            return Ok(());
        }
        for &earlier in state.pushed.iter().take_while(|&&earlier| earlier < number) {
            let excused = batched && self.failed.contains(&(id, channel.to_owned(), earlier));
            if !state.seen.contains(&earlier) && !self.pushed[earlier as usize].is_never_shown() && !excused {
                return Err(format!(
                    "{number} overtook {earlier} on {channel}: {}",
                    state.history(number)
                ));
            }
        }
        Ok(())
    }

    pub(super) fn concluded(&mut self, Concluded { ticket, result, share }: &Concluded) -> Result<(), String> {
        let pushed = self
            .pushed
            .get_mut(*ticket as usize)
            .ok_or(format!("{ticket} was concluded and never pushed"))?;
        if std::mem::replace(&mut pushed.concluded, true) {
            return Err(format!("{ticket} was concluded twice"));
        }
        self.concluded += 1;
        let unknown = pushed.channels.iter().any(|channel| channel.starts_with(UNKNOWN));
        let expected = if pushed.poisoned {
            Some("400")
        } else {
            unknown.then_some("102")
        };
        let found = result.as_ref().err().map(|rejection| &*rejection.code);
        if expected != found {
            return Err(format!(
                "{ticket} was concluded with {result:?}, where {expected:?} is right"
            ));
        }
        let is_refused = |channel: &&String| pushed.poisoned || channel.starts_with(UNKNOWN);
        let expected: BTreeSet<&str> = pushed.channels.iter().filter(is_refused).map(String::as_str).collect();
        let refused: BTreeSet<&str> = share.refused.iter().map(|channel| &**channel).collect();
        if refused != expected || share.channels.len() != pushed.channels.len() {
            return Err(format!(
                "{ticket} was concluded with {share:?}, where {expected:?} should be refused"
            ));
        }
        for channel in pushed
            .channels
            .iter()
            .filter(|channel| !pushed.poisoned && !channel.starts_with(UNKNOWN))
        {
            if !self.channels[channel].seen.contains(ticket) {
                return Err(format!("{ticket} was confirmed before it was shown on {channel}"));
            }
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.concluded == self.pushed.len()
    }

    /// Checks at rest that subscribers saw the newest publication last, which is the purpose of the repeats. Without
    /// keys, a request that is executed long after its timeout breaks this, and without history the scheduler cannot
    /// notice.
    pub(super) fn at_rest(&self) -> Result<(), String> {
        for (name, channel) in self.channels.iter().filter(|(name, _)| !name.starts_with(PLAIN)) {
            let mut last = BTreeMap::new();
            for (at, (_, number)) in channel.shown.iter().enumerate() {
                last.insert(*number, at);
            }
            if self.setup.keys && !last.values().is_sorted() {
                return Err(format!(
                    "what was shown last on {name} is not the newest: {}",
                    channel.history(u64::MAX)
                ));
            }
        }
        Ok(())
    }
}

impl Pushed {
    fn is_never_shown(&self) -> bool {
        self.poisoned || self.obsolete
    }
}

impl Channel {
    fn history(&self, next: u64) -> String {
        let shown: Vec<_> = self.shown.iter().map(|(_, number)| number).collect();
        format!("pushed {:?}, shown {shown:?}, now {next}", self.pushed)
    }
}
