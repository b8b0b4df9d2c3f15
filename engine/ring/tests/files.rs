//! Reads and writes of real files through real rings: what the kernel offers is used, and without it the
//! same is done another way.

use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_reactor::{Completion, FileId, Io, Op, Submit, Token, Wait};
use kagami_ring::{Ring, RingPlan};
use kagami_types::Time;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;

const BYTES: usize = 64 << 10;

fn arena() -> Arena {
    // Pages of one size only: what is taken has many pieces.
    Arena::new(ArenaPlan::new(1).with(Class::Page, 512, 0), HugePages::Off).expect("an arena")
}

fn file(folder: &tempfile::TempDir) -> OwnedFd {
    let path = folder.path().join("file");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file: File = file.expect("a file");
    file.set_len(1 << 20).expect("its size");
    file.into()
}

fn run(ring: &mut Ring, op: Op) -> Completion {
    assert!(ring.submit(Token(7), op).is_ok());
    let mut done = Vec::new();
    for _ in 0..1000 {
        let soon = Time(ring.now().0 + 100_000_000);
        ring.poll(Wait::Until(soon), &mut done);
        if let Some(completion) = done.pop() {
            assert_eq!(completion.token, Token(7));
            return completion;
        }
    }
    panic!("no completion");
}

/// Pages none of which follows another, so that each is a piece of its own.
fn apart(pool: &Pool, bytes: usize) -> ScatterMut {
    let mut pages = Vec::new();
    while pages.len() < bytes / 4096 {
        let page = pool.take(Class::Page, Purpose::Host).expect("a page");
        // What is dropped here lies between the two.
        let _between = pool.take(Class::Page, Purpose::Host);
        pages.push(page);
    }
    let mut list = ScatterMut::new();
    pages.into_iter().rev().for_each(|page| list.push_page(page));
    list
}

fn pattern(pool: &Pool) -> (Vec<u8>, Scatter) {
    let bytes: Vec<u8> = (0..=250u8).cycle().take(BYTES).collect();
    let mut list = apart(pool, BYTES);
    list.copy_from(0, &bytes);
    (bytes, list.freeze())
}

fn round_trip(ring: &mut Ring, file: FileId, pool: &Pool) {
    let (bytes, data) = pattern(pool);
    let done = run(ring, Op::Write { file, offset: 8192, data, stable: true });
    assert_eq!(done.result, Ok(65536));
    let done = run(ring, Op::Read(file, 8192, apart(pool, BYTES)));
    assert_eq!(done.result, Ok(65536));
    let Op::Read(_, _, list) = done.op else { panic!("another operation came back") };
    assert!(list.freeze().to_vec() == bytes, "other bytes than were written");
}

#[test]
fn vectored_reads_and_writes_use_the_registered_buffers() {
    let (arena, folder) = (arena(), tempfile::tempdir().expect("a folder"));
    let pool = arena.pool(0);
    let mut ring = Ring::new(RingPlan::default(), &arena).expect("a ring");
    let file = ring.add_file(file(&folder), false).expect("a place");
    round_trip(&mut ring, file, &pool);
    let expected = if ring.features().vectored_fixed { 2 } else { 0 };
    assert_eq!(ring.counts().fixed, expected, "{}", ring.features());
}

#[test]
fn without_registered_buffers_it_works_as_well() {
    let (arena, folder) = (arena(), tempfile::tempdir().expect("a folder"));
    let pool = arena.pool(0);
    let plan = RingPlan { register: false, ..RingPlan::default() };
    let mut ring = Ring::new(plan, &arena).expect("a ring");
    let file = ring.add_file(file(&folder), false).expect("a place");
    round_trip(&mut ring, file, &pool);
    assert_eq!(ring.counts().fixed, 0);
    assert!(!ring.features().vectored_fixed && ring.features().registered_bytes == 0);
}

#[test]
fn discards_and_zeroes_of_a_file() {
    let (arena, folder) = (arena(), tempfile::tempdir().expect("a folder"));
    let pool = arena.pool(0);
    let mut ring = Ring::new(RingPlan::default(), &arena).expect("a ring");
    let file = ring.add_file(file(&folder), false).expect("a place");
    for op in [Op::Discard(file, 12288, 8192), Op::Zero(file, 12288, 8192)] {
        let (mut bytes, data) = pattern(&pool);
        assert_eq!(run(&mut ring, Op::Write { file, offset: 8192, data, stable: false }).result, Ok(65536));
        assert_eq!(run(&mut ring, Op::Flush(file)).result, Ok(0));
        if let Err(error) = run(&mut ring, op).result {
            // A file system without holes.
            assert_eq!(error.0, 95);
            continue;
        }
        bytes[4096..12288].fill(0);
        let done = run(&mut ring, Op::Read(file, 8192, apart(&pool, BYTES)));
        let Op::Read(_, _, list) = done.op else { panic!("another operation came back") };
        assert!(list.freeze().to_vec() == bytes);
    }
}
