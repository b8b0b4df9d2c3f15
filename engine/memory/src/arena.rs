//! The arena: one mapping cut into pages of three classes, with a free list per class and core.

use crate::error::MemoryError;
use crate::mapping::{self, Mapping};
use crate::page::PageMut;
use crate::plan::{ArenaPlan, Backing, Class, HugePages, Purpose, Split};
use crate::stack::{FreeStack, Node};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::ptr::NonNull;

/// log2 of the largest buffer that io_uring registers: 1 GiB.
const REGION_SHIFT: u32 = 30;

/// The pages of one class: contiguous memory, a node for each, and the free lists.
#[derive(Debug)]
struct Area {
    base: NonNull<u8>,
    count: u32,
    reserve: u32,
    nodes: Box<[Node]>,
    shards: Box<[CachePadded<FreeStack>]>,
}

impl Area {
    fn new(class: Class, plan: &ArenaPlan, base: NonNull<u8>) -> Self {
        let count = plan.class(class).count;
        let reserve = plan.class(class).reserve;
        let nodes: Box<[Node]> = (0..count).map(|_| Node::new()).collect();
        let split = Split::new(class, count, plan.shards());
        let sizes: Vec<u32> =
            (0..plan.shards()).map(|shard| split.pages(shard).fold(0u32, |sum, _| sum + 1)).collect();
        let shards = (0..plan.shards())
            .zip(split.reserves(reserve, &sizes))
            // Downwards, so that pages come out in ascending order and neighbours lie together.
            .map(|(shard, part)| CachePadded::new(FreeStack::new(&nodes, split.pages(shard).rev(), part)))
            .collect();
        Self { base, count, reserve, nodes, shards }
    }
}

/// What every handle points at. Never freed: see [`Arena`].
#[derive(Debug)]
pub(crate) struct Inner {
    mapping: Mapping,
    areas: [Area; 3],
}

// SAFETY: the pointers name the arena's mapping, which lives as long as the process and belongs to
// no thread. Its bytes are reached only through handles, which see to it that they are either one
// handle's alone or read only; everything else here is atomic or never changes.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// Which page of which arena: what a handle is made of. Copying it does not make a handle.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) arena: &'static Inner,
    /// Below the count of its class: handed out by a free list of that class.
    pub(crate) index: u32,
    /// The free list that it came from and goes back to.
    shard: u16,
    pub(crate) class: Class,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.class, self.index)
    }
}

impl Place {
    fn area(self) -> &'static Area {
        &self.arena.areas[self.class as usize]
    }

    /// What the arena notes about the page.
    #[inline]
    pub(crate) fn node(self) -> &'static Node {
        &self.area().nodes[self.index as usize]
    }

    /// The first byte.
    #[inline]
    pub(crate) fn pointer(self) -> *mut u8 {
        let offset = (self.index as usize) << self.class.shift();
        // SAFETY: the index is below the area's count, and the mapping has that many pages of this
        // class from the area's base on.
        unsafe { self.area().base.as_ptr().add(offset) }
    }

    /// Which registered region the page lies in: it never straddles two.
    #[inline]
    pub(crate) fn region(self) -> u16 {
        let offset = self.pointer().addr() - self.arena.mapping.base.as_ptr().addr();
        u16::try_from(offset >> REGION_SHIFT).unwrap_or(u16::MAX)
    }

    /// Puts the page on its free list.
    ///
    /// The caller gives up the last handle: nothing may reach the page through this place any more.
    #[inline]
    pub(crate) fn give_back(self) {
        let area = self.area();
        area.shards[usize::from(self.shard)].push(&area.nodes, self.index);
    }
}

/// Pages on their way back, gathered so that those of one free list go in one exchange. What is in
/// it when it is dropped goes back then.
#[derive(Debug)]
pub struct Returns {
    /// Where all of them go: the place of the first.
    place: Option<Place>,
    indices: [u32; Self::MOST],
    len: usize,
}

impl Returns {
    const MOST: usize = 64;

    pub(crate) fn new() -> Self {
        Self { place: None, indices: [0; Self::MOST], len: 0 }
    }

    /// Takes a page of which the caller has just given up the last handle; as
    /// [`give_back`](Place::give_back).
    #[inline]
    pub(crate) fn add(&mut self, place: Place) {
        let fits = self.len < Self::MOST
            && self.place.is_some_and(|first| {
                first.shard == place.shard
                    && first.class == place.class
                    && std::ptr::eq(first.arena, place.arena)
            });
        if !fits {
            self.flush();
            self.place = Some(place);
        }
        self.indices[self.len] = place.index;
        self.len += 1;
    }

    fn flush(&mut self) {
        if let Some(place) = self.place.take() {
            let area = place.area();
            area.shards[usize::from(place.shard)].push_many(&area.nodes, &self.indices[..self.len]);
        }
        self.len = 0;
    }
}

impl Drop for Returns {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A part of the arena to be registered with the kernel as one buffer: at most 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first byte.
    pub pointer: *mut u8,
    /// Its length in bytes.
    pub len: usize,
}

/// All the memory that data ever lies in, taken once.
///
/// An arena is never given back, not even when the last `Arena` is dropped: the kernel may hold
/// its pages (registered buffers, transfers in flight) and handles may be anywhere, so they would
/// all have to count references to it. As the memory is wanted until the process ends, it simply
/// stays, and a handle is a plain reference and an index. Tests and simulations may take several.
#[derive(Clone, Copy)]
pub struct Arena {
    inner: &'static Inner,
}

impl Arena {
    /// Takes the planned memory, touches all of it and puts every page on a free list.
    ///
    /// # Errors
    /// A plan that cannot be served, or a kernel that has not the memory.
    pub fn new(plan: ArenaPlan, huge: HugePages) -> Result<Self, MemoryError> {
        plan.check()?;
        let mapping = mapping::map(plan.bytes(), huge)?;
        // The largest first: each class then begins at a multiple of its own size.
        let mut start = 0usize;
        let mut area = |class: Class| {
            // SAFETY: the mapping has room for all classes one after the other.
            let base = unsafe { mapping.base.add(start) };
            start += (plan.class(class).count as usize) << class.shift();
            Area::new(class, &plan, base)
        };
        let large = area(Class::Large);
        let small = area(Class::Small);
        let page = area(Class::Page);
        let inner = Box::leak(Box::new(Inner { mapping, areas: [page, small, large] }));
        Ok(Self { inner })
    }

    pub(crate) fn of(place: Place) -> Self {
        Self { inner: place.arena }
    }

    /// What the memory stands on.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.inner.mapping.backing
    }

    /// The bytes taken from the kernel.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.mapping.len
    }

    /// The whole arena in pieces that io_uring can register as buffers; the position of a piece is
    /// what [`PageMut::region`] and [`Page::region`](crate::Page::region) return.
    pub fn regions(&self) -> impl ExactSizeIterator<Item = Region> + use<> {
        let (base, len) = (self.inner.mapping.base.as_ptr(), self.inner.mapping.len);
        let size = 1usize << REGION_SHIFT;
        (0..len.div_ceil(size)).map(move |region| {
            let start = region * size;
            Region { pointer: base.wrapping_add(start), len: size.min(len - start) }
        })
    }

    /// The number of free lists per class.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.area(Class::Page).shards.len()).unwrap_or(u16::MAX)
    }

    /// The core's view of the arena: takes first from that core's own pages. A number beyond the
    /// plan's shards wraps around.
    #[must_use]
    pub fn pool(&self, shard: u16) -> Pool {
        Pool { inner: self.inner, shard: shard % self.shards().max(1) }
    }

    /// Pages of a class in all.
    #[must_use]
    pub fn total(&self, class: Class) -> u32 {
        self.area(class).count
    }

    /// Pages of a class that hosts cannot have.
    #[must_use]
    pub fn reserve(&self, class: Class) -> u32 {
        self.area(class).reserve
    }

    /// Free pages of a class, the reserve included. Exact where nobody takes or gives meanwhile.
    #[must_use]
    pub fn free(&self, class: Class) -> u32 {
        let area = self.area(class);
        area.shards.iter().map(|shard| shard.depth(&area.nodes)).sum()
    }

    /// Free pages of a class that a host could still have.
    #[must_use]
    pub fn free_for_hosts(&self, class: Class) -> u32 {
        let area = self.area(class);
        area.shards.iter().map(|shard| shard.depth(&area.nodes).saturating_sub(shard.reserve())).sum()
    }

    /// About the least number of free pages that a class has had: the sum of each shard's own low,
    /// which need not have been at one moment, so never more than the true one.
    #[must_use]
    pub fn low_water(&self, class: Class) -> u32 {
        self.area(class).shards.iter().map(|shard| shard.low()).sum()
    }

    fn area(&self, class: Class) -> &'static Area {
        &self.inner.areas[class as usize]
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Arena");
        out.field("bytes", &self.bytes()).field("backing", &self.backing());
        for class in Class::ALL {
            out.field(
                match class {
                    Class::Page => "free_pages",
                    Class::Small => "free_small",
                    Class::Large => "free_large",
                },
                &format_args!("{}/{}", self.free(class), self.total(class)),
            );
        }
        out.finish()
    }
}

/// Where a core takes pages: its own shard first, then the others'. Freely copied.
#[derive(Clone, Copy)]
pub struct Pool {
    inner: &'static Inner,
    shard: u16,
}

impl Pool {
    /// The arena.
    #[must_use]
    pub fn arena(&self) -> Arena {
        Arena { inner: self.inner }
    }

    /// The core's own shard.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Takes a page; `None` where there is none for that purpose on any shard.
    ///
    /// It holds whatever its last owner left there (another host's data, perhaps): the taker fills
    /// what it exposes. It is zero only until its first use.
    #[must_use]
    #[inline]
    pub fn take(&self, class: Class, purpose: Purpose) -> Option<PageMut> {
        let area = &self.inner.areas[class as usize];
        let home = area.shards.get(usize::from(self.shard))?;
        match home.pop(&area.nodes, floor(home, purpose)) {
            Some(index) => Some(self.own(class, self.shard, index)),
            None => self.take_elsewhere(class, purpose),
        }
    }

    #[cold]
    fn take_elsewhere(&self, class: Class, purpose: Purpose) -> Option<PageMut> {
        let area = &self.inner.areas[class as usize];
        self.others().find_map(|shard| {
            let stack = &area.shards[usize::from(shard)];
            let index = stack.pop(&area.nodes, floor(stack, purpose))?;
            Some(self.own(class, shard, index))
        })
    }

    /// Takes up to `count` pages, gives each to `each`, and returns how many there were. Cheaper
    /// than one by one, and pages that lie together come one after the other in ascending order.
    pub fn take_many(
        &self,
        class: Class,
        purpose: Purpose,
        count: u32,
        mut each: impl FnMut(PageMut),
    ) -> u32 {
        let area = &self.inner.areas[class as usize];
        let mut taken = 0;
        for shard in std::iter::once(self.shard).chain(self.others()) {
            if taken >= count {
                break;
            }
            let stack = &area.shards[usize::from(shard)];
            taken += stack.pop_many(&area.nodes, floor(stack, purpose), count - taken, |index| {
                each(self.own(class, shard, index));
            });
        }
        taken
    }

    /// The other shards, nearest number first.
    fn others(&self) -> impl Iterator<Item = u16> + use<> {
        let shards = self.arena().shards();
        let own = self.shard;
        (1..shards).map(move |step| (own + step) % shards)
    }

    /// The handle of a page that was just taken from a free list.
    #[inline]
    fn own(&self, class: Class, shard: u16, index: u32) -> PageMut {
        PageMut::own(Place { arena: self.inner, index, shard, class })
    }
}

#[inline]
fn floor(stack: &FreeStack, purpose: Purpose) -> u32 {
    match purpose {
        Purpose::Host => stack.reserve(),
        Purpose::Internal => 0,
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("shard", &self.shard).field("arena", &self.arena()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
