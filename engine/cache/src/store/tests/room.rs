//! Writes to files that find their room as they are written.

use super::support::{Bench, bytes, write};
use crate::store::Room;
use kagami_memory::Scatter;
use kagami_reactor::Errno;
use kagami_types::{BlockError, BlockOp, BlockRange, Lba};

const BYTES: u64 = 4 << 20;

fn sparse() -> Bench {
    Bench::new(BYTES, |plan, _| plan.room = Room::AsWritten { now: false })
}

#[test]
fn a_write_to_a_hole_is_answered_when_the_device_has_it() {
    let mut bench = sparse();
    assert!(bench.write(1, 0, &bytes(1, 8192)).is_none());
    assert_eq!(bench.waiting(), 1);
    bench.happen(0);
    assert_eq!(bench.result(1), Ok(()));
    assert_eq!(bench.device.lock().unwrap().flushes, 0, "not stable, only there");
    // Now it has its room, and the cache answers.
    bench.put(0, &bytes(2, 8192));
    // A write that begins in a hole's neighbour and ends in the hole.
    assert!(bench.write(2, 8, &bytes(3, 8192)).is_none());
    bench.settle();
    assert_eq!(bench.result(2), Ok(()));
    bench.put(8, &bytes(4, 8192));
    bench.assert_clean();
}

#[test]
fn without_room_the_host_hears_of_it_at_once() {
    let mut bench = sparse();
    assert!(bench.write(1, 0, &bytes(1, 4096)).is_none());
    bench.fail(0, Errno::NO_SPACE);
    assert_eq!(bench.result(1), Err(BlockError::NoSpace));
}

#[test]
fn what_was_discarded_is_a_hole_again() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.room = Room::AsWritten { now: true });
    bench.put(0, &bytes(1, 16384));
    bench.settle();
    let unmap = BlockOp::Unmap(vec![BlockRange { lba: Lba(8), blocks: 8 }]);
    assert!(bench.submit(1, unmap, Scatter::new()).is_none());
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    bench.put(0, &bytes(2, 4096));
    bench.put(16, &bytes(2, 4096));
    assert!(bench.submit(2, write(8, 8), bench.data(&bytes(3, 4096))).is_none());
    bench.settle();
    assert_eq!(bench.result(2), Ok(()));
    bench.put(8, &bytes(4, 4096));
    bench.assert_clean();
}
