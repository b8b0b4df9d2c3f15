//! The index of cached pages, their order of eviction and what is kept about each.
//!
//! The order is S3-FIFO's: a page comes into a *small* queue; if it was used more than once when its turn comes there it
//! goes to the *main* queue, else it leaves and its *ghost* stays for a while. A page that comes back while its ghost is
//! there goes to main at once. In main a page that was used since its last turn gets another one. So a scan passes
//! through the small queue and touches nothing else, and a hit only counts: no queue is reordered by it.
//!
//! What is added to that, with the measurements in docs/decisions/0013:
//!
//! - The small queue learns its size. A page that comes back soon after it left the small queue would have been there
//!   still had that been a little larger: it grows by [`STEP`] pages. One that comes back soon after it left main says the
//!   same of main: it shrinks. It begins with a tenth. How soon is counted in evictions from either queue: where pages
//!   come back in a loop hardly any leave the small queue, and all would seem to come back at once.
//! - *Cold* pages (DPO) are the first to go, and pages *read ahead* go before others once they hold more than an eighth
//!   of the cache. The first hit on either counts as the page's arrival.
//! - A page that may not go when its turn comes (dirty, being sent, being filled) is *parked*: off its queue, so that
//!   nobody looks at it again and again. It takes its turn when it may go: [`Pages::release`] says so at once, and each
//!   [`Pages::evict`] looks at a few parked pages anyway. The proportions of the queues are those of the pages that are
//!   not parked, so that reads are cached sensibly while most of the cache is dirty.
//! - No call takes more than [`STEPS`] steps.
//!
//! It does no I/O, and does not know what is dirty: that is in the payload `T` and the caller's question. The store calls
//! it.

mod ghost;
mod index;

#[cfg(test)]
mod tests;

pub(crate) use index::mix;

use ghost::Ghosts;
use index::{Index, Packed};
use std::fmt;
use std::ops;

/// How many pages one [`Pages::evict`] looks at, at most. So many are looked at only where all of them were used since
/// their last turn, and each look takes one use away: no more looks are made in all than there were hits. With a quarter of
/// it a loop that is a little larger than the cache had 0.4 points less than the textbook's S3-FIFO.
pub const STEPS: u32 = 1024;

/// How many parked pages each [`Pages::evict`] looks at.
const PROBES: u32 = 2;

/// By how many pages a miss that tells something moves the size of the small queue.
const STEP: u32 = 2;

/// A page that comes back within this part of a cache in evictions would still have been there, had the small queue been
/// a little larger. Sooner than one that left main ([`MAIN_SOON`]): a small queue that is too large costs where use is skewed
/// and stable, and grows back quickly where the working set moves.
const SMALL_SOON: u32 = 24;

/// The same of a page that left the main queue.
const MAIN_SOON: u32 = 12;

/// How often a use is counted.
const MOST_USES: u8 = 3;

/// How many slots there can be, so that a slot's number is never [`NONE`].
const MOST_SLOTS: u32 = u32::MAX - 1;

/// No slot.
const NONE: u32 = u32::MAX;

/// A page of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The volume, as the core counts its cached volumes.
    pub volume: u16,
    /// The byte offset in the volume, divided by 4096.
    pub page: u64,
}

/// Where a page is kept, from its insertion to its removal. Whoever keeps a slot longer reads another page's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(u32);

impl Slot {
    /// The slot's number, below the capacity.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What [`Pages::evict`] took out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evicted<T> {
    /// Which page it was.
    pub key: Key,
    /// What was kept about it.
    pub payload: T,
    /// It was read ahead and never used.
    pub unused: bool,
}

/// The queues. A parked page keeps the name of the one that it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Cold,
    Ahead,
    Small,
    Main,
    /// Only in place of a name: the list of parked pages.
    Parked,
}

const QUEUES: usize = 5;

#[derive(Debug)]
struct Node<T> {
    key: Packed,
    /// Towards the head, where pages come in. Of a free slot: nothing.
    newer: u32,
    /// Towards the tail, where they go. Of a free slot: the next free one.
    older: u32,
    uses: u8,
    queue: Queue,
    parked: bool,
    payload: Option<T>,
}

impl<T> Node<T> {
    const fn key(&self) -> Key {
        self.key.key()
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

const NO_PAGES: List = List { newest: NONE, oldest: NONE, len: 0 };

/// One step of [`Pages::scan`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// A page of the volume; go on after it.
    Found(Slot),
    /// None in as many steps; go on from this number.
    More(u32),
    /// There are no more.
    End,
}

/// The pages of a core's cache; see the module.
pub struct Pages<T> {
    nodes: Box<[Node<T>]>,
    index: Index,
    /// Of pages that left the small queue, and the main one.
    ghosts: Ghosts,
    main_ghosts: Ghosts,
    /// How many of `capacity` pages the small queue should have.
    small: u32,
    lists: [List; QUEUES],
    free: u32,
    len: u32,
    /// How many pages read ahead and not used yet may stay before others.
    ahead: u32,
    seed: u64,
}

impl<T> Pages<T> {
    /// For up to `capacity` pages; all memory is taken now: about 75 bytes a page and the payload.
    pub fn new(capacity: u32) -> Self {
        Self::with_seed(capacity, 0x6b61_6761_6d69)
    }

    /// As [`Pages::new`], with a seed for the hash: a secret one keeps hosts from making collisions.
    pub fn with_seed(capacity: u32, seed: u64) -> Self {
        let capacity = capacity.min(MOST_SLOTS);
        let nothing = Packed::NOTHING;
        let node = |slot: u32| Node {
            key: nothing,
            newer: NONE,
            older: if slot + 1 < capacity { slot + 1 } else { NONE },
            uses: 0,
            queue: Queue::Small,
            parked: false,
            payload: None,
        };
        Self {
            nodes: (0..capacity).map(node).collect(),
            index: Index::new(capacity, seed),
            ghosts: Ghosts::new(capacity.saturating_add(capacity / 10)),
            main_ghosts: Ghosts::new(capacity / MAIN_SOON),
            small: capacity / 10,
            lists: [NO_PAGES; QUEUES],
            free: if capacity == 0 { NONE } else { 0 },
            len: 0,
            ahead: capacity / 8,
            seed,
        }
    }

    /// How many pages there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pages there can be.
    #[allow(clippy::cast_possible_truncation, reason = "made from a u32")]
    pub const fn capacity(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// How many pages are parked: their turn came while they might not go.
    pub const fn parked(&self) -> u32 {
        self.lists[Queue::Parked as usize].len
    }

    /// How many pages were read ahead and not used yet.
    pub const fn ahead(&self) -> u32 {
        self.lists[Queue::Ahead as usize].len
    }

    /// Where a page is. Does not count as a use.
    #[inline]
    pub fn get(&self, key: Key) -> Option<Slot> {
        self.index.find(Packed::new(key)?).map(Slot)
    }

    /// Asks the processor for what [`get`](Self::get) will look at. A hint.
    #[inline]
    pub fn prefetch(&self, key: Key) {
        if let Some(key) = Packed::new(key) {
            self.index.prefetch(key);
        }
    }

    /// Asks the processor for what is kept about a slot's page. A hint.
    #[inline]
    pub fn prefetch_slot(&self, slot: Slot) {
        if let Some(node) = self.nodes.get(slot.index()) {
            kagami_memory::prefetch_value(node);
            kagami_memory::prefetch_value(&node.payload);
        }
    }

    /// What is kept about the page in a slot, if the slot is taken.
    pub fn peek(&self, slot: Slot) -> Option<&T> {
        self.nodes.get(slot.index())?.payload.as_ref()
    }

    /// Which page is in a slot. Of a slot that is free: any.
    pub fn key(&self, slot: Slot) -> Key {
        self.nodes[slot.index()].key()
    }

    /// The page was used. True on the first use of a page that was read ahead.
    #[inline]
    pub fn hit(&mut self, slot: Slot) -> bool {
        let node = &mut self.nodes[slot.index()];
        match node.queue {
            Queue::Small | Queue::Main | Queue::Parked => {
                if node.uses < MOST_USES {
                    node.uses += 1;
                }
                false
            }
            Queue::Cold | Queue::Ahead => self.arrive_late(slot.0),
        }
    }

    /// The first use of a page that came cold or ahead counts as its arrival.
    #[cold]
    fn arrive_late(&mut self, slot: u32) -> bool {
        let node = &self.nodes[slot as usize];
        let (key, was) = (node.key, node.queue);
        self.unlink(slot);
        let queue = self.where_to(key);
        self.push_newest(queue, slot);
        was == Queue::Ahead
    }

    /// Adds a page that a host used.
    ///
    /// # Errors
    /// All slots are taken, or the page is there already, or its number is not below [`MOST_PAGES`](crate::MOST_PAGES);
    /// the payload comes back.
    pub fn insert(&mut self, key: Key, payload: T) -> Result<Slot, T> {
        let slot = self.occupy(key, payload)?;
        let queue = self.where_to(self.nodes[slot.index()].key);
        self.push_newest(queue, slot.0);
        Ok(slot)
    }

    /// Adds a page that will not be used again soon (DPO, SBC-4 4.16): the first to go, and not remembered.
    ///
    /// # Errors
    /// As [`Pages::insert`].
    pub fn insert_cold(&mut self, key: Key, payload: T) -> Result<Slot, T> {
        self.insert_into(Queue::Cold, key, payload)
    }

    /// Adds a page that was read ahead: stays before others while few are, and counts as arrived when it is used.
    ///
    /// # Errors
    /// As [`Pages::insert`].
    pub fn insert_ahead(&mut self, key: Key, payload: T) -> Result<Slot, T> {
        self.insert_into(Queue::Ahead, key, payload)
    }

    fn insert_into(&mut self, queue: Queue, key: Key, payload: T) -> Result<Slot, T> {
        let slot = self.occupy(key, payload)?;
        self.push_newest(queue, slot.0);
        Ok(slot)
    }

    /// The queue of a page that arrives, by its ghost; learns from it.
    fn where_to(&mut self, key: Packed) -> Queue {
        let hash = key.hash(self.seed);
        let capacity = self.capacity();
        if let Some(age) = self.ghosts.take(hash) {
            if age < capacity / SMALL_SOON {
                self.small = (self.small + STEP).min(capacity - capacity / 10);
            }
            return Queue::Main;
        }
        if self.main_ghosts.take(hash).is_some() {
            self.small = self.small.saturating_sub(STEP).max(1);
        }
        Queue::Small
    }

    fn occupy(&mut self, key: Key, payload: T) -> Result<Slot, T> {
        let slot = self.free;
        let Some(key) = Packed::new(key).filter(|&key| slot != NONE && self.index.find(key).is_none()) else {
            return Err(payload);
        };
        let node = &mut self.nodes[slot as usize];
        self.free = node.older;
        (node.key, node.uses) = (key, 0);
        node.payload = Some(payload);
        self.index.add(key, slot);
        self.len += 1;
        Ok(Slot(slot))
    }

    /// Removes a page that is not to be found any more (it is wrong, or its volume goes); it leaves no ghost. None if
    /// the slot is free.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        self.nodes.get(slot.index())?.payload.as_ref()?;
        self.unlink(slot.0);
        self.vacate(slot.0)
    }

    fn vacate(&mut self, slot: u32) -> Option<T> {
        self.index.remove(self.nodes[slot as usize].key);
        let node = &mut self.nodes[slot as usize];
        node.older = self.free;
        self.free = slot;
        self.len -= 1;
        node.payload.take()
    }

    /// The page may go from now on: takes its turn next if that came while it might not. Costs nothing otherwise.
    pub fn release(&mut self, slot: Slot) {
        let node = &self.nodes[slot.index()];
        if node.parked {
            let queue = node.queue;
            self.unlink(slot.0);
            self.push_oldest(queue, slot.0);
        }
    }

    /// Takes out the page that is most likely not missed among those that `may` go.
    ///
    /// None if none was found in [`STEPS`] steps: then nearly all may not go. What was looked at is parked, so that asking
    /// again looks at others.
    pub fn evict(&mut self, mut may: impl FnMut(&Key, &T) -> bool) -> Option<Evicted<T>> {
        self.look_at_parked(&mut may);
        // The least used of those that are to stay, if it takes too long to find one that is not.
        let mut second: Option<(u8, u32)> = None;
        for _ in 0..STEPS {
            let Some((queue, slot)) = self.next_turn() else { break };
            let node = &self.nodes[slot as usize];
            let uses = node.uses;
            let left = match queue {
                Queue::Small if uses > 1 => 0,
                Queue::Main if uses > 0 => uses - 1,
                _ if node.may(&mut may) => return self.take_out(slot),
                _ => {
                    self.park(slot);
                    continue;
                }
            };
            if second.is_none_or(|(least, _)| uses < least) && node.may(&mut may) {
                second = Some((uses, slot));
            }
            self.nodes[slot as usize].uses = left;
            self.unlink(slot);
            self.push_newest(Queue::Main, slot);
        }
        second.and_then(|(_, slot)| self.take_out(slot))
    }

    /// Whose turn it is: the oldest page of the queue that is over its share.
    fn next_turn(&self) -> Option<(Queue, u32)> {
        let len = |queue: Queue| self.lists[queue as usize].len;
        let (small, main) = (len(Queue::Small), len(Queue::Main));
        let share = u64::from(self.small) * u64::from(small + main) / u64::from(self.capacity().max(1));
        let queue = if len(Queue::Cold) > 0 {
            Queue::Cold
        } else if len(Queue::Ahead) > self.ahead {
            Queue::Ahead
        } else if small > 0 && (main == 0 || u64::from(small) >= share) {
            Queue::Small
        } else if main > 0 {
            Queue::Main
        } else {
            Queue::Ahead
        };
        let slot = self.lists[queue as usize].oldest;
        (slot != NONE).then_some((queue, slot))
    }

    fn take_out(&mut self, slot: u32) -> Option<Evicted<T>> {
        let node = &self.nodes[slot as usize];
        let (key, queue) = (node.key(), node.queue);
        let hash = node.key.hash(self.seed);
        match queue {
            Queue::Small => self.ghosts.add(hash),
            Queue::Main => {
                self.main_ghosts.add(hash);
                self.ghosts.pass();
            }
            _ => {}
        }
        self.unlink(slot);
        let payload = self.vacate(slot)?;
        Some(Evicted { key, payload, unused: queue == Queue::Ahead })
    }

    fn park(&mut self, slot: u32) {
        let queue = self.nodes[slot as usize].queue;
        self.unlink(slot);
        self.push_newest(Queue::Parked, slot);
        let node = &mut self.nodes[slot as usize];
        (node.queue, node.parked) = (queue, true);
    }

    fn look_at_parked(&mut self, may: &mut impl FnMut(&Key, &T) -> bool) {
        for _ in 0..PROBES {
            let slot = self.lists[Queue::Parked as usize].oldest;
            let Some(node) = self.nodes.get(slot as usize) else { return };
            if node.may(may) {
                self.release(Slot(slot));
            } else {
                self.park(slot);
            }
        }
    }

    /// The pages of a volume, in no order. Looks at every slot: for the removal of a volume, and tests.
    pub fn slots_of(&self, volume: u16) -> impl Iterator<Item = Slot> {
        let taken = self.nodes.iter().zip(0..).filter(move |(node, _)| node.is_of(volume));
        taken.map(|(_, slot)| Slot(slot))
    }

    /// The next page of a volume from slot number `from` on, looking at up to `steps` slots: for the removal of a volume
    /// a piece at a time.
    pub fn scan(&self, volume: u16, from: u32, steps: u32) -> Scan {
        let end = from.saturating_add(steps).min(self.capacity());
        let found = (from..end).find(|&slot| self.nodes[slot as usize].is_of(volume));
        match found {
            Some(slot) => Scan::Found(Slot(slot)),
            None if end < self.capacity() => Scan::More(end),
            None => Scan::End,
        }
    }

    fn list_of(&mut self, slot: u32) -> &mut List {
        let node = &self.nodes[slot as usize];
        let queue = if node.parked { Queue::Parked } else { node.queue };
        &mut self.lists[queue as usize]
    }

    fn unlink(&mut self, slot: u32) {
        let node = &self.nodes[slot as usize];
        let (newer, older) = (node.newer, node.older);
        let list = self.list_of(slot);
        list.len -= 1;
        if newer == NONE {
            list.newest = older;
        }
        if older == NONE {
            list.oldest = newer;
        }
        if let Some(node) = self.nodes.get_mut(newer as usize) {
            node.older = older;
        }
        if let Some(node) = self.nodes.get_mut(older as usize) {
            node.newer = newer;
        }
    }

    fn push_newest(&mut self, queue: Queue, slot: u32) {
        let list = &mut self.lists[queue as usize];
        let older = list.newest;
        list.newest = slot;
        list.len += 1;
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = slot,
            None => list.oldest = slot,
        }
        self.place(queue, slot, NONE, older);
    }

    fn push_oldest(&mut self, queue: Queue, slot: u32) {
        let list = &mut self.lists[queue as usize];
        let newer = list.oldest;
        list.oldest = slot;
        list.len += 1;
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = slot,
            None => list.newest = slot,
        }
        self.place(queue, slot, newer, NONE);
    }

    fn place(&mut self, queue: Queue, slot: u32, newer: u32, older: u32) {
        let node = &mut self.nodes[slot as usize];
        (node.queue, node.newer, node.older, node.parked) = (queue, newer, older, false);
    }
}

impl<T> Node<T> {
    fn may(&self, may: &mut impl FnMut(&Key, &T) -> bool) -> bool {
        self.payload.as_ref().is_some_and(|payload| may(&self.key(), payload))
    }

    const fn is_of(&self, volume: u16) -> bool {
        self.payload.is_some() && self.key().volume == volume
    }
}

/// # Panics
/// If the slot is free: whoever removed the page has kept it.
impl<T> ops::Index<Slot> for Pages<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        self.nodes[slot.index()].payload.as_ref().expect("a slot that is taken")
    }
}

/// # Panics
/// If the slot is free: whoever removed the page has kept it.
impl<T> ops::IndexMut<Slot> for Pages<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot.index()].payload.as_mut().expect("a slot that is taken")
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cold, ahead, small, main, parked] = self.lists.map(|list| list.len);
        to.debug_struct("Pages")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .field("small should be", &self.small)
            .field("cold, ahead, small, main, parked", &[cold, ahead, small, main, parked])
            .finish_non_exhaustive()
    }
}
