use super::*;
use crate::sync::Arc;
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// Two cores: one sends to the other with one fence for all it staged, and the other sleeps when it
/// has nothing. A lost wake-up is a deadlock, which loom reports.
#[test]
fn a_flush_wakes_whoever_sleeps() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let mut ports = Mesh::new::<u8>(2, 2).into_iter();
        let (mut zero, mut one) = (ports.next().unwrap(), ports.next().unwrap());
        let token = Arc::new((Mutex::new(false), Condvar::new()));
        let waker = token.clone();
        let sender = thread::spawn(move || {
            zero.send(CoreId(1), 1).unwrap();
            zero.send(CoreId(1), 2).unwrap();
            zero.flush(|core| {
                assert_eq!(core, CoreId(1));
                *waker.0.lock().unwrap() = true;
                waker.1.notify_one();
            });
            zero
        });
        let mut seen = 0;
        while seen < 2 {
            seen += one.poll(4, |_, _| ());
            if seen < 2 && one.prepare_sleep() {
                let mut woken = token.0.lock().unwrap();
                while !*woken {
                    woken = token.1.wait(woken).unwrap();
                }
                *woken = false;
                drop(woken);
                one.awake();
            }
        }
        drop(sender.join().unwrap());
    });
}
