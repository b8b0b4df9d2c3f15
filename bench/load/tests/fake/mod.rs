//! A target that is just enough to test the generator against: one thread, memory as a disk, and
//! faults on demand.
//!
//! It trusts its initiator: it is only ever used with this crate's own.

use kagami_iscsi::pdu::{Bhs, DataIn, DataInFlags, LoginResponse, Opcode, R2t, RESERVED_TAG, ResponseFlags};
use kagami_iscsi::pdu::{ScsiResponse, Stage, U24};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Sizes above this in one Data-In are cut.
const SEGMENT: usize = 256 * 1024;
const FIRST_BURST: usize = 64 * 1024;

/// The memory that stands for a disk, with a volatile cache before it.
pub struct Disk {
    pub block_size: usize,
    /// What reads see.
    pub cache: Vec<u8>,
    /// What a crash leaves.
    pub stable: Vec<u8>,
    /// Acknowledge, but do not do, the writes of these numbers.
    pub lose_writes: Range<u64>,
    /// Write these one block too far on.
    pub misplace_writes: Range<u64>,
    /// Write only the first half of the first block of these.
    pub tear_writes: Range<u64>,
    /// Acknowledge a SYNCHRONIZE CACHE without doing it.
    pub ignore_flush: bool,
    pub writes: u64,
    pub null: bool,
    /// So many commands more end with a unit attention that come after TEST UNIT READY.
    pub attentions: u32,
}

impl Disk {
    /// What a power cut does.
    pub fn lose_cache(&mut self) {
        self.cache.clone_from(&self.stable);
    }

    fn write(&mut self, lba: usize, data: &[u8], fua: bool) {
        if self.null {
            return;
        }
        self.writes += 1;
        let this = self.writes;
        let mut at = lba * self.block_size;
        let mut data = data;
        if self.lose_writes.contains(&this) {
            return;
        }
        if self.misplace_writes.contains(&this) {
            at += self.block_size;
        }
        if self.tear_writes.contains(&this) {
            data = &data[..self.block_size / 2];
        }
        let end = (at + data.len()).min(self.cache.len());
        self.cache[at..end].copy_from_slice(&data[..end - at]);
        if fua {
            self.stable[at..end].copy_from_slice(&data[..end - at]);
        }
    }
}

/// A running target.
pub struct FakeTarget {
    pub address: SocketAddr,
    pub disk: Arc<Mutex<Disk>>,
    /// Close every connection and lose what is not stable, once.
    pub crash: Arc<AtomicBool>,
    pub logins: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeTarget {
    pub fn start(blocks: usize, block_size: usize) -> Self {
        Self::start_at("127.0.0.1:0", blocks, block_size)
    }

    pub fn start_at(place: &str, blocks: usize, block_size: usize) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let disk = Arc::new(Mutex::new(Disk {
            block_size,
            cache: vec![0; blocks * block_size],
            stable: vec![0; blocks * block_size],
            lose_writes: 0..0,
            misplace_writes: 0..0,
            tear_writes: 0..0,
            ignore_flush: false,
            writes: 0,
            null: false,
            attentions: 0,
        }));
        let (stop, crash) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let logins = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (disk, stop, crash) = (Arc::clone(&disk), Arc::clone(&stop), Arc::clone(&crash));
            let logins = Arc::clone(&logins);
            move || serve(&listener, &disk, &stop, &crash, &logins)
        });
        Self { address, disk, crash, logins, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("iscsi://{}/iqn.2026-11.io.kagami:fake/0", self.address)
    }
}

impl Drop for FakeTarget {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: &TcpListener,
    disk: &Mutex<Disk>,
    stop: &AtomicBool,
    crash: &AtomicBool,
    logins: &AtomicU64,
) {
    let mut connections: Vec<Connection> = Vec::new();
    let mut idle = 0u32;
    while !stop.load(Ordering::Relaxed) {
        idle += 1;
        if idle % 64 == 1 {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                connections.push(Connection::new(stream));
            }
        }
        // In this order, and in this thread, so that no connection sees the disk as it is after.
        if crash.swap(false, Ordering::Relaxed) {
            connections.clear();
            disk.lock().unwrap().lose_cache();
        }
        connections.retain_mut(|connection| match connection.round(disk, logins) {
            Some(active) => {
                if active {
                    idle = 0;
                }
                true
            }
            None => false,
        });
        if idle > 20_000 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
}

struct Writing {
    lba: usize,
    fua: bool,
    data: Vec<u8>,
    got: usize,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    sent: usize,
    full_feature: bool,
    stat_sn: u32,
    cmd_sn: u32,
    writing: HashMap<u32, Writing>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: vec![0; 1 << 20],
            filled: 0,
            output: Vec::new(),
            sent: 0,
            full_feature: false,
            stat_sn: 1,
            cmd_sn: 0,
            writing: HashMap::new(),
        }
    }

    /// `None` when the connection is over.
    fn round(&mut self, disk: &Mutex<Disk>, logins: &AtomicU64) -> Option<bool> {
        let mut active = false;
        if self.output.is_empty() {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return None,
                Ok(n) => {
                    self.filled += n;
                    active = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            if active {
                let mut at = 0;
                let input = std::mem::take(&mut self.input);
                while let Some(used) = self.pdu(&input[at..self.filled], disk, logins) {
                    at += used;
                }
                self.input = input;
                self.input.copy_within(at..self.filled, 0);
                self.filled -= at;
            }
        }
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    active = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(active),
                Err(_) => return None,
            }
        }
        self.output.clear();
        self.sent = 0;
        Some(active)
    }

    fn pdu(&mut self, bytes: &[u8], disk: &Mutex<Disk>, logins: &AtomicU64) -> Option<usize> {
        let bhs = Bhs::at_front(bytes)?;
        let len = bhs.data_segment_len() as usize;
        let total = 48 + len.next_multiple_of(4);
        let data = bytes.get(48..total)?.get(..len)?;
        match bhs.opcode() {
            Some(Opcode::LoginRequest) => {
                if bhs.as_login_request().flags.next() == Some(Stage::FullFeature) {
                    logins.fetch_add(1, Ordering::Relaxed);
                }
                self.login(bhs, data);
            }
            Some(Opcode::ScsiCommand) => self.command(bhs, data, &mut disk.lock().unwrap()),
            Some(Opcode::DataOut) => {
                let header = bhs.as_data_out();
                let itt = header.itt.get();
                let writing = self.writing.get_mut(&itt)?;
                let at = header.offset.get() as usize;
                writing.data[at..at + len].copy_from_slice(data);
                writing.got += len;
                self.advance(itt, bhs.is_final(), &mut disk.lock().unwrap());
            }
            Some(Opcode::LogoutRequest) => {
                let mut answer = self.response(bhs.itt().0, 0);
                answer.opcode = Opcode::LogoutResponse.number();
                self.output.extend_from_slice(answer.as_bhs().bytes());
            }
            _ => {}
        }
        Some(total)
    }

    fn login(&mut self, bhs: &Bhs, offers: &[u8]) {
        self.cmd_sn = bhs.as_login_request().cmd_sn.get();
        self.output.extend(login_answer(bhs, offers, self.stat_sn, FIRST_BURST));
        self.stat_sn += 1;
        self.full_feature = true;
    }

    fn command(&mut self, bhs: &Bhs, data: &[u8], disk: &mut Disk) {
        let header = bhs.as_scsi_command();
        let (itt, cdb) = (header.itt.get(), &header.cdb);
        self.cmd_sn = header.cmd_sn.get().wrapping_add(1);
        let lba = usize::try_from(u64::from_be_bytes(*cdb[2..].first_chunk().unwrap())).unwrap();
        let blocks = u32::from_be_bytes(*cdb[10..].first_chunk().unwrap()) as usize;
        match cdb[0] {
            0x9e | 0x1a if disk.attentions > 0 => {
                disk.attentions -= 1;
                self.attention(itt);
            }
            0x88 => {
                let range = lba * disk.block_size..(lba + blocks) * disk.block_size;
                self.data_in(itt, &disk.cache[if disk.null { 0..range.len() } else { range }]);
            }
            0x8a => {
                let len = blocks * disk.block_size;
                if data.len() == len {
                    disk.write(lba, data, cdb[1] & 8 != 0);
                    self.good(itt);
                    return;
                }
                let mut whole = data.to_vec();
                whole.resize(len, 0);
                let writing = Writing { lba, fua: cdb[1] & 8 != 0, data: whole, got: data.len() };
                self.writing.insert(itt, writing);
                if bhs.is_final() {
                    self.advance(itt, true, disk);
                }
            }
            0x91 => {
                if !disk.ignore_flush {
                    disk.stable.clone_from(&disk.cache);
                }
                self.good(itt);
            }
            0x9e => {
                let mut answer = [0; 32];
                let last = disk.cache.len() / disk.block_size - 1;
                answer[..8].copy_from_slice(&(last as u64).to_be_bytes());
                answer[8..12].copy_from_slice(&u32::try_from(disk.block_size).unwrap().to_be_bytes());
                self.data_in(itt, &answer);
            }
            0x1a => {
                let mut answer = [0; 24];
                answer[..6].copy_from_slice(&[23, 0, 0x10, 0, 0x08, 18]);
                answer[6] = 4;
                self.data_in(itt, &answer);
            }
            _ => self.good(itt),
        }
    }

    /// Asks for the rest of a write, or ends it.
    fn advance(&mut self, itt: u32, sequence_ended: bool, disk: &mut Disk) {
        let Some(writing) = self.writing.get_mut(&itt) else { return };
        if !sequence_ended {
            return;
        }
        let (got, len) = (writing.got, writing.data.len());
        if got == len {
            if let Some(writing) = self.writing.remove(&itt) {
                disk.write(writing.lba, &writing.data, writing.fua);
            }
            self.good(itt);
            return;
        }
        // All R2Ts of this target are for SEGMENT bytes, so that their number follows from the offset.
        let asked = got.saturating_sub(FIRST_BURST).div_ceil(SEGMENT);
        let desired = (len - got).min(SEGMENT);
        let r2t = R2t {
            opcode: Opcode::R2t.number(),
            flags: 0x80,
            reserved2: [0; 2],
            ahs_words: 0,
            data_len: U24::new(0),
            lun: [0; 8],
            itt: itt.into(),
            ttt: 7.into(),
            stat_sn: self.stat_sn.into(),
            exp_cmd_sn: self.cmd_sn.into(),
            max_cmd_sn: self.cmd_sn.wrapping_add(255).into(),
            r2t_sn: u32::try_from(asked).unwrap().into(),
            offset: u32::try_from(got).unwrap().into(),
            desired_len: u32::try_from(desired).unwrap().into(),
        };
        self.output.extend_from_slice(r2t.as_bhs().bytes());
    }

    fn response(&mut self, itt: u32, status: u8) -> ScsiResponse {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.wrapping_add(1);
        ScsiResponse {
            opcode: Opcode::ScsiResponse.number(),
            flags: ResponseFlags::FINAL,
            response: 0,
            status,
            ahs_words: 0,
            data_len: U24::new(0),
            reserved8: [0; 8],
            itt: itt.into(),
            snack_tag: 0.into(),
            stat_sn: stat_sn.into(),
            exp_cmd_sn: self.cmd_sn.into(),
            max_cmd_sn: self.cmd_sn.wrapping_add(255).into(),
            exp_data_sn: 0.into(),
            bidi_residual: 0.into(),
            residual: 0.into(),
        }
    }

    fn good(&mut self, itt: u32) {
        let answer = self.response(itt, 0);
        self.output.extend_from_slice(answer.as_bhs().bytes());
    }

    /// CAPACITY DATA HAS CHANGED.
    fn attention(&mut self, itt: u32) {
        let mut answer = self.response(itt, 2);
        answer.data_len = U24::new(20);
        self.output.extend_from_slice(answer.as_bhs().bytes());
        let sense = [0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x09, 0, 0, 0, 0];
        self.output.extend_from_slice(&sense);
    }

    fn data_in(&mut self, itt: u32, data: &[u8]) {
        let parts = data.len().div_ceil(SEGMENT);
        for (n, part) in data.chunks(SEGMENT).enumerate() {
            let last = n + 1 == parts;
            let header = DataIn {
                opcode: Opcode::DataIn.number(),
                flags: if last { DataInFlags::FINAL | DataInFlags::STATUS } else { DataInFlags::empty() },
                reserved2: 0,
                status: 0,
                ahs_words: 0,
                data_len: U24::new(u32::try_from(part.len()).unwrap()),
                lun: [0; 8],
                itt: itt.into(),
                ttt: RESERVED_TAG.into(),
                stat_sn: if last { self.stat_sn } else { 0 }.into(),
                exp_cmd_sn: self.cmd_sn.into(),
                max_cmd_sn: self.cmd_sn.wrapping_add(255).into(),
                data_sn: u32::try_from(n).unwrap().into(),
                offset: u32::try_from(n * SEGMENT).unwrap().into(),
                residual: 0.into(),
            };
            if last {
                self.stat_sn = self.stat_sn.wrapping_add(1);
            }
            self.output.extend_from_slice(header.as_bhs().bytes());
            self.output.extend_from_slice(part);
        }
    }
}

/// Agrees to a login step at once, with the numbers of a lean target.
pub fn login_answer(bhs: &Bhs, offers: &[u8], stat_sn: u32, first_burst: usize) -> Vec<u8> {
    let request = bhs.as_login_request();
    let cmd_sn = request.cmd_sn.get();
    let text: &[u8] = match request.flags.current() {
        Some(Stage::Security) => b"TargetPortalGroupTag=1\0AuthMethod=None\0",
        _ => {
            b"HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
            MaxRecvDataSegmentLength=262144\0MaxBurstLength=1048576\0FirstBurstLength=\0\
            MaxOutstandingR2T=1\0MaxConnections=1\0ErrorRecoveryLevel=0\0DefaultTime2Wait=2\0\
            DefaultTime2Retain=0\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0"
        }
    };
    // What was not offered may not be answered.
    let offers = String::from_utf8_lossy(offers);
    let offered = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        *key == *"TargetPortalGroupTag" || offers.split('\0').any(|p| p.split('=').next() == Some(key))
    };
    let text: String = std::str::from_utf8(text)
        .unwrap()
        .split_terminator('\0')
        .filter(offered)
        .map(|pair| match pair {
            "FirstBurstLength=" => format!("FirstBurstLength={first_burst}\0"),
            "ImmediateData=Yes" if offers.contains("ImmediateData=No") => "ImmediateData=No\0".to_owned(),
            pair => format!("{pair}\0"),
        })
        .collect();
    let answer = LoginResponse {
        opcode: Opcode::LoginResponse.number(),
        flags: request.flags,
        version_max: 0,
        version_active: 0,
        ahs_words: 0,
        data_len: U24::new(u32::try_from(text.len()).unwrap()),
        isid: request.isid,
        tsih: if request.flags.next() == Some(Stage::FullFeature) { 1 } else { 0 }.into(),
        itt: request.itt,
        reserved20: [0; 4],
        stat_sn: stat_sn.into(),
        exp_cmd_sn: cmd_sn.into(),
        max_cmd_sn: (cmd_sn + 255).into(),
        status_class: 0,
        status_detail: 0,
        reserved38: [0; 10],
    };
    let mut out = answer.as_bhs().bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
