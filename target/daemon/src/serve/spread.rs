//! Volumes over several cores: which cores have their shards, and what those are made from.
//!
//! The unit lives on the volume's home core, which has the first shard; the others follow on the next cores in turn.
//! Each shard has a descriptor of its own for the same open file, so that the exclusive lock holds for all of them.

use super::unit::{Made, Served, Storage, Target, make_volume};
use super::{Array, StartError};
use crate::plan::VolumePlan;
use kagami_channel::{Control, Shard, ShardAddress, shard_base};
use kagami_memory::Page;
use kagami_ring::Ring;
use kagami_types::{BlockCount, CoreId};
use std::io;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How long a core may take to make a shard.
const MAKING: Duration = Duration::from_secs(10);

/// A shard to be made.
#[derive(Debug)]
pub(super) struct ServedShard {
    pub(super) plan: VolumePlan,
    blocks: BlockCount,
    storage: Storage,
}

impl ServedShard {
    /// What another core needs of a volume.
    fn of(served: &Served) -> io::Result<Self> {
        let storage = match &served.storage {
            Storage::Ram => Storage::Ram,
            Storage::Null => Storage::Null,
            #[cfg(feature = "faulty")]
            Storage::Faulty(_) => return Err(io::ErrorKind::Unsupported.into()),
            // Each keeps the holes of its own extents, which nobody else writes to.
            Storage::Disk { fd, limits, polled, holes } => {
                Storage::Disk { fd: fd.try_clone()?, limits: *limits, polled: *polled, holes: holes.clone() }
            }
        };
        Ok(Self { plan: served.plan.clone(), blocks: served.blocks, storage })
    }
}

/// The cores that have shards of a volume beside its home.
fn others(plan: &VolumePlan, cores: usize) -> impl Iterator<Item = CoreId> + use<> {
    let home = plan.home.index();
    let steps = 1..usize::from(plan.spread).min(cores);
    steps.filter_map(move |step| u16::try_from((home + step) % cores).ok().map(CoreId))
}

/// Gives the shards of a volume their places at cores that have not started yet.
pub(super) fn deal(served: &mut Served, per_core: &mut [Vec<ServedShard>]) -> Result<(), StartError> {
    for core in others(&served.plan, per_core.len()) {
        let shard = ServedShard::of(served)
            .map_err(|error| StartError::Volume(served.plan.name.clone(), error.to_string()))?;
        let Some(list) = per_core.get_mut(core.index()) else { continue };
        let index = u32::try_from(list.len()).unwrap_or(u32::MAX);
        list.push(shard);
        served.shards.push(ShardAddress { core, index });
    }
    Ok(())
}

/// Makes a shard on its core. The reason where it cannot be.
pub(super) fn build(
    shard: ServedShard,
    index: u32,
    target: &Target,
    zeroes: &Page,
    ring: &mut Ring,
) -> Result<Shard, String> {
    let ServedShard { plan, blocks, storage } = shard;
    // Its unit says before the first part whether it writes back.
    let Made { volume, cached, .. } =
        make_volume(&plan, blocks, storage, shard_base(index), target, zeroes, ring)?;
    let shard = Shard::new(volume, plan.row as usize);
    Ok(match cached {
        Some(cached) => shard.with_cache(cached),
        None => shard,
    })
}

impl Array {
    /// Has cores that run make the shards of a volume, before its unit is made.
    ///
    /// # Errors
    /// Why one of them cannot be; nothing is left of the others then.
    pub(super) fn make_shards(&self, served: &mut Served) -> Result<(), String> {
        for core in others(&served.plan, self.inboxes.len()) {
            let made = self.make_shard(served, core);
            match made {
                Ok(index) => served.shards.push(ShardAddress { core, index }),
                Err(reason) => {
                    self.unmake_shards(&served.shards);
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    fn make_shard(&self, served: &Served, core: CoreId) -> Result<u32, String> {
        let seed = Box::new(ServedShard::of(served).map_err(|error| error.to_string())?);
        let (answer, made) = sync_channel(1);
        if !self.tell_patiently(core, Control::AddShard { seed, answer }) {
            return Err(format!("core {} does not answer", core.0));
        }
        made.recv_timeout(MAKING).map_err(|_| format!("core {} does not answer", core.0))?
    }

    /// Takes shards out whose unit was never made.
    pub(super) fn unmake_shards(&self, shards: &[ShardAddress]) {
        for shard in shards {
            self.tell_patiently(shard.core, Control::RemoveShard { shard: shard.index });
        }
    }
}
