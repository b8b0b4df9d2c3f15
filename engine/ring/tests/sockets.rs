//! A connection goes from one ring to another in the middle of its stream: no byte is lost, none comes twice, and the
//! place that it leaves can be used again.

use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, ScatterMut};
use kagami_reactor::{Completion, Io, Op, ReceiveBuffer, SocketId, Submit, Token, Wait};
use kagami_ring::{Listener, Ring, RingPlan};
use kagami_types::Time;
use std::io::Write;
use std::net::TcpStream;

fn run(ring: &mut Ring, op: Op) -> Completion {
    assert!(ring.submit(Token(1), op).is_ok());
    let mut done = Vec::new();
    for _ in 0..1000 {
        let soon = Time(ring.now().0 + 100_000_000);
        ring.poll(Wait::Until(soon), &mut done);
        if let Some(completion) = done.pop() {
            return completion;
        }
    }
    panic!("no completion");
}

/// Receives that many bytes at most.
fn receive(ring: &mut Ring, pool: &Pool, socket: SocketId, most: usize) -> Vec<u8> {
    let window = pool.take(Class::Small, Purpose::Host).expect("a window");
    let buffer =
        ReceiveBuffer { direct: ScatterMut::new(), filled: 0, limit: 0, window, start: 0, end: most };
    let completion = run(ring, Op::Receive(socket, buffer));
    let count = completion.result.expect("bytes") as usize;
    match completion.op {
        Op::Receive(_, buffer) => buffer.window[..count].to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_goes_on_in_another_ring() {
    let arena = Arena::new(ArenaPlan::new(1).with(Class::Small, 8, 0), HugePages::Off).expect("an arena");
    let pool = arena.pool(0);
    let plan = RingPlan { files: 4, ..RingPlan::default() };
    let mut rings =
        [Ring::new(plan.clone(), &arena).expect("a ring"), Ring::new(plan, &arena).expect("a ring")];
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    let address = listener.address();
    let listening = rings[0].add_listener(listener).expect("room for it");
    let mut host = TcpStream::connect(address).expect("a connection");
    let accepted = run(&mut rings[0], Op::Accept(listening)).result.expect("a socket");
    let stream = rings[0].accepted(accepted).expect("the stream");
    let mut socket = rings[0].attach(stream).expect("room for it");
    let peer = rings[0].peer(socket);
    assert!(rings[0].detach(listening).is_none(), "a listener stays");

    let sent: Vec<u8> = (0..=255).cycle().take(8 * 700).collect();
    host.write_all(&sent).expect("room in the socket");
    let mut received = Vec::new();
    let mut at = 0;
    // More often than there are places, so that those that are left are used again.
    while received.len() < sent.len() {
        received.extend(receive(&mut rings[at], &pool, socket, 700));
        let stream = rings[at].detach(socket).expect("it is there");
        assert!(rings[at].detach(socket).is_none(), "it has gone");
        at = 1 - at;
        socket = rings[at].attach(stream).expect("room for it");
        assert_eq!(rings[at].peer(socket), peer);
    }
    assert_eq!(received, sent);
    rings[at].release(socket);
}
