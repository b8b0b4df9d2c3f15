//! The initiator's side of a login.
//!
//! The caller makes an [`InitiatorLogin`] for a connection that it has opened, sends what
//! [`poll_transmit`](InitiatorLogin::poll_transmit) gives, and hands each PDU that comes back to
//! [`on_pdu`](InitiatorLogin::on_pdu) until that says that the login has succeeded. Used by the load
//! generator, the simulator's hosts and links to other arrays.

use super::policy::SessionType;
use super::status::Status;
use super::{MAX_EXCHANGES, MAX_LOGIN_SEGMENT, MAX_LOGIN_TEXT, Outbox, Pdu};
use crate::chap::{self, Account, Algorithm, Challenge};
use crate::name::IscsiName;
use crate::negotiate::{NegotiationError, Negotiator, Parameters, Preferences, Role, Scope};
use crate::pdu::{Bhs, Cid, Isid, Itt, LoginFlags, LoginRequest, LoginResponse, Opcode, Stage, Tsih, U24};
use crate::random::{Random, RandomError};
use crate::serial::{CmdSn, StatSn};
use crate::text::{Reassembly, Text, TextError, number, pairs};
use zerocopy::FromZeros;

/// The I bit: login requests are immediate (RFC 7143 11.12).
const IMMEDIATE: u8 = 0x40;

/// Who logs in where, and how.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// InitiatorName.
    pub initiator: IscsiName,
    /// InitiatorAlias, a name for people.
    pub alias: Option<Box<str>>,
    /// TargetName; `None` opens a discovery session.
    pub target: Option<IscsiName>,
    /// The initiator's part of the session's name.
    pub isid: Isid,
    /// 0 for a new session, else the session to join.
    pub tsih: Tsih,
    /// The connection's number in its session.
    pub cid: Cid,
    /// The tag of the login.
    pub itt: Itt,
    /// The session's first CmdSN, or for a joining connection its current one.
    pub cmd_sn: CmdSn,
    /// What the initiator wants.
    pub preferences: Preferences,
    /// What to prove oneself with. Where it has a part for the target, the target has to prove itself
    /// too, or there is no login.
    pub account: Option<Account>,
    /// The CHAP algorithms to offer, the best first.
    pub chap_algorithms: Box<[Algorithm]>,
    /// The most bytes of text in one request, at most [`MAX_LOGIN_SEGMENT`].
    pub max_segment: usize,
}

impl InitiatorConfig {
    /// A new session of `initiator` with `target` (`None`: for discovery), without authentication.
    #[must_use]
    pub fn new(initiator: IscsiName, target: Option<IscsiName>, isid: Isid) -> Self {
        Self {
            initiator,
            alias: None,
            target,
            isid,
            tsih: Tsih(0),
            cid: Cid(0),
            itt: Itt(0),
            cmd_sn: CmdSn(1),
            preferences: Preferences::default(),
            account: None,
            chap_algorithms: Algorithm::ALL.into(),
            max_segment: MAX_LOGIN_SEGMENT,
        }
    }
}

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitiatorError {
    /// The target is elsewhere.
    #[error("the target is at {address}")]
    Moved {
        /// `address:port` and perhaps `,portal group tag`.
        address: Box<str>,
        /// For good.
        permanently: bool,
    },
    /// The target refused.
    #[error("the target refused: class {class:#04x}, detail {detail:#04x} ({})", status_text(*class, *detail))]
    Refused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// The target did something that the protocol does not allow.
    #[error("protocol error in the login: {0}")]
    Protocol(&'static str),
    /// The text is malformed or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The operational negotiation failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The target did not prove who it is, or asks for something that this side does not have.
    #[error("authentication failed: {0}")]
    Authentication(&'static str),
    /// No challenge could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}

fn status_text(class: u8, detail: u8) -> String {
    Status::from_wire(class, detail).map_or_else(|| "unknown".into(), |status| status.to_string())
}

/// A login that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// What was agreed upon. On a connection that joins a session, see [`Parameters::joined_to`].
    pub parameters: Parameters,
    /// The session.
    pub tsih: Tsih,
    /// The StatSN that the next response shall have.
    pub exp_stat_sn: StatSn,
    /// The CmdSN of the next command of a new session.
    pub cmd_sn: CmdSn,
    /// The highest CmdSN that the target takes.
    pub max_cmd_sn: CmdSn,
    /// The portal's group, where the target told.
    pub portal_group_tag: Option<u16>,
    /// TargetAlias, where the target told.
    pub target_alias: Option<Box<str>>,
}

/// How far the security stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The method is offered.
    Method,
    /// The algorithms are offered.
    Algorithms,
    /// The proof is sent; with mutual authentication, the target's is awaited.
    Proof(Algorithm),
    /// Nothing more to do.
    Done,
}

/// The login of one connection, seen by the initiator.
#[derive(Debug)]
pub struct InitiatorLogin {
    config: InitiatorConfig,
    stage: Stage,
    /// The stage that the last request asked to enter.
    asked: Option<Stage>,
    progress: Progress,
    negotiator: Negotiator,
    challenge: Challenge,
    incoming: Reassembly,
    outgoing: Outbox,
    /// A request may be sent: it is this side's turn.
    turn: bool,
    ended: bool,
    exp_stat_sn: Option<StatSn>,
    exchanges: u32,
    portal_group_tag: Option<u16>,
    target_alias: Option<Box<str>>,
}

/// The security keys of one response.
#[derive(Default)]
struct SecurityKeys<'a> {
    method: Option<&'a str>,
    algorithm: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
    user: Option<&'a str>,
    response: Option<&'a str>,
}

impl InitiatorLogin {
    /// Begins.
    ///
    /// # Errors
    /// There are no random bytes for a challenge.
    pub fn new(config: InitiatorConfig, random: &mut dyn Random) -> Result<Self, RandomError> {
        let scope = Scope { discovery: config.target.is_none(), leading: config.tsih == Tsih(0) };
        let mut login = Self {
            stage: Stage::Security,
            asked: None,
            progress: if config.account.is_some() { Progress::Method } else { Progress::Done },
            negotiator: Negotiator::new(Role::Initiator, scope, config.preferences),
            challenge: Challenge::new(random)?,
            incoming: Reassembly::new(MAX_LOGIN_TEXT),
            outgoing: Outbox::default(),
            turn: true,
            ended: false,
            exp_stat_sn: None,
            exchanges: 0,
            portal_group_tag: None,
            target_alias: None,
            config,
        };
        let text = login.opening_text();
        login.outgoing.put(text.into_bytes());
        Ok(login)
    }

    /// What the session is for.
    #[must_use]
    pub fn session_type(&self) -> SessionType {
        if self.config.target.is_some() { SessionType::Normal } else { SessionType::Discovery }
    }

    /// The request to send now, if it is this side's turn.
    pub fn poll_transmit(&mut self) -> Option<Pdu> {
        if !self.turn || self.ended {
            return None;
        }
        self.turn = false;
        let (data, more) = self.outgoing.take(self.config.max_segment.clamp(1, MAX_LOGIN_SEGMENT));
        let may_leave = !more && !self.incoming.is_open() && self.progress_allows();
        self.asked = may_leave.then_some(match self.stage {
            Stage::Security => Stage::Operational,
            _ => Stage::FullFeature,
        });
        let flags = match self.asked {
            Some(next) => LoginFlags::TRANSIT.with_stages(self.stage, next),
            None => {
                let flags = if more { LoginFlags::CONTINUE } else { LoginFlags::empty() };
                flags.with_stages(self.stage, Stage::Security)
            }
        };
        let header = LoginRequest {
            opcode: IMMEDIATE | LoginRequest::OPCODE.number(),
            flags,
            data_len: U24::new(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            isid: self.config.isid,
            tsih: self.config.tsih.0.into(),
            itt: self.config.itt.into(),
            cid: self.config.cid.0.into(),
            cmd_sn: self.config.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.unwrap_or_default().into(),
            ..LoginRequest::new_zeroed()
        };
        Some(Pdu { bhs: header.into(), data })
    }

    /// Takes a PDU. The login has succeeded once it gives something.
    ///
    /// # Errors
    /// The login failed; the connection is to be closed.
    pub fn on_pdu(&mut self, bhs: &Bhs, data: &[u8]) -> Result<Option<Established>, InitiatorError> {
        let result = self.advance(bhs, data);
        if !matches!(result, Ok(None)) {
            self.ended = true;
        }
        result
    }

    fn advance(&mut self, bhs: &Bhs, data: &[u8]) -> Result<Option<Established>, InitiatorError> {
        if bhs.opcode() != Some(Opcode::LoginResponse) {
            return Err(InitiatorError::Protocol("not a login response"));
        }
        if self.ended || self.turn {
            return Err(InitiatorError::Protocol("a response without a request"));
        }
        self.exchanges += 1;
        if self.exchanges > MAX_EXCHANGES {
            return Err(InitiatorError::Protocol("it does not end"));
        }
        let response = bhs.as_login_response();
        if Itt::from(response.itt) != self.config.itt || response.isid != self.config.isid {
            return Err(InitiatorError::Protocol("the response is to another login"));
        }
        check_status(response, data)?;
        if response.version_active != 0 {
            return Err(InitiatorError::Protocol("an unknown version"));
        }
        let stat_sn = StatSn::from(response.stat_sn);
        if self.exp_stat_sn.is_some_and(|expected| expected != stat_sn) {
            return Err(InitiatorError::Protocol("StatSN out of order"));
        }
        self.exp_stat_sn = Some(stat_sn.next());
        if response.flags.current() != Some(self.stage) {
            return Err(InitiatorError::Protocol("the response is of another stage"));
        }
        let continues = response.flags.contains(LoginFlags::CONTINUE);
        let transit = response.flags.contains(LoginFlags::TRANSIT);
        if transit && (continues || response.flags.next() != self.asked || self.asked.is_none()) {
            return Err(InitiatorError::Protocol("a stage that was not asked for"));
        }
        self.turn = true;
        if self.outgoing.is_open() {
            return if data.is_empty() {
                Ok(None)
            } else {
                Err(InitiatorError::Protocol("text out of turn"))
            };
        }
        let Some(text) = self.incoming.push(data, continues)? else { return Ok(None) };
        self.take_text(&text)?;
        if !transit {
            return Ok(None);
        }
        match self.asked.take() {
            Some(Stage::FullFeature) => return self.established(response).map(Some),
            Some(stage) => self.stage = stage,
            None => {}
        }
        let mut offers = Text::new();
        self.negotiator.offer_all(&mut offers);
        self.outgoing.put(offers.into_bytes());
        Ok(None)
    }

    fn opening_text(&self) -> Text {
        let mut text = Text::new();
        text.push("InitiatorName", self.config.initiator.as_str());
        if let Some(alias) = &self.config.alias {
            text.push("InitiatorAlias", alias);
        }
        match &self.config.target {
            Some(target) => {
                text.push("SessionType", "Normal");
                text.push("TargetName", target.as_str());
            }
            None => text.push("SessionType", "Discovery"),
        }
        // Who wants the target to prove itself cannot do without CHAP.
        text.push(
            "AuthMethod",
            match &self.config.account {
                None => "None",
                Some(account) if account.target().is_some() => "CHAP",
                Some(_) => "CHAP,None",
            },
        );
        text
    }

    /// Whether this side is ready to leave the current stage.
    fn progress_allows(&self) -> bool {
        match self.stage {
            Stage::Security => matches!(self.progress, Progress::Done | Progress::Proof(_)),
            _ => true,
        }
    }

    fn take_text(&mut self, text: &[u8]) -> Result<(), InitiatorError> {
        let (mut out, mut security) = (Text::new(), SecurityKeys::default());
        for pair in pairs(text) {
            let (key, value) = pair?;
            let slot = match key {
                "TargetPortalGroupTag" => {
                    let tag = number(value).and_then(|tag| u16::try_from(tag).ok());
                    self.portal_group_tag =
                        Some(tag.ok_or(InitiatorError::Protocol("TargetPortalGroupTag"))?);
                    continue;
                }
                "TargetAlias" => {
                    self.target_alias = Some(value.into());
                    continue;
                }
                "TargetAddress" | "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => {
                    continue;
                }
                "AuthMethod" => &mut security.method,
                "CHAP_A" => &mut security.algorithm,
                "CHAP_I" => &mut security.identifier,
                "CHAP_C" => &mut security.challenge,
                "CHAP_N" => &mut security.user,
                "CHAP_R" => &mut security.response,
                _ => {
                    self.negotiator.receive(key, value, &mut out)?;
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(InitiatorError::Protocol("a security key twice"));
            }
        }
        self.negotiator.end_of_text(&mut out);
        if self.stage == Stage::Security {
            self.authenticate(&security, &mut out)?;
        }
        self.outgoing.put(out.into_bytes());
        Ok(())
    }

    fn authenticate(&mut self, keys: &SecurityKeys<'_>, out: &mut Text) -> Result<(), InitiatorError> {
        let Some(account) = &self.config.account else {
            return match keys.method {
                None | Some("None") => Ok(()),
                Some(_) => Err(InitiatorError::Authentication("the target asks for authentication")),
            };
        };
        match self.progress {
            Progress::Method => match keys.method {
                Some("CHAP") => {
                    let list: Vec<String> =
                        self.config.chap_algorithms.iter().map(|a| a.number().to_string()).collect();
                    out.push("CHAP_A", &list.join(","));
                    self.progress = Progress::Algorithms;
                    Ok(())
                }
                Some("None") if account.target().is_none() => {
                    self.progress = Progress::Done;
                    Ok(())
                }
                Some(_) => Err(InitiatorError::Authentication("the target takes no method of ours")),
                // It may say who it is first, and choose in its next response.
                None => Ok(()),
            },
            Progress::Algorithms => {
                let algorithm = self.answer(account, keys, out)?;
                self.progress = Progress::Proof(algorithm);
                Ok(())
            }
            Progress::Proof(algorithm) => {
                self.check_target(account, algorithm, keys)?;
                self.progress = Progress::Done;
                Ok(())
            }
            Progress::Done => Ok(()),
        }
    }

    /// Answers the target's challenge, and asks it ours.
    fn answer(
        &self,
        account: &Account,
        keys: &SecurityKeys<'_>,
        out: &mut Text,
    ) -> Result<Algorithm, InitiatorError> {
        let wrong = InitiatorError::Authentication;
        let (Some(algorithm), Some(identifier), Some(challenge)) =
            (keys.algorithm, keys.identifier, keys.challenge)
        else {
            return Err(wrong("the target sent no challenge"));
        };
        let algorithm = Algorithm::choose(algorithm, &self.config.chap_algorithms)
            .ok_or(wrong("the target takes no CHAP algorithm of ours"))?;
        let identifier =
            number(identifier).and_then(|i| u8::try_from(i).ok()).ok_or(wrong("CHAP_I is not a byte"))?;
        let challenge = chap::from_text(challenge).ok_or(wrong("CHAP_C is not a binary value"))?;
        let initiator = account.initiator();
        out.push("CHAP_N", &initiator.user);
        out.push("CHAP_R", &algorithm.response(identifier, &initiator.secret, &challenge).to_text());
        if account.target().is_some() {
            if challenge == self.challenge.bytes() {
                return Err(wrong("our own challenge came back"));
            }
            out.push_number("CHAP_I", self.challenge.identifier.into());
            out.push("CHAP_C", &self.challenge.to_text());
        }
        Ok(algorithm)
    }

    /// Checks the target's proof, where one was asked for.
    fn check_target(
        &self,
        account: &Account,
        algorithm: Algorithm,
        keys: &SecurityKeys<'_>,
    ) -> Result<(), InitiatorError> {
        let Some(target) = account.target() else { return Ok(()) };
        let wrong = InitiatorError::Authentication;
        let (Some(user), Some(response)) = (keys.user, keys.response) else {
            return Err(wrong("the target did not prove who it is"));
        };
        let response = chap::from_text(response).ok_or(wrong("CHAP_R is not a binary value"))?;
        let expected = algorithm.response(self.challenge.identifier, &target.secret, self.challenge.bytes());
        if !expected.matches(&response) || *user != *target.user {
            return Err(wrong("wrong CHAP user name or response from the target"));
        }
        Ok(())
    }

    fn established(&self, response: &LoginResponse) -> Result<Established, InitiatorError> {
        let tsih = Tsih(response.tsih.get());
        if tsih == Tsih(0) || (self.config.tsih != Tsih(0) && tsih != self.config.tsih) {
            return Err(InitiatorError::Protocol("the session has no number, or another"));
        }
        if self.negotiator.awaits_answers() {
            return Err(InitiatorError::Protocol("keys were left without an answer"));
        }
        Ok(Established {
            parameters: self.negotiator.finish()?,
            tsih,
            exp_stat_sn: self.exp_stat_sn.unwrap_or_default(),
            cmd_sn: self.config.cmd_sn,
            max_cmd_sn: response.max_cmd_sn.into(),
            portal_group_tag: self.portal_group_tag,
            target_alias: self.target_alias.clone(),
        })
    }
}

/// Gives the failure that a status tells.
fn check_status(response: &LoginResponse, data: &[u8]) -> Result<(), InitiatorError> {
    let (class, detail) = (response.status_class, response.status_detail);
    match class {
        0 => Ok(()),
        1 => {
            let address = pairs(data).flatten().find(|(key, _)| *key == "TargetAddress");
            let (_, address) = address.ok_or(InitiatorError::Protocol("a redirection to nowhere"))?;
            let permanently = Status::from_wire(class, detail) == Some(Status::MovedPermanently);
            Err(InitiatorError::Moved { address: address.into(), permanently })
        }
        _ => Err(InitiatorError::Refused { class, detail }),
    }
}
