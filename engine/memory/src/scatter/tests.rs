use super::*;
use crate::arena::{Arena, Pool};
use crate::plan::{ArenaPlan, HugePages, Purpose};
use proptest::prelude::*;
use std::sync::OnceLock;

fn fresh(pages: u32) -> Pool {
    let plan = ArenaPlan::new(2).with(Class::Page, pages, 0).with(Class::Small, 2, 0);
    Arena::new(plan, HugePages::Off).unwrap().pool(0)
}

/// For property tests, so that each case does not take an arena of its own.
fn shared() -> Pool {
    static POOL: OnceLock<Arena> = OnceLock::new();
    POOL.get_or_init(|| fresh(256).arena()).pool(0)
}

fn text(pool: &Pool, bytes: &[u8]) -> ScatterMut {
    let mut list = ScatterMut::take(pool, Purpose::Host, bytes.len()).unwrap();
    assert_eq!(list.copy_from(0, bytes), bytes.len());
    list
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    // 251 is prime: pages differ from each other.
    let block: Vec<u8> = (0..=250).map(|byte| byte ^ seed).collect();
    let mut bytes = block.repeat(len / block.len() + 1);
    bytes.truncate(len);
    bytes
}

#[test]
fn takes_all_or_nothing() {
    let pool = fresh(4);
    let mut list = ScatterMut::take(&pool, Purpose::Host, 4097).unwrap();
    assert_eq!((list.len_bytes(), list.parts().len(), list.parts()[1].len()), (4097, 2, 1));
    assert!(!list.take_more(&pool, Purpose::Host, 3 * 4096));
    assert!(!list.take_more(&pool, Purpose::Host, usize::MAX));
    assert_eq!((list.len_bytes(), pool.arena().free(Class::Page)), (4097, 2));
    assert!(list.take_more(&pool, Purpose::Host, 2 * 4096));
    assert!(ScatterMut::take(&pool, Purpose::Host, 1).is_none());
    assert!(ScatterMut::take(&pool, Purpose::Host, 0).unwrap().is_empty());
    list.clear();
    assert_eq!((list.len_bytes(), pool.arena().free(Class::Page)), (0, 4));
}

#[test]
fn storage_is_kept_from_round_to_round() {
    let pool = fresh(8);
    let (mut filling, mut list) = (ScatterMut::with_capacity(4), Scatter::with_capacity(4));
    let before = (filling.capacity(), list.capacity(), list.parts().as_ptr());
    for round in 0..3 {
        assert!(filling.take_more(&pool, Purpose::Host, 4 * 4096));
        filling.zero(0, usize::MAX);
        filling.freeze_into(&mut list);
        assert!(filling.is_empty() && list.is_zero() && list.len_bytes() == 16384);
        if round == 1 {
            assert!(list.try_into_mut(&mut filling));
            filling.freeze_into(&mut list);
        }
        list.clear();
    }
    assert_eq!((filling.capacity(), list.capacity(), list.parts().as_ptr()), before);
    assert_eq!(pool.arena().free(Class::Page), 8);
}

#[test]
fn parts_that_go_on_in_a_page_become_one() {
    let pool = fresh(2);
    let page = text(&pool, &pattern(4096, 0)).drain().next().unwrap().freeze().into_page();
    let mut list = Scatter::new();
    list.push(Slice::new(page.clone(), 0, 100).unwrap());
    list.push(Slice::new(page.clone(), 100, 200).unwrap());
    list.push(Slice::new(page.clone(), 300, 0).unwrap());
    assert_eq!((list.parts().len(), list.len_bytes(), page.handles()), (1, 300, 2));
    list.push(Slice::new(page.clone(), 301, 1).unwrap());
    list.push_page(page.clone());
    assert_eq!((list.parts().len(), list.len_bytes(), page.handles()), (3, 4397, 4));
    assert_eq!(list.to_vec()[299..302], [page[299], page[301], page[0]]);
    assert!(!list.try_into_mut(&mut ScatterMut::new()), "the page is shared");
    assert_eq!(list.pop().map(|part| part.len()), Some(4096));
    assert_eq!(list.len_bytes(), 301);
}

#[test]
fn a_part_lies_within_its_page() {
    let pool = fresh(1);
    let mut page = pool.take(Class::Small, Purpose::Host).unwrap();
    for (offset, len) in [(16384, 1), (0, 16385), (u32::MAX, 2), (1, u32::MAX)] {
        page = SliceMut::new(page, offset, len).unwrap_err();
    }
    page = SliceMut::new(page, 16384, 0).unwrap().into_page();
    let mut part = SliceMut::new(page, 16000, 384).unwrap();
    part.bytes_mut().fill(1);
    part.page_mut()[0] = 2;
    assert_eq!((part.bytes().len(), part.offset(), part.is_empty()), (384, 16000, false));
    assert_eq!(part.freeze().page()[15999..16001], [0, 1]);
}

#[test]
fn zeroes_are_sent_from_one_page() {
    let pool = fresh(4);
    let mut zero = pool.take(Class::Page, Purpose::Internal).unwrap();
    zero.fill(0);
    let zero = zero.freeze();
    let mut list = Scatter::new();
    list.push_repeated(&zero, 10_000);
    assert_eq!((list.len_bytes(), list.parts().len(), zero.handles()), (10_000, 3, 4));
    assert!(list.is_zero());
    list.push_repeated(&zero, 0);
    assert_eq!(list.parts().len(), 3);
}

#[test]
fn neighbours_in_memory_are_one_run() {
    let pool = fresh(64);
    let list = ScatterMut::take(&pool, Purpose::Host, 8 * 4096).unwrap();
    let first = list.parts()[0].page().as_ptr();
    let runs: Vec<Run> = list.runs(0, usize::MAX).collect();
    assert_eq!(runs, [Run { pointer: first, len: 8 * 4096, region: 0 }]);
    let runs: Vec<Run> = list.runs(100, 5000).collect();
    assert_eq!(runs, [Run { pointer: first.wrapping_add(100), len: 5000, region: 0 }]);
    let mut list = list.freeze();
    let mut apart = Scatter::new();
    apart.push_range(&list, 4096, 8192);
    apart.push_range(&list, 0, 4096);
    assert_eq!(apart.runs(0, usize::MAX).map(|run| run.len).collect::<Vec<_>>(), [8192, 4096]);
    assert_eq!(list.runs(32768, 1).count(), 0);
    list.clear();
    assert_eq!(list.runs(0, 1).count(), 0);
}

#[test]
fn pages_given_back_in_any_order_come_out_beside_their_neighbours() {
    let pool = fresh(16);
    let mut pages: Vec<_> = (0..16).filter_map(|_| pool.take(Class::Page, Purpose::Host)).collect();
    while !pages.is_empty() {
        drop(pages.swap_remove(pages.len() / 2));
    }
    let list = ScatterMut::take(&pool, Purpose::Host, 16 * 4096).unwrap();
    let at: Vec<usize> = list.parts().iter().map(|part| part.page().as_ptr().addr()).collect();
    assert!(at.windows(2).all(|pair| pair[0] + 4096 == pair[1]), "one run: {at:?}");
}

#[test]
fn differences_are_found_across_cuts() {
    let pool = fresh(16);
    let bytes = pattern(9000, 5);
    let a = text(&pool, &bytes).freeze();
    let mut b = Scatter::new();
    for at in (0..9000).step_by(1111) {
        b.push_range(&text(&pool, &bytes[at..(at + 1111).min(9000)]).freeze(), 0, 1111);
    }
    assert!(a == b && a.first_difference(&b).is_none() && a == bytes[..]);
    assert_eq!(a.first_difference_at(100, &b, 100, 8000), None);
    b.truncate(5000);
    assert_eq!((a.first_difference(&b), b.first_difference(&a)), (Some(5000), Some(5000)));
    assert!(a != b && b == bytes[..5000] && b != bytes[..]);
    let mut other = bytes.clone();
    other[4999] ^= 1;
    let other = text(&pool, &other);
    assert_eq!(
        (other.first_difference(&b), b.first_difference_at(999, &other, 999, 4001)),
        (Some(4999), Some(4000))
    );
    assert_eq!(b.first_difference_at(0, &other, 0, 4999), None);
}

/// Any cut of a byte string into parts of pages.
fn cuts() -> impl Strategy<Value = Vec<(u32, u32)>> {
    prop::collection::vec((0u32..4096, 1u32..3000), 0..8)
        .prop_map(|cuts| cuts.into_iter().map(|(at, len)| (at, len.min(4096 - at))).collect())
}

fn build(pool: &Pool, cuts: &[(u32, u32)], seed: u8) -> (ScatterMut, Vec<u8>) {
    let (mut list, mut bytes) = (ScatterMut::new(), Vec::new());
    for (number, &(at, len)) in (0u8..).zip(cuts) {
        let mut page = pool.take(Class::Page, Purpose::Host).unwrap();
        page.copy_from_slice(&pattern(4096, seed.wrapping_add(number)));
        bytes.extend_from_slice(&page[at as usize..][..len as usize]);
        list.push(SliceMut::new(page, at, len).unwrap());
    }
    (list, bytes)
}

fn window(bytes: &[u8], offset: usize, len: usize) -> &[u8] {
    let start = offset.min(bytes.len());
    &bytes[start..start.saturating_add(len).min(bytes.len())]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_list_is_its_bytes(cuts in cuts(), offset in 0usize..9000, len in 0usize..9000, seed: u8) {
        let pool = shared();
        let (mut list, mut bytes) = build(&pool, &cuts, seed);
        prop_assert_eq!(list.len_bytes(), bytes.len());
        prop_assert_eq!(list.is_empty(), bytes.is_empty());
        prop_assert_eq!(list.is_zero(), bytes.iter().all(|&byte| byte == 0));

        let seen: Vec<u8> = list.range(offset, len).flat_map(|span| span.bytes().to_vec()).collect();
        prop_assert_eq!(&seen[..], window(&bytes, offset, len));
        prop_assert!(list.range(offset, len).all(|span| span.len > 0));
        prop_assert_eq!(list.spans().map(|span| span.len as usize).sum::<usize>(), bytes.len());
        prop_assert_eq!(list.runs(offset, len).map(|run| run.len).sum::<usize>(), seen.len());
        let mut out = vec![0; len];
        let copied = list.copy_into(&mut out, offset);
        prop_assert_eq!(&out[..copied], window(&bytes, offset, len));

        let new = pattern(len, !seed);
        let written = list.copy_from(offset, &new);
        prop_assert_eq!(written, seen.len());
        if written > 0 {
            bytes[offset..offset + written].copy_from_slice(&new[..written]);
        }
        prop_assert_eq!(&list.to_vec(), &bytes);
        list.zero(offset, len / 2);
        let end = (offset + len / 2).min(bytes.len());
        if offset < end {
            bytes[offset..end].fill(0);
        }

        let shared = list.freeze();
        prop_assert!(shared == bytes[..]);
        let mut part = Scatter::new();
        prop_assert_eq!(part.push_range(&shared, offset, len), seen.len());
        prop_assert!(part == *window(&bytes, offset, len));
        part.truncate(len / 3);
        prop_assert!(part == *window(&bytes, offset, len / 3));
        let mut whole = Scatter::new();
        whole.push_range(&shared, 0, offset);
        let mut rest = Scatter::new();
        rest.push_range(&shared, offset, usize::MAX);
        whole.append(&mut rest);
        prop_assert!(whole == shared && rest.is_empty());
    }

    #[test]
    fn the_first_difference_is_the_first(
        left in cuts(), right in cuts(), seed: u8, flip in any::<prop::sample::Index>(),
    ) {
        let pool = shared();
        let (a, bytes) = build(&pool, &left, seed);
        let (mut b, _) = build(&pool, &right, seed);
        let common = bytes.len().min(b.len_bytes());
        b.copy_from(0, &bytes[..common]);
        let prefix = (bytes.len() != b.len_bytes()).then_some(common);
        prop_assert_eq!(a.first_difference(&b), prefix);
        if common > 0 {
            let at = flip.index(common);
            b.copy_from(at, &[!bytes[at]]);
            prop_assert_eq!(a.first_difference(&b), Some(at));
            prop_assert_eq!(b.first_difference_at(at, &a, at, 1), Some(0));
            prop_assert_eq!(b.first_difference_at(0, &a, 0, at), None);
        }
    }
}
