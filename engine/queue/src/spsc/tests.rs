use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[test]
fn capacity_is_a_power_of_two() {
    for (asked, got) in [(0, 1), (1, 1), (3, 4), (1000, 1024)] {
        let (producer, consumer) = channel::<u8>(asked);
        assert_eq!((producer.capacity(), consumer.capacity()), (got, got));
    }
}

#[test]
fn a_full_ring_gives_the_item_back() {
    let (mut producer, mut consumer) = channel(2);
    assert_eq!(producer.push("a"), Ok(()));
    assert_eq!(producer.push("b"), Ok(()));
    assert_eq!(producer.push("c"), Err("c"));
    assert_eq!(consumer.pop(), Some("a"));
    assert_eq!(producer.push("c"), Ok(()));
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some("b"), Some("c"), None));
}

#[test]
fn staged_items_show_when_published() {
    let (mut producer, mut consumer) = channel(4);
    producer.stage(1).unwrap();
    producer.stage(2).unwrap();
    assert_eq!((consumer.pop(), producer.staged(), consumer.is_empty()), (None, 2, true));
    producer.publish();
    assert_eq!((consumer.pop(), producer.staged()), (Some(1), 0));
    producer.stage(3).unwrap();
    drop(producer);
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(2), Some(3), None));
}

#[test]
fn what_is_left_is_dropped_once() {
    let item = Arc::new(());
    let (mut producer, mut consumer) = channel(8);
    for _ in 0..6 {
        producer.stage(item.clone()).unwrap();
    }
    producer.publish();
    drop(consumer.pop());
    assert_eq!(Arc::strong_count(&item), 6);
    producer.stage(item.clone()).unwrap();
    drop(consumer);
    drop(producer);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn a_panic_while_draining_loses_only_its_item() {
    let item = Arc::new(());
    let (mut producer, mut consumer) = channel(4);
    for _ in 0..4 {
        producer.push(item.clone()).unwrap();
    }
    let mut seen = 0;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        consumer.drain(4, |_| {
            seen += 1;
            assert!(seen < 2, "on purpose");
        });
    }));
    assert!(result.is_err());
    assert_eq!((consumer.len(), Arc::strong_count(&item)), (2, 3));
    drop((producer, consumer));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn order_and_number_hold_between_threads() {
    let count = if cfg!(miri) { 300 } else { 200_000u64 };
    let (mut producer, mut consumer) = channel(64);
    let sender = std::thread::spawn(move || {
        let mut next = 0;
        while next < count {
            while next < count && producer.stage(Box::new(next)).is_ok() {
                next += 1;
                if next % 7 == 0 {
                    producer.publish();
                }
            }
            producer.publish();
            std::thread::yield_now();
        }
    });
    let mut expected = 0;
    while expected < count {
        let got = consumer.drain(13, |item| {
            assert_eq!(*item, expected);
            expected += 1;
        });
        if got == 0 {
            std::thread::yield_now();
        }
    }
    sender.join().unwrap();
    assert!(consumer.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Stage,
    Publish,
    Push,
    Pop,
    Drain(usize),
    Room,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_like_a_bounded_deque(
        capacity in 1usize..9,
        // Positions near the end of their type: they wrap around.
        start in prop_oneof![Just(0usize), (usize::MAX - 20)..=usize::MAX],
        steps in prop::collection::vec(
            prop_oneof![
                3 => Just(Step::Stage), 1 => Just(Step::Publish), 2 => Just(Step::Push),
                3 => Just(Step::Pop), 1 => (0usize..6).prop_map(Step::Drain), 1 => Just(Step::Room),
            ],
            0..120,
        ),
    ) {
        let (mut producer, mut consumer) = channel::<Box<u32>>(capacity);
        producer.shared.head.store(start, Ordering::Relaxed);
        producer.shared.tail.store(start, Ordering::Relaxed);
        (producer.head, producer.tail, producer.published) = (start, start, start);
        (consumer.head, consumer.tail) = (start, start);
        let capacity = producer.capacity();
        let (mut shown, mut staged) = (VecDeque::new(), VecDeque::new());
        let mut next = 0u32;
        for step in steps {
            match step {
                Step::Stage | Step::Push => {
                    let push = matches!(step, Step::Push);
                    let item = Box::new(next);
                    let got = if push { producer.push(item) } else { producer.stage(item) };
                    if shown.len() + staged.len() < capacity {
                        prop_assert!(got.is_ok());
                        staged.push_back(next);
                    } else {
                        prop_assert_eq!(got, Err(Box::new(next)));
                    }
                    if push {
                        shown.append(&mut staged);
                    }
                    next += 1;
                }
                Step::Publish => {
                    producer.publish();
                    shown.append(&mut staged);
                }
                Step::Pop => prop_assert_eq!(consumer.pop().map(|item| *item), shown.pop_front()),
                Step::Drain(max) => {
                    let mut got = Vec::new();
                    let count = consumer.drain(max, |item| got.push(*item));
                    prop_assert_eq!(count, got.len());
                    // At least one where there is one; a second look may be needed for the rest.
                    prop_assert!(count > 0 || max == 0 || shown.is_empty());
                    for item in got {
                        prop_assert_eq!(Some(item), shown.pop_front());
                    }
                }
                Step::Room => prop_assert_eq!(producer.room(), capacity - shown.len() - staged.len()),
            }
            prop_assert_eq!(consumer.len(), shown.len());
            prop_assert_eq!(producer.len(), shown.len());
            prop_assert_eq!(producer.staged(), staged.len());
        }
    }
}
