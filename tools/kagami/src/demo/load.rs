//! Verified load: each write is stamped with its block and its number, so that what is read again can be judged.

use super::Written;
use kagami_admin::Refusal;
use kagami_initiator::{Connector, Disk, Url};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a write.
const BLOCK: usize = 4096;
/// Writes that the other side may be behind. Without a bound a machine that is busy with other things fills the
/// journals, which are small here, and the pair is suspended, as it should: not what is to be shown.
const AHEAD: u64 = 4096;
/// How long the load waits where it is that far ahead.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of a read where all is read.
const CHUNK: u32 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const INITIATOR: &str = "iqn.2026-11.io.kagami:demo";

fn open(url: &str) -> Result<Disk, Refusal> {
    let url: Url = url.parse().map_err(|why| Refusal::usage(format!("{url}: {why}")))?;
    let connector = Connector::plain(url, INITIATOR.to_owned(), PATIENCE);
    Disk::open(connector, PATIENCE).map_err(failed)
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn failed(error: kagami_initiator::Error) -> Refusal {
    Refusal::failed(format!("a host's command failed: {error}"))
}

/// What a block holds after its last write.
fn stamped(block: u64, stamp: u64) -> Vec<u8> {
    let mut unit = [0; 16];
    let (number, count) = unit.split_at_mut(8);
    number.copy_from_slice(&block.to_le_bytes());
    count.copy_from_slice(&stamp.to_le_bytes());
    unit.repeat(BLOCK / 16)
}

/// Load under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    /// So many writes, and it waits.
    allowed: Arc<AtomicU64>,
    thread: JoinHandle<Result<Written, Refusal>>,
}

impl Load {
    /// Writes all over a volume until it is stopped, up to `AHEAD` before [`keep`](Self::keep) says where the
    /// other side is. `written` is what it holds already.
    pub fn start(url: String, mut written: Written, size: u64) -> Result<Self, Refusal> {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let allowed = Arc::new(AtomicU64::new(AHEAD));
        let (stopped, counted, limit) = (Arc::clone(&stop), Arc::clone(&count), Arc::clone(&allowed));
        let blocks = size / BLOCK as u64;
        let mut stamp = written.values().copied().max().unwrap_or(0);
        let work = move || {
            let mut disk = open(&url)?;
            let mut dice = stamp | 1;
            while !stopped.load(Ordering::Relaxed) {
                if counted.load(Ordering::Relaxed) >= limit.load(Ordering::Relaxed) {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                // Uneven steps over the volume (an LCG of Knuth's), some blocks again and again.
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let block = (dice >> 33) % if dice >> 63 == 0 { blocks } else { blocks.min(64) };
                stamp += 1;
                disk.write(block * BLOCK as u64, &stamped(block, stamp)).map_err(failed)?;
                written.insert(block, stamp);
                counted.fetch_add(1, Ordering::Relaxed);
            }
            disk.close();
            Ok(written)
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Refusal::failed(format!("no thread: {error}")))?;
        Ok(Self { stop, count, allowed, thread })
    }

    /// Writes so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// So many of its writes are not yet on the other side: it keeps that below `AHEAD`.
    pub fn keep(&self, behind: u64) {
        self.allowed.store(self.count().saturating_sub(behind) + AHEAD, Ordering::Relaxed);
    }

    /// It ended by itself, which is a failure.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it: how many writes were answered, and what the volume must hold.
    pub fn stop(self) -> Result<(u64, Written), Refusal> {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.join().map_err(|_| Refusal::failed("the load ended with a panic"))??;
        Ok((self.count.load(Ordering::Relaxed), written))
    }
}

/// Reads what was written; how many blocks hold something else.
pub fn verify(url: &str, written: &Written) -> Result<u64, Refusal> {
    let mut disk = open(url)?;
    let len = u32::try_from(BLOCK).unwrap_or(4096);
    let mut wrong = 0;
    for (block, stamp) in written {
        let found = disk.read(block * u64::from(len), len).map_err(failed)?;
        wrong += u64::from(found != stamped(*block, *stamp));
    }
    disk.close();
    Ok(wrong)
}

/// Reads both volumes from end to end; in how many blocks they differ.
pub fn compare(one: &str, other: &str) -> Result<u64, Refusal> {
    let (mut one, mut other) = (open(one)?, open(other)?);
    let size = one.bytes();
    if size != other.bytes() {
        return Err(Refusal::failed("the volumes differ in size"));
    }
    let (mut at, mut differs) = (0, 0);
    while at < size {
        let len = u32::try_from((size - at).min(u64::from(CHUNK))).unwrap_or(CHUNK);
        let (a, b) = (one.read(at, len).map_err(failed)?, other.read(at, len).map_err(failed)?);
        differs += a.chunks(BLOCK).zip(b.chunks(BLOCK)).filter(|(a, b)| a != b).count() as u64;
        at += u64::from(len);
    }
    one.close();
    other.close();
    Ok(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_tell_block_and_write() {
        let block = stamped(7, 9);
        assert_eq!(block.len(), BLOCK);
        assert_eq!((block[0], block[8], block[4080], block[4088]), (7, 9, 7, 9));
        assert_ne!(stamped(7, 9), stamped(7, 10));
    }
}
