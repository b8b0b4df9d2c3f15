//! From an address to a connection in full feature phase: TCP, socket options, login.

use crate::Error;
use crate::url::{Portal, Url};
use kagami_iscsi::chap::{Account, Algorithm, ChapConfigError, Credentials};
use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{InitiatorConfig, InitiatorError, InitiatorLogin};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::{DigestPreference, Parameters, Preferences};
use kagami_iscsi::pdu::{BHS_LEN, Cid, Isid, Tsih};
use kagami_iscsi::random::OsRandom;
use kagami_iscsi::serial::CmdSn;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Redirections that are followed for one portal of the address.
const MOST_MOVES: usize = 3;

/// What a login is to ask for; the rest is the protocol's default.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Where, and who logs in; without a secret there, [`secret`](Self::secret) is needed.
    pub url: Url,
    /// The user's secret, where the address does not have it.
    pub secret: Option<String>,
    /// User name and secret that the target is to prove, where it must.
    pub mutual: Option<(String, String)>,
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

/// Which session and place in it a connection takes.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Our part of the session's name.
    pub isid: Isid,
    /// The session that the connection joins, and what was negotiated by its first connection; a new
    /// session (which ends an older one of the same ISID) where `None`.
    pub joins: Option<(Tsih, Parameters)>,
    /// The connection's number in its session.
    pub cid: u16,
    /// The session's next CmdSN.
    pub cmd_sn: u32,
}

impl Seat {
    /// The first connection of a new session.
    #[must_use]
    pub fn leading(isid: Isid) -> Self {
        Self { isid, joins: None, cid: 0, cmd_sn: 1 }
    }
}

/// A connection that has logged in.
#[derive(Debug)]
pub struct Established {
    /// The socket.
    pub stream: TcpStream,
    /// What was negotiated.
    pub parameters: Parameters,
    /// The target's part of the session's name.
    pub tsih: Tsih,
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

/// How a login attempt ended otherwise than well.
enum Setback {
    /// The target is elsewhere (RFC 7143 11.13.5, class 1).
    Moved(Portal),
    /// For good.
    Failed(String),
}

impl<E: std::fmt::Display> From<E> for Setback {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Connector {
    /// A connector with the protocol's usual lengths: immediate data, everything else by R2T, no
    /// digests, one connection.
    #[must_use]
    pub fn plain(url: Url, initiator: String, timeout: Duration) -> Self {
        Self {
            url,
            secret: None,
            mutual: None,
            initiator,
            header_digest: false,
            data_digest: false,
            immediate_data: true,
            initial_r2t: true,
            first_burst: 64 << 10,
            max_burst: 256 << 10,
            receive_segment: 64 << 10,
            max_connections: 1,
            congestion: None,
            timeout,
        }
    }

    /// Opens a connection to the first portal that lets us in, and logs in. Follows a target that says
    /// that it is elsewhere, a few times.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: no TCP connection, no answer in time, or the login was refused; what the
    /// last portal said.
    pub fn connect(&self, seat: &Seat) -> Result<Established, Error> {
        let mut last = Error::Unreachable("the address has no portal".to_owned());
        for portal in &self.url.portals {
            match self.connect_to(portal, seat) {
                Ok(established) => return Ok(established),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_to(&self, portal: &Portal, seat: &Seat) -> Result<Established, Error> {
        let mut portal = portal.clone();
        for _ in 0..=MOST_MOVES {
            let stream = self.open(&portal)?;
            match self.login(stream, seat) {
                Ok(established) => return Ok(established),
                Err(Setback::Moved(to)) => portal = to,
                Err(Setback::Failed(why)) => {
                    return Err(Error::Unreachable(format!(
                        "login to {} at {portal} failed: {why}",
                        self.url
                    )));
                }
            }
        }
        Err(Error::Unreachable(format!(
            "{} is sent from portal to portal, the last being {portal}",
            self.url
        )))
    }

    fn open(&self, portal: &Portal) -> Result<TcpStream, Error> {
        let unreachable =
            |why: &dyn std::fmt::Display| Error::Unreachable(format!("cannot connect to {portal}: {why}"));
        let place = (portal.host.as_str(), portal.port);
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

    fn login(&self, stream: TcpStream, seat: &Seat) -> Result<Established, Setback> {
        let name = |name: &str| IscsiName::new(name).map_err(|error| format!("'{name}': {error}"));
        let digest = |wanted| if wanted { DigestPreference::Require } else { DigestPreference::Never };
        let config = InitiatorConfig {
            tsih: seat.joins.map_or(Tsih(0), |(tsih, _)| tsih),
            cid: Cid(seat.cid),
            cmd_sn: CmdSn(seat.cmd_sn),
            preferences: Preferences {
                header_digest: digest(self.header_digest),
                data_digest: digest(self.data_digest),
                max_connections: self.max_connections,
                initial_r2t: self.initial_r2t,
                immediate_data: self.immediate_data,
                max_recv_data_segment_length: self.receive_segment,
                max_burst_length: self.max_burst,
                first_burst_length: self.first_burst,
                ..Preferences::default()
            },
            // MD5 first: tgtd means SHA-1 where it says 7, and every target has MD5.
            chap_algorithms: [Algorithm::Md5, Algorithm::Sha256].into(),
            account: self.account()?,
            ..InitiatorConfig::new(name(&self.initiator)?, Some(name(&self.url.iqn)?), seat.isid)
        };
        let mut login = InitiatorLogin::new(config, &mut OsRandom)?;
        loop {
            if let Some(pdu) = login.poll_transmit() {
                let mut bytes = pdu.bhs.bytes().to_vec();
                bytes.extend_from_slice(&pdu.data);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                (&stream).write_all(&bytes)?;
            }
            let mut bytes = vec![0; BHS_LEN];
            (&stream).read_exact(&mut bytes)?;
            let header = Framing::LOGIN.read_header(&bytes)?;
            let header = header.ok_or("the answer has an additional header segment")?;
            let (bhs, data_len, wire_len) = (*header.bhs, header.data_len, header.data_wire_len);
            let mut data = vec![0; wire_len as usize];
            (&stream).read_exact(&mut data)?;
            data.truncate(data_len as usize);
            let done = match login.on_pdu(&bhs, &data) {
                Err(InitiatorError::Moved { address, .. }) => return Err(moved(&address)),
                other => other?,
            };
            if let Some(done) = done {
                let session = seat.joins.map_or(done.parameters, |(_, session)| session);
                return Ok(Established {
                    stream,
                    parameters: done.parameters.joined_to(&session),
                    tsih: done.tsih,
                    exp_stat_sn: done.exp_stat_sn.0,
                    cmd_sn: done.cmd_sn.0,
                    max_cmd_sn: done.max_cmd_sn.0,
                });
            }
        }
    }

    fn account(&self) -> Result<Option<Account>, String> {
        let Some(login) = &self.url.login else { return Ok(None) };
        let secret = login.secret.as_ref().or(self.secret.as_ref());
        let secret = secret.ok_or_else(|| format!("there is no secret for user {}", login.user))?;
        let text = |error: ChapConfigError| error.to_string();
        let target = match &self.mutual {
            Some((user, secret)) => Some(Credentials::new(user, secret.as_bytes()).map_err(text)?),
            None => None,
        };
        let credentials = Credentials::new(&login.user, secret.as_bytes()).map_err(text)?;
        Account::new(credentials, target).map(Some).map_err(text)
    }
}

/// The portal that a redirection names: `address:port`, perhaps with a portal group tag.
fn moved(address: &str) -> Setback {
    let place = address.split_once(',').map_or(address, |(place, _)| place);
    place.parse().map_or_else(
        |_| Setback::Failed(format!("the target says that it is at {address}, which is no portal")),
        Setback::Moved,
    )
}
