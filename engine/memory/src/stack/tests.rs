use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

fn stack(count: u32, reserve: u32) -> (Vec<Node>, FreeStack) {
    let nodes: Vec<Node> = (0..count).map(|_| Node::new()).collect();
    let stack = FreeStack::new(&nodes, (0..count).rev(), reserve);
    (nodes, stack)
}

#[test]
fn last_in_first_out_and_never_below_the_floor() {
    let (nodes, stack) = stack(4, 2);
    assert_eq!((stack.depth(&nodes), stack.reserve()), (4, 2));
    assert_eq!((stack.pop(&nodes, 2), stack.pop(&nodes, 2), stack.pop(&nodes, 2)), (Some(0), Some(1), None));
    assert_eq!((stack.pop(&nodes, 0), stack.pop(&nodes, 0), stack.pop(&nodes, 0)), (Some(2), Some(3), None));
    assert_eq!((stack.depth(&nodes), stack.low()), (0, 0));
    stack.push(&nodes, 1);
    assert_eq!((stack.depth(&nodes), stack.pop(&nodes, 1), stack.pop(&nodes, 0)), (1, None, Some(1)));
}

#[test]
fn an_empty_stack_is_one() {
    let (nodes, stack) = stack(0, 0);
    assert_eq!((stack.depth(&nodes), stack.pop(&nodes, 0)), (0, None));
    assert_eq!(stack.pop_many(&nodes, 0, 5, |_| panic!("there is none")), 0);
}

#[test]
fn the_tag_wraps_around() {
    let (nodes, stack) = stack(2, 0);
    stack.head.store(!INDEX, Ordering::Relaxed);
    assert_eq!((stack.pop(&nodes, 0), stack.pop(&nodes, 0), stack.pop(&nodes, 0)), (Some(0), Some(1), None));
    stack.push(&nodes, 0);
    assert_eq!(stack.pop(&nodes, 0), Some(0));
}

#[test]
fn every_page_has_one_owner_at_a_time() {
    let rounds = if cfg!(miri) { 40 } else { 30_000 };
    let (nodes, stack) = stack(8, 1);
    let taken: Vec<AtomicBool> = (0..8).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (nodes, stack, taken) = (&nodes, &stack, &taken);
            scope.spawn(move || {
                let mut held = Vec::new();
                for round in 0..rounds {
                    let own = |page: u32| {
                        assert!(!taken[page as usize].swap(true, Ordering::Relaxed));
                        held.push(page);
                    };
                    match (round + thread) % 3 {
                        0 => _ = stack.pop(nodes, 1).map(own),
                        1 => _ = stack.pop_many(nodes, thread % 2, 3, own),
                        _ => {}
                    }
                    while held.len() > usize::try_from(round % 3).unwrap() {
                        let page = held.swap_remove(0);
                        assert!(taken[page as usize].swap(false, Ordering::Relaxed));
                        stack.push(nodes, page);
                    }
                }
                for page in held {
                    taken[page as usize].store(false, Ordering::Relaxed);
                    stack.push(nodes, page);
                }
            });
        }
    });
    assert_eq!(stack.depth(&nodes), 8);
    let mut all = Vec::new();
    assert_eq!(stack.pop_many(&nodes, 0, 100, |page| all.push(page)), 8);
    all.sort_unstable();
    assert_eq!(all, (0..8).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_like_a_vector(
        count in 0u32..12,
        steps in prop::collection::vec((0u8..4, 0u32..5, 0u32..7), 0..60),
    ) {
        let (nodes, stack) = stack(count, 0);
        let mut model: Vec<u32> = (0..count).rev().collect();
        let (mut held, mut low) = (Vec::new(), count);
        for (step, floor, want) in steps {
            let floor_len = floor as usize;
            match step {
                0 => {
                    let expected = if model.len() > floor_len { model.pop() } else { None };
                    prop_assert_eq!(stack.pop(&nodes, floor), expected);
                    held.extend(expected);
                }
                1 => {
                    let mut got = Vec::new();
                    let taken = stack.pop_many(&nodes, floor, want, |page| got.push(page));
                    prop_assert_eq!(taken as usize, got.len());
                    prop_assert_eq!(got.len(), model.len().saturating_sub(floor_len).min(want as usize));
                    for &page in &got {
                        prop_assert_eq!(Some(page), model.pop());
                    }
                    held.append(&mut got);
                }
                2 => {
                    let given: Vec<u32> = held.drain(..held.len().min(want as usize)).collect();
                    stack.push_many(&nodes, &given);
                    model.extend(given.iter().rev());
                }
                _ => {
                    if !held.is_empty() {
                        let page = held.swap_remove(want as usize % held.len());
                        stack.push(&nodes, page);
                        model.push(page);
                    }
                }
            }
            low = low.min(u32::try_from(model.len()).unwrap());
            prop_assert_eq!(stack.depth(&nodes) as usize, model.len());
            prop_assert_eq!(stack.low(), low);
        }
    }
}
