//! What lies on a journal: superblocks, frames, blocks of the bitmap and of the index, and a recovery over all of it.
#![no_main]

use kagami_journal::{
    BLOCK, BitmapBlocks, BitmapMap, Bits, Found, IndexBlock, Layout, MIN_DATA, Parser, Recovery, RecoveryPlan,
    Superblock, Verdict, Wanted, crc32c,
};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const GROUP: Uuid = Uuid::from_u128(0x6b61_6761_6d69);

fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let plan = ArenaPlan::new(1).with(Class::Page, 2048, 0);
    ARENA.get_or_init(|| Arena::new(plan, HugePages::Off).unwrap()).pool(0)
}

fn pages(bytes: &[u8]) -> Scatter {
    let mut list = ScatterMut::take(&pool(), Purpose::Internal, bytes.len()).unwrap();
    list.copy_from(0, bytes);
    list.freeze()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Gives every block that begins like a frame right checksums, so that what is behind them is tried too.
fn seal(bytes: &mut [u8]) {
    for at in (0..bytes.len() / 4096).map(|block| block * 4096) {
        let rest = &mut bytes[at..];
        if rest[..4] != *b"KAGF" {
            continue;
        }
        put(rest, 8, GROUP.as_bytes());
        let header = u32::from_le_bytes(rest[60..64].try_into().unwrap()) as usize;
        let entries = crc32c(rest.get(128..header).unwrap_or_default());
        put(rest, 76, &entries.to_le_bytes());
        let head = crc32c(&rest[..124]);
        put(rest, 124, &head.to_le_bytes());
    }
}

fn superblocks(bytes: &[u8]) {
    let mut one = bytes.to_vec();
    one.resize(8192, 0);
    for sealed in [false, true] {
        if sealed {
            put(&mut one, 0, b"KAGJRNAL\x01\0\0\0");
            let crc = crc32c(&one[..4092]);
            put(&mut one, 4092, &crc.to_le_bytes());
        }
        if let Found::Ours(superblock, _) = Superblock::choose(&one[..4096], &one[4096..]) {
            let again = superblock.encode();
            assert_eq!(Superblock::choose(&again, &[0; 4096]), Found::Ours(superblock, 0));
        }
    }
}

fn blocks(bytes: &[u8]) {
    let layout = Layout::new(16 << 20, 1 << 30).unwrap();
    let map = BitmapMap::new(&layout, &[100, 70_000]).unwrap();
    let mut bits = vec![Bits::new(100), Bits::new(70_000)];
    let mut blocks = BitmapBlocks::new(GROUP, 1, map);
    for block in 0..4 {
        blocks.decode(block, bytes, bytes.get(4096..).unwrap_or_default(), &mut bits);
    }
    assert!(bits.iter().all(|bits| bits.runs().all(|(from, to)| from < to && to <= bits.len())));
    if let Some(block) = IndexBlock::decode(GROUP, bytes) {
        assert_eq!(IndexBlock::decode(GROUP, &block.encode(GROUP)), Some(block));
    }
}

fn frames(layout: Layout, bytes: &[u8]) {
    let mut parser = Parser::new(GROUP, layout, JournalPos { epoch: Epoch(1), offset: 0 });
    for chunk in bytes.chunks(10_000) {
        parser.push(parser.wants(), pages(chunk)).unwrap();
        while let Some(Ok(frame)) = parser.next() {
            assert_eq!(frame.end(), parser.at());
            assert_eq!(frame.entries.len(), frame.head.entries as usize);
            for (head, data) in &frame.entries {
                assert!(head.is_sound() && data.len_bytes() == head.data_len as usize);
                let (from, to) = head.bytes();
                assert!(from <= to);
            }
        }
    }
}

/// The bytes, again and again, are the data area.
fn recovery(layout: Layout, bytes: &[u8]) {
    let plan = RecoveryPlan {
        group: GROUP,
        layout,
        out: JournalPos { epoch: Epoch(1), offset: 0 },
        sequence: Sequence(0),
        epochs: vec![Epoch(1), Epoch(2)],
        stable: 0,
        // Heads are damaged before it as often as behind.
        destaged: bytes.first().map_or(0, |byte| u64::from(byte % 4) * BLOCK),
        confirmed: 0,
        reader: 0,
        granules: vec![1000; 2],
    };
    let mut recovery = Recovery::new(plan);
    let mut area = bytes.to_vec();
    area.resize(area.len().next_multiple_of(4096).max(4096), 0);
    let mut steps = 0;
    while let Some(wanted) = recovery.next_wanted() {
        match wanted {
            Wanted::Flush => recovery.on_flushed(true),
            Wanted::Read { at, len } => {
                assert!(at >= layout.data_at && at + u64::from(len) <= layout.data_at + layout.data_len);
                let from = (at - layout.data_at) as usize;
                let data: Vec<u8> = (from..from + len as usize).map(|at| area[at % area.len()]).collect();
                // Some blocks cannot be read; asked for alone, others of them can.
                let bad = bytes.get(1).is_some_and(|bad| bad >> (at / BLOCK % 8) & 1 == 1) && len as u64 <= BLOCK;
                let bad = bad || bytes.get(1) == Some(&255) && len as u64 > BLOCK;
                recovery.on_read((!bad).then(|| pages(&data)), &pool());
            }
        }
        steps += 1;
        assert!(steps < 4096);
    }
    let found = recovery.into_result().unwrap();
    assert!(found.end.offset <= layout.data_len && found.end.offset % BLOCK == 0);
    assert!(found.verdict != Verdict::End || found.proof.is_none());
}

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(64 << 10)];
    let least = Layout::new(16 << 20, 0).unwrap().with_data_len(MIN_DATA).unwrap();
    superblocks(data);
    blocks(data);
    frames(least, data);
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    frames(least, &sealed);
    recovery(least, &sealed);
});
