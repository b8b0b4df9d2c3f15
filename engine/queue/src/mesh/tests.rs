use super::*;

fn wakes<T>(port: &mut Port<T>) -> Vec<u16> {
    let mut list = Vec::new();
    port.flush(|core| list.push(core.0));
    list
}

fn polled<T>(port: &mut Port<T>, max: usize) -> Vec<(u16, T)> {
    let mut list = Vec::new();
    let got = port.poll(max, |from, message| list.push((from.0, message)));
    assert_eq!(got, list.len());
    list
}

#[test]
fn messages_reach_the_core_they_are_for() {
    let mut ports = Mesh::new::<u32>(3, 4);
    for from in 0..3u16 {
        for to in 0..3u16 {
            ports[usize::from(from)].send(CoreId(to), u32::from(from * 10 + to)).unwrap();
        }
    }
    assert!(ports.iter().all(Port::is_empty));
    for port in &mut ports {
        assert_eq!(wakes(port), []);
    }
    for to in 0..3u16 {
        let mut got = polled(&mut ports[usize::from(to)], 10);
        got.sort_unstable();
        assert_eq!(got, (0..3).map(|from| (from, u32::from(from * 10 + to))).collect::<Vec<_>>());
        assert_eq!(ports[usize::from(to)].stats().received, 3);
    }
}

#[test]
fn a_full_ring_gives_the_message_back_and_others_go_on() {
    let mut ports = Mesh::new(2, 2);
    let [zero, one] = &mut ports[..] else { panic!() };
    assert_eq!(zero.room(CoreId(1)), 2);
    zero.send(CoreId(1), 1).unwrap();
    zero.send(CoreId(1), 2).unwrap();
    assert_eq!((zero.send(CoreId(1), 3), zero.send(CoreId(9), 4)), (Err(3), Err(4)));
    zero.send(CoreId(0), 5).unwrap();
    zero.flush(|_| ());
    assert_eq!(polled(one, 1), [(0, 1)]);
    zero.send(CoreId(1), 6).unwrap();
    zero.flush(|_| ());
    assert_eq!(polled(one, 9), [(0, 2)]);
    assert_eq!(polled(one, 9), [(0, 6)]);
    let stats = PortStats { sent: 4, received: 0, full: 2, wakeups: 0 };
    assert_eq!((zero.stats(), zero.room(CoreId(9))), (stats, 0));
}

#[test]
fn a_sleeper_is_named_once() {
    let mut ports = Mesh::new(3, 8);
    let [zero, one, two] = &mut ports[..] else { panic!() };
    assert!(one.prepare_sleep());
    for message in 0..3 {
        zero.send(CoreId(1), message).unwrap();
        zero.send(CoreId(2), message).unwrap();
    }
    assert!(!zero.prepare_sleep(), "something is staged");
    assert_eq!((wakes(zero), zero.stats().wakeups), (vec![1], 1));
    two.send(CoreId(1), 9).unwrap();
    assert_eq!(wakes(two), []);
    one.awake();
    assert!(!one.prepare_sleep(), "messages wait");
    assert_eq!(polled(one, 2).len(), 2);
    assert_eq!(polled(one, 9).len(), 2);
    assert!(one.prepare_sleep());
    assert!(one.ringer().ring());
}

#[test]
fn no_sender_is_starved() {
    let mut ports = Mesh::new(4, 64);
    for port in &mut ports {
        for message in 0..64 {
            port.send(CoreId(0), message).unwrap();
        }
        port.flush(|_| ());
    }
    let mut seen = [0; 4];
    for _ in 0..8 {
        for (from, _) in polled(&mut ports[0], 8) {
            seen[usize::from(from)] += 1;
        }
    }
    assert_eq!(seen, [16; 4]);
}

#[test]
fn no_cores_make_no_ports() {
    assert!(Mesh::new::<()>(0, 8).is_empty());
}

/// Every core sends to every core, sleeps when it has nothing to do, and is woken: nothing is lost,
/// nothing hangs, and the order of each pair holds.
#[test]
fn cores_that_sleep_miss_nothing() {
    let (cores, count) = if cfg!(miri) { (2u16, 20) } else { (3u16, 5_000u32) };
    let ports = Mesh::new::<u32>(cores, 16);
    let (ready, all_ready) = std::sync::mpsc::channel();
    let threads: Vec<_> = ports
        .into_iter()
        .map(|mut port| {
            let ready = ready.clone();
            let (tell, told) = std::sync::mpsc::channel::<Vec<std::thread::Thread>>();
            let thread = std::thread::spawn(move || {
                ready.send(()).unwrap();
                let others = told.recv().unwrap();
                let mut next = vec![0u32; usize::from(cores)];
                let mut expected = vec![0u32; usize::from(cores)];
                loop {
                    for (core, next) in (0..cores).zip(&mut next) {
                        while *next < count && port.send(CoreId(core), *next).is_ok() {
                            *next += 1;
                        }
                    }
                    port.flush(|core| others[core.index()].unpark());
                    let got = port.poll(32, |from, message| {
                        assert_eq!(message, expected[from.index()]);
                        expected[from.index()] += 1;
                    });
                    let sent = next.iter().all(|&next| next == count);
                    if sent && expected.iter().all(|&next| next == count) {
                        return port.stats();
                    }
                    if got == 0 && sent && port.prepare_sleep() {
                        std::thread::park();
                        port.awake();
                    } else if got == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            (thread, tell)
        })
        .collect();
    for _ in &threads {
        all_ready.recv().unwrap();
    }
    let all: Vec<_> = threads.iter().map(|(thread, _)| thread.thread().clone()).collect();
    for (_, tell) in &threads {
        tell.send(all.clone()).unwrap();
    }
    for (thread, _) in threads {
        let stats = thread.join().unwrap();
        let total = u64::from(cores) * u64::from(count);
        assert_eq!((stats.sent, stats.received), (total, total));
    }
}
