//! Units that come while the core runs.

use crate::shard::Shard;
use crate::unit::Unit;
use std::any::Any;

/// What a new unit is made from: opened devices, limits, names. Only the [`UnitMaker`] that was
/// given to the core looks inside.
pub type Seed = Box<dyn Any + Send>;

/// Makes units for a core, on the core's own thread and with its I/O. Called when a volume is
/// created, never on the way of a command.
pub trait UnitMaker<I>: Send {
    /// Makes the unit that gets the place `index` at this core.
    ///
    /// # Errors
    /// Why it cannot be, in plain words; nothing is left of it then.
    fn make(&mut self, io: &mut I, index: u32, seed: Seed) -> Result<Unit, String>;

    /// Makes the shard that gets the place `index` among this core's shards.
    ///
    /// # Errors
    /// Why it cannot be, in plain words; nothing is left of it then.
    fn make_shard(&mut self, io: &mut I, index: u32, seed: Seed) -> Result<Shard, String> {
        let _ = (io, index, seed);
        Err("this core takes no shards".to_owned())
    }
}
