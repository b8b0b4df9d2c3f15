//! Named traces, each from a seed: the same accesses on every machine.

/// An access to a page.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Which.
    pub page: u64,
    /// It makes the page dirty.
    pub write: bool,
}

/// A list of accesses.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What it is called in the table.
    pub name: &'static str,
    /// In order.
    pub accesses: Vec<Access>,
    /// How much of the cache may be dirty.
    pub dirty_percent: usize,
}

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.bits() as u128 * end as u128) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    const fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// Zipf's law over `0..len`: number n comes with a weight of 1 / (n + 1) ^ skew.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(len: u64, skew: f64) -> Self {
        let mut sum = 0.0;
        let weight = |n: u64| {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let rank = (n + 1) as f64;
            sum += rank.powf(-skew);
            sum
        };
        Self((0..len).map(weight).collect())
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let Some(&sum) = self.0.last() else { return 0 };
        let point = random.unit() * sum;
        self.0.partition_point(|&upto| upto < point) as u64
    }
}

/// Address spaces that do not meet.
const fn space(number: u64) -> u64 {
    number << 40
}

/// Makes `len` accesses, for a cache of `pages`.
type Generator = fn(random: &mut Random, pages: u64, len: usize) -> Vec<Access>;

/// All traces for a cache of `pages`, each of `len` accesses.
pub fn all(pages: u64, len: usize, seed: u64) -> impl Iterator<Item = Trace> {
    const ALL: [(&str, Generator, usize); 12] = [
        ("zipf 0.8", |random, pages, len| zipf(random, pages * 20, 0.8, len), 0),
        ("zipf 1.0", |random, pages, len| zipf(random, pages * 20, 1.0, len), 0),
        ("zipf 1.2", |random, pages, len| zipf(random, pages * 20, 1.2, len), 0),
        ("uniform", uniform, 0),
        ("zipf 1.0 + scans", zipf_and_scans, 0),
        ("loop of 1.1 caches", |_, pages, len| cycle(pages + pages / 10, len), 0),
        ("loop of 2 caches", |_, pages, len| cycle(pages * 2, len), 0),
        ("phases", phases, 0),
        ("drift", drift, 0),
        ("OLTP and a log", oltp, 0),
        ("used thrice, soon", bursts, 0),
        ("hot writes, 60 % dirty", hot_writes, 60),
    ];
    ALL.into_iter().zip(seed..).map(move |((name, make, dirty_percent), seed)| {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        Trace { name, accesses: make(&mut random, pages, len), dirty_percent }
    })
}

const fn read(page: u64) -> Access {
    Access { page, write: false }
}

fn zipf(random: &mut Random, universe: u64, skew: f64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(universe, skew);
    (0..len).map(|_| read(zipf.draw(random))).collect()
}

fn uniform(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    (0..len).map(|_| read(random.below(pages * 4))).collect()
}

/// A hot set that now and then a scan of twice the cache passes through, a third of all accesses.
fn zipf_and_scans(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(pages * 10, 1.0);
    let (mut scan, mut left) = (space(1), 0);
    let access = |_| {
        if left == 0 && random.below(pages * 6) == 0 {
            left = pages * 2;
        }
        if left > 0 && random.percent(60) {
            left -= 1;
            scan += 1;
            return read(scan);
        }
        read(zipf.draw(random))
    };
    (0..len).map(access).collect()
}

fn cycle(pages: u64, len: usize) -> Vec<Access> {
    (0..pages).cycle().take(len).map(read).collect()
}

/// Another working set, of a cache and a half, every ten caches of accesses.
fn phases(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(pages * 3 / 2, 0.7);
    let access = |n: usize| read(space(n as u64 / (pages * 10)) + zipf.draw(random));
    (0..len).map(access).collect()
}

/// A hot set whose pages are replaced one by one.
fn drift(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(pages * 4, 0.9);
    (0..len).map(|n| read(n as u64 / 8 + zipf.draw(random))).collect()
}

/// Index and rows: half skewed, a third anywhere, the rest a log that is written and never read.
fn oltp(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(pages * 5, 0.9);
    let mut log = space(2);
    let access = |_| match random.below(100) {
        0..50 => read(zipf.draw(random)),
        50..80 => read(space(1) + random.below(pages * 10)),
        _ => {
            log += 1;
            read(log)
        }
    };
    (0..len).map(access).collect()
}

/// Half of the accesses: pages that are used three times within a short while and never again.
fn bursts(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let zipf = Zipf::new(pages * 5, 0.9);
    let mut fresh = space(1);
    let mut again = std::collections::VecDeque::new();
    let access = |_| {
        if random.percent(50) {
            return read(zipf.draw(random));
        }
        if again.len() >= 200 && random.percent(67) {
            let (page, left) = again.pop_front().unwrap_or((0, 0));
            if left > 1 {
                again.push_back((page, left - 1));
            }
            return read(page);
        }
        fresh += 1;
        again.push_back((fresh, 2));
        read(fresh)
    };
    (0..len).map(access).collect()
}

/// Skewed writes to two caches of pages beside skewed reads of ten.
fn hot_writes(random: &mut Random, pages: u64, len: usize) -> Vec<Access> {
    let (writes, reads) = (Zipf::new(pages * 2, 0.9), Zipf::new(pages * 10, 0.9));
    let access = |_| match random.percent(50) {
        true => Access { page: writes.draw(random), write: true },
        false => read(space(1) + reads.draw(random)),
    };
    (0..len).map(access).collect()
}
