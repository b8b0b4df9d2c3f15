//! The sleep/wake protocol between one core that polls and those that send to it.
//!
//! While the core polls, sending costs no more than looking at a flag. Before the core sleeps it
//! raises the flag and looks at its queues once more; a sender shows its items and then looks at the
//! flag. Between the two steps, on either side, stands a full fence: so at least one of them sees
//! what the other did, and no item waits for a core that sleeps.
//!
//! ```text
//! core                          sender
//!   prepare_sleep: flag = up      publish the items
//!   -- fence --                   -- fence --
//!   any item? then awake()        ring: flag up? take it down and wake the core
//!   else sleep, then awake()
//! ```
//!
//! Whatever wakes the core must be sticky: a wake between the last look and the sleep ends that
//! sleep at once (a message to an io_uring, an eventfd and a thread's parking token are). A wake may
//! also come when it is no longer needed; the core then looks, finds nothing and goes on.

use crate::sync::{Arc, AtomicBool, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::fmt;

/// One core's bell, held by that core. Senders have its [`Ringer`]s.
pub struct Doorbell {
    /// Up while the core sleeps or is about to, and nobody has set out to wake it.
    sleeping: Arc<CachePadded<AtomicBool>>,
}

/// What senders ring: any number of them, on any thread.
#[derive(Clone)]
pub struct Ringer {
    sleeping: Arc<CachePadded<AtomicBool>>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    /// The bell of a core that is awake.
    #[must_use]
    pub fn new() -> Self {
        Self { sleeping: Arc::new(CachePadded::new(AtomicBool::new(false))) }
    }

    /// One more sender.
    #[must_use]
    pub fn ringer(&self) -> Ringer {
        Ringer { sleeping: self.sleeping.clone() }
    }

    /// Says that the core is about to sleep. It must now look at everything that senders fill, and
    /// call [`awake`](Self::awake) instead of sleeping where there is something.
    pub fn prepare_sleep(&mut self) {
        // Every change of the flag is an exchange that sees the one before, so that a sender's
        // answer to an earlier sleep is never taken for one to this.
        self.sleeping.swap(true, Ordering::AcqRel);
        // Orders the flag before the looks at the queues; pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Says that the core polls again: it did not sleep after all, or was woken by whatever it was.
    /// Costs nothing where the flag is down already.
    #[inline]
    pub fn awake(&mut self) {
        if self.sleeping.load(Ordering::Relaxed) {
            self.sleeping.swap(false, Ordering::AcqRel);
        }
    }
}

impl Ringer {
    /// Called after items were shown. True for exactly one sender per sleep: it must wake the core.
    #[must_use = "a core that nobody wakes sleeps on"]
    #[inline]
    pub fn ring(&self) -> bool {
        // Orders the items before the look at the flag; pairs with the fence in `prepare_sleep`.
        fence(Ordering::SeqCst);
        self.must_wake()
    }

    /// The same behind a fence that the caller has already passed: one for several bells.
    #[inline]
    pub(crate) fn must_wake(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doorbell(sleeping: {})", self.sleeping.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Ringer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ringer(sleeping: {})", self.sleeping.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_once() {
        let mut bell = Doorbell::new();
        let (a, b) = (bell.ringer(), bell.ringer());
        assert!(!a.ring());
        bell.prepare_sleep();
        assert!(b.ring() && !a.ring() && !b.ring());
        bell.awake();
        bell.prepare_sleep();
        bell.awake();
        assert!(!a.ring());
    }

    #[test]
    fn nothing_is_slept_through() {
        // One thread sends single items, the other sleeps after each: a lost wake-up would hang.
        let count = if cfg!(miri) { 50 } else { 20_000u32 };
        let (mut producer, mut consumer) = crate::channel(4);
        let mut bell = Doorbell::new();
        let ringer = bell.ringer();
        let receiver = std::thread::spawn(move || {
            let mut seen = 0;
            while seen < count {
                if consumer.pop().is_some() {
                    seen += 1;
                    continue;
                }
                bell.prepare_sleep();
                if consumer.is_empty() {
                    std::thread::park();
                }
                bell.awake();
            }
        });
        for mut item in 0..count {
            while let Err(back) = producer.push(item) {
                item = back;
                std::thread::yield_now();
            }
            if ringer.ring() {
                receiver.thread().unpark();
            }
        }
        receiver.join().unwrap();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::spsc::{Consumer, channel};
    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    /// A sticky wake, like a message to an io_uring.
    struct Parker {
        token: Mutex<bool>,
        wake: Condvar,
    }

    impl Parker {
        fn new() -> Arc<Self> {
            Arc::new(Self { token: Mutex::new(false), wake: Condvar::new() })
        }

        fn park(&self) {
            let mut token = self.token.lock().unwrap();
            while !*token {
                token = self.wake.wait(token).unwrap();
            }
            *token = false;
        }

        fn unpark(&self) {
            *self.token.lock().unwrap() = true;
            self.wake.notify_one();
        }
    }

    /// Takes `count` items in all and sleeps whenever there is none. A lost wake-up is a deadlock,
    /// which loom reports.
    fn receive(mut bell: Doorbell, mut queues: Vec<Consumer<u8>>, parker: &Parker, count: usize) {
        let mut seen = 0;
        while seen < count {
            let got: usize = queues.iter_mut().map(|queue| queue.drain(4, |_| ())).sum();
            seen += got;
            if got > 0 || seen == count {
                continue;
            }
            bell.prepare_sleep();
            if queues.iter().all(Consumer::is_empty) {
                parker.park();
            }
            bell.awake();
        }
    }

    #[test]
    fn no_wake_up_is_lost_from_one_sender() {
        // Without a bound this takes two minutes, and passes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let (mut producer, consumer) = channel(2);
            let bell = Doorbell::new();
            let (ringer, parker) = (bell.ringer(), Parker::new());
            let waker = parker.clone();
            let sender = thread::spawn(move || {
                for item in 0..2 {
                    producer.push(item).unwrap();
                    if ringer.ring() {
                        waker.unpark();
                    }
                }
            });
            receive(bell, vec![consumer], &parker, 2);
            sender.join().unwrap();
        });
    }

    #[test]
    fn no_wake_up_is_lost_from_two_senders() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bell = Doorbell::new();
            let parker = Parker::new();
            let mut queues = Vec::new();
            let senders: Vec<_> = (0..2)
                .map(|item| {
                    let (mut producer, consumer) = channel(1);
                    queues.push(consumer);
                    let (ringer, waker) = (bell.ringer(), parker.clone());
                    thread::spawn(move || {
                        producer.push(item).unwrap();
                        if ringer.ring() {
                            waker.unpark();
                        }
                    })
                })
                .collect();
            receive(bell, queues, &parker, 2);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// Shows that the model can see a lost wake-up at all: without the senders' fence there is one.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn without_the_fence_a_wake_up_is_lost() {
        loom::model(|| {
            let (mut producer, consumer) = channel(2);
            let bell = Doorbell::new();
            let (ringer, parker) = (bell.ringer(), Parker::new());
            let waker = parker.clone();
            let sender = thread::spawn(move || {
                producer.push(1).unwrap();
                if ringer.must_wake() {
                    waker.unpark();
                }
            });
            receive(bell, vec![consumer], &parker, 1);
            sender.join().unwrap();
        });
    }
}
