//! How much to have in flight, and how fast: the bandwidth-delay product as measured, and the limit that the operator set.

use kagami_types::Time;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// In flight at the beginning.
const START: u64 = 4 * MIB;
/// The most in flight at any bandwidth-delay product: 32 reads of 4 MiB.
const MOST: u64 = 128 * MIB;
const CHUNK_LEAST: u64 = 256 << 10;
const CHUNK_MOST: u64 = 4 * MIB;
/// A round of measuring lasts at least that long.
const ROUND: Duration = Duration::from_millis(4);
/// A link that has carried the first window within a second's part of that size is quick.
const QUICK: u64 = 4;
/// The best rate and the least delay are forgotten after so many rounds without a better one.
const ROUNDS_KEPT: u32 = 256;

/// The window of reads in flight.
///
/// It doubles while that makes the link deliver more (by a quarter at least), and then stays at twice the product of the
/// best rate and the least delay. Only the first step is four times as much, on a link that can take it. Rates are measured only over rounds in which the window was what held reads back.
#[derive(Debug)]
pub(super) struct Window {
    most: u64,
    window: u64,
    /// The least time that a read took, in nanoseconds.
    delay: u64,
    /// Bytes a second.
    best: u64,
    rounds: u32,
    growing: bool,
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    began: Option<Time>,
    bytes: u64,
    full: bool,
}

impl Window {
    /// With that much memory.
    pub(super) fn new(memory: u64) -> Self {
        let most = memory.clamp(MIB, MOST);
        Self {
            most,
            window: START.min(most),
            delay: u64::MAX,
            best: 0,
            rounds: 0,
            growing: true,
            round: Round::default(),
        }
    }

    /// How many bytes may be in flight.
    pub(super) fn bytes(&self) -> u64 {
        self.window
    }

    /// How long one read should be: a power of two.
    pub(super) fn chunk(&self) -> u64 {
        (self.window / 8).clamp(CHUNK_LEAST, CHUNK_MOST).next_power_of_two().min(self.window.max(4096))
    }

    /// Bytes a second times seconds, as measured; 0 as long as that is not known.
    pub(super) fn product(&self) -> u64 {
        if self.delay == u64::MAX { 0 } else { scaled(self.best, self.delay) }
    }

    /// The window holds reads back.
    pub(super) fn is_full(&mut self) {
        self.round.full = true;
    }

    /// A read of that many bytes, which began then, is done.
    pub(super) fn done(&mut self, now: Time, asked: Time, bytes: u64) {
        self.delay = self.delay.min(now.nanos_since(asked).max(1_000));
        let began = *self.round.began.get_or_insert(asked);
        self.round.bytes += bytes;
        let took = now.nanos_since(began);
        let least = u64::try_from(ROUND.as_nanos()).unwrap_or(u64::MAX).max(self.delay);
        if took < least || self.round.bytes < self.window {
            return;
        }
        let rate = per_second(self.round.bytes, took);
        if self.round.full {
            self.judge(rate);
        }
        self.round = Round { began: Some(now), ..Round::default() };
    }

    fn judge(&mut self, rate: u64) {
        if rate > self.best.saturating_add(self.best / 4) {
            let first = self.best == 0 && self.window < rate / QUICK;
            self.best = rate;
            self.rounds = 0;
            self.growing = true;
            self.window = (self.window * if first { 4 } else { 2 }).min(self.most);
            return;
        }
        self.best = self.best.max(rate);
        self.growing = false;
        self.rounds += 1;
        let aim = self.product().saturating_mul(2);
        self.window = aim.clamp(START.min(self.most), self.most);
        if self.rounds >= ROUNDS_KEPT {
            // The link may have become another: measure anew from here.
            self.rounds = 0;
            self.best = rate;
            self.delay = u64::MAX;
        }
    }

    /// Reads failed: what was measured may not hold any more.
    pub(super) fn lost(&mut self) {
        *self = Self::new(self.most);
    }
}

/// Bytes that may be asked for, refilled at a rate. Zero: without limit.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// May be negative: a read is asked for as a whole.
    tokens: i64,
    filled: Option<Time>,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, tokens: 0, filled: None }
    }

    /// Another rate.
    pub(super) fn set(&mut self, rate: u64) {
        self.rate = rate;
        self.tokens = self.tokens.min(0);
    }

    /// Whether something may be asked for now.
    pub(super) fn open(&mut self, now: Time) -> bool {
        if self.rate == 0 {
            return true;
        }
        let filled = self.filled.get_or_insert(now);
        let nanos = now.nanos_since(*filled);
        // No more than 50 ms worth is saved up.
        let most = i64::try_from(self.rate / 20).unwrap_or(i64::MAX).max(1);
        let more = i64::try_from(scaled(self.rate, nanos)).unwrap_or(i64::MAX);
        if more > 0 {
            self.tokens = self.tokens.saturating_add(more).min(most);
            *filled = now;
        }
        self.tokens > 0 || (self.tokens == 0 && nanos == 0)
    }

    /// That much was asked for.
    pub(super) fn take(&mut self, bytes: u64) {
        if self.rate > 0 {
            self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// When something may be asked for again.
    pub(super) fn opens_at(&self) -> Time {
        match self.filled {
            Some(filled) if self.rate > 0 && self.tokens <= 0 => {
                let missing = self.tokens.unsigned_abs() + 1;
                let nanos = u128::from(missing) * 1_000_000_000 / u128::from(self.rate);
                filled + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1_000))
            }
            _ => Time(0),
        }
    }
}

/// A rate times a time.
pub(super) fn scaled(rate: u64, nanos: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(nanos) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// A rate.
pub(super) fn per_second(amount: u64, nanos: u64) -> u64 {
    u64::try_from(u128::from(amount) * 1_000_000_000 / u128::from(nanos.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A link with that delay and rate, asked for as the window says; the rate over the last half of the time.
    fn run(window: &mut Window, delay: Duration, rate: u64, time: Duration) -> u64 {
        let mut now = Time(1);
        let end = now + time;
        let half = now + time / 2;
        let mut free = now;
        let mut flying: VecDeque<(Time, Time, u64)> = VecDeque::new();
        let (mut inside, mut counted) = (0, 0);
        while now < end {
            while inside < window.bytes() {
                let len = window.chunk();
                free = free.max(now) + Duration::from_nanos(len * 1_000_000_000 / rate);
                flying.push_back((now, free + delay, len));
                inside += len;
            }
            window.is_full();
            let Some((asked, done, len)) = flying.pop_front() else { break };
            now = done;
            inside -= len;
            if now > half {
                counted += len;
            }
            window.done(now, asked, len);
        }
        per_second(counted, u64::try_from((time / 2).as_nanos()).unwrap())
    }

    #[test]
    fn the_window_finds_long_fat_links() {
        // 2 Gb/s and 10 Gb/s at 50 ms, as performance.md names them.
        for rate in [250_000_000u64, 1_250_000_000] {
            let mut window = Window::new(256 * MIB);
            let reached = run(&mut window, Duration::from_millis(50), rate, Duration::from_secs(4));
            assert!(reached > rate / 100 * 95, "{reached} of {rate}");
        }
    }

    #[test]
    fn the_window_is_found_within_a_few_round_trips() {
        // The first second over 2 Gb/s with 50 ms, of which the first answer alone takes a twentieth.
        let rate = 250_000_000;
        let mut window = Window::new(256 * MIB);
        let (mut now, mut free, mut inside, mut arrived) = (Time(1), Time(1), 0, 0);
        let mut flying: VecDeque<(Time, Time, u64)> = VecDeque::new();
        while now < Time(1) + Duration::from_secs(1) {
            while inside < window.bytes() {
                let len = window.chunk();
                free = free.max(now) + Duration::from_nanos(len * 1_000_000_000 / rate);
                flying.push_back((now, free + Duration::from_millis(50), len));
                inside += len;
            }
            window.is_full();
            let Some((asked, done, len)) = flying.pop_front() else { break };
            now = done;
            inside -= len;
            arrived += len;
            window.done(now, asked, len);
        }
        assert!(arrived > rate / 100 * 88, "{arrived}");
    }

    #[test]
    fn a_short_link_keeps_a_small_window() {
        let mut window = Window::new(256 * MIB);
        run(&mut window, Duration::from_micros(50), 500_000_000, Duration::from_secs(1));
        assert!(window.bytes() <= 16 * MIB, "{}", window.bytes());
    }

    #[test]
    fn memory_bounds_the_window() {
        let mut window = Window::new(8 * MIB);
        run(&mut window, Duration::from_millis(100), 1_250_000_000, Duration::from_secs(2));
        assert_eq!(window.bytes(), 8 * MIB);
        assert!(window.chunk() <= MIB && window.chunk().is_power_of_two());
        window.lost();
        assert_eq!(window.bytes(), START);
    }

    #[test]
    fn the_bucket_keeps_its_rate() {
        let mut bucket = Bucket::new(10_000_000);
        let mut now = Time(5);
        let mut bytes = 0u64;
        while now < Time(5) + Duration::from_secs(2) {
            if bucket.open(now) {
                bucket.take(1 << 20);
                bytes += 1 << 20;
            } else {
                assert!(bucket.opens_at() > now);
                now = bucket.opens_at();
            }
        }
        assert!((19_000_000..=23_000_000).contains(&bytes), "{bytes}");
        bucket.set(0);
        assert!(bucket.open(now));
        bucket.take(u64::MAX);
        assert!(bucket.open(now));
    }
}
