//! A block server of one file, to try the simulator on: one request at a time and connection,
//! straight to the disk. Requests: kind, fua, 2 bytes of nothing, unit (4), count (4), id (4), data
//! of a write. Answers: id (4), status (4), data of a read.

use kagami_memory::{Class, Pool, Purpose, Scatter, ScatterMut};
use kagami_reactor::{Completion, Doze, FileId, Handler, Io, Op, ReceiveBuffer, SendBuffer, SendPart};
use kagami_reactor::{SocketId, Submit, Token};
use kagami_sim::SimIo;
use kagami_types::Time;
use std::collections::{BTreeMap, VecDeque};

pub const UNIT: usize = 512;
pub const HEADER: usize = 16;
pub const ANSWER: usize = 8;

#[derive(Default)]
struct Conn {
    received: Vec<u8>,
    receiving: bool,
    busy: Option<u32>,
    in_flight: u32,
    dead: bool,
}

pub struct MiniCore {
    pool: Pool,
    listener: SocketId,
    file: FileId,
    conns: BTreeMap<u32, Conn>,
    accepting: bool,
    retry: VecDeque<(Token, Op)>,
}

impl MiniCore {
    pub fn new(pool: Pool, listener: SocketId, file: FileId) -> Self {
        let (conns, retry) = (BTreeMap::new(), VecDeque::new());
        Self { pool, listener, file, conns, accepting: false, retry }
    }

    fn submit(&mut self, io: &mut SimIo, socket: u32, op: Op) {
        if let Some(conn) = self.conns.get_mut(&socket) {
            conn.in_flight += 1;
        }
        if let Err(op) = io.submit(Token(u64::from(socket)), op) {
            self.retry.push_back((Token(u64::from(socket)), op));
        }
    }

    fn receive(&mut self, io: &mut SimIo, socket: u32) {
        let Some(conn) = self.conns.get_mut(&socket) else { return };
        if conn.receiving || conn.dead {
            return;
        }
        let Some(window) = self.pool.take(Class::Small, Purpose::Host) else { return };
        conn.receiving = true;
        let end = window.len();
        let (direct, filled, limit, start) = (ScatterMut::new(), 0, 0, 0);
        let buffer = ReceiveBuffer { direct, filled, limit, window, start, end };
        self.submit(io, socket, Op::Receive(SocketId(socket), buffer));
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn next_request(&mut self, io: &mut SimIo, socket: u32) {
        let Some(conn) = self.conns.get_mut(&socket) else { return };
        if conn.busy.is_some() || conn.dead || conn.received.len() < HEADER {
            return;
        }
        let header: Vec<u8> = conn.received[..HEADER].to_vec();
        let (unit, count) = (Self::word(&header, 4), Self::word(&header, 8));
        let len = count as usize * UNIT;
        let offset = u64::from(unit) * UNIT as u64;
        let data_len = if header[0] == b'W' { len } else { 0 };
        if conn.received.len() < HEADER + data_len {
            return;
        }
        let data: Vec<u8> = conn.received.drain(..HEADER + data_len).skip(HEADER).collect();
        conn.busy = Some(Self::word(&header, 12));
        let mut list = ScatterMut::take(&self.pool, Purpose::Host, len).unwrap();
        let op = match header[0] {
            b'R' => Op::Read(self.file, offset, list),
            b'W' => {
                list.copy_from(0, &data);
                let (file, stable) = (self.file, header[1] == 1);
                Op::Write { file, offset, data: list.freeze(), stable }
            }
            b'F' => Op::Flush(self.file),
            _ => Op::Zero(self.file, offset, len as u64),
        };
        self.submit(io, socket, op);
    }

    fn answer(&mut self, io: &mut SimIo, socket: u32, ok: bool, data: Scatter) {
        let Some(id) = self.conns.get_mut(&socket).and_then(|conn| conn.busy) else { return };
        let mut page = self.pool.take(Class::Page, Purpose::Host).unwrap();
        page[..4].copy_from_slice(&id.to_le_bytes());
        page[4..8].copy_from_slice(&u32::from(!ok).to_le_bytes());
        let mut parts = vec![SendPart::Header { offset: 0, len: 8 }];
        parts.extend(data.parts().iter().cloned().map(SendPart::Data));
        let len = ANSWER + data.len_bytes();
        let buffer = SendBuffer { headers: page.freeze(), parts, len, sent: 0 };
        self.submit(io, socket, Op::Send(SocketId(socket), buffer));
    }

    fn done(&mut self, io: &mut SimIo, socket: u32, completion: Completion) {
        let ok = completion.result.is_ok();
        let count = completion.result.unwrap_or(0) as usize;
        let Some(conn) = self.conns.get_mut(&socket) else { return };
        conn.in_flight -= 1;
        match completion.op {
            Op::Receive(_, buffer) => {
                conn.receiving = false;
                conn.received.extend_from_slice(&buffer.window[..count]);
                conn.dead |= count == 0;
            }
            Op::Send(id, mut buffer) => {
                buffer.sent += count;
                conn.dead |= !ok;
                if conn.dead || buffer.sent == buffer.len {
                    conn.busy = None;
                } else {
                    self.submit(io, socket, Op::Send(id, buffer));
                }
            }
            Op::Read(_, _, data) => {
                let whole = ok && count == data.len_bytes();
                self.answer(io, socket, whole, if whole { data.freeze() } else { Scatter::new() });
            }
            Op::Write { data, .. } => {
                self.answer(io, socket, ok && count == data.len_bytes(), Scatter::new())
            }
            _ => self.answer(io, socket, ok, Scatter::new()),
        }
        if let Some(conn) = self.conns.get(&socket)
            && conn.dead
        {
            io.shutdown(SocketId(socket));
            if conn.in_flight == 0 {
                self.conns.remove(&socket);
                io.release(SocketId(socket));
            }
        }
    }
}

impl Handler<SimIo> for MiniCore {
    fn on_completion(&mut self, io: &mut SimIo, completion: Completion) {
        if matches!(completion.op, Op::Accept(_)) {
            self.accepting = false;
            let stream = completion.result.ok().and_then(|value| io.accepted(value));
            if let Some(Ok(socket)) = stream.map(|stream| io.attach(stream)) {
                assert!(io.peer(socket).is_some() && io.local(socket).is_some());
                self.conns.insert(socket.0, Conn::default());
            }
            return;
        }
        self.done(io, u32::try_from(completion.token.0).unwrap(), completion);
    }

    fn on_round(&mut self, io: &mut SimIo) -> bool {
        for _ in 0..self.retry.len() {
            if let Some((token, op)) = self.retry.pop_front()
                && let Err(op) = io.submit(token, op)
            {
                self.retry.push_front((token, op));
                break;
            }
        }
        if !self.accepting {
            self.accepting = io.submit(Token(u64::MAX), Op::Accept(self.listener)).is_ok();
        }
        let sockets: Vec<u32> = self.conns.keys().copied().collect();
        for socket in sockets {
            self.receive(io, socket);
            self.next_request(io, socket);
        }
        false
    }

    fn next_deadline(&self) -> Time {
        Time::NEVER
    }

    fn prepare_sleep(&mut self) -> Doze {
        if self.retry.is_empty() && self.accepting { Doze::Sleep } else { Doze::Stay }
    }

    fn wake(&mut self) {}

    fn is_finished(&self) -> bool {
        false
    }
}
