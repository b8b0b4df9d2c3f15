//! Readers of all kinds, and what is read ahead for them.

use super::*;
use proptest::prelude::*;

const MOST: u32 = 1024;

/// What is in the cache after reading ahead, and what was read ahead.
#[derive(Default)]
struct Reader {
    cached: std::collections::BTreeSet<u64>,
    asked: u64,
    hits: u64,
    reads: u64,
}

impl Reader {
    fn read(&mut self, streams: &mut Streams, pages: Range<u64>) {
        let hit = pages.clone().all(|page| self.cached.contains(&page));
        self.reads += 1;
        self.hits += u64::from(hit);
        if let Some(ahead) = streams.on_read(pages.clone(), hit) {
            assert!(ahead.end > pages.end && ahead.end - ahead.start <= u64::from(MOST));
            self.asked += ahead.end - ahead.start;
            assert!(ahead.start >= pages.end, "behind what was read");
            self.cached.extend(ahead);
        }
    }
}

#[test]
fn a_reader_is_believed_after_a_few_reads_and_the_window_doubles() {
    let mut streams = Streams::new(MOST);
    let windows: Vec<_> =
        (0..2000).filter_map(|page| streams.on_read(page..page + 1, page >= 4)).take(7).collect();
    assert_eq!(windows[0], 4..36);
    for (pair, size) in windows.windows(2).zip([64, 128, 256, 512, 1024, 1024]) {
        assert_eq!(pair[0].end, pair[1].start);
        assert!(pair[1].end - pair[1].start <= size && pair[1].end - pair[1].start >= size / 2);
    }
}

#[test]
fn what_is_cached_already_is_not_read_ahead() {
    let mut streams = Streams::new(MOST);
    assert!((0..1000).all(|page| streams.on_read(page..page + 1, true).is_none()));
    assert!(streams.on_read(1000..1001, false).is_some(), "from the first miss on");
}

#[test]
fn no_window_no_reading_ahead() {
    let mut streams = Streams::new(FIRST - 1);
    assert!((0..1000).all(|page| streams.on_read(page..page + 1, false).is_none()));
}

#[test]
fn pages_evicted_unused_halve_the_window_once_and_growth_is_slow_then() {
    let mut streams = Streams::new(MOST);
    let mut ahead = 0..0;
    let mut at = 0;
    let mut run = |streams: &mut Streams, times: usize| {
        let mut last = 0..0;
        let mut seen = 0;
        while seen < times {
            if let Some(more) = streams.on_read(at..at + 1, at > 3) {
                seen += 1;
                last = more;
            }
            at += 1;
        }
        last
    };
    ahead.clone_from(&run(&mut streams, 10));
    let window = |streams: &Streams| streams.streams.iter().map(|stream| stream.window).max();
    assert_eq!(window(&streams), Some(MOST));
    ahead.clone().for_each(|page| streams.on_evicted_unused(page));
    assert_eq!(streams.streams.iter().find(|stream| stream.believed).map(|stream| stream.window), Some(512));
    run(&mut streams, 1);
    assert_eq!(streams.streams.iter().find(|stream| stream.believed).map(|stream| stream.window), Some(544));
    streams.on_evicted_unused(u64::MAX);
}

#[test]
fn a_hot_spot_read_at_random_is_no_reader() {
    let mut random = 1_u64;
    for spot in [16, 48, 64, 100, 200, 1000] {
        let mut streams = Streams::new(MOST);
        let mut reader = Reader::default();
        for _ in 0..5000 {
            random = crate::pages::mix(random);
            let page = random % spot;
            reader.read(&mut streams, page..page + 1);
            reader.cached.insert(page);
        }
        assert!(reader.asked <= 3 * u64::from(FIRST), "{} in {spot}", reader.asked);
    }
}

#[test]
fn the_end_of_all_addresses_is_no_trouble() {
    let mut streams = Streams::new(MOST);
    for page in u64::MAX - 100..u64::MAX {
        _ = streams.on_read(page..page + 1, false);
    }
    _ = streams.on_read(0..u64::MAX, false);
    _ = streams.on_read(1..u64::MAX, false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random reads of a large volume are never followed.
    #[test]
    fn random_reads_are_left_alone(starts in prop::collection::vec(0..1_u64 << 40, 1..500), len in 1..64_u64) {
        let mut streams = Streams::new(MOST);
        for start in starts {
            prop_assert_eq!(streams.on_read(start..start + len, false), None);
        }
    }

    /// Several readers, with reads of any size, in queues that are reordered, among random reads: nearly all that they
    /// read was read ahead, and little else.
    #[test]
    fn readers_are_found(
        seed in any::<u64>(),
        readers in 1..6_u64,
        len in 1..64_u64,
        depth in prop_oneof![Just(1), 1..32_usize],
        noise in 0..4_u64,
    ) {
        let mut random = seed;
        let mut draw = move |below: u64| {
            random = crate::pages::mix(random.wrapping_add(1));
            random % below
        };
        let mut streams = Streams::new(MOST);
        let mut reader = Reader::default();
        let mut queues: Vec<(u64, Vec<u64>)> = (0..readers).map(|n| (n << 30, Vec::new())).collect();
        let rounds = 600;
        for _ in 0..rounds {
            for (next, queue) in &mut queues {
                while queue.len() < depth {
                    queue.push(*next);
                    *next += len;
                }
                // Any of the queue but that none waits longer than the queue is deep.
                let oldest = queue.iter().copied().min().unwrap();
                let late = *next - oldest >= len * DEPTH;
                let pick = if late {
                    queue.iter().position(|&start| start == oldest).unwrap()
                } else {
                    usize::try_from(draw(queue.len() as u64)).unwrap()
                };
                let start = queue.swap_remove(pick);
                reader.read(&mut streams, start..start + len);
            }
            for _ in 0..noise {
                let start = (1 << 40) + draw(1 << 38);
                prop_assert_eq!(streams.on_read(start..start + 1, false), None);
            }
        }
        let read = reader.reads * len;
        // A queue longer than the window reads ahead by itself.
        let most = if depth as u64 * len <= u64::from(MOST) / 4 { 80 } else { 50 };
        // Of each reader, the first two queues' worth are what it is known by.
        let known = reader.reads - readers * 2 * DEPTH;
        prop_assert!(reader.hits * 100 >= known * most, "{} of {known}", reader.hits);
        prop_assert!(reader.asked <= read + readers * 3 * u64::from(MOST), "{} for {read}", reader.asked);
    }
}
