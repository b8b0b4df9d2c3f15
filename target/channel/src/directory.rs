//! Which units there are and where: made by the daemon, read by every core, replaced as a whole.

use crate::message::UnitAddress;
use kagami_types::{BlockSize, Lun};

/// The LUNs of the target. Looked up once per command, so it is a table by number.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    units: Vec<Option<(UnitAddress, BlockSize)>>,
    luns: Vec<Lun>,
}

impl Directory {
    /// A directory of these units.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = (Lun, UnitAddress, BlockSize)>) -> Self {
        let mut directory = Self::default();
        for (lun, address, block_size) in units {
            if directory.units.len() <= lun.index() {
                directory.units.resize(lun.index() + 1, None);
            }
            directory.units[lun.index()] = Some((address, block_size));
            directory.luns.push(lun);
        }
        directory.luns.sort_unstable();
        directory
    }

    /// Where the unit of that LUN lives.
    #[inline]
    #[must_use]
    pub fn unit(&self, lun: Lun) -> Option<UnitAddress> {
        self.units.get(lun.index())?.map(|(address, _)| address)
    }

    /// The size of its blocks.
    #[inline]
    #[must_use]
    pub fn block_size(&self, lun: Lun) -> Option<BlockSize> {
        self.units.get(lun.index())?.map(|(_, size)| size)
    }

    /// All LUNs in order.
    #[must_use]
    pub fn luns(&self) -> &[Lun] {
        &self.luns
    }
}
