//! What a disk holds: what reads see, what is stable, and in between the volatile cache with
//! every version of a sector that a power failure might leave there.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// A write's number on its disk.
pub(crate) type WriteSeq = u64;

/// Versions of a sector kept in the volatile cache before the oldest is made stable.
const MAX_VERSIONS: usize = 16;

#[derive(Debug)]
struct Version {
    write: WriteSeq,
    data: Box<[u8]>,
}

/// What became of unstable data in a power failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PowerLoss {
    /// Sectors that were not stable.
    pub(crate) dirty: u64,
    /// Writes none of whose unstable sectors survived.
    pub(crate) lost: u64,
    /// Writes all of whose unstable sectors survived.
    pub(crate) kept: u64,
    /// Writes with some that did and some that did not.
    pub(crate) torn: u64,
    /// Writes that survived in part at least although an earlier one, still unstable, did not.
    pub(crate) reordered: u64,
}

/// The sectors of a disk.
#[derive(Debug)]
pub(crate) struct Medium {
    sector: usize,
    /// What a read sees.
    view: Vec<u8>,
    /// What is left after a power failure, at least.
    stable: Vec<u8>,
    /// By sector: the versions written since the stable one, oldest first; the last is the view's.
    cache: BTreeMap<usize, Vec<Version>>,
}

impl Medium {
    pub(crate) fn new(sector: usize, sectors: usize) -> Self {
        let bytes = sector * sectors;
        Self { sector, view: vec![0; bytes], stable: vec![0; bytes], cache: BTreeMap::new() }
    }

    pub(crate) fn sector(&self) -> usize {
        self.sector
    }

    pub(crate) fn len(&self) -> usize {
        self.view.len()
    }

    pub(crate) fn sectors(&self) -> usize {
        self.view.len() / self.sector
    }

    /// The bytes of a run of sectors, as a read sees them.
    pub(crate) fn read(&self, sector: usize, count: usize) -> &[u8] {
        let start = sector * self.sector;
        self.view.get(start..start + count * self.sector).unwrap_or_default()
    }

    /// Writes one sector to the volatile cache.
    pub(crate) fn write(&mut self, sector: usize, data: &[u8], write: WriteSeq) {
        let start = sector * self.sector;
        let Some(place) = self.view.get_mut(start..start + self.sector) else { return };
        place.copy_from_slice(data);
        let versions = self.cache.entry(sector).or_default();
        versions.push(Version { write, data: data.into() });
        if versions.len() > MAX_VERSIONS {
            self.settle(sector, 1);
        }
    }

    /// Makes the oldest `count` cached versions of a sector pass: the last of them is stable.
    fn settle(&mut self, sector: usize, count: usize) {
        let Some(versions) = self.cache.get_mut(&sector) else { return };
        let start = sector * self.sector;
        if let Some(version) = versions.drain(..count.min(versions.len())).next_back()
            && let Some(place) = self.stable.get_mut(start..start + self.sector)
        {
            place.copy_from_slice(&version.data);
        }
        if versions.is_empty() {
            self.cache.remove(&sector);
        }
    }

    /// Makes one cached sector stable early, as disks do when they have time.
    pub(crate) fn settle_any(&mut self, rng: &mut Rng) {
        let nth = rng.index(self.cache.len());
        let Some((&sector, versions)) = self.cache.iter().nth(nth) else { return };
        let count = rng.index(versions.len()) + 1;
        self.settle(sector, count);
    }

    /// Makes what `covered` says stable, and of each sector what came before it.
    pub(crate) fn flush(&mut self, covered: impl Fn(WriteSeq) -> bool) {
        let dirty: Vec<usize> = self.cache.keys().copied().collect();
        for sector in dirty {
            let versions = self.cache.get(&sector).map(Vec::as_slice).unwrap_or_default();
            if let Some(last) = versions.iter().rposition(|version| covered(version.write)) {
                self.settle(sector, last + 1);
            }
        }
    }

    /// Makes the sectors of one write stable, and what came before it.
    pub(crate) fn stabilise(&mut self, write: WriteSeq, first: usize, count: usize) {
        for sector in first..first + count {
            let versions = self.cache.get(&sector).map(Vec::as_slice).unwrap_or_default();
            if let Some(last) = versions.iter().rposition(|version| version.write == write) {
                self.settle(sector, last + 1);
            }
        }
    }

    /// A bit is another from now on, also on the medium.
    pub(crate) fn rot(&mut self, byte: usize, bit: u8) {
        for copy in [&mut self.view, &mut self.stable] {
            if let Some(byte) = copy.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The power fails: each sector that was not stable is left as one of its versions or as the
    /// stable one.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) -> PowerLoss {
        // By write: sectors that were lost, sectors that were kept.
        let mut fates: BTreeMap<WriteSeq, (u64, u64)> = BTreeMap::new();
        let keep = rng.choose([0, 1000, 500, 500, 50, 950]);
        let cache = std::mem::take(&mut self.cache);
        let dirty = cache.len() as u64;
        for (sector, versions) in cache {
            let start = sector * self.sector;
            let chosen = if rng.permille(keep) {
                Some(rng.index(versions.len() + 1).min(versions.len() - 1))
            } else {
                None
            };
            for (place, version) in versions.iter().enumerate() {
                let fate = fates.entry(version.write).or_default();
                if chosen.is_some_and(|chosen| place <= chosen) { fate.1 += 1 } else { fate.0 += 1 }
            }
            let Some(stable) = self.stable.get_mut(start..start + self.sector) else { continue };
            if let Some(version) = chosen.and_then(|chosen| versions.get(chosen)) {
                stable.copy_from_slice(&version.data);
            }
            if let Some(view) = self.view.get_mut(start..start + self.sector) {
                view.copy_from_slice(stable);
            }
        }
        let count = |test: fn(&(u64, u64)) -> bool| fates.values().filter(|fate| test(fate)).count() as u64;
        PowerLoss {
            dirty,
            lost: count(|fate| fate.1 == 0),
            kept: count(|fate| fate.0 == 0),
            torn: count(|fate| fate.0 > 0 && fate.1 > 0),
            reordered: fates.values().skip_while(|fate| fate.1 > 0).filter(|fate| fate.1 > 0).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(n: u8) -> [u8; 512] {
        [n; 512]
    }

    /// Every value that some power failure leaves in sector 0.
    fn outcomes(make: impl Fn() -> Medium) -> Vec<u8> {
        let mut seen: Vec<u8> = (0..200)
            .map(|seed| {
                let mut medium = make();
                medium.lose_power(&mut Rng::new(seed));
                assert_eq!(medium.view, medium.stable);
                medium.read(0, 1)[0]
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn unstable_data_may_be_any_version_or_gone() {
        let seen = outcomes(|| {
            let mut medium = Medium::new(512, 4);
            medium.write(0, &fill(1), 1);
            medium.write(0, &fill(2), 2);
            medium
        });
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn a_flush_is_a_floor() {
        let seen = outcomes(|| {
            let mut medium = Medium::new(512, 4);
            medium.write(0, &fill(1), 1);
            medium.write(0, &fill(2), 2);
            medium.flush(|write| write <= 2);
            medium.write(0, &fill(3), 3);
            medium
        });
        assert_eq!(seen, [2, 3]);
    }

    #[test]
    fn a_flush_covers_only_what_it_must() {
        let seen = outcomes(|| {
            let mut medium = Medium::new(512, 4);
            medium.write(0, &fill(1), 1);
            medium.write(0, &fill(2), 2);
            medium.flush(|write| write == 1);
            medium
        });
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn a_stable_write_outlives_everything_before_it() {
        let seen = outcomes(|| {
            let mut medium = Medium::new(512, 4);
            medium.write(0, &fill(1), 1);
            medium.write(0, &fill(2), 2);
            medium.stabilise(2, 0, 1);
            medium
        });
        assert_eq!(seen, [2]);
    }

    #[test]
    fn writes_of_several_sectors_tear() {
        let torn = (0..100).any(|seed| {
            let mut medium = Medium::new(512, 4);
            (0..4).for_each(|sector| medium.write(sector, &fill(7), 1));
            medium.lose_power(&mut Rng::new(seed)).torn > 0
        });
        assert!(torn);
    }

    #[test]
    fn old_versions_do_not_pile_up() {
        let mut medium = Medium::new(512, 1);
        for write in 0..1000 {
            medium.write(0, &fill(9), write);
        }
        assert!(medium.cache[&0].len() <= MAX_VERSIONS);
        let mut rng = Rng::new(1);
        (0..100).for_each(|_| medium.settle_any(&mut rng));
        assert!(medium.cache.is_empty());
    }
}
