//! The waiting publications: a queue per channel, the publications that are ready, and the channels that wait for a
//! time.
//!
//! An item is ready when it is at the front of each of its queues and none of these channels is busy. `blocked` counts
//! the channels for which that is not so, so nothing has to be searched. An item leaves its queues only when it is
//! done. While a request carries it, it stays at the front, behind nothing but items of the same request.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use super::Concluded;
use crate::message::{Publication, Rejection, Share};
use crate::publish::{HistoryPosition, RequestId, written_size};

pub(super) type ItemId = usize;
pub(super) type ChannelId = usize;

#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) items: Slab<Item>,
    pub(super) channels: Slab<Channel>,
    by_name: HashMap<Arc<str>, ChannelId>,
    /// Oldest first. It may contain items that are no longer ready, but no duplicates and no removed items.
    ready: BinaryHeap<Reverse<(u64, ItemId)>>,
    /// Ready items that were in failed requests: fewest failures first, then oldest first.
    suspects: BinaryHeap<Reverse<(u32, u64, ItemId)>>,
    timers: BinaryHeap<Reverse<(Instant, ChannelId)>>,
    pushed: u64,
}

/// Whether a publication was in failed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last request that carried it was answered, or there was none.
    Clean,
    Suspect,
}

/// The memory of an item here beside its publication and its channels, in bytes: the item, its place among the ready
/// ones, and its key. Collections that grow by doubling count twice.
pub(super) const ITEM: usize = 2 * (size_of::<Item>() + size_of::<Reverse<(u64, ItemId)>>()) + 48;

/// The additional memory for each of its channels: a target and a place in the queue.
pub(super) const PLACE: usize = size_of::<ChannelId>() + 2 * size_of::<ItemId>();

/// The memory of a channel while something waits for it, in bytes, with its name's place in the map and a queue of
/// four.
pub(super) const CHANNEL: usize =
    2 * (size_of::<Channel>() + size_of::<(Arc<str>, ChannelId)>()) + 4 * size_of::<ItemId>();

/// Returns the memory that the publication takes in the queues, in bytes, without the publication itself and without
/// channels that others also wait for.
pub(super) fn size(publication: &Publication) -> usize {
    ITEM + publication.channels.len() * PLACE
}

/// A publication, until it is done in each of its channels.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) ticket: u64,
    /// The publication with its effective key, shared with the requests that carry it.
    pub(super) publication: Arc<Publication>,
    /// True if the key is the relay's and not the publication's own.
    relays_key: bool,
    /// The channels in which it is not done yet.
    pub(super) channels: Targets,
    pub(super) rejection: Option<Rejection>,
    /// The channels on which it was refused.
    pub(super) refused: Vec<Arc<str>>,
    /// The encoded size in a request, in bytes.
    pub(super) size: usize,
    /// The largest batch that may carry it. A larger batch with it was refused as a whole.
    pub(super) max_batch: usize,
    /// How often it had to be shown again although it was confirmed. Each time needs another key.
    pub(super) repeats: u32,
    pub(super) sent: bool,
    /// Consecutive requests with it that failed as a whole.
    pub(super) failures: u32,
    /// A request with it alone was refused by an endpoint that then took an empty one.
    pub(super) accused: bool,
    /// A newer publication may take its place while it waits.
    conflates: bool,
    order: u64,
    blocked: usize,
    in_heap: bool,
}

#[derive(Debug)]
pub(super) enum Targets {
    One(ChannelId),
    Many(Vec<ChannelId>),
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    queue: VecDeque<ItemId>,
    /// How many items at the front of the queue are in the request `carrier`.
    taken: usize,
    carrier: RequestId,
    /// Items of an answered request that stay, in order.
    kept: Vec<ItemId>,
    backoff_until: Option<Instant>,
    /// Until then, the channel gets one publication per request.
    strict_until: Option<Instant>,
    timers: usize,
    /// Consecutive errors 100.
    pub(super) failures: u32,
    /// The position of the publication confirmed last.
    pub(super) last: Option<HistoryPosition>,
    pub(super) run: Run,
}

/// What the answer to a request has shown so far for a channel with several items in it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Run {
    /// After error 100, the channel pauses before it goes on.
    pub(super) backs_off: bool,
    /// Later items of the same request were shown before the failed one and have to be shown again.
    pub(super) broken: bool,
    /// A publication really was shown too early.
    pub(super) inverted: bool,
}

impl Queues {
    /// Adds a publication behind all others of its channels. With `conflates`, it replaces a waiting one that it makes
    /// obsolete. That one is returned.
    pub(super) fn push(
        &mut self,
        ticket: u64,
        mut publication: Publication,
        key: Option<String>,
        conflates: bool,
    ) -> Option<Concluded> {
        let relays_key = publication.idempotency_key.is_none() && key.is_some();
        if relays_key {
            publication.idempotency_key = key;
        }
        let channels = match publication.channels.as_slice() {
            [one] => Targets::One(self.channel(one)),
            many => many.iter().map(|name| self.channel(name)).collect::<Vec<_>>().into(),
        };
        let size = written_size(&publication);
        if conflates && let Some(item) = self.obsolete(&channels, &publication) {
            let obsolete = mem::replace(&mut item.publication, Arc::new(publication));
            item.relays_key = relays_key;
            item.size = size;
            let before = mem::replace(&mut item.ticket, ticket);
            return Some(Concluded::of(before, obsolete, item.order));
        }
        let item = self.items.insert(Item {
            ticket,
            size,
            publication: Arc::new(publication),
            relays_key,
            channels,
            rejection: None,
            refused: Vec::new(),
            max_batch: usize::MAX,
            repeats: 0,
            sent: false,
            failures: 0,
            accused: false,
            conflates,
            order: self.pushed,
            blocked: 0,
            in_heap: false,
        });
        self.pushed += 1;
        let entry = &mut self.items[item];
        for &channel in entry.channels.as_slice() {
            let channel = &mut self.channels[channel];
            // A busy channel is busy with an item of its own queue.
            if !channel.queue.is_empty() {
                entry.blocked += 1;
            }
            channel.queue.push_back(item);
        }
        if entry.blocked == 0 {
            self.enqueue(item);
        }
        None
    }

    /// Returns the item that the newest publication makes obsolete: the last one that waits on exactly its channels. An
    /// item that was in a request is never obsolete. Its request may still be executed. If nothing had used its key by
    /// then, it would be shown after the newer publication.
    fn obsolete(&mut self, channels: &Targets, newest: &Publication) -> Option<&mut Item> {
        let last = |&channel: &ChannelId| self.channels[channel].queue.back().copied();
        let mut last_ones = channels.as_slice().iter().map(last);
        let id = last_ones.next()??;
        if last_ones.any(|other| other != Some(id)) {
            return None;
        }
        let item = &mut self.items[id];
        let waits = item.conflates && !item.sent;
        let replaced = waits && item.channels.as_slice() == channels.as_slice() && outdates(newest, &item.publication);
        replaced.then_some(item)
    }

    /// Returns the first item of this kind that may go into the request now.
    pub(super) fn peek(&mut self, kind: Kind, carrier: RequestId) -> Option<ItemId> {
        while let Some(id) = self.first(kind) {
            let item = &self.items[id];
            if item.blocked == 0 || self.may_follow(id, item, carrier) {
                return Some(id);
            }
            self.dequeue(id);
        }
        None
    }

    fn first(&self, kind: Kind) -> Option<ItemId> {
        match kind {
            Kind::Clean => self.ready.peek().map(|&Reverse((_, id))| id),
            Kind::Suspect => self.suspects.peek().map(|&Reverse((.., id))| id),
        }
    }

    /// Takes the first item of its kind out of the heap.
    fn dequeue(&mut self, id: ItemId) {
        let item = &mut self.items[id];
        item.in_heap = false;
        match item.kind() {
            Kind::Clean => {
                self.ready.pop();
            }
            Kind::Suspect => {
                self.suspects.pop();
            }
        }
    }

    /// Returns true if everything before the item on its one channel is in the same request.
    fn may_follow(&self, id: ItemId, item: &Item, carrier: RequestId) -> bool {
        let Targets::One(channel) = item.channels else {
            return false;
        };
        let channel = &self.channels[channel];
        channel.taken > 0 && channel.carrier == carrier && channel.queue.get(channel.taken) == Some(&id)
    }

    /// Puts the peeked item into the request. With `follow`, the next items on its channels may join it.
    pub(super) fn take(&mut self, id: ItemId, carrier: RequestId, follow: bool) {
        self.dequeue(id);
        let item = &mut self.items[id];
        item.blocked = item.channels.as_slice().len();
        for index in 0..item.blocked {
            let channel = &mut self.channels[self.items[id].channels.as_slice()[index]];
            channel.taken += 1;
            channel.carrier = carrier;
            if !follow || channel.strict_until.is_some() {
                continue;
            }
            if let Some(&next) = channel.queue.get(channel.taken)
                && matches!(self.items[next].channels, Targets::One(_))
            {
                self.enqueue(next);
            }
        }
    }

    /// Removes the peeked item, which never was in a request, and returns its ticket. An item behind others of the same
    /// request stays until it is at the front.
    pub(super) fn leave_out(&mut self, id: ItemId) -> Option<u64> {
        self.dequeue(id);
        if self.items[id].blocked > 0 {
            return None;
        }
        let item = self.items.remove(id);
        for &channel in item.channels.as_slice() {
            let front = self.channels[channel].queue.pop_front();
            debug_assert_eq!(front, Some(id), "what is ready is at the front");
            self.free(channel);
        }
        Some(item.ticket)
    }

    /// The item, which a request carried, is done on this channel.
    pub(super) fn done(&mut self, id: ItemId, channel: ChannelId) {
        self.pop(id, channel);
        self.items[id].blocked -= 1;
    }

    /// The item, which a request carried, is sent again on this channel.
    pub(super) fn keep(&mut self, id: ItemId, channel: ChannelId) {
        self.pop(id, channel);
        self.channels[channel].kept.push(id);
    }

    fn pop(&mut self, id: ItemId, channel: ChannelId) {
        let channel = &mut self.channels[channel];
        let front = channel.queue.pop_front();
        debug_assert_eq!(
            front,
            Some(id),
            "an item of a request is at the front of `{}`",
            channel.name
        );
        channel.taken -= 1;
    }

    /// Returns true if a request carries an item on this channel that is neither done nor kept yet.
    pub(super) fn is_carried(&self, channel: ChannelId) -> bool {
        self.channels[channel].taken > 0
    }

    /// Every item that a request carried on the channel is done or kept. The kept ones return to the front, and the
    /// channel is free at once or at `backoff_until`.
    pub(super) fn release(&mut self, id: ChannelId, backoff_until: Option<Instant>, strict_until: Option<Instant>) {
        let channel = &mut self.channels[id];
        while let Some(item) = channel.kept.pop() {
            channel.queue.push_front(item);
        }
        channel.backoff_until = backoff_until;
        channel.strict_until = strict_until.or(channel.strict_until);
        for time in [backoff_until, strict_until].into_iter().flatten() {
            channel.timers += 1;
            self.timers.push(Reverse((time, id)));
        }
        if backoff_until.is_none() {
            self.free(id);
        }
    }

    fn free(&mut self, id: ChannelId) {
        match self.channels[id].queue.front() {
            Some(&front) => {
                let item = &mut self.items[front];
                item.blocked -= 1;
                if item.blocked == 0 {
                    self.enqueue(front);
                }
            }
            None => self.forget_if_idle(id),
        }
    }

    /// Fires the timers that are due.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((time, id))) = self.timers.peek()
            && time <= now
        {
            self.timers.pop();
            let channel = &mut self.channels[id];
            channel.timers -= 1;
            channel.strict_until = channel.strict_until.filter(|&until| until > now);
            if channel.backoff_until.is_some_and(|until| until <= now) {
                channel.backoff_until = None;
                self.free(id);
            } else {
                self.forget_if_idle(id);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|&Reverse((time, _))| time)
    }

    /// Returns true if something may be ready. Only [`Self::peek`] knows for sure.
    pub(super) fn may_be_ready(&self) -> bool {
        !self.ready.is_empty() || !self.suspects.is_empty()
    }

    /// Returns true if items of this kind may be ready.
    pub(super) fn may_have(&self, kind: Kind) -> bool {
        self.first(kind).is_some()
    }

    /// Returns the number of ready items that are not suspects. The count may be slightly too high.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns true if nothing is left, not even a channel's past.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.channels.is_empty()
            && self.by_name.is_empty()
            && self.ready.is_empty()
            && self.suspects.is_empty()
            && self.timers.is_empty()
    }

    fn enqueue(&mut self, id: ItemId) {
        let item = &mut self.items[id];
        if !item.in_heap {
            item.in_heap = true;
            match item.kind() {
                Kind::Clean => self.ready.push(Reverse((item.order, id))),
                Kind::Suspect => self.suspects.push(Reverse((item.failures, item.order, id))),
            }
        }
    }

    fn channel(&mut self, name: &Arc<str>) -> ChannelId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = self.channels.insert(Channel::new(name));
        self.by_name.insert(Arc::clone(name), id);
        id
    }

    /// Forgets a channel that has nothing waiting and whose past no longer matters. Memory therefore follows the length
    /// of the queues.
    fn forget_if_idle(&mut self, id: ChannelId) {
        let channel = &self.channels[id];
        if channel.queue.is_empty() && channel.timers == 0 {
            let channel = self.channels.remove(id);
            self.by_name.remove(&channel.name);
        }
    }
}

/// Returns true if the older publication is useless once the newer one is shown. Centrifugo suppresses a version that
/// is not above the last one of its epoch, so leaving out a higher version would show an older state.
fn outdates(newer: &Publication, older: &Publication) -> bool {
    newer.version_epoch == older.version_epoch
        && match (newer.version, older.version) {
            (None, None) => true,
            (Some(newer), Some(older)) => newer > older,
            _ => false,
        }
}

impl Item {
    /// The item is done in each of its channels.
    pub(super) fn concluded(self) -> Concluded {
        let mut concluded = Concluded::of(self.ticket, self.publication, self.order);
        concluded.result = self.rejection.map_or(Ok(()), Err);
        concluded.share.refused = self.refused;
        concluded
    }

    pub(super) fn kind(&self) -> Kind {
        match self.failures {
            0 => Kind::Clean,
            _ => Kind::Suspect,
        }
    }

    /// Returns true if a position before that of its predecessor means that the item was shown too early, by a request
    /// whose answer was lost and in which the predecessor failed. A broadcast never follows another publication in a
    /// request. A module may also reuse an old key on purpose.
    pub(super) fn may_be_found_misplaced(&self) -> bool {
        self.publication.channels.len() == 1 && self.relays_key
    }
}

impl Concluded {
    /// A publication that is confirmed.
    fn of(ticket: u64, publication: Arc<Publication>, number: u64) -> Self {
        let channels = match Arc::try_unwrap(publication) {
            Ok(publication) => publication.channels,
            // A request that was given up may still hold the publication.
            Err(publication) => publication.channels.clone(),
        };
        Self {
            ticket,
            result: Ok(()),
            share: Share {
                number,
                channels,
                refused: Vec::new(),
            },
        }
    }
}

impl Channel {
    fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            queue: VecDeque::new(),
            taken: 0,
            carrier: RequestId::NONE,
            kept: Vec::new(),
            backoff_until: None,
            strict_until: None,
            timers: 0,
            failures: 0,
            last: None,
            run: Run::default(),
        }
    }
}

impl From<Vec<ChannelId>> for Targets {
    fn from(channels: Vec<ChannelId>) -> Self {
        match channels.as_slice() {
            [one] => Self::One(*one),
            _ => Self::Many(channels),
        }
    }
}

impl Targets {
    pub(super) fn as_slice(&self) -> &[ChannelId] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}
