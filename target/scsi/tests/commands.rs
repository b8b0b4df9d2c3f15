//! Commands on blocks: ranges, limits, data that fall short, and what the volume is asked.

mod common;

use common::*;
use kagami_scsi::{Disposition, NexusId, Readiness, Reset};
use kagami_types::{Access, BlockCount, BlockOp, BlockRange, BlockSize, Compare, Lba, LbaStatus};

const END: u32 = 10_000;

fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

const PLAIN: Access = Access { dpo: false, fua: false };

#[test]
fn reads_and_writes_of_all_forms_decode() {
    let mut rig = Rig::new();
    let both = Access { dpo: true, fua: true };
    let cases: [(&[u8], BlockOp); 8] = [
        (&[0x08, 0, 1, 2, 3], BlockOp::Read(range(0x102, 3), PLAIN)),
        (&[0x08, 0xe0, 0, 2, 0], BlockOp::Read(range(2, 256), PLAIN)),
        (&[0x0a, 0, 0, 8, 1], BlockOp::Write(range(8, 1), PLAIN)),
        (&[0x28, 0x18, 0, 0, 1, 2, 0, 1, 2], BlockOp::Read(range(0x102, 0x102), both)),
        (&[0x2a, 0x0a, 0, 0, 0, 9, 5, 0, 1], BlockOp::Write(range(9, 1), Access { dpo: false, fua: true })),
        (&[0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 2], BlockOp::Read(range(9, 2), PLAIN)),
        (
            &[0x88, 0x10, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2],
            BlockOp::Read(range(9, 2), Access { dpo: true, fua: false }),
        ),
        (&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2], BlockOp::Write(range(9, 2), PLAIN)),
    ];
    for (bytes, op) in cases {
        assert_eq!(block(rig.run(0, bytes)), op);
    }
}

#[test]
fn ranges_beyond_the_end_are_refused_for_every_block_command() {
    let mut rig = Rig::new();
    for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41] {
        for (lba, blocks) in [(END, 1), (END - 1, 2), (END + 1, 0), (0x8000_0000, 0), (u32::MAX, 256)] {
            let cdb = ten(opcode, 0, lba, blocks);
            assert_eq!(sense(rig.run(0, &cdb)), OUT_OF_RANGE, "{opcode:02x} {lba} {blocks}");
        }
    }
    for opcode in [0x88, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93] {
        for (lba, blocks) in [(BLOCKS, 1), (BLOCKS - 1, 2), (BLOCKS + 1, 0), (1 << 63, 256), (u64::MAX, 1)] {
            let cdb = sixteen(opcode, 0, lba, blocks);
            assert_eq!(sense(rig.run(0, &cdb)), OUT_OF_RANGE, "{opcode:02x} {lba} {blocks}");
        }
    }
    assert_eq!(sense(rig.run(0, &compare_and_write(BLOCKS, 1))), OUT_OF_RANGE);
    assert_eq!(sense(rig.run(0, &sixteen(0x9e, 0x12, BLOCKS + 1, 24))), OUT_OF_RANGE);
    assert_eq!(sense(rig.run(0, &sixteen(0x9e, 0x12, u64::MAX, 24))), OUT_OF_RANGE);
}

#[test]
fn no_blocks_is_good_up_to_the_end() {
    let mut rig = Rig::new();
    for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x34] {
        for lba in [0, END] {
            assert_eq!(rig.run(0, &ten(opcode, 0, lba, 0)), Disposition::Good, "{opcode:02x}");
        }
    }
    assert_eq!(rig.run(0, &compare_and_write(0, 0)), Disposition::Good);
}

#[test]
fn transfers_beyond_the_maximum_are_refused() {
    let mut rig = Rig::with(|config| config.limits.max_transfer = 8);
    for opcode in [0x28, 0x2a, 0x2e, 0x2f] {
        assert!(matches!(rig.run(0, &ten(opcode, 0, 0, 8)), Disposition::Block(_)));
        assert_eq!(sense(rig.run(0, &ten(opcode, 0, 0, 9))), INVALID_FIELD);
    }
}

#[test]
fn writes_are_cut_to_the_whole_blocks_offered() {
    let mut rig = Rig::new();
    let two = ten(0x2a, 0, 5, 2);
    assert_eq!(rig.run_short(0, &two, 0), Disposition::Good);
    assert_eq!(block(rig.run_short(0, &two, 512)), BlockOp::Write(range(5, 1), PLAIN));
    assert_eq!(block(rig.run_short(0, &two, 10_000)), BlockOp::Write(range(5, 2), PLAIN));
    assert_eq!(rig.run_short(0, &two, 200), Disposition::Good);
    assert_eq!(block(rig.run_short(0, &two, 700)), BlockOp::Write(range(5, 1), PLAIN));
    let verified = block(rig.run_short(0, &ten(0x2e, 2, 5, 2), 512));
    assert_eq!(verified, BlockOp::WriteVerify { range: range(5, 1), compare: true });
}

#[test]
fn verify_compares_what_bytchk_says() {
    let mut rig = Rig::new();
    for (flags, against) in [(0, Compare::Nothing), (2, Compare::Data), (6, Compare::OneBlock)] {
        let op = block(rig.run(0, &ten(0x2f, flags | 0x10, 1, 3)));
        assert_eq!(op, BlockOp::Verify { range: range(1, 3), against });
    }
    assert_eq!(sense(rig.run(0, &ten(0x2f, 4, 1, 3))), INVALID_FIELD);
    assert_eq!(sense(rig.run_short(0, &ten(0x2f, 2, 1, 3), 512)), SHORT_DATA);
    // Data that come though none are compared do no harm.
    assert!(matches!(rig.run_short(0, &ten(0x2f, 0, 1, 3), 1536), Disposition::Block(_)));
}

#[test]
fn write_same_goes_to_the_end_for_no_blocks() {
    let mut rig = Rig::new();
    let op = block(rig.run(0, &sixteen(0x93, 0x08, BLOCKS - 3, 0)));
    let BlockOp::WriteSame { lba, blocks, unmap, zeroes } = op else { panic!("{op:?}") };
    assert_eq!((lba, blocks, unmap, zeroes), (Lba(BLOCKS - 3), BlockCount(3), true, false));
    assert!(matches!(
        block(rig.run(0, &sixteen(0x93, 0x01, 0, 7))),
        BlockOp::WriteSame { zeroes: true, unmap: false, .. }
    ));
    assert_eq!(rig.run(0, &sixteen(0x93, 0, BLOCKS, 0)), Disposition::Good);
    for flags in [0x10, 0x18] {
        assert_eq!(sense(rig.run(0, &sixteen(0x93, flags, 0, 1))), INVALID_FIELD, "ANCHOR");
    }
    for offered in [0, 256, 1024] {
        assert_eq!(sense(rig.run_short(0, &ten(0x41, 0x08, 0, 1), offered)), SHORT_DATA);
    }
}

#[test]
fn write_same_keeps_to_its_limits() {
    let mut rig = Rig::with(|config| {
        config.limits.max_write_same = 100;
        config.limits.write_same_to_end = false;
    });
    assert_eq!(sense(rig.run(0, &ten(0x41, 0, 0, 0))), INVALID_FIELD);
    assert_eq!(sense(rig.run(0, &ten(0x41, 0, 0, 101))), INVALID_FIELD);
    assert!(matches!(rig.run(0, &ten(0x41, 0, 0, 100)), Disposition::Block(_)));
    let mut rig = Rig::with(|config| config.limits.max_write_same = 100);
    assert_eq!(sense(rig.run(0, &ten(0x41, 0, 0, 0))), INVALID_FIELD, "to the end is too far");
    assert!(matches!(rig.run(0, &ten(0x41, 0, END - 100, 0)), Disposition::Block(_)));
}

#[test]
fn compare_and_write_keeps_to_its_limit_and_needs_all_its_data() {
    let mut rig = Rig::new();
    let op = block(rig.run(0, &compare_and_write(7, 128)));
    assert_eq!(op, BlockOp::CompareAndWrite(range(7, 128), PLAIN));
    assert_eq!(sense(rig.run(0, &compare_and_write(7, 129))), INVALID_FIELD);
    for offered in [0, 512, 1536, 2048] {
        assert_eq!(sense(rig.run_short(0, &compare_and_write(7, 1), offered)), INVALID_FIELD);
    }
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let length = u16::try_from(ranges.len() * 16).unwrap();
    let mut list = Vec::new();
    list.extend_from_slice(&(length + 6).to_be_bytes());
    list.extend_from_slice(&length.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap(rig: &mut Rig, list: &[u8]) -> Disposition {
    let length = u16::try_from(list.len()).unwrap();
    rig.send(0, &ten(0x42, 0, 0, length), list)
}

#[test]
fn unmap_takes_descriptors_and_passes_empty_ones_over() {
    let mut rig = Rig::new();
    let op = block(unmap(&mut rig, &unmap_list(&[(0, 8), (BLOCKS, 0), (16, 8)])));
    assert_eq!(op, BlockOp::Unmap(vec![range(0, 8), range(16, 8)]));
    assert_eq!(unmap(&mut rig, &unmap_list(&[(BLOCKS, 0)])), Disposition::Good);
    assert_eq!(unmap(&mut rig, &unmap_list(&[])), Disposition::Good);
    assert_eq!(unmap(&mut rig, &[]), Disposition::Good);
    assert_eq!(sense(unmap(&mut rig, &unmap_list(&[(BLOCKS - 1, 2)]))), OUT_OF_RANGE);
    assert_eq!(sense(rig.send(0, &cdb(&[0x42, 1]), &[])), INVALID_FIELD, "ANCHOR");
}

#[test]
fn unmap_checks_lengths_and_limits() {
    let mut rig = Rig::with(|config| {
        config.limits.max_unmap_descriptors = 2;
        config.limits.max_unmap = 10;
    });
    assert_eq!(sense(unmap(&mut rig, &[0; 7])), LIST_LENGTH);
    assert_eq!(sense(rig.send(0, &ten(0x42, 0, 0, 24), &[0; 23])), LIST_LENGTH);
    assert_eq!(sense(unmap(&mut rig, &unmap_list(&[(0, 1); 3]))), INVALID_LIST);
    assert_eq!(sense(unmap(&mut rig, &unmap_list(&[(0, 5), (5, 6)]))), INVALID_LIST);
    let mut cut = unmap_list(&[(0, 5), (5, 5)]);
    cut.truncate(30);
    assert_eq!(block(unmap(&mut rig, &cut)), BlockOp::Unmap(vec![range(0, 5)]));
    let mut thick = Rig::with(|config| config.thin = false);
    assert_eq!(sense(unmap(&mut thick, &unmap_list(&[(0, 8)]))), INVALID_OPCODE);
    assert_eq!(sense(thick.run(0, &sixteen(0x93, 0x08, 0, 1))), INVALID_FIELD);
}

#[test]
fn flushes_and_immediate_flushes() {
    let mut rig = Rig::new();
    let flush = |lba, blocks| BlockOp::Flush { lba: Lba(lba), blocks: BlockCount(blocks) };
    assert_eq!(block(rig.run(0, &ten(0x35, 0x04, 8, 9))), flush(8, 9));
    assert_eq!(rig.run(0, &sixteen(0x91, 0x02, 0, 0)), Disposition::Background(flush(0, 0)));
}

#[test]
fn prefetch_is_good() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(0, &[0x34, 2, 0, 0, 0, 0, 3, 0, 1]), Disposition::Good);
    assert_eq!(rig.run(0, &sixteen(0x90, 2, BLOCKS - 256, 256)), Disposition::Good);
}

#[test]
fn a_stopped_unit_is_not_ready_until_started_or_reset() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(0, &[0x1b, 0, 0, 0, 4]), Disposition::Good, "NO_FLUSH");
    assert_eq!(sense(rig.run(0, &[0])), STOPPED);
    assert_eq!(sense(rig.run(1, &ten(0x28, 0, 0, 1))), STOPPED);
    assert_eq!(rig.data(0, &[0x03, 0, 0, 0, 18])[..4], [0x70, 0, 2, 0]);
    assert_eq!(rig.run(0, &[0x1b, 1, 0, 0, 1]), Disposition::Good);
    assert_eq!(rig.run(0, &[0]), Disposition::Good);
    assert!(matches!(rig.run(0, &[0x1b]), Disposition::Block(BlockOp::Flush { .. })));
    rig.unit.reset(Reset::LogicalUnit);
    assert_eq!(rig.clear(0), [(0x29, 3)]);
    assert_eq!(rig.run(0, &[0]), Disposition::Good);
    for refused in [0x10, 0x30, 0x02, 0x03] {
        assert_eq!(sense(rig.run(0, &[0x1b, 0, 0, 0, refused])), INVALID_FIELD, "power condition, LOEJ");
    }
}

#[test]
fn readiness_is_told() {
    let mut rig = Rig::new();
    rig.unit.set_readiness(Readiness::BecomingReady);
    assert_eq!(sense(rig.run(0, &[0])), (2, 4, 1));
    assert_eq!(rig.data(0, &[0x25]).len(), 8, "the capacity is known all the same");
    rig.unit.set_readiness(Readiness::Unreachable);
    assert_eq!(sense(rig.run(0, &ten(0x2a, 0, 0, 1))), (2, 8, 0));
    rig.unit.set_readiness(Readiness::Ready);
    assert_eq!(rig.clear(0), [(0x28, 0)]);
    assert_eq!(rig.run(0, &[0]), Disposition::Good);
}

#[test]
fn a_read_only_volume_refuses_writes_of_every_kind() {
    let mut rig = Rig::with(|config| config.read_only = true);
    let writes = [
        ten(0x2a, 0, 0, 1),
        ten(0x2e, 0, 0, 1),
        ten(0x41, 0x08, 0, 1),
        ten(0x42, 0, 0, 24),
        sixteen(0x8a, 0, 0, 1),
        sixteen(0x93, 0x01, 0, 1),
        compare_and_write(0, 1),
    ];
    for write in writes {
        assert_eq!(sense(rig.run_short(0, &write, 0)), PROTECTED, "{:02x}", write[0]);
    }
    assert!(matches!(rig.run(0, &ten(0x28, 0, 0, 1)), Disposition::Block(_)));
    assert!(matches!(rig.run(0, &ten(0x35, 0, 0, 0)), Disposition::Block(_)));
    rig.unit.set_read_only(false);
    assert_eq!(rig.clear(0), [(0x2a, 1)]);
    assert!(matches!(rig.run(0, &ten(0x2a, 0, 0, 1)), Disposition::Block(_)));
}

#[test]
fn lba_status_starts_at_the_block_asked_about() {
    let mut rig = Rig::new();
    let cdb = sixteen(0x9e, 0x12, 100, 40);
    assert_eq!(block(rig.run(0, &cdb)), BlockOp::LbaStatus { lba: Lba(100), descriptors: 2 });
    let run = |lba, blocks, deallocated| LbaStatus { lba: Lba(lba), blocks, deallocated };
    let runs = [run(90, 20, true), run(110, 5, false), run(500, 1, true)];
    let mut out = Vec::new();
    rig.unit.finish_lba_status(&cdb, &runs, &mut out);
    let golden = [
        0, 0, 0, 36, 0, 0, 0, 0, // two descriptors
        0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 10, 1, 0, 0, 0, //
        0, 0, 0, 0, 0, 0, 0, 110, 0, 0, 0, 5, 0, 0, 0, 0,
    ];
    assert_eq!(out, golden);
    rig.unit.finish_lba_status(&sixteen(0x9e, 0x12, BLOCKS - 1, 24), &[], &mut out);
    assert_eq!(out[..4], [0, 0, 0, 20]);
    assert_eq!(out[16..21], [0, 0, 0, 1, 0]);
    rig.unit.finish_lba_status(&sixteen(0x9e, 0x12, 0, 3), &runs, &mut out);
    assert_eq!(out.len(), 3);
}

#[test]
fn large_blocks_count_in_their_own_size() {
    let mut rig = Rig::of(BlockSize::B4096, |_| {});
    assert_eq!(block(rig.run_short(0, &ten(0x2a, 0, 5, 2), 4096)), BlockOp::Write(range(5, 1), PLAIN));
    assert_eq!(rig.run_short(0, &ten(0x2a, 0, 5, 2), 512), Disposition::Good);
    assert!(matches!(rig.run_short(0, &ten(0x41, 0, 5, 2), 4096), Disposition::Block(_)));
    assert_eq!(sense(rig.run_short(0, &ten(0x41, 0, 5, 2), 512)), SHORT_DATA);
}

#[test]
fn an_unattached_nexus_is_answered() {
    let mut rig = Rig::new();
    for nexus in [7, 999, u32::MAX] {
        assert_eq!(sense(rig.run(nexus, &[0])), (4, 0x44, 0));
    }
    rig.unit.detach(NexusId(0));
    assert!(!rig.unit.is_attached(NexusId(0)));
    assert_eq!(sense(rig.run(0, &[0xff])), (4, 0x44, 0));
}

#[test]
fn shrinking_moves_the_end() {
    let mut rig = Rig::new();
    rig.unit.set_capacity(BlockCount(100));
    assert_eq!(rig.clear(1), [(0x2a, 9)]);
    assert_eq!(sense(rig.run(1, &ten(0x28, 0, 100, 1))), OUT_OF_RANGE);
    assert_eq!(rig.data(1, &[0x25]), [0, 0, 0, 99, 0, 0, 2, 0]);
}
