use super::*;
use proptest::prelude::*;

fn ticket(first: u64, blocks: u32, generation: u32) -> WriteTicket {
    WriteTicket { first, blocks, generation: Generation(generation) }
}

fn stamp(generation: u32) -> Found {
    Found::Stamp(Generation(generation))
}

fn readable(model: &mut Model, block: u64) -> Vec<u32> {
    let at = model.read_issued();
    let all = (0..10).filter(|g| {
        let found = if *g == 0 { Found::Zeroes } else { stamp(*g) };
        model.check(block, found, Rule::Read(at)).is_ok()
    });
    let all = all.collect();
    model.read_ended(at);
    all
}

fn after_crash(model: &Model, block: u64) -> Vec<u32> {
    let found = |g: &u32| if *g == 0 { Found::Zeroes } else { stamp(*g) };
    (0..10).filter(|g| model.check(block, found(g), Rule::Crash).is_ok()).collect()
}

fn write(model: &mut Model, generation: u32) {
    model.write_issued(&ticket(0, 1, generation));
    model.write_acknowledged(&ticket(0, 1, generation), false);
}

fn flush(model: &mut Model) {
    let issued = model.flush_issued();
    model.flush_acknowledged(issued);
}

#[test]
fn one_write_after_another() {
    let mut model = Model::new(4, false);
    assert_eq!(readable(&mut model, 0), [0]);
    model.write_issued(&ticket(0, 1, 1));
    assert_eq!(readable(&mut model, 0), [0, 1], "in flight: either");
    model.write_acknowledged(&ticket(0, 1, 1), false);
    assert_eq!(readable(&mut model, 0), [1]);
    assert_eq!(after_crash(&model, 0), [0, 1], "not flushed: may be lost");
    write(&mut model, 2);
    assert_eq!(readable(&mut model, 0), [2]);
    assert_eq!(after_crash(&model, 0), [0, 1, 2]);
    flush(&mut model);
    assert_eq!(after_crash(&model, 0), [2]);
    assert!(model.open_blocks().is_empty());
    assert_eq!(readable(&mut model, 1), [0], "the neighbour is untouched");
}

#[test]
fn a_flush_covers_what_ended_before_it_was_issued() {
    let mut model = Model::new(1, false);
    write(&mut model, 1);
    let issued = model.flush_issued();
    write(&mut model, 2);
    model.flush_acknowledged(issued);
    assert_eq!(after_crash(&model, 0), [1, 2]);
    assert_eq!(readable(&mut model, 0), [2]);
}

#[test]
fn fua_and_write_through_are_stable_at_once() {
    let mut model = Model::new(1, false);
    model.write_issued(&ticket(0, 1, 1));
    model.write_acknowledged(&ticket(0, 1, 1), true);
    assert_eq!(after_crash(&model, 0), [1]);
    let mut model = Model::new(1, true);
    write(&mut model, 1);
    assert_eq!(after_crash(&model, 0), [1]);
    assert!(model.open_blocks().is_empty());
}

#[test]
fn overlapping_writes_may_land_in_either_order_but_then_stay() {
    let mut model = Model::new(1, false);
    model.write_issued(&ticket(0, 1, 1));
    model.write_issued(&ticket(0, 1, 2));
    model.write_acknowledged(&ticket(0, 1, 2), false);
    assert_eq!(readable(&mut model, 0), [1, 2]);
    model.write_acknowledged(&ticket(0, 1, 1), false);
    assert_eq!(readable(&mut model, 0), [1, 2]);
    let at = model.read_issued();
    model.resolve(0, stamp(2), Rule::Read(at));
    model.read_ended(at);
    assert_eq!(readable(&mut model, 0), [2], "what was seen is what it is");
    assert_eq!(after_crash(&model, 0), [0, 1, 2]);
    flush(&mut model);
    assert_eq!(after_crash(&model, 0), [2]);
}

#[test]
fn a_read_may_return_what_a_write_meanwhile_replaced() {
    let mut model = Model::new(1, false);
    write(&mut model, 1);
    let early = model.read_issued();
    write(&mut model, 2);
    flush(&mut model);
    assert!(model.check(0, stamp(1), Rule::Read(early)).is_ok());
    assert!(model.check(0, stamp(2), Rule::Read(early)).is_ok());
    assert!(model.check(0, Found::Zeroes, Rule::Read(early)).is_err());
    model.read_ended(early);
    flush(&mut model);
    assert_eq!(readable(&mut model, 0), [2]);
}

#[test]
fn a_cut_write_is_in_doubt_until_it_is_seen() {
    let mut model = Model::new(1, false);
    write(&mut model, 1);
    model.write_issued(&ticket(0, 1, 2));
    model.write_unknown(&ticket(0, 1, 2));
    assert_eq!(readable(&mut model, 0), [1, 2]);
    let at = model.read_issued();
    model.resolve(0, stamp(1), Rule::Read(at));
    model.read_ended(at);
    assert_eq!(readable(&mut model, 0), [1], "it was not there, so it never will be");
    assert_eq!(after_crash(&model, 0), [0, 1]);
}

#[test]
fn a_write_after_a_cut_one_hides_it() {
    let mut model = Model::new(1, false);
    model.write_issued(&ticket(0, 1, 1));
    model.write_unknown(&ticket(0, 1, 1));
    write(&mut model, 2);
    assert_eq!(readable(&mut model, 0), [2]);
    assert_eq!(after_crash(&model, 0), [0, 1, 2]);
}

#[test]
fn a_crash_settles_what_was_found() {
    let mut model = Model::new(1, false);
    write(&mut model, 1);
    flush(&mut model);
    write(&mut model, 2);
    write(&mut model, 3);
    assert_eq!(after_crash(&model, 0), [1, 2, 3]);
    model.resolve(0, stamp(2), Rule::Crash);
    assert_eq!(readable(&mut model, 0), [2]);
    assert_eq!(after_crash(&model, 0), [2]);
}

#[test]
fn damage_is_never_allowed() {
    let mut model = Model::new(1, false);
    let at = model.read_issued();
    assert!(model.check(0, Found::Damaged(Generation(0)), Rule::Read(at)).is_err());
    assert!(model.check(0, Found::Misplaced { lba: 3, generation: Generation(0) }, Rule::Crash).is_err());
}

#[test]
fn a_state_survives_the_file() {
    let mut model = Model::new(100, false);
    model.write_issued(&ticket(10, 20, 1));
    model.write_acknowledged(&ticket(10, 20, 1), false);
    flush(&mut model);
    model.write_issued(&ticket(20, 20, 2));
    model.write_acknowledged(&ticket(20, 20, 2), false);
    model.write_issued(&ticket(0, 1, 3));
    let text = serde_json::to_string(&model.save()).unwrap();
    let mut loaded = Model::load(serde_json::from_str(&text).unwrap(), 100, false).unwrap();
    assert_eq!(loaded.last_generation(), Generation(3));
    assert_eq!(readable(&mut loaded, 0), [0, 3]);
    assert_eq!(readable(&mut loaded, 15), [1]);
    assert_eq!(readable(&mut loaded, 25), [2]);
    assert_eq!(after_crash(&loaded, 25), [1, 2]);
    assert!(Model::load(model.save(), 99, false).is_err());
}

/// A block as a correct target would keep it: writes take effect at one moment between issue and
/// end, a flush makes what took effect stable, a crash goes back to something in between.
#[derive(Clone, Debug)]
enum Event {
    Issue,
    /// A write under way takes effect.
    Apply(usize),
    /// A write under way that took effect is acknowledged.
    Acknowledge(usize, bool),
    /// A write under way is cut off, having taken effect or not.
    Cut(usize),
    BeginFlush,
    EndFlush,
    BeginRead,
    /// A read takes its value.
    Sample,
    EndRead,
    Crash(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Issue),
        4 => (0usize..4).prop_map(Event::Apply),
        4 => (0usize..4, proptest::bool::weighted(0.1)).prop_map(|(n, fua)| Event::Acknowledge(n, fua)),
        1 => (0usize..4).prop_map(Event::Cut),
        1 => Just(Event::BeginFlush),
        1 => Just(Event::EndFlush),
        3 => Just(Event::BeginRead),
        3 => Just(Event::Sample),
        3 => Just(Event::EndRead),
        1 => (0usize..4).prop_map(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a correct target does, the model never complains.
    #[test]
    fn a_correct_target_is_never_accused(events in proptest::collection::vec(event(), 1..120)) {
        let mut model = Model::new(1, false);
        let mut next = 0u32;
        let mut under_way: Vec<(u32, bool)> = Vec::new();
        // Every value that took effect, in order; from `stable` on they may be lost.
        let mut history = vec![0u32];
        let mut stable = 0usize;
        let mut flush: Option<(Tick, usize)> = None;
        let mut read: Option<(Tick, Option<u32>)> = None;
        let found = |g: u32| if g == 0 { Found::Zeroes } else { stamp(g) };
        for event in events {
            match event {
                Event::Issue if under_way.len() < 4 => {
                    next += 1;
                    model.write_issued(&ticket(0, 1, next));
                    under_way.push((next, false));
                }
                Event::Apply(n) => {
                    if let Some((generation, applied)) = under_way.get_mut(n) && !*applied {
                        *applied = true;
                        history.push(*generation);
                    }
                }
                Event::Acknowledge(n, fua) if under_way.get(n).is_some_and(|(_, applied)| *applied) => {
                    let (generation, _) = under_way.remove(n);
                    if fua {
                        let at = history.iter().position(|g| *g == generation).unwrap_or(0);
                        stable = stable.max(at);
                    }
                    model.write_acknowledged(&ticket(0, 1, generation), fua);
                }
                Event::Cut(n) if n < under_way.len() => {
                    let (generation, _) = under_way.remove(n);
                    model.write_unknown(&ticket(0, 1, generation));
                }
                Event::BeginFlush if flush.is_none() => {
                    flush = Some((model.flush_issued(), history.len() - 1));
                }
                Event::EndFlush => {
                    if let Some((issued, at)) = flush.take() {
                        stable = stable.max(at);
                        model.flush_acknowledged(issued);
                    }
                }
                Event::BeginRead if read.is_none() => read = Some((model.read_issued(), None)),
                Event::Sample => {
                    if let Some((_, value)) = &mut read {
                        value.get_or_insert(*history.last().unwrap());
                    }
                }
                Event::EndRead => {
                    if let Some((issued, Some(value))) = read {
                        read = None;
                        let result = model.check(0, found(value), Rule::Read(issued));
                        model.read_ended(issued);
                        prop_assert!(result.is_ok(), "{result:?} {history:?}");
                        model.resolve(0, found(value), Rule::Read(issued));
                    }
                }
                Event::Crash(back) => {
                    for (generation, _) in under_way.drain(..) {
                        model.write_unknown(&ticket(0, 1, generation));
                    }
                    if let Some((issued, _)) = read.take() {
                        model.read_ended(issued);
                    }
                    flush = None;
                    let kept = (history.len() - 1).saturating_sub(back).max(stable);
                    let value = history[kept];
                    let result = model.check(0, found(value), Rule::Crash);
                    prop_assert!(result.is_ok(), "{result:?} {history:?} {stable}");
                    model.resolve(0, found(value), Rule::Crash);
                    history = vec![value];
                    stable = 0;
                }
                _ => {}
            }
        }
    }
}
