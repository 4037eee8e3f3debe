//! Knows everything that was stored, delivered, sent, shown, confirmed and acked, and reports broken promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_core::publish::{Answer, Order, Reply};
use slipring_core::read::Missed;

use super::Setup;
use super::jetstream::PIN_TTL;
use super::traffic::{Kind, Letter, MAX_PARTS};
use super::world::RelayId;
use crate::centrifugo::{Command, PLAIN};

/// How long Centrifugo remembers a key.
const KEYS_LAST: Duration = Duration::from_secs(300);

/// A request sent within a lease may be executed up to this much later.
const LATEST: Duration = Duration::from_secs(60);

/// Identifies a flow from start to end. It is unique.
pub(super) type FlowId = u64;

/// Identifies a request. It is unique.
pub(super) type FlightId = u64;

#[derive(Debug)]
pub(super) struct Checker {
    setup: Setup,
    pub(super) max_age: Option<Duration>,
    /// Messages acked although some of their publications were too old and never published.
    pub(super) expired: BTreeSet<u64>,
    /// Messages by number.
    messages: Vec<Message>,
    /// Channels by incarnation of the stream and name.
    channels: BTreeMap<(u64, Arc<str>), Channel>,
    flows: BTreeMap<FlowId, Flow>,
    /// Messages that were settled in any flow.
    settled: BTreeSet<u64>,
    dead_letters: BTreeSet<u64>,
    /// The flow that sent each request, as long as it exists.
    flights: BTreeMap<FlightId, FlowId>,
    /// Error 100 was answered in this request for this publication on this channel.
    failed: BTreeSet<(FlightId, Arc<str>, u64)>,
    /// When Centrifugo last lost its memory.
    forgot: Option<Instant>,
    /// At least one flow has ended.
    flow_ended: bool,
    /// When the pin was last forgotten, by a new leader or with a deleted consumer.
    pin_forgotten: Option<Instant>,
    /// Set when a relay was pinned while another one still had its lease. The other may use it until then.
    two_until: Option<Instant>,
    /// The consumer was deleted, or acks were lost: messages were read again from further back than a window, so that those
    /// which gave their place to newer ones did not all come first.
    reread: bool,
    /// How many messages a window holds at least.
    pub(super) window: u64,
    /// The newest message that each flow took in, also of flows that have ended.
    furthest: BTreeMap<FlowId, u64>,
    /// Which flows acked a message.
    acked_by: BTreeMap<u64, BTreeSet<FlowId>>,
    /// Message numbers by incarnation of the stream and sequence.
    sequences: BTreeMap<(u64, u64), u64>,
    /// Processes with the messages that they counted as missed.
    missed: BTreeSet<((RelayId, u64), u64)>,
    /// Counts publications that were shown again, by the reason that explains it.
    pub(super) repeats: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Message {
    letter: Letter,
    stored: Instant,
    incarnation: u64,
    /// Purged, expired, or deleted with its stream.
    removed: bool,
    /// Removed to make room for newer messages.
    lost: bool,
    /// The processes that took in the message.
    taken_in: BTreeSet<(RelayId, u64)>,
}

#[derive(Debug, Default)]
struct Channel {
    /// The publications to show, in stream order.
    due: Vec<u64>,
    /// Everything before this index was shown or removed.
    front: usize,
    /// When each publication was last shown, and its place in the sequence of all shown ones.
    shown: BTreeMap<u64, (Instant, usize)>,
    /// For each publication, how many were shown before it was last published, even if it was suppressed.
    published: BTreeMap<u64, usize>,
    history: Vec<u64>,
    /// A publication failed with error 100, which may lead to repeats in batched order.
    failed: bool,
    /// A publication was shown out of turn for a good reason. The position of a later publication then precedes it, and
    /// the scheduler shows the later one again, so the newest is shown last.
    disturbed: bool,
    /// A request was executed after its flow had ended or yielded.
    posthumous: bool,
}

#[derive(Debug, Default)]
struct Flow {
    /// The publications of each unsettled message that have to be confirmed.
    held: BTreeMap<u64, BTreeSet<(u64, Arc<str>)>>,
    settled: BTreeSet<u64>,
    /// Publications that were in a request.
    sent: BTreeSet<u64>,
    in_flight: BTreeMap<String, FlightId>,
    /// Its requests are on their way while another relay continues. The flow has yielded, or would have if it was not
    /// frozen.
    yielded: bool,
}

impl Checker {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            max_age: None,
            expired: BTreeSet::new(),
            messages: Vec::new(),
            channels: BTreeMap::new(),
            flows: BTreeMap::new(),
            settled: BTreeSet::new(),
            flights: BTreeMap::new(),
            dead_letters: BTreeSet::new(),
            failed: BTreeSet::new(),
            forgot: None,
            flow_ended: false,
            pin_forgotten: None,
            two_until: None,
            reread: false,
            window: u64::MAX,
            furthest: BTreeMap::new(),
            acked_by: BTreeMap::new(),
            sequences: BTreeMap::new(),
            missed: BTreeSet::new(),
            repeats: BTreeMap::new(),
        }
    }

    /// A message was stored. Messages are numbered in the order of storing.
    pub(super) fn stored(&mut self, now: Instant, incarnation: u64, sequence: u64, letter: Letter) {
        let number = self.messages.len() as u64;
        self.sequences.insert((incarnation, sequence), number);
        for (publication, channel) in letter.to_show(number) {
            let channel = self.channels.entry((incarnation, channel)).or_default();
            channel.due.push(publication);
        }
        self.messages.push(Message {
            letter,
            stored: now,
            incarnation,
            removed: false,
            lost: false,
            taken_in: BTreeSet::new(),
        });
    }

    pub(super) fn letter(&self, number: u64) -> &Letter {
        &self.messages[number as usize].letter
    }

    pub(super) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(super) fn removed(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.messages[number as usize].removed = true;
        }
    }

    /// The stream's limit has removed these messages.
    pub(super) fn lost(&mut self, numbers: &[u64]) {
        self.removed(numbers);
        for &number in numbers {
            self.messages[number as usize].lost = true;
        }
    }

    /// A process counts messages as missed.
    pub(super) fn missed(&mut self, process: (RelayId, u64), incarnation: u64, missed: Missed) -> Result<(), String> {
        let (Some(first), Some(last)) = (missed.first.number(), missed.last.number()) else {
            return Err(format!("{missed:?} is not of this stream"));
        };
        if missed.messages != last + 1 - first {
            return Err(format!("{missed:?} are not as many as it says"));
        }
        for sequence in first..=last {
            let number = self.sequences.get(&(incarnation, sequence));
            let Some(message) = number.and_then(|number| self.messages.get(*number as usize)) else {
                return Err(format!("{sequence} is counted as missed, and was never stored"));
            };
            if !message.lost {
                return Err(format!(
                    "{sequence} is counted as missed, and the limit has not removed it"
                ));
            }
            // A process that was killed right after a reset no longer knows what it had read.
            if message.taken_in.contains(&process) {
                return Err(format!("{sequence} is counted as missed, and was read"));
            }
            if !self.missed.insert((process, number.copied().unwrap_or_default())) {
                return Err(format!("{sequence} is counted as missed twice"));
            }
        }
        Ok(())
    }

    pub(super) fn centrifugo_forgot(&mut self, now: Instant) {
        self.forgot = Some(now);
    }

    pub(super) fn consumer_deleted(&mut self, now: Instant) {
        self.reread = true;
        self.forget_pin(now);
    }

    pub(super) fn forget_pin(&mut self, now: Instant) {
        self.pin_forgotten = Some(now);
    }

    /// A message is delivered. A flow leaves out new messages that are too old. It may be unable to ack them, because
    /// its consumer is gone.
    pub(super) fn comes(&mut self, now: Instant, flow: FlowId, number: u64) {
        // Its ack was lost.
        let others = self
            .acked_by
            .get(&number)
            .into_iter()
            .flatten()
            .filter(|by| **by != flow);
        let reach = others.filter_map(|by| self.furthest.get(by)).max();
        self.reread |= reach.is_some_and(|furthest| *furthest >= number.saturating_add(self.window));
        let flow = self.flows.entry(flow).or_default();
        let known = flow.held.contains_key(&number) || flow.settled.contains(&number);
        if !known && self.is_too_old(now, number) {
            self.expired.insert(number);
        }
    }

    /// A flow publishes nothing more, because another relay may.
    pub(super) fn yielded(&mut self, flow: FlowId) {
        self.flows.entry(flow).or_default().yielded = true;
    }

    /// The flow's relay now has the pin, so all other leases are over, whether their holders know it or not.
    pub(super) fn pinned(&mut self, now: Instant, flow: FlowId) {
        let others = self.flows.iter_mut().filter(|(other, _)| **other != flow);
        let leased = self.pin_forgotten.map(|at| at + PIN_TTL).filter(|until| now <= *until);
        for (_, state) in others {
            if !state.yielded && leased.is_some() {
                self.two_until = leased;
            }
            state.yielded = true;
        }
    }

    /// A flow has taken in a message that was new to it.
    pub(super) fn taken_in(&mut self, process: (RelayId, u64), flow: FlowId, number: u64) {
        self.messages[number as usize].taken_in.insert(process);
        let furthest = self.furthest.entry(flow).or_default();
        *furthest = number.max(*furthest);
        let message = &self.messages[number as usize];
        let due = message.letter.to_show(number).into_iter().collect();
        self.flows.entry(flow).or_default().held.insert(number, due);
        if matches!(message.letter.kind, Kind::Drop) {
            self.settle(flow, number);
        }
    }

    pub(super) fn sent(
        &mut self,
        decided: Instant,
        flow: FlowId,
        flight: FlightId,
        commands: &[Command],
    ) -> Result<(), String> {
        self.flights.insert(flight, flow);
        for Command { number, .. } in commands {
            let too_old = self.is_too_old(decided, number / MAX_PARTS);
            let first = self.flows.entry(flow).or_default().sent.insert(*number);
            if first && too_old {
                return Err(format!("{} is sent although it is older than `max_age`", name(*number)));
            }
        }
        let flow = self.flows.entry(flow).or_default();
        for Command { channels, number, .. } in commands {
            for channel in channels {
                let other = flow.in_flight.insert(channel.clone(), flight);
                let again = other == Some(flight) && self.setup.order == Order::Strict;
                if again || other.is_some_and(|other| other != flight) {
                    return Err(format!(
                        "{} is sent while {channel} has a publication in flight",
                        name(*number)
                    ));
                }
            }
        }
        Ok(())
    }

    /// The flow gets this answer.
    pub(super) fn answered(&mut self, id: FlowId, commands: &[Command], answer: &Answer) {
        let flow = self.flows.entry(id).or_default();
        let targets = || {
            commands
                .iter()
                .flat_map(|command| command.channels.iter().map(|channel| (command.number, channel)))
        };
        for (_, channel) in targets() {
            flow.in_flight.remove(channel);
        }
        let Answer::Replies(replies) = answer else { return };
        for ((number, channel), reply) in targets().zip(replies) {
            let message = number / MAX_PARTS;
            let flow = self.flows.entry(id).or_default();
            if let Reply::Confirmed(_) = reply
                && let Some(due) = flow.held.get_mut(&message)
            {
                due.remove(&(number, Arc::from(channel.as_str())));
                self.settle_if_done(id, message);
            }
        }
    }

    pub(super) fn dead_lettered(&mut self, flow: FlowId, number: u64) -> Result<(), String> {
        let letter = self.letter(number);
        if !letter.is_refused() {
            return Err(format!(
                "message {number} is a dead letter, and nothing is wrong with it: {letter:?}"
            ));
        }
        self.dead_letters.insert(number);
        self.settle_if_done(flow, number);
        Ok(())
    }

    fn settle_if_done(&mut self, flow: FlowId, number: u64) {
        let refused = self.messages[number as usize].letter.is_refused();
        let held = self.flows.get(&flow).and_then(|flow| flow.held.get(&number));
        if held.is_some_and(BTreeSet::is_empty) && (!refused || self.dead_letters.contains(&number)) {
            self.settle(flow, number);
        }
    }

    fn settle(&mut self, id: FlowId, number: u64) {
        let flow = self.flows.entry(id).or_default();
        flow.held.remove(&number);
        flow.settled.insert(number);
        self.settled.insert(number);
    }

    /// Returns true if all open publications of a message were replaced, or may have been, because the flow has taken
    /// in newer publications of the same channels.
    fn is_obsolete(&self, id: FlowId, number: u64) -> bool {
        let Some(flow) = self.flows.get(&id).filter(|_| self.setup.conflate) else {
            return false;
        };
        let incarnation = self.messages[number as usize].incarnation;
        let known = |publication: &u64| {
            let message = publication / MAX_PARTS;
            flow.held.contains_key(&message) || flow.settled.contains(&message)
        };
        let newer = |(publication, channel): &(u64, Arc<str>)| {
            let due = &self.channels[&(incarnation, Arc::clone(channel))].due;
            due.iter().any(|other| other > publication && known(other))
        };
        flow.held.get(&number).is_some_and(|open| open.iter().all(newer))
    }

    fn is_too_old(&self, now: Instant, number: u64) -> bool {
        let age = now - self.messages[number as usize].stored;
        self.max_age.is_some_and(|max_age| age > max_age)
    }

    /// Returns true if all open publications of a message may have been left out for age. The flow never sent them.
    fn may_be_left_out(&self, now: Instant, id: FlowId, number: u64) -> bool {
        let Some(flow) = self.flows.get(&id).filter(|_| self.is_too_old(now, number)) else {
            return false;
        };
        let mut open = flow.held.get(&number).into_iter().flatten();
        open.all(|(publication, _)| !flow.sent.contains(publication))
    }

    /// A flow acks a message.
    pub(super) fn acks(&mut self, now: Instant, flow: FlowId, number: u64) -> Result<(), String> {
        self.flows.entry(flow).or_default();
        if self.is_obsolete(flow, number) {
            self.settle(flow, number);
        }
        let settled = self.flows[&flow].settled.contains(&number);
        if !settled && self.may_be_left_out(now, flow, number) {
            self.expired.insert(number);
            self.settle(flow, number);
        }
        if self.flows.get(&flow).is_some_and(|flow| flow.settled.contains(&number)) {
            self.acked_by.entry(number).or_default().insert(flow);
            return Ok(());
        }
        Err(format!(
            "message {number} is acked, and it is neither confirmed nor dead-lettered nor dropped: {:?}",
            self.letter(number)
        ))
    }

    /// JetStream counts a message as acked.
    pub(super) fn acked(&self, number: u64) -> Result<(), String> {
        if self.settled.contains(&number) {
            return Ok(());
        }
        Err(format!(
            "JetStream takes message {number} for acked, and it is neither confirmed nor dead-lettered nor dropped: {:?}",
            self.letter(number)
        ))
    }

    pub(super) fn failed(&mut self, flight: FlightId, channel: &str, number: u64) {
        let channel = Arc::from(channel);
        self.failed.insert((flight, Arc::clone(&channel), number));
        self.channel(channel, number).failed = true;
    }

    fn channel(&mut self, channel: Arc<str>, number: u64) -> &mut Channel {
        let incarnation = self.messages[(number / MAX_PARTS) as usize].incarnation;
        self.channels.entry((incarnation, channel)).or_default()
    }

    /// Centrifugo executes a publication, and may suppress it.
    pub(super) fn published(&mut self, channel: &str, number: u64) {
        let state = self.channel(Arc::from(channel), number);
        state.published.insert(number, state.history.len());
    }

    pub(super) fn shown(&mut self, now: Instant, flight: FlightId, channel: &str, number: u64) -> Result<(), String> {
        let batched = self.setup.order == Order::Batched;
        let (keys, forgot) = (self.setup.keys, self.forgot);
        // If the pin was forgotten, two relays may publish until the older lease is over.
        let two = self.two_until.is_some_and(|until| now <= until + LATEST);
        let key: Arc<str> = Arc::from(channel);
        let sender = self.flights.get(&flight).and_then(|flow| self.flows.get(flow));
        let posthumous = sender.is_none_or(|flow| flow.yielded);
        let state = self.channel(Arc::clone(&key), number);
        state.posthumous |= posthumous;
        let position = state.history.len();
        state.history.push(number);
        if let Some((last, _)) = state.shown.insert(number, (now, position)) {
            let why = if !keys {
                "without keys"
            } else if now >= last + KEYS_LAST {
                "the key was older than five minutes"
            } else if forgot.is_some_and(|forgot| forgot >= last) {
                "Centrifugo had lost its memory"
            } else if batched && state.failed {
                "batched order, after error 100"
            } else if two {
                "two relays published for a moment"
            } else if state.disturbed {
                "what is before it was shown again"
            } else {
                return Err(format!("{} is shown again on {channel}: {state}", name(number)));
            };
            state.disturbed = true;
            *self.repeats.entry(why).or_default() += 1;
            return Ok(());
        }
        let incarnation = self.messages[(number / MAX_PARTS) as usize].incarnation;
        let Some(state) = self.channels.get_mut(&(incarnation, Arc::clone(&key))) else {
            return Ok(());
        };
        if self.setup.conflate {
            let still_there = |newer: u64| !self.messages[(newer / MAX_PARTS) as usize].removed;
            let newer = state.shown.range(number + 1..).find(|(newer, _)| still_there(**newer));
            return match newer {
                // The key was unused, because the next flow left the publication out. Only versions prevent this.
                Some((newer, _)) if !state.disturbed && !posthumous && !self.reread && !two => Err(format!(
                    "{} is shown after {} on {channel}: {state}",
                    name(number),
                    name(*newer)
                )),
                newer => {
                    state.disturbed |= newer.is_some();
                    Ok(())
                }
            };
        }
        for index in state.front..state.due.len() {
            let earlier = state.due[index];
            if earlier >= number {
                break;
            }
            let removed = self.messages[(earlier / MAX_PARTS) as usize].removed;
            let sender = self.flights.get(&flight).and_then(|flow| self.flows.get(flow));
            let age = now - self.messages[(earlier / MAX_PARTS) as usize].stored;
            let left_out = self.max_age.is_some_and(|max_age| age > max_age)
                && sender.is_none_or(|flow| !flow.sent.contains(&earlier));
            let excused = removed || left_out || batched && self.failed.contains(&(flight, Arc::clone(&key), earlier));
            if !state.shown.contains_key(&earlier) && !excused {
                return Err(format!(
                    "{} overtook {} on {channel}: {state}",
                    name(number),
                    name(earlier)
                ));
            }
        }
        // The next flow left the publication out for its age while an earlier request with it was still on its way. Its
        // key was unused.
        let newer = state.shown.range(number + 1..).next();
        if let Some((newer, _)) = newer
            && self.setup.max_age
            && !state.disturbed
            && !posthumous
            && !two
            && !self.reread
            && !self.messages[(number / MAX_PARTS) as usize].removed
        {
            return Err(format!(
                "{} is shown after {} on {channel}: {state}",
                name(number),
                name(*newer)
            ));
        }
        // Publications before a removed one may still have been on their way.
        state.disturbed |= state.shown.range(number + 1..).next().is_some();
        while let Some(next) = state.due.get(state.front)
            && (state.shown.contains_key(next) || self.messages[(next / MAX_PARTS) as usize].removed)
        {
            state.front += 1;
        }
        Ok(())
    }

    /// Returns the messages of the flow that it may have left out, although it could not ack them yet.
    fn left_out(&self, now: Instant, id: FlowId) -> Vec<u64> {
        let held = self
            .flows
            .get(&id)
            .into_iter()
            .flat_map(|flow| flow.held.keys().copied());
        held.filter(|&number| self.may_be_left_out(now, id, number)).collect()
    }

    /// Returns the first message that the flow has taken in and not finished.
    fn first_open(&self, now: Instant, id: FlowId) -> Option<u64> {
        let held = self.flows.get(&id)?.held.keys();
        held.copied()
            .find(|&number| !self.is_obsolete(id, number) && !self.may_be_left_out(now, id, number))
    }

    /// The flow has ended. `clean` is true if it was told to finish and reported that it had.
    pub(super) fn ended(&mut self, now: Instant, id: FlowId, clean: bool) -> Result<(), String> {
        self.flow_ended = true;
        let open = self.first_open(now, id);
        self.expired.extend(self.left_out(now, id));
        self.flows.remove(&id);
        self.flights.retain(|_, flow| *flow != id);
        match open {
            Some(number) if clean => Err(format!(
                "the flow said that it was done, and message {number} is not: {:?}",
                self.letter(number)
            )),
            _ => Ok(()),
        }
    }

    /// Everything has come to rest. Nothing may be missing, and if Centrifugo could tell, the publication shown last is
    /// the newest.
    ///
    /// After something was shown again for a good reason (see `shown`), Centrifugo may suppress what follows it. Then
    /// only this holds: whatever was shown again was followed by everything behind it, shown or suppressed.
    pub(super) fn at_rest(&mut self, now: Instant) -> Result<(), String> {
        let flows: Vec<FlowId> = self.flows.keys().copied().collect();
        for id in flows {
            self.expired.extend(self.left_out(now, id));
            if let Some(number) = self.first_open(now, id) {
                return Err(format!("flow {id} still holds message {number}"));
            }
        }
        for (number, message) in (0..).zip(&self.messages) {
            if message.removed {
                continue;
            }
            if message.letter.is_refused() && !self.dead_letters.contains(&number) {
                return Err(format!(
                    "message {number} is lost: it is not among the dead letters: {:?}",
                    message.letter
                ));
            }
            for (publication, channel) in message.letter.to_show(number) {
                let state = &self.channels[&(message.incarnation, Arc::clone(&channel))];
                let gone = |message: usize| self.messages[message].removed || self.expired.contains(&(message as u64));
                let obsolete =
                    self.expired.contains(&number) || self.setup.conflate && state.is_obsolete(publication, gone);
                if !state.shown.contains_key(&publication) && !obsolete {
                    return Err(format!(
                        "{} is lost: it was never shown on {channel}: {state}",
                        name(publication)
                    ));
                }
            }
        }
        let excused = !self.repeats.is_empty();
        for ((_, name), channel) in &self.channels {
            // Without keys, or where two relays publish at the same time, nobody can know what a request shows long
            // after its timeout.
            if !self.setup.keys {
                continue;
            }
            // In batched order, the scheduler that notices an early publication shows it again. It stays 1 3 2 if the
            // process ends before that, or if the repeat is executed long after its timeout, after what the next
            // process shows.
            if self.setup.order == Order::Batched && channel.failed && self.flow_ended {
                continue;
            }
            // If two relays published at the same time, each takes the positions of the other for a sign that its own
            // publication came too early, and repeats it. If the stream disappears in the middle of that, the repeats
            // are not finished.
            if self.two_until.is_some() {
                continue;
            }
            if self.setup.conflate && (channel.posthumous || self.reread) {
                continue;
            }
            let mut newest_shown = 0;
            let newest = channel.shown.keys().next_back();
            for (publication, &(_, position)) in &channel.shown {
                let message = publication / MAX_PARTS;
                // After Centrifugo loses its memory, earlier publications may be shown again, but not a removed or
                // expired one.
                if self.messages[message as usize].removed || self.expired.contains(&message) {
                    continue;
                }
                // It gave its place to a newer one, which then became too old.
                let expired = |other: &u64| other > publication && self.expired.contains(&(other / MAX_PARTS));
                if self.setup.conflate && channel.due.iter().any(expired) {
                    continue;
                }
                let published = channel.published.get(publication).copied().unwrap_or(0);
                let last = if excused || name.starts_with(PLAIN) {
                    published
                } else {
                    position
                };
                // Publications before the newest may have been left out the second time.
                if last < newest_shown && (!self.setup.conflate || Some(publication) == newest) {
                    return Err(format!("what was shown last on {name} is not the newest: {channel}"));
                }
                newest_shown = newest_shown.max(position);
            }
        }
        Ok(())
    }
}

impl Channel {
    /// Returns true if a newer publication was shown, or would have been.
    fn is_obsolete(&self, publication: u64, removed: impl Fn(usize) -> bool) -> bool {
        let mut newer = self.due.iter().filter(|&&other| other > publication);
        newer.any(|other| self.shown.contains_key(other) || removed((other / MAX_PARTS) as usize))
    }
}

/// Names a publication by its message's number and its index in the message.
fn name(number: u64) -> String {
    format!("{}.{}", number / MAX_PARTS, number % MAX_PARTS)
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |numbers: &[u64]| numbers.iter().map(|number| name(*number)).collect::<Vec<_>>().join(" ");
        write!(f, "stored {}, shown {}", names(&self.due), names(&self.history))
    }
}
