//! Which units there are and where: made by the daemon, read by every core, replaced as a whole.

use crate::message::UnitAddress;
use crate::virtual_unit::Shape;
use kagami_types::{BlockSize, Lun};
use std::sync::Arc;

/// How long a unit's blocks are.
#[derive(Clone, Debug)]
enum Blocks {
    Fixed(BlockSize),
    /// A virtual volume's: as the far array says, once it does.
    Learnt(Arc<Shape>),
}

/// The LUNs of the target. Looked up once per command, so it is a table by number.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    units: Vec<Option<(UnitAddress, Blocks)>>,
    luns: Vec<Lun>,
}

impl Directory {
    /// A directory of these units.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = (Lun, UnitAddress, BlockSize)>) -> Self {
        let mut directory = Self::default();
        for (lun, address, block_size) in units {
            directory.put(lun, address, Blocks::Fixed(block_size));
        }
        directory.luns.sort_unstable();
        directory
    }

    /// The same, with these virtual volumes.
    #[must_use]
    pub fn with_virtual(mut self, units: impl IntoIterator<Item = (Lun, UnitAddress, Arc<Shape>)>) -> Self {
        for (lun, address, shape) in units {
            self.put(lun, address, Blocks::Learnt(shape));
        }
        self.luns.sort_unstable();
        self
    }

    fn put(&mut self, lun: Lun, address: UnitAddress, blocks: Blocks) {
        if self.units.len() <= lun.index() {
            self.units.resize(lun.index() + 1, None);
        }
        self.units[lun.index()] = Some((address, blocks));
        self.luns.push(lun);
    }

    /// Where the unit of that LUN lives.
    #[inline]
    #[must_use]
    pub fn unit(&self, lun: Lun) -> Option<UnitAddress> {
        self.units.get(lun.index())?.as_ref().map(|(address, _)| *address)
    }

    /// The size of its blocks; `None` also for a virtual volume that is not known yet.
    #[inline]
    #[must_use]
    pub fn block_size(&self, lun: Lun) -> Option<BlockSize> {
        match &self.units.get(lun.index())?.as_ref()?.1 {
            Blocks::Fixed(size) => Some(*size),
            Blocks::Learnt(shape) => shape.block_size(),
        }
    }

    /// All LUNs in order.
    #[must_use]
    pub fn luns(&self) -> &[Lun] {
        &self.luns
    }
}
