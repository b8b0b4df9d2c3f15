//! Tests of the write rules: each by itself, then whole writes by a random honest initiator.

use super::*;
use proptest::prelude::*;

const RULES: WriteRules = WriteRules {
    initial_r2t: false,
    immediate_data: true,
    first_burst: 1000,
    max_burst: 500,
    max_outstanding_r2t: 2,
};

fn placed(offset: u32, len: u32) -> Result<Placement, DataOutError> {
    Ok(Placement { offset, len, keep: len })
}

#[test]
fn all_data_with_the_command() {
    let write = DataOut::new(&RULES, 512, 512, 512, true).unwrap();
    assert!(write.is_complete());
    assert_eq!(write.clone().poll_r2t(), None);
    // F clear announces nothing where nothing is left to come.
    assert!(DataOut::new(&RULES, 512, 512, 512, false).unwrap().is_complete());
}

#[test]
fn a_write_of_nothing_is_complete() {
    assert!(DataOut::new(&RULES, 0, 0, 0, true).unwrap().is_complete());
    assert!(DataOut::new(&RULES, 0, 0, 0, false).unwrap().is_complete());
}

#[test]
fn immediate_then_unsolicited_then_two_r2ts_at_once() {
    let mut write = DataOut::new(&RULES, 2300, 2300, 400, false).unwrap();
    assert_eq!(write.poll_r2t(), None, "not before the unsolicited data have ended");
    assert_eq!(write.accept(Burst::Unsolicited, DataSn(0), 400, 300, false), placed(400, 300));
    assert_eq!(write.accept(Burst::Unsolicited, DataSn(1), 700, 300, true), placed(700, 300));
    assert_eq!(write.poll_r2t(), Some(R2t { r2t_sn: R2tSn(0), index: 0, offset: 1000, len: 500 }));
    assert_eq!(write.poll_r2t(), Some(R2t { r2t_sn: R2tSn(1), index: 1, offset: 1500, len: 500 }));
    assert_eq!(write.poll_r2t(), None, "two may be outstanding");
    assert_eq!(write.accept(Burst::Solicited(1), DataSn(0), 1500, 500, true), Err(DataOutError::WrongR2t(1)));
    assert_eq!(write.accept(Burst::Solicited(0), DataSn(0), 1000, 200, false), placed(1000, 200));
    assert_eq!(write.accept(Burst::Solicited(0), DataSn(1), 1200, 300, true), placed(1200, 300));
    assert_eq!(write.poll_r2t(), Some(R2t { r2t_sn: R2tSn(2), index: 2, offset: 2000, len: 300 }));
    assert_eq!(write.accept(Burst::Solicited(1), DataSn(0), 1500, 500, true), placed(1500, 500));
    assert!(!write.is_complete());
    assert_eq!(write.accept(Burst::Solicited(2), DataSn(0), 2000, 300, true), placed(2000, 300));
    assert!(write.is_complete());
    assert_eq!((write.received(), write.r2ts_sent(), write.outstanding_r2ts()), (2300, R2tSn(3), 0));
}

#[test]
fn a_first_burst_may_end_early() {
    let mut write = DataOut::new(&RULES, 900, 900, 0, false).unwrap();
    assert_eq!(write.accept(Burst::Unsolicited, DataSn(0), 0, 100, true), placed(0, 100));
    assert_eq!(write.poll_r2t().map(|r| (r.offset, r.len)), Some((100, 500)));
}

#[test]
fn each_broken_rule_is_named() {
    use DataOutError as E;
    let none = WriteRules { immediate_data: false, initial_r2t: true, ..RULES };
    assert_eq!(DataOut::new(&none, 100, 100, 100, true), Err(E::ImmediateNotAllowed));
    assert_eq!(DataOut::new(&none, 100, 100, 0, false), Err(E::UnsolicitedNotAllowed));
    assert_eq!(DataOut::new(&RULES, 9, 9, 10, true), Err(E::FirstBurstExceeded { end: 10, limit: 9 }));
    assert_eq!(
        DataOut::new(&RULES, 2000, 2000, 1001, true),
        Err(E::FirstBurstExceeded { end: 1001, limit: 1000 })
    );
    let mut write = DataOut::new(&RULES, 2000, 2000, 0, false).unwrap();
    let before = write;
    let mut offer = |burst, sn, offset, len, f| write.accept(burst, DataSn(sn), offset, len, f);
    assert_eq!(offer(Burst::Solicited(0), 0, 0, 10, true), Err(E::WrongR2t(0)));
    assert_eq!(
        offer(Burst::Unsolicited, 1, 0, 10, true),
        Err(E::DataSn { got: DataSn(1), expected: DataSn(0) })
    );
    assert_eq!(offer(Burst::Unsolicited, 0, 4, 10, true), Err(E::Offset { got: 4, expected: 0 }));
    assert_eq!(
        offer(Burst::Unsolicited, 0, 0, 1001, true),
        Err(E::FirstBurstExceeded { end: 1001, limit: 1000 })
    );
    assert_eq!(offer(Burst::Unsolicited, 0, 0, 1000, false), Err(E::NotEnded));
    assert_eq!(offer(Burst::Unsolicited, 0, 0, 0, false), Err(E::NotEnded));
    assert_eq!(write, before, "a refused PDU changes nothing");
    write.accept(Burst::Unsolicited, DataSn(0), 0, 1000, true).unwrap();
    assert_eq!(write.accept(Burst::Unsolicited, DataSn(0), 1000, 10, true), Err(E::UnsolicitedNotAllowed));
    write.poll_r2t().unwrap();
    let mut offer = |sn, offset, len, f| write.accept(Burst::Solicited(0), DataSn(sn), offset, len, f);
    assert_eq!(offer(0, 1000, 501, true), Err(E::BurstExceeded { end: 1501, limit: 1500 }));
    assert_eq!(offer(0, 1000, u32::MAX, true), Err(E::BurstExceeded { end: 4_294_968_295, limit: 1500 }));
    assert_eq!(offer(0, 1000, 499, true), Err(E::EndedEarly { end: 1499, limit: 1500 }));
    assert_eq!(E::UnsolicitedNotAllowed.additional_sense(), (0x0c, 0x0c));
    assert_eq!(E::NotEnded.additional_sense(), (0x0c, 0x0d));
}

#[test]
fn what_a_failed_command_still_gets_is_dropped() {
    let mut write = DataOut::new(&RULES, 5000, 0, 100, false).unwrap();
    assert!(!write.is_complete());
    let dropped = Placement { offset: 100, len: 900, keep: 0 };
    assert_eq!(write.accept(Burst::Unsolicited, DataSn(0), 100, 900, true), Ok(dropped));
    assert_eq!(write.poll_r2t(), None);
    assert!(write.is_complete());
}

#[test]
fn an_abandoned_write_takes_in_what_it_asked_for() {
    let mut write = DataOut::new(&RULES, 5000, 5000, 0, true).unwrap();
    write.poll_r2t().unwrap();
    write.abandon();
    assert_eq!(write.poll_r2t(), None);
    assert!(!write.is_complete());
    write.accept(Burst::Solicited(0), DataSn(0), 0, 500, true).unwrap();
    assert!(write.is_complete());
}

#[test]
fn a_command_that_wants_less_than_is_expected() {
    let mut write = DataOut::new(&RULES, 1000, 512, 0, false).unwrap();
    let placement = write.accept(Burst::Unsolicited, DataSn(0), 0, 1000, true);
    assert_eq!(placement, Ok(Placement { offset: 0, len: 1000, keep: 512 }));
    assert!(write.is_complete());
}

proptest! {
    /// An initiator that keeps the rules is never refused, and its bytes all arrive once, in order.
    #[test]
    fn honest_writes_complete(
        expected in 0u32..20_000, immediate in 0u32..2000, unsolicited: bool,
        first_burst in 0u32..3000, max_burst in 1u32..4000, window in 0u8..10, pdu in 1u32..1500,
    ) {
        let rules = WriteRules {
            initial_r2t: false, immediate_data: true, first_burst, max_burst, max_outstanding_r2t: window,
        };
        let immediate = immediate.min(first_burst).min(expected);
        let mut write = DataOut::new(&rules, expected, expected, immediate, !unsolicited).unwrap();
        let mut at = immediate;
        let send = |write: &mut DataOut, burst, at: &mut u32, end: u32| {
            let mut sn = DataSn(0);
            while *at < end {
                let len = pdu.min(end - *at);
                let got = write.accept(burst, sn, *at, len, *at + len == end);
                assert_eq!(got, placed(*at, len));
                *at += len;
                sn = sn.next();
            }
        };
        if write.awaits_unsolicited() {
            send(&mut write, Burst::Unsolicited, &mut at, first_burst.min(expected));
        }
        let mut queue = std::collections::VecDeque::new();
        loop {
            while let Some(r2t) = write.poll_r2t() { queue.push_back(r2t); }
            prop_assert!(queue.len() <= usize::from(window.clamp(1, 8)));
            let Some(r2t) = queue.pop_front() else { break };
            prop_assert!(r2t.len <= max_burst && r2t.offset == at);
            send(&mut write, Burst::Solicited(r2t.index), &mut at, r2t.offset + r2t.len);
        }
        prop_assert!(write.is_complete());
        prop_assert_eq!((at, write.received()), (expected, expected));
    }

    /// Whatever comes, no data are placed twice, beyond the end, or beyond what was allowed.
    #[test]
    fn hostile_writes_stay_within_bounds(
        expected: u32, wanted: u32, immediate in 0u32..3000, f: bool, initial_r2t: bool,
        pdus in proptest::collection::vec((any::<bool>(), 0u8..4, 0u32..4, 0u32..5000, 0u32..2000, any::<bool>()), 0..40),
    ) {
        let rules = WriteRules { initial_r2t, ..RULES };
        let Ok(mut write) = DataOut::new(&rules, expected, wanted, immediate, f) else { return Ok(()) };
        for (solicited, index, sn, offset, len, f) in pdus {
            write.poll_r2t();
            let burst = if solicited { Burst::Solicited(index) } else { Burst::Unsolicited };
            let before = write.received();
            if let Ok(place) = write.accept(burst, DataSn(sn), offset, len, f) {
                prop_assert_eq!((place.offset, place.len), (before, len));
                prop_assert!(place.keep <= place.len && write.received() <= expected);
                prop_assert!(u64::from(place.offset) + u64::from(place.keep) <= u64::from(wanted.max(place.offset)));
            } else {
                prop_assert_eq!(write.received(), before);
            }
        }
    }
}
