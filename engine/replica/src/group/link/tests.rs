//! Which pages count, and which say that their maker is not what it was.

use super::*;
use crate::page::tests::sample;

/// A link that has taken the page of that serial at time 10.
fn link(version: u64, counter: u64) -> Link {
    let mut link = Link::new(sample().group, sample().array, 0);
    assert_eq!(link.take(Time(10), 0, &page(version, counter, false), Some(Time(5))), Heard::Page);
    link
}

fn page(version: u64, counter: u64, recovering: bool) -> [u8; PAGE] {
    StatusPage { serial: Serial { version, counter }, recovering, ..sample() }.encode()
}

fn newest(link: &Link) -> Serial {
    link.far.as_deref().expect("a page").serial
}

#[test]
fn only_newer_pages_count_whichever_way_they_come() {
    let mut link = link(7, 3);
    assert_eq!(link.take(Time(11), 0, &page(7, 4, false), None), Heard::Page);
    // Made before that one, and asked for before that one came.
    assert_eq!(link.take(Time(12), 0, &page(7, 3, false), Some(Time(9))), Heard::Known);
    assert_eq!(link.take(Time(13), 0, &page(7, 4, false), None), Heard::Known);
    assert_eq!((newest(&link), link.error.as_str()), (Serial { version: 7, counter: 4 }, ""));
    assert_eq!(link.take(Time(14), 0, &page(8, 1, false), Some(Time(13))), Heard::Page);
}

#[test]
fn an_array_that_starts_is_not_taken_for_what_it_was() {
    let mut link = link(7, 3);
    // It counts its pages anew, and its superblock has not changed yet.
    assert_eq!(link.take(Time(30), 0, &page(7, 1, true), Some(Time(20))), Heard::Nothing);
    assert!(link.error.contains("starting"), "{}", link.error);
    assert_eq!((newest(&link).counter, link.heard), (3, Some(Time(10))));
    assert_eq!(link.take(Time(40), 0, &page(8, 2, false), Some(Time(35))), Heard::Page);
    assert_eq!(link.error, "");
}

#[test]
fn an_array_that_has_gone_back_in_time_is_told() {
    let mut link = link(7, 3);
    assert_eq!(link.take(Time(30), 0, &page(5, 900, false), Some(Time(20))), Heard::Nothing);
    assert!(link.error.contains("old copy"), "{}", link.error);
    assert_eq!(newest(&link).version, 7);
    assert!(link.fresh(Time(10) + Duration::from_secs(2), Duration::from_secs(1)).is_none());
}

#[test]
fn after_a_restart_no_page_counts_that_is_older_than_one_known_before() {
    let mut link = Link::new(sample().group, sample().array, 7);
    assert_eq!(link.take(Time(10), 0, &page(6, 50, false), None), Heard::Known);
    assert_eq!(link.take(Time(11), 0, &page(6, 50, false), Some(Time(9))), Heard::Nothing);
    assert!(link.far.is_none() && link.error.contains("old copy"), "{}", link.error);
    assert_eq!(link.take(Time(12), 0, &page(7, 1, false), Some(Time(11))), Heard::Page);
}

#[test]
fn pages_of_others_do_not_count() {
    let mut link = link(7, 3);
    for foreign in [
        StatusPage { group: Uuid::from_u128(99), ..sample() },
        StatusPage { array: Uuid::from_u128(99), ..sample() },
    ] {
        let foreign = StatusPage { serial: Serial { version: 9, counter: 9 }, ..foreign };
        assert_eq!(link.take(Time(11), 0, &foreign.encode(), None), Heard::Nothing);
        assert!(link.error.contains("another group"), "{}", link.error);
    }
    assert_eq!(link.take(Time(12), 0, &[1; PAGE], None), Heard::Nothing);
    assert_eq!(newest(&link).version, 7);
}
