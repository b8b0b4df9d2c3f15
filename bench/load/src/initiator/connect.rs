//! From an address to a connection in full feature phase: TCP, socket options, login.

use crate::error::Error;
use crate::url::Url;
use kagami_iscsi::pdu::{Isid, LoginFlags, LoginRequest, Opcode, Stage, U24};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What a login is to ask for; the rest is the protocol's default.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Where.
    pub url: Url,
    /// Our name.
    pub initiator: String,
    /// Ask for CRC32C over headers.
    pub header_digest: bool,
    /// Ask for CRC32C over data.
    pub data_digest: bool,
    /// Send data with the command.
    pub immediate_data: bool,
    /// Send nothing beyond immediate data unasked.
    pub initial_r2t: bool,
    /// FirstBurstLength to ask for, in bytes.
    pub first_burst: u32,
    /// MaxBurstLength to ask for, in bytes.
    pub max_burst: u32,
    /// Our MaxRecvDataSegmentLength, in bytes.
    pub receive_segment: u32,
    /// Connections in a session (MaxConnections).
    pub max_connections: u16,
    /// TCP congestion control by name; the system's where `None`.
    pub congestion: Option<String>,
    /// How long connecting, and each answer of the login, may take.
    pub timeout: Duration,
}

/// The negotiated values that the data path needs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Headers carry CRC32C.
    pub header_digest: bool,
    /// Data segments carry CRC32C.
    pub data_digest: bool,
    /// Data may come with the command.
    pub immediate_data: bool,
    /// Nothing but immediate data may be sent unasked.
    pub initial_r2t: bool,
    /// The most data that may be sent unasked, in bytes.
    pub first_burst: u32,
    /// The largest data segment that the target takes, in bytes.
    pub send_segment: u32,
    /// The largest data segment that we take, in bytes.
    pub receive_segment: u32,
}

/// A connection that has logged in.
#[derive(Debug)]
pub struct Established {
    /// The socket.
    pub stream: TcpStream,
    /// What was negotiated.
    pub options: Options,
    /// The target's part of the session's name.
    pub tsih: u16,
    /// The next StatSN of the connection.
    pub exp_stat_sn: u32,
    /// The next CmdSN of the session, for a leading connection.
    pub cmd_sn: u32,
    /// The largest CmdSN that the target takes.
    pub max_cmd_sn: u32,
}

/// The ISID of session `number` of a run: type "random" (RFC 7143 11.12.5).
#[must_use]
pub fn isid(run: u32, number: u16) -> Isid {
    let [_, a, b, c] = run.to_be_bytes();
    let [d, e] = number.to_be_bytes();
    Isid([0x80, a, b, c, d, e])
}

impl Connector {
    /// Opens a connection and logs in: a new session with `tsih` 0 (which ends an older one of the
    /// same ISID), else another connection of that session.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: no TCP connection, no answer in time, or the login was refused.
    pub fn connect(&self, isid: Isid, tsih: u16, cid: u16, cmd_sn: u32) -> Result<Established, Error> {
        let stream = self.open()?;
        self.login(stream, isid, tsih, cid, cmd_sn)
            .map_err(|why| Error::Unreachable(format!("login to {} failed: {why}", self.url)))
    }

    fn open(&self) -> Result<TcpStream, Error> {
        let place = (self.url.host.as_str(), self.url.port);
        let unreachable = |why: &dyn std::fmt::Display| {
            Error::Unreachable(format!("cannot connect to {}:{}: {why}", place.0, place.1))
        };
        let addresses = place.to_socket_addrs().map_err(|error| unreachable(&error))?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(stream) => {
                    self.set_up(&stream).map_err(|error| unreachable(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| unreachable(&"the name has no address"), |error| unreachable(&error)))
    }

    fn set_up(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        if let Some(name) = &self.congestion {
            rustix::net::sockopt::set_tcp_congestion(stream, name)?;
        }
        Ok(())
    }

    fn login(
        &self,
        stream: TcpStream,
        isid: Isid,
        tsih: u16,
        cid: u16,
        cmd_sn: u32,
    ) -> Result<Established, String> {
        let yes = |value: bool| if value { "Yes" } else { "No" };
        let digest = |value: bool| if value { "CRC32C" } else { "None" };
        let text = format!(
            "InitiatorName={}\0TargetName={}\0SessionType=Normal\0HeaderDigest={}\0DataDigest={}\0\
             InitialR2T={}\0ImmediateData={}\0MaxRecvDataSegmentLength={}\0MaxBurstLength={}\0\
             FirstBurstLength={}\0MaxOutstandingR2T=8\0MaxConnections={}\0ErrorRecoveryLevel=0\0",
            self.initiator,
            self.url.iqn,
            digest(self.header_digest),
            digest(self.data_digest),
            yes(self.initial_r2t),
            yes(self.immediate_data),
            self.receive_segment,
            self.max_burst,
            self.first_burst,
            self.max_connections,
        );
        let mut bytes = text.into_bytes();
        let header = LoginRequest {
            opcode: Opcode::LoginRequest.number() | 0x40,
            flags: LoginFlags::TRANSIT.with_stages(Stage::Operational, Stage::FullFeature),
            version_max: 0,
            version_min: 0,
            ahs_words: 0,
            data_len: U24::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            isid,
            tsih: tsih.into(),
            itt: 1.into(),
            cid: cid.into(),
            reserved22: [0; 2],
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: 0.into(),
            reserved32: [0; 16],
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let mut out = header.as_bhs().bytes().to_vec();
        out.append(&mut bytes);
        (&stream).write_all(&out).map_err(|e| e.to_string())?;
        let mut head = [0; 48];
        (&stream).read_exact(&mut head).map_err(|e| e.to_string())?;
        let bhs = kagami_iscsi::pdu::Bhs::from(head);
        let len = (bhs.data_segment_len() as usize).next_multiple_of(4).min(8192);
        let mut body = vec![0; len];
        (&stream).read_exact(&mut body).map_err(|e| e.to_string())?;
        let answer = bhs.as_login_response();
        if answer.status_class != 0 || !bhs.is_final() {
            return Err(format!("status {:02x}{:02x}", answer.status_class, answer.status_detail));
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let find = |key: &str| text.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str, default: u32| find(key).and_then(|v| v.parse().ok()).unwrap_or(default);
        let options = Options {
            header_digest: find("HeaderDigest") == Some("CRC32C"),
            data_digest: find("DataDigest") == Some("CRC32C"),
            immediate_data: find("ImmediateData") != Some("No"),
            initial_r2t: find("InitialR2T") != Some("No"),
            first_burst: number("FirstBurstLength", 65536),
            send_segment: number("MaxRecvDataSegmentLength", 8192),
            receive_segment: self.receive_segment,
        };
        Ok(Established {
            stream,
            options,
            tsih: answer.tsih.get(),
            exp_stat_sn: answer.stat_sn.get().wrapping_add(1),
            cmd_sn,
            max_cmd_sn: answer.max_cmd_sn.get(),
        })
    }
}
