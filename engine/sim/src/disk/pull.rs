//! Disks that are pulled out of the machine and put back, while the array uses them.
//!
//! What the kernel does then: everything under way on the old descriptor ends with an error, nothing works on it any
//! more, and once the disk is there again it has to be opened anew. A disk keeps what it holds, its volatile cache
//! included where it keeps its power. Whoever plays the daemon in a test calls this; the array hears of it by its own messages.

use super::{DiskId, narrow};
use crate::coverage::Happening;
use crate::trace::Who;
use crate::world::World;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// How often a disk was pulled: what was opened before is no good after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stay(u64);

/// One small file for every number of a disk, made when it is first asked for and never seen in a folder.
static STANDING_FOR: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());

fn make(disk: DiskId) -> io::Result<File> {
    let name = format!("kagami-sim-{}-{}", std::process::id(), disk.0);
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all_at(&disk.0.to_le_bytes(), 0)?;
    Ok(file)
}

/// Which disk a descriptor stands for.
pub(crate) fn disk_of(descriptor: OwnedFd) -> Option<DiskId> {
    let mut number = [0; 2];
    File::from(descriptor).read_exact_at(&mut number, 0).ok()?;
    Some(DiskId(u16::from_le_bytes(number)))
}

impl World {
    /// Pulls a disk out: what is under way there fails, and so does everything that is asked of what was opened.
    pub fn pull(&self, disk: DiskId) {
        self.with(|state| {
            let Some(pulled) = state.disks.get_mut(usize::from(disk.0)) else { return };
            pulled.pulled = true;
            pulled.stay.0 += 1;
            state.coverage.hit(Happening::Pulled);
            state.trace.note(state.now, Who::Disk(narrow(usize::from(disk.0))), "is pulled out", [0; 3]);
        });
    }

    /// Its power goes with it: what was not stable may be lost. To be called before it is put back.
    pub fn cut_power(&self, disk: DiskId) {
        self.with(|state| {
            let Some(dark) = state.disks.get_mut(usize::from(disk.0)) else { return };
            let loss = dark.medium.lose_power(&mut dark.rng);
            state.coverage.hit(Happening::PulledDark);
            if loss.lost + loss.torn > 0 {
                state.coverage.hit(Happening::PulledLost);
            }
            let numbers = [loss.lost, loss.kept, loss.torn];
            let who = Who::Disk(narrow(usize::from(disk.0)));
            state.trace.note(state.now, who, "lost its power; writes lost, kept, torn", numbers);
        });
    }

    /// Puts it back, to be opened anew.
    pub fn put_back(&self, disk: DiskId) {
        self.with(|state| {
            let Some(there) = state.disks.get_mut(usize::from(disk.0)) else { return };
            there.pulled = false;
            state.trace.note(state.now, Who::Disk(narrow(usize::from(disk.0))), "is put back", [0; 3]);
        });
    }

    /// A descriptor for [`Io::add_device`](kagami_reactor::Io::add_device) and for nothing else.
    ///
    /// # Errors
    /// This machine has no room for a small file.
    pub fn descriptor(disk: DiskId) -> io::Result<OwnedFd> {
        let mut all = STANDING_FOR.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = all.get(&disk.0) {
            return Ok(file.try_clone()?.into());
        }
        let file = make(disk)?;
        let descriptor = file.try_clone()?;
        all.insert(disk.0, file);
        Ok(descriptor.into())
    }

    /// Ends the sleep of cores that somebody outside the array has rung for.
    pub fn ring(&self) {
        self.with(|state| state.ring_doorbells());
    }
}
