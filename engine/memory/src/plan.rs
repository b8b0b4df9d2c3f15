//! How much memory the arena takes and how it is cut: pure arithmetic, done once at start.

use crate::error::MemoryError;

/// The most shards that a class's free pages may be spread over: one per core.
pub const MAX_SHARDS: u16 = 1024;

/// The most pages of one class: what the index part of a free list's head can name, less the
/// value that means "none".
pub(crate) const MAX_PAGES: u32 = (1 << 28) - 1;

/// The sizes that pages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// 4 KiB: the cache page, and what device I/O is made of.
    Page = 0,
    /// 16 KiB: headers to be sent, and the receive windows of idle connections.
    Small = 1,
    /// 256 KiB: the receive windows of busy connections, and regions of zeroes.
    Large = 2,
}

impl Class {
    /// All classes, smallest first.
    pub const ALL: [Self; 3] = [Self::Page, Self::Small, Self::Large];

    /// log2 of the size in bytes.
    #[must_use]
    #[inline]
    pub const fn shift(self) -> u32 {
        match self {
            Self::Page => 12,
            Self::Small => 14,
            Self::Large => 18,
        }
    }

    /// The size in bytes of every page of this class, which is also its alignment.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }
}

/// On whose behalf a page is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For a host's command or connection: stops short of the reserve.
    Host,
    /// For work that frees memory or must not wait for hosts (destage, journal, peers): may use all.
    Internal,
}

/// Whether to ask for huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Take 2 MiB pages where the kernel has them, else transparent ones, else plain memory.
    #[default]
    Try,
    /// Plain 4 KiB memory: for measuring, and for tests.
    Off,
}

/// What the arena ended up standing on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages of 2 MiB from the kernel's pool (`vm.nr_hugepages`).
    HugeTlb,
    /// Ordinary memory that the kernel may join to huge pages; `huge_bytes` had been when the
    /// arena had been touched once, where the kernel would say.
    Transparent {
        /// Bytes of the arena that stood on huge pages at start.
        huge_bytes: usize,
    },
    /// Ordinary 4 KiB pages.
    Plain,
}

/// How many pages of one class there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassPlan {
    /// Pages in all.
    pub count: u32,
    /// How many of them [`Purpose::Host`] cannot have.
    pub reserve: u32,
}

/// How much memory the arena takes, computed once from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaPlan {
    classes: [ClassPlan; 3],
    shards: u16,
}

impl ArenaPlan {
    /// A plan for that many cores, with no pages yet.
    #[must_use]
    pub const fn new(shards: u16) -> Self {
        Self { classes: [ClassPlan { count: 0, reserve: 0 }; 3], shards }
    }

    /// The same plan with `count` pages of a class, the last `reserve` of which are kept for
    /// [`Purpose::Internal`].
    #[must_use]
    pub const fn with(mut self, class: Class, count: u32, reserve: u32) -> Self {
        self.classes[class as usize] = ClassPlan { count, reserve };
        self
    }

    /// What the plan says of a class.
    #[must_use]
    pub const fn class(&self, class: Class) -> ClassPlan {
        self.classes[class as usize]
    }

    /// Free lists per class: one a core.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The bytes of all pages together. Saturates where no machine could hold them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        Class::ALL.iter().fold(0usize, |sum, &class| {
            let count = usize::try_from(self.class(class).count).unwrap_or(usize::MAX);
            sum.saturating_add(count.saturating_mul(class.bytes()))
        })
    }

    /// Checks what the rest of the crate relies on.
    pub(crate) fn check(&self) -> Result<(), MemoryError> {
        if self.shards == 0 || self.shards > MAX_SHARDS {
            return Err(MemoryError::Shards { shards: self.shards, limit: MAX_SHARDS });
        }
        for class in Class::ALL {
            let ClassPlan { count, reserve } = self.class(class);
            if count > MAX_PAGES {
                return Err(MemoryError::TooMany { class, count });
            }
            if reserve > count {
                return Err(MemoryError::Reserve { class, reserve, count });
            }
        }
        if self.bytes() == 0 {
            return Err(MemoryError::EmptyPlan);
        }
        Ok(())
    }
}

/// Which shard each page of a class belongs to, and each shard's part of the reserve.
///
/// Pages go to shards in turn by contiguous ranges of at most 2 MiB, so that a core's pages lie
/// together in few huge pages, and every core has its share of a small class.
#[derive(Debug)]
pub(crate) struct Split {
    count: u32,
    range: u32,
    shards: u32,
}

impl Split {
    pub(crate) fn new(class: Class, count: u32, shards: u16) -> Self {
        let shards = u32::from(shards.max(1));
        let huge = 1u32 << (21 - class.shift());
        Self { count, range: count.div_ceil(shards).clamp(1, huge), shards }
    }

    /// The pages of a shard, in ascending order.
    pub(crate) fn pages(&self, shard: u16) -> impl DoubleEndedIterator<Item = u32> + use<> {
        let (count, range, shards) = (self.count, self.range, self.shards);
        let rounds = count.div_ceil(range).div_ceil(shards);
        (0..rounds).flat_map(move |round| {
            let start = (round * shards + u32::from(shard)).saturating_mul(range).min(count);
            start..start.saturating_add(range).min(count)
        })
    }

    /// The reserve cut into one part a shard: in proportion to its pages, and together all of it.
    pub(crate) fn reserves(&self, reserve: u32, sizes: &[u32]) -> Vec<u32> {
        let total = u64::from(self.count.max(1));
        let share = |size: u32| u32::try_from(u64::from(reserve) * u64::from(size) / total).unwrap_or(size);
        let mut parts: Vec<u32> = sizes.iter().map(|&size| share(size)).collect();
        let mut left = reserve.saturating_sub(parts.iter().sum());
        for (part, &size) in parts.iter_mut().zip(sizes) {
            let more = left.min(size.saturating_sub(*part)).min(1);
            *part += more;
            left -= more;
        }
        for (part, &size) in parts.iter_mut().zip(sizes) {
            let more = left.min(size.saturating_sub(*part));
            *part += more;
            left -= more;
        }
        parts
    }
}
