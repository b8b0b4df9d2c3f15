//! The relay between two sockets of this machine. What is timed has only lower bounds.

use super::*;
use std::time::Instant;

fn relay(delay: Duration, bandwidth: u64) -> (TcpStream, TcpStream, Relay) {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listen = listener.local_addr().unwrap();
    let args = RelayArgs { listen, target: far.local_addr().unwrap(), delay, bandwidth };
    let mut relay = Relay::new(listener, &args);
    let near = TcpStream::connect(listen).unwrap();
    while relay.pairs.is_empty() {
        relay.round().unwrap();
    }
    let far = far.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
    }
    (near, far, relay)
}

fn read(from: &mut TcpStream, relay: &mut Relay, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    let mut have = 0;
    while have < len {
        relay.round().unwrap();
        match from.read(&mut all[have..]) {
            Ok(0) => break,
            Ok(len) => have += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    all.truncate(have);
    all
}

#[test]
fn what_goes_in_comes_out_later_and_unchanged() {
    let (mut near, mut far, mut relay) = relay(Duration::from_millis(20), 0);
    let began = Instant::now();
    near.write_all(b"there").unwrap();
    assert_eq!(read(&mut far, &mut relay, 5), b"there");
    far.write_all(b"and back").unwrap();
    assert_eq!(read(&mut near, &mut relay, 8), b"and back");
    assert!(began.elapsed() >= Duration::from_millis(40));
    drop(near);
    assert_eq!(read(&mut far, &mut relay, 1), b"");
}

#[test]
fn a_narrow_line_takes_its_time() {
    let (mut near, mut far, mut relay) = relay(Duration::ZERO, 10 << 20);
    let began = Instant::now();
    let sent: Vec<u8> = (0..512u32 << 10).map(|byte| byte.to_le_bytes()[0]).collect();
    near.set_nonblocking(false).unwrap();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || near.write_all(&sent).map(|()| near)
    });
    assert!(read(&mut far, &mut relay, sent.len()) == sent);
    assert!(began.elapsed() >= Duration::from_millis(45), "{:?}", began.elapsed());
    writer.join().unwrap().unwrap();
}

#[test]
fn a_cut_resets_both_sides() {
    let (mut near, mut far, mut relay) = relay(Duration::ZERO, 0);
    let (say, orders) = channel();
    say.send("cut".to_owned()).unwrap();
    assert!(relay.order(&orders));
    assert!(relay.pairs.is_empty());
    for end in [&mut near, &mut far] {
        end.set_nonblocking(false).unwrap();
        assert!(matches!(end.read(&mut [0]), Ok(0) | Err(_)));
    }
}
