use super::channel;
use loom::thread;

/// A ring smaller than what goes through it, so that slots are used again: loom reports any access
/// to a slot that the other side has not given up. The items are boxed: loom reports leaks.
#[test]
fn items_arrive_whole_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        let sender = thread::spawn(move || {
            for next in 0..3u8 {
                let mut item = Box::new(next);
                while let Err(back) = producer.push(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            loop {
                if let Some(item) = consumer.pop() {
                    assert_eq!(*item, expected);
                    break;
                }
                thread::yield_now();
            }
        }
        assert!(consumer.pop().is_none());
        sender.join().unwrap();
    });
}

#[test]
fn staged_items_come_together_and_batches_free_room() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        let sender = thread::spawn(move || {
            producer.stage(1).unwrap();
            producer.stage(2).unwrap();
            producer.publish();
            producer.push(3).is_ok()
        });
        let mut got = Vec::new();
        consumer.drain(4, |item| got.push(item));
        assert!(got.is_empty() || got[..] == [1, 2] || got[..] == [1, 2, 3]);
        let third = sender.join().unwrap();
        while consumer.drain(1, |item| got.push(item)) > 0 {}
        assert_eq!(got, if third { vec![1, 2, 3] } else { vec![1, 2] });
    });
}

#[test]
fn either_side_may_go_first() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel(2);
        let sender = thread::spawn(move || {
            producer.push(loom::sync::Arc::new(1)).unwrap();
            producer.stage(loom::sync::Arc::new(2)).unwrap();
        });
        drop(consumer.pop());
        drop(consumer);
        sender.join().unwrap();
    });
}
