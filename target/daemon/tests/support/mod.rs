//! A host: the least of an initiator that tests of the daemon need. No digests, one connection, all data of a write
//! in the command's own PDU.
//!
//! Used by the tests in this folder, and by those inside the crate that need a client.
#![allow(dead_code, reason = "no test needs all of it")]

use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{InitiatorConfig, InitiatorLogin};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::{DigestPreference, Preferences};
use kagami_iscsi::pdu::{Bhs, Isid};
use kagami_iscsi::random::OsRandom;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The SCSI statuses that tests know (SAM-5 5.3.1).
pub const GOOD: u8 = 0x00;
/// Sense data tell more.
pub const CHECK_CONDITION: u8 = 0x02;

const SCSI_RESPONSE: u8 = 0x21;
const DATA_IN: u8 = 0x25;
const NOP_IN: u8 = 0x20;
/// All data in one PDU, so that a command is one answer.
const SEGMENT: u32 = 256 << 10;

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The number that [`Host::send`] gave.
    pub tag: u32,
    /// SCSI status.
    pub status: u8,
    /// Sense data, with CHECK CONDITION.
    pub sense: Vec<u8>,
    /// What was read.
    pub data: Vec<u8>,
}

impl Answer {
    /// Sense key, ASC and ASCQ, of either sense format (SPC-5 4.4).
    pub fn sense_code(&self) -> Option<(u8, u8, u8)> {
        match *self.sense.first()? & 0x7f {
            0x72 => Some((self.sense.get(1)? & 0xf, *self.sense.get(2)?, *self.sense.get(3)?)),
            _ => Some((self.sense.get(2)? & 0xf, *self.sense.get(12)?, *self.sense.get(13)?)),
        }
    }
}

/// A session of one connection.
#[derive(Debug)]
pub struct Host {
    stream: TcpStream,
    framing: Framing,
    out: Vec<u8>,
    input: Vec<u8>,
    read: usize,
    cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
}

impl Host {
    /// Connects and logs in.
    pub fn login(portal: SocketAddr, target: &str) -> Self {
        Self::login_as(portal, target, "iqn.2026-11.io.kagami:test").unwrap()
    }

    /// Connects and logs in under a name; `None` where the target refuses.
    pub fn login_as(portal: SocketAddr, target: &str, initiator: &str) -> Option<Self> {
        let name = |text| IscsiName::new(text).unwrap();
        let initiator = name(initiator);
        let mut config = InitiatorConfig::new(initiator, Some(name(target)), Isid([0x80, 0, 0, 0, 0, 1]));
        config.preferences = Preferences {
            header_digest: DigestPreference::Never,
            data_digest: DigestPreference::Never,
            max_recv_data_segment_length: SEGMENT,
            ..Preferences::default()
        };
        let mut login = InitiatorLogin::new(config, &mut OsRandom).unwrap();
        let stream = TcpStream::connect(portal).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut host = Self {
            stream,
            framing: Framing::LOGIN,
            out: Vec::new(),
            input: Vec::new(),
            read: 0,
            cmd_sn: 0,
            exp_stat_sn: 0,
            tag: 0,
        };
        let established = loop {
            if let Some(pdu) = login.poll_transmit() {
                Framing::LOGIN.append(&mut host.out, &pdu.bhs, &pdu.data);
                host.flush();
            }
            let (bhs, data) = host.pdu();
            if let Some(established) = login.on_pdu(&bhs, &data).ok()? {
                break established;
            }
        };
        host.framing.max_data_len = SEGMENT;
        host.cmd_sn = established.cmd_sn.0;
        host.exp_stat_sn = established.exp_stat_sn.0;
        Some(host)
    }

    /// The next PDU.
    fn pdu(&mut self) -> (Bhs, Vec<u8>) {
        loop {
            let front = self.input.get(self.read..).unwrap();
            if let Some(header) = self.framing.read_header(front).unwrap()
                && let Some(data) = front.get(header.len..header.wire_len())
            {
                let pdu = (*header.bhs, data[..header.data_len as usize].to_vec());
                self.read += header.wire_len();
                return pdu;
            }
            self.input.drain(..self.read);
            self.read = 0;
            let mut bytes = [0; 1 << 16];
            let n = self.stream.read(&mut bytes).unwrap();
            assert!(n > 0, "the target closed the connection");
            self.input.extend_from_slice(&bytes[..n]);
        }
    }

    /// Puts a command behind what is to be sent; its tag. `data` is what it writes, `length` what it reads.
    pub fn send(&mut self, lun: u8, cdb: &[u8], data: &[u8], length: u32) -> u32 {
        self.tag += 1;
        let mut header = [0; 48];
        header[0] = 0x01;
        // F; R or W; SIMPLE.
        header[1] = 0x81 | if length > 0 { 0x40 } else { 0 } | if data.is_empty() { 0 } else { 0x20 };
        header[9] = lun;
        let expected = if data.is_empty() { length } else { u32::try_from(data.len()).unwrap() };
        for (at, word) in [(16, self.tag), (20, expected), (24, self.cmd_sn), (28, self.exp_stat_sn)] {
            header[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.framing.append(&mut self.out, &Bhs::from(header), data);
        self.tag
    }

    /// Sends what [`send`](Self::send) has put there.
    pub fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    /// The next answer.
    pub fn receive(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (bhs, data) = self.pdu();
            let bytes = bhs.bytes();
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let with_status = match bytes[0] & 0x3f {
                SCSI_RESPONSE => {
                    answer.sense = data.get(2..).unwrap_or_default().to_vec();
                    true
                }
                DATA_IN => {
                    assert_eq!(word(40) as usize, answer.data.len(), "data in order");
                    answer.data.extend_from_slice(&data);
                    bytes[1] & 1 != 0
                }
                NOP_IN => continue,
                other => panic!("opcode {other:#x} came"),
            };
            if with_status {
                answer.tag = word(16);
                answer.status = bytes[3];
                self.exp_stat_sn = word(24).wrapping_add(1);
                return answer;
            }
        }
    }

    /// Whether a whole PDU has come that was not looked at yet.
    pub fn has_more(&self) -> bool {
        let front = self.input.get(self.read..).unwrap_or_default();
        let header = self.framing.read_header(front).unwrap();
        header.is_some_and(|header| front.len() >= header.wire_len())
    }

    /// One command and its answer.
    pub fn command(&mut self, lun: u8, cdb: &[u8], data: &[u8], length: u32) -> Answer {
        let tag = self.send(lun, cdb, data, length);
        self.flush();
        let answer = self.receive();
        assert_eq!(answer.tag, tag);
        answer
    }

    /// Takes the unit attentions of a new session.
    pub fn ready(&mut self, lun: u8) {
        for _ in 0..8 {
            if self.command(lun, &[0; 6], &[], 0).status == GOOD {
                return;
            }
        }
        panic!("LUN {lun} does not become ready");
    }
}

/// READ(16).
pub fn read16(lba: u64, blocks: u32) -> [u8; 16] {
    cdb16(0x88, lba, blocks)
}

/// WRITE(16).
pub fn write16(lba: u64, blocks: u32) -> [u8; 16] {
    cdb16(0x8a, lba, blocks)
}

fn cdb16(opcode: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
