//! The floor: the least that a target can do for a command, to compare a real one with.
//!
//! One thread polls plain sockets: one receive per connection and round, all headers of it
//! answered, one vectored send. No slots, no counters, no checks, no storage stack, nothing bounded.
//! LUN 0 is memory, copied in and sent from where it lies; LUN 1 reads one hot page and drops writes.
//! What the kernel's TCP and this machine's memory allow is what it reaches, so it is run in turns
//! with the array: `bench/rival/run.sh --against floor`. By hand, with 256 MiB:
//!
//! ```text
//! taskset -c 0 cargo run --release -p kagami-bench --example floor -- 127.0.0.1:13270 256 &
//! kagami-bench load iscsi://127.0.0.1:13270/iqn.2026-11.io.kagami:fake/0 --core 1
//! ```
//!
//! It trusts its initiator, and logs in only ours.
#![allow(missing_docs, dead_code)]

#[path = "../tests/fake/mod.rs"]
mod fake;

use kagami_iscsi::pdu::{Bhs, DataIn, DataInFlags, Opcode, RESERVED_TAG, ResponseFlags, ScsiResponse, U24};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;

const BLOCK: usize = 512;
/// One receive takes up to so many bytes.
const WINDOW: usize = 256 * 1024;
/// The most vectors of one send.
const VECTORS: usize = 512;
/// What is read and written. Of LUN 1, everything is at its start.
struct Store {
    bytes: Vec<u8>,
}

/// A run of bytes to be sent.
#[derive(Clone)]
enum Part {
    Heads(Range<usize>),
    Data(Range<usize>),
}

/// A write whose data is still coming.
struct Writing {
    at: usize,
    left: usize,
    itt: u32,
    drop: bool,
}

struct Lane {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    heads: Vec<u8>,
    parts: Vec<Part>,
    writing: Option<Writing>,
    stat_sn: u32,
    cmd_sn: u32,
}

fn main() {
    let place = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:13270".to_owned());
    let mib: usize = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(256);
    let mut store = Store { bytes: vec![1; (mib << 20).max(1 << 20)] };
    let listener = TcpListener::bind(&place).expect("the address is free");
    listener.set_nonblocking(true).expect("a socket");
    println!("iscsi://{place}/iqn.2026-11.io.kagami:fake/0");
    let mut lanes: Vec<Lane> = Vec::new();
    let mut round = 0u32;
    loop {
        round = round.wrapping_add(1);
        if round % 1024 == 1 {
            while let Ok((stream, _)) = listener.accept() {
                lanes.push(Lane::new(stream));
            }
        }
        lanes.retain_mut(|lane| lane.turn(&mut store).is_ok());
    }
}

impl Lane {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let _ = rustix::net::sockopt::set_tcp_congestion(&stream, "cubic");
        Self {
            stream,
            input: vec![0; WINDOW],
            filled: 0,
            heads: Vec::with_capacity(1 << 16),
            parts: Vec::with_capacity(1024),
            writing: None,
            stat_sn: 1,
            cmd_sn: 0,
        }
    }

    /// One receive, and one send of all that it asked for.
    fn turn(&mut self, store: &mut Store) -> Result<(), ()> {
        match (&self.stream).read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(()),
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(used) = self.pdu(&input[at..self.filled], store) {
            at += used;
        }
        self.input = input;
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.send(store)
    }

    fn pdu(&mut self, bytes: &[u8], store: &mut Store) -> Option<usize> {
        if let Some(writing) = &mut self.writing {
            let count = writing.left.min(bytes.len());
            if count == 0 {
                return None;
            }
            if !writing.drop {
                store.bytes[writing.at..writing.at + count].copy_from_slice(&bytes[..count]);
            }
            writing.at += count;
            writing.left -= count;
            if writing.left == 0 {
                let itt = writing.itt;
                self.writing = None;
                self.good(itt);
            }
            return Some(count);
        }
        let bhs = Bhs::at_front(bytes)?;
        let header = bhs.as_scsi_command();
        let cdb = &header.cdb;
        let is_command = bhs.opcode() == Some(Opcode::ScsiCommand);
        if !is_command || !matches!(cdb[0], 0x88 | 0x8a) {
            let len = bhs.data_segment_len() as usize;
            let total = 48 + len.next_multiple_of(4);
            let data = bytes.get(48..total)?.get(..len)?;
            self.other(bhs, data, (store.bytes.len() / BLOCK) as u64);
            return Some(total);
        }
        self.cmd_sn = header.cmd_sn.get().wrapping_add(1);
        let itt = header.itt.get();
        let lba = usize::try_from(u64::from_be_bytes(*cdb[2..].first_chunk()?)).ok()?;
        let len = u32::from_be_bytes(*cdb[10..].first_chunk()?) as usize * BLOCK;
        let null = header.lun[1] == 1;
        let at = if null { 0 } else { lba * BLOCK };
        if cdb[0] == 0x88 {
            self.data_in(itt, at..at + len);
        } else {
            // All of it must be immediate data, or more PDUs of the same command would follow.
            assert_eq!(bhs.data_segment_len() as usize, len, "only immediate data");
            self.writing = Some(Writing { at, left: len, itt, drop: null });
        }
        Some(48)
    }

    /// Everything but READ and WRITE.
    fn other(&mut self, bhs: &Bhs, data: &[u8], blocks: u64) {
        let header = bhs.as_scsi_command();
        match bhs.opcode() {
            Some(Opcode::LoginRequest) => {
                self.cmd_sn = header.cmd_sn.get();
                let answer = fake::login_answer(bhs, data, self.stat_sn, WINDOW);
                self.stat_sn += 1;
                self.head(&answer);
            }
            Some(Opcode::ScsiCommand) => {
                self.cmd_sn = header.cmd_sn.get().wrapping_add(1);
                if header.cdb[0] == 0x9e {
                    let mut capacity = [0; 32];
                    capacity[..8].copy_from_slice(&(blocks - 1).to_be_bytes());
                    capacity[8..12].copy_from_slice(&512u32.to_be_bytes());
                    self.data_header(header.itt.get(), capacity.len());
                    self.head(&capacity);
                } else {
                    self.good(header.itt.get());
                }
            }
            _ => {}
        }
    }

    fn head(&mut self, bytes: &[u8]) {
        let start = self.heads.len();
        self.heads.extend_from_slice(bytes);
        match self.parts.last_mut() {
            Some(Part::Heads(range)) => range.end = self.heads.len(),
            _ => self.parts.push(Part::Heads(start..self.heads.len())),
        }
    }

    fn good(&mut self, itt: u32) {
        let header = ScsiResponse {
            opcode: Opcode::ScsiResponse.number(),
            flags: ResponseFlags::FINAL,
            response: 0,
            status: 0,
            ahs_words: 0,
            data_len: U24::new(0),
            reserved8: [0; 8],
            itt: itt.into(),
            snack_tag: 0.into(),
            stat_sn: self.stat_sn.into(),
            exp_cmd_sn: self.cmd_sn.into(),
            max_cmd_sn: self.cmd_sn.wrapping_add(255).into(),
            exp_data_sn: 0.into(),
            bidi_residual: 0.into(),
            residual: 0.into(),
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.head(header.as_bhs().bytes());
    }

    fn data_in(&mut self, itt: u32, range: Range<usize>) {
        self.data_header(itt, range.len());
        self.parts.push(Part::Data(range));
    }

    fn data_header(&mut self, itt: u32, len: usize) {
        let header = DataIn {
            opcode: Opcode::DataIn.number(),
            flags: DataInFlags::FINAL | DataInFlags::STATUS,
            reserved2: 0,
            status: 0,
            ahs_words: 0,
            data_len: U24::new(u32::try_from(len).unwrap_or(0)),
            lun: [0; 8],
            itt: itt.into(),
            ttt: RESERVED_TAG.into(),
            stat_sn: self.stat_sn.into(),
            exp_cmd_sn: self.cmd_sn.into(),
            max_cmd_sn: self.cmd_sn.wrapping_add(255).into(),
            data_sn: 0.into(),
            offset: 0.into(),
            residual: 0.into(),
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.head(header.as_bhs().bytes());
    }

    /// Sends everything, waiting for the socket where it must.
    fn send(&mut self, store: &Store) -> Result<(), ()> {
        let (heads, bytes) = (&self.heads, &store.bytes);
        for parts in self.parts.chunks(VECTORS) {
            let mut slices: Vec<IoSlice<'_>> = parts
                .iter()
                .map(|part| match part {
                    Part::Heads(range) => IoSlice::new(&heads[range.clone()]),
                    Part::Data(range) => IoSlice::new(&bytes[range.clone()]),
                })
                .collect();
            let mut slices = slices.as_mut_slice();
            while !slices.is_empty() {
                match (&self.stream).write_vectored(slices) {
                    Ok(count) => IoSlice::advance_slices(&mut slices, count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                    Err(_) => return Err(()),
                }
            }
        }
        self.heads.clear();
        self.parts.clear();
        Ok(())
    }
}
