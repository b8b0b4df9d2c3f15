//! `kagami-bench replay`: was everything on the device that a host had been promised, at every flush?
//!
//! While `verify --snapshots` loads a target whose device is one of dm-log-writes, it keeps what the target must hold,
//! over and over, and marks each moment in the device's log. This replays the log, entry by entry, as if power had
//! failed there:
//!
//! - at each mark, every block must hold something that the snapshot of that name allows after a crash: nothing that
//!   was acknowledged and flushed may be missing;
//! - after each entry between two marks, every block that it wrote must hold what the snapshot before it allows, or a
//!   newer write than that snapshot knows, and none newer than the one after it knows.
//!
//! One thing the log does not say: a FUA write is in it at once, but a write that ended before, to the same block, only
//! with the next flush. The device holds what the host sent last of the two, and so does the replay, until that flush.
//!
//! The checker's model is that of `verify`; nothing of the target is used.

mod log;

use crate::cli::ReplayArgs;
use crate::error::Error;
use crate::verify::{Found, Kept, Rule, stamp};
use log::{Entry, Log};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    writes: u64,
    barriers: u64,
    marks: u64,
    blocks: u64,
    lost: u64,
}

/// Replays a log and checks it.
///
/// # Errors
/// [`Error::Mismatch`]: something promised is missing. [`Error::Failed`]: the log or a snapshot cannot be read.
pub fn run(args: &ReplayArgs) -> Result<(), Error> {
    let file =
        File::open(&args.log).map_err(|error| Error::Failed(format!("{}: {error}", args.log.display())))?;
    let counts = replay(BufReader::with_capacity(1 << 20, file), args)?;
    println!(
        "LUN {}: {} writes and {} flushes or FUA writes replayed, {} blocks checked at {} snapshots and between them",
        args.lun, counts.writes, counts.barriers, counts.blocks, counts.marks
    );
    if counts.marks < args.least {
        return Err(Error::Failed(format!("only {} snapshots, not {}", counts.marks, args.least)));
    }
    Ok(())
}

/// The device as it would be after losing power.
struct Image {
    bytes: Vec<u8>,
    block: usize,
    /// Blocks that were written with FUA since the last flush.
    ahead: HashSet<u64>,
}

/// A write of the log.
struct Write {
    offset: u64,
    data: Vec<u8>,
    flush: bool,
    fua: bool,
}

impl Image {
    fn found(&self, kept: &Kept, block: u64) -> Found {
        let at = usize::try_from(block).unwrap_or(usize::MAX).saturating_mul(self.block);
        match self.bytes.get(at..at.saturating_add(self.block)) {
            Some(bytes) => stamp::read(bytes, kept.id, block),
            None => Found::Foreign,
        }
    }

    /// Puts a write where it belongs, as far as that is checked. Which blocks it is about.
    fn write(&mut self, write: &Write) -> std::ops::Range<u64> {
        if write.flush {
            self.ahead.clear();
        }
        let first = write.offset / self.block as u64;
        let mut next = first;
        for data in write.data.chunks_exact(self.block) {
            let (block, at) = (next, usize::try_from(next).unwrap_or(usize::MAX).saturating_mul(self.block));
            let Some(to) = self.bytes.get_mut(at..at.saturating_add(self.block)) else { break };
            next += 1;
            let older =
                || stamp::generation(data).zip(stamp::generation(to)).is_some_and(|(new, old)| new < old);
            if write.fua {
                self.ahead.insert(block);
            } else if self.ahead.contains(&block) && older() {
                continue;
            }
            to.copy_from_slice(data);
        }
        first..next
    }
}

fn replay(from: impl Read, args: &ReplayArgs) -> Result<Counts, Error> {
    let mut log = Log::open(from)?;
    let mut counts = Counts::default();
    let mut image: Option<Image> = None;
    // What was written before the first snapshot: it says how large the checked region is.
    let mut before: Vec<Write> = Vec::new();
    let mut kept: Option<Kept> = None;
    // Blocks written since the last mark, with values that its snapshot did not know.
    let mut newer: BTreeSet<(u64, u32)> = BTreeSet::new();
    while let Some(entry) = log.next()? {
        match entry {
            Entry::Mark(name) => {
                let Some(number) = name.strip_prefix(&args.prefix) else { continue };
                let next = Kept::open(&args.snapshots.join(number), args.lun)?;
                let image = image.get_or_insert_with(|| {
                    let len = next.model.blocks().saturating_mul(u64::from(next.block_size));
                    let bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                    let mut image = Image { bytes, block: next.block_size as usize, ahead: HashSet::new() };
                    for write in before.drain(..) {
                        image.write(&write);
                    }
                    image
                });
                let last = next.model.last_generation().0;
                if let Some((block, generation)) = newer.iter().find(|(_, generation)| *generation > last) {
                    return Err(wrong(&name, *block, &format!("write {generation}, which was not sent yet")));
                }
                newer.clear();
                for block in 0..next.model.blocks() {
                    let found = image.found(&next, block);
                    next.model
                        .check(block, found, Rule::Crash)
                        .map_err(|wrong_block| wrong(&name, block, &differs(&wrong_block.expected, found)))?;
                }
                counts.blocks += next.model.blocks();
                counts.marks += 1;
                kept = Some(next);
            }
            Entry::Flush => {
                counts.barriers += 1;
                if let Some(image) = &mut image {
                    image.ahead.clear();
                }
            }
            // The load has no UNMAP; a discard would only make the device forget what was checked.
            Entry::Discard { .. } => {}
            Entry::Write { offset, data, flush, fua } => {
                let write = Write { offset, data, flush, fua };
                counts.writes += 1;
                counts.barriers += u64::from(flush || fua);
                if args.lose.is_some_and(|every| counts.writes.is_multiple_of(every)) {
                    counts.lost += 1;
                    continue;
                }
                let (Some(image), Some(kept)) = (&mut image, &kept) else {
                    before.push(write);
                    continue;
                };
                for block in image.write(&write) {
                    let found = image.found(kept, block);
                    counts.blocks += 1;
                    let Err(wrong_block) = kept.model.check(block, found, Rule::Crash) else { continue };
                    match found {
                        Found::Stamp(generation) if generation > kept.model.last_generation() => {
                            newer.insert((block, generation.0));
                        }
                        _ => {
                            let place = format!("after write {} of the log", counts.writes);
                            return Err(wrong(&place, block, &differs(&wrong_block.expected, found)));
                        }
                    }
                }
            }
        }
    }
    Ok(counts)
}

fn differs(expected: &str, found: Found) -> String {
    format!("{found}, not {expected}")
}

fn wrong(place: &str, block: u64, what: &str) -> Error {
    Error::Mismatch(format!("power lost at {place}: block {block} holds {what}"))
}

/// A snapshot's name in its folder and in the log.
#[must_use]
pub fn snapshot_path(folder: &Path, number: u64) -> std::path::PathBuf {
    folder.join(number.to_string())
}

#[cfg(test)]
mod tests;
