//! The target's side of a login.
//!
//! The caller makes a [`TargetLogin`] for each connection, gives it every PDU until the login has
//! ended, and sends what it gives back. When an initiator has proved who it is and everything is
//! agreed upon, [`Step::Admit`] says who wants in; the caller finds or makes the session, at once or
//! later, and calls [`admit`](TargetLogin::admit) or [`refuse`](TargetLogin::refuse).

use super::policy::{Applicant, Authentication, Denial, Policy, SessionType};
use super::status::Status;
use super::target_security::{Progress, SecurityKeys};
use super::{MAX_EXCHANGES, MAX_LOGIN_SEGMENT, MAX_LOGIN_TEXT, Outbox, Pdu};
use crate::chap::{Algorithm, Challenge};
use crate::name::{IscsiName, NameError};
use crate::negotiate::{NegotiationError, Negotiator, Parameters, Preferences, Role, Scope};
use crate::pdu::{Bhs, Cid, Isid, Itt, LoginFlags, LoginRequest, LoginResponse, Opcode, Stage, Tsih, U24};
use crate::random::{Random, RandomError};
use crate::serial::{CmdSn, StatSn};
use crate::text::{REJECT, Reassembly, Text, TextError, pairs};
use std::sync::Arc;
use zerocopy::FromZeros;

/// The only version of the protocol (RFC 7143 11.12.4).
const VERSION: u8 = 0;

/// What is the same for all logins at a portal.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// The tag of the portal's group (RFC 7143 13.9).
    pub portal_group_tag: u16,
    /// TargetAlias, a name for people.
    pub alias: Option<Box<str>>,
    /// What the target wants.
    pub preferences: Preferences,
    /// The CHAP algorithms that are taken.
    pub chap_algorithms: Box<[Algorithm]>,
    /// The StatSN of the first response.
    pub first_stat_sn: StatSn,
    /// The most bytes of text in one response, at most [`MAX_LOGIN_SEGMENT`].
    pub max_segment: usize,
}

impl Default for TargetSettings {
    fn default() -> Self {
        Self {
            portal_group_tag: 1,
            alias: None,
            preferences: Preferences::default(),
            chap_algorithms: Algorithm::ALL.into(),
            first_stat_sn: StatSn(1),
            max_segment: MAX_LOGIN_SEGMENT,
        }
    }
}

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Something else than a login request came (RFC 7143 6.3: the connection is closed).
    #[error("opcode {0:#04x} during login")]
    NotLogin(u8),
    /// The initiator speaks only other versions.
    #[error("versions from {0} on only")]
    Version(u8),
    /// A field of the header cannot be, or changed during the login.
    #[error("invalid {0} in a login request")]
    Header(&'static str),
    /// The stages do not follow each other (RFC 7143 6.3).
    #[error("invalid stage in a login request")]
    Stage,
    /// The text is malformed or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The operational negotiation failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key came twice, or again with another value.
    #[error("{0} came twice")]
    Repeated(&'static str),
    /// A name is not an iSCSI name.
    #[error("invalid name: {0}")]
    Name(#[from] NameError),
    /// SessionType is neither Normal nor Discovery.
    #[error("unknown SessionType")]
    SessionType,
    /// The initiator did not prove who it is.
    #[error("not authenticated: {0}")]
    NotAuthenticated(&'static str),
    /// The policy turned it away.
    #[error("denied: {0}")]
    Denied(#[from] Denial),
    /// The login goes on for too long.
    #[error("too many login requests")]
    TooManyRequests,
    /// A request came although the login has ended, or waits for the caller.
    #[error("a login request out of turn")]
    OutOfTurn,
    /// The caller had no place for it.
    #[error("refused: {0}")]
    Refused(Status),
    /// No challenge could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl LoginError {
    /// The status that tells the initiator.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::NotLogin(_) | Self::OutOfTurn => Status::InvalidDuringLogin,
            Self::Version(_) => Status::UnsupportedVersion,
            Self::Missing(_) => Status::MissingParameter,
            Self::SessionType => Status::SessionTypeNotSupported,
            Self::NotAuthenticated(_) => Status::AuthenticationFailure,
            Self::Denied(denial) => denial.status(),
            Self::Refused(status) => *status,
            Self::Random(_) => Status::TargetError,
            Self::Header(_)
            | Self::Stage
            | Self::Text(_)
            | Self::Negotiation(_)
            | Self::Repeated(_)
            | Self::Name(_)
            | Self::TooManyRequests => Status::InitiatorError,
        }
    }
}

/// A login that failed: send the response, where there is one, and close the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for the log.
    pub error: LoginError,
    /// The response. There is none to what is not a login request.
    pub response: Option<Pdu>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, and wait for the next request.
    Reply(Pdu),
    /// Decide whether this initiator gets in: [`TargetLogin::admit`] or [`TargetLogin::refuse`].
    Admit(Box<Admission>),
}

/// An initiator that has proved who it is and agreed on how to talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who.
    pub initiator: IscsiName,
    /// InitiatorAlias, for people.
    pub initiator_alias: Option<Box<str>>,
    /// The user name that it proved, if it had to.
    pub user: Option<Box<str>>,
    /// The target that it wants; there may be none in a discovery session.
    pub target: Option<IscsiName>,
    /// What for.
    pub session_type: SessionType,
    /// The initiator's part of the session's name. With TSIH 0, a session of this initiator with the
    /// same ISID and target is reinstated (RFC 7143 6.3.5).
    pub isid: Isid,
    /// 0 for a new session, else the session to join (RFC 7143 6.3.4), or a connection of it with the
    /// same CID to reinstate.
    pub tsih: Tsih,
    /// The connection's number.
    pub cid: Cid,
    /// CmdSN of the login: the first of a new session.
    pub cmd_sn: CmdSn,
    /// What was agreed upon. Those of the whole session count only where the session is new: see
    /// [`Parameters::joined_to`].
    pub parameters: Parameters,
}

/// Where the caller has put the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The session's TSIH, never 0.
    pub tsih: Tsih,
    /// The next CmdSN that the session expects; for a new session that of the [`Admission`].
    pub exp_cmd_sn: CmdSn,
    /// The highest CmdSN that the session takes.
    pub max_cmd_sn: CmdSn,
}

/// The login has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The last response. After it the full feature phase begins, with what was agreed upon.
    pub response: Pdu,
    /// StatSN of the next response on this connection.
    pub stat_sn: StatSn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests are being answered.
    Open,
    /// The caller decides.
    Deciding,
    /// Over, well or badly.
    Ended,
}

/// What the first request fixes for the whole login (RFC 7143 11.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opening {
    isid: Isid,
    tsih: Tsih,
    itt: Itt,
    cid: Cid,
}

/// Who the initiator says that it is, once the first text is complete.
#[derive(Clone, Debug)]
struct Claim {
    initiator: IscsiName,
    target: Option<IscsiName>,
    session_type: SessionType,
    required: Authentication,
    negotiator: Negotiator,
}

/// The login of one connection, seen by the target.
#[derive(Debug)]
pub struct TargetLogin {
    settings: Arc<TargetSettings>,
    state: State,
    opening: Option<Opening>,
    stage: Stage,
    cmd_sn: CmdSn,
    stat_sn: StatSn,
    requests: u32,
    incoming: Reassembly,
    outgoing: Outbox,
    challenge: Challenge,
    progress: Progress,
    claim: Option<Box<Claim>>,
    alias: Option<Box<str>>,
}

impl TargetLogin {
    /// Begins: a connection was accepted.
    ///
    /// # Errors
    /// There are no random bytes for a challenge.
    pub fn new(settings: Arc<TargetSettings>, random: &mut dyn Random) -> Result<Self, RandomError> {
        Ok(Self {
            state: State::Open,
            opening: None,
            stage: Stage::Security,
            cmd_sn: CmdSn(0),
            stat_sn: settings.first_stat_sn,
            requests: 0,
            incoming: Reassembly::new(MAX_LOGIN_TEXT),
            outgoing: Outbox::default(),
            challenge: Challenge::new(random)?,
            progress: Progress::Undecided,
            claim: None,
            alias: None,
            settings,
        })
    }

    /// Takes a PDU: its header and its data segment.
    ///
    /// # Errors
    /// The login failed; nothing more may be given to it.
    pub fn on_pdu(&mut self, bhs: &Bhs, data: &[u8], policy: &dyn Policy) -> Result<Step, Failure> {
        if bhs.opcode() != Some(Opcode::LoginRequest) {
            self.state = State::Ended;
            return Err(Failure { error: LoginError::NotLogin(bhs.opcode_number()), response: None });
        }
        let request = bhs.as_login_request();
        self.advance(request, data, policy).map_err(|error| self.fail(request, error))
    }

    /// The caller has a place for the initiator of [`Step::Admit`].
    ///
    /// # Errors
    /// Nothing was to be decided.
    pub fn admit(&mut self, placement: Placement) -> Result<Admitted, LoginError> {
        let (State::Deciding, Some(opening)) = (self.state, self.opening) else {
            return Err(LoginError::OutOfTurn);
        };
        self.state = State::Ended;
        let (data, _) = self.outgoing.take(self.segment_limit());
        let flags = LoginFlags::TRANSIT.with_stages(self.stage, Stage::FullFeature);
        let counters = (placement.exp_cmd_sn, placement.max_cmd_sn);
        let opening = Opening { tsih: placement.tsih, ..opening };
        let response = self.response(opening, flags, Status::Success, counters, data);
        Ok(Admitted { response, stat_sn: self.stat_sn })
    }

    /// The caller has no place for the initiator of [`Step::Admit`]: the failure to send.
    pub fn refuse(&mut self, status: Status) -> Failure {
        let error = LoginError::Refused(status);
        let Some(opening) = self.opening else { return Failure { error, response: None } };
        self.failure(opening, error)
    }

    fn advance(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        policy: &dyn Policy,
    ) -> Result<Step, LoginError> {
        if self.state != State::Open {
            return Err(LoginError::OutOfTurn);
        }
        self.requests += 1;
        if self.requests > MAX_EXCHANGES {
            return Err(LoginError::TooManyRequests);
        }
        let wanted = self.check_header(request)?;
        let continues = request.flags.contains(LoginFlags::CONTINUE);
        if self.outgoing.is_open() {
            // RFC 7143 6.2: a response with the C bit is answered by a request without text.
            if !data.is_empty() || continues {
                return Err(LoginError::OutOfTurn);
            }
        } else {
            match self.incoming.push(data, continues)? {
                None => return Ok(Step::Reply(self.reply(LoginFlags::empty(), Vec::new()))),
                Some(text) => self.take_text(&text, policy)?,
            }
        }
        let transit = match wanted {
            Some(next) if self.outgoing.fits(self.segment_limit()) && self.may_enter(next)? => Some(next),
            _ => None,
        };
        if transit == Some(Stage::FullFeature) {
            let admission = self.admission()?;
            self.state = State::Deciding;
            return Ok(Step::Admit(Box::new(admission)));
        }
        let (part, more) = self.outgoing.take(self.segment_limit());
        let current = self.stage;
        let flags = match transit {
            Some(next) => {
                self.stage = next;
                LoginFlags::TRANSIT.with_stages(current, next)
            }
            None if more => LoginFlags::CONTINUE,
            None => LoginFlags::empty(),
        };
        Ok(Step::Reply(self.reply_in(current, flags, part)))
    }

    /// Checks the header; the stage that the initiator wants to enter, if any.
    fn check_header(&mut self, request: &LoginRequest) -> Result<Option<Stage>, LoginError> {
        if request.ahs_words != 0 {
            return Err(LoginError::Header("TotalAHSLength"));
        }
        if request.version_min > VERSION {
            return Err(LoginError::Version(request.version_min));
        }
        self.cmd_sn = request.cmd_sn.into();
        let opening = Opening::of(request);
        let current = request.flags.current().ok_or(LoginError::Stage)?;
        match self.opening {
            None => {
                if current == Stage::FullFeature {
                    return Err(LoginError::Stage);
                }
                self.opening = Some(opening);
                self.stage = current;
            }
            Some(first) if first != opening => return Err(LoginError::Header(first.difference(&opening))),
            Some(_) if current != self.stage => return Err(LoginError::Stage),
            Some(_) => {}
        }
        if !request.flags.contains(LoginFlags::TRANSIT) {
            return Ok(None);
        }
        // RFC 7143 11.12.2: text that goes on cannot end a stage.
        if request.flags.contains(LoginFlags::CONTINUE) {
            return Err(LoginError::Header("C bit"));
        }
        let next = request.flags.next().ok_or(LoginError::Stage)?;
        if next as u8 <= current as u8 {
            return Err(LoginError::Stage);
        }
        Ok(Some(next))
    }

    /// Takes a whole text: first who it is, then the rest.
    fn take_text(&mut self, text: &[u8], policy: &dyn Policy) -> Result<(), LoginError> {
        let mut out = Text::new();
        let mut identity = IdentityKeys::default();
        let mut security = SecurityKeys::default();
        for pair in pairs(text) {
            let (key, value) = pair?;
            let _ = identity.take(key, value)? || security.take(key, value)?;
        }
        let first = self.claim.is_none();
        let mut claim = match self.claim.take() {
            Some(claim) => claim,
            None => Box::new(self.claim_of(&identity, policy)?),
        };
        identity.check_against(&claim)?;
        if first && claim.session_type == SessionType::Normal {
            // RFC 7143 13.9: in the first response of a session that names a target.
            out.push_number("TargetPortalGroupTag", self.settings.portal_group_tag.into());
            if let Some(alias) = &self.settings.alias {
                out.push("TargetAlias", alias);
            }
        }
        let result = self.take_keys(text, &mut claim, &security, &mut out);
        self.claim = Some(claim);
        result?;
        self.outgoing.put(out.into_bytes());
        Ok(())
    }

    fn claim_of(&self, keys: &IdentityKeys<'_>, policy: &dyn Policy) -> Result<Claim, LoginError> {
        let initiator = IscsiName::new(keys.initiator.ok_or(LoginError::Missing("InitiatorName"))?)?;
        let session_type = keys.session_type()?.unwrap_or_default();
        let target = keys.target.map(IscsiName::new).transpose();
        // A name that no target can have is a target that is not there.
        let target = target.map_err(|_| LoginError::Denied(Denial::NotFound))?;
        if session_type == SessionType::Normal && target.is_none() {
            return Err(LoginError::Missing("TargetName"));
        }
        let applicant = Applicant { initiator: &initiator, target: target.as_ref(), session_type };
        let required = policy.check(&applicant)?;
        let leading = self.opening.is_none_or(|opening| opening.tsih == Tsih(0));
        let scope = Scope { discovery: session_type == SessionType::Discovery, leading };
        let negotiator = Negotiator::new(Role::Target, scope, self.settings.preferences);
        Ok(Claim { initiator, target, session_type, required, negotiator })
    }

    fn take_keys(
        &mut self,
        text: &[u8],
        claim: &mut Claim,
        security: &SecurityKeys<'_>,
        out: &mut Text,
    ) -> Result<(), LoginError> {
        match self.stage {
            Stage::Security => self.progress.advance(
                security,
                &claim.required,
                &self.settings.chap_algorithms,
                &self.challenge,
                out,
            )?,
            _ => {
                // Only those who have to prove nothing may leave the security stage out.
                if !self.progress.is_done() && matches!(claim.required, Authentication::Chap(_)) {
                    return Err(LoginError::NotAuthenticated("the security stage was left out"));
                }
                claim.negotiator.declare(out);
            }
        }
        for pair in pairs(text) {
            let (key, value) = pair?;
            match key {
                "InitiatorName" | "TargetName" | "SessionType" => {}
                "InitiatorAlias" => self.alias = Some(value.into()),
                "AuthMethod" | "CHAP_A" | "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C" => {
                    if self.stage != Stage::Security {
                        out.push(key, REJECT);
                    }
                }
                // Keys that only a target may send, or only in the full feature phase.
                "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" | "SendTargets" => {
                    out.push(key, REJECT);
                }
                // Operational keys are taken in the security stage too, where some initiators send them.
                _ => claim.negotiator.receive(key, value, out)?,
            }
        }
        claim.negotiator.end_of_text(out);
        Ok(())
    }

    /// Whether all is done that must be before the initiator enters `next`. What this side still has
    /// to ask for goes out instead.
    fn may_enter(&mut self, next: Stage) -> Result<bool, LoginError> {
        let Some(claim) = self.claim.as_deref_mut() else { return Err(LoginError::Missing("InitiatorName")) };
        if self.stage == Stage::Security && !self.progress.is_done() {
            return match (&self.progress, &claim.required) {
                (Progress::Undecided, Authentication::None) => {
                    self.progress = Progress::Done(None);
                    Ok(true)
                }
                (Progress::Undecided, Authentication::Chap(_)) => {
                    Err(LoginError::NotAuthenticated("no authentication method offered"))
                }
                _ => Ok(false),
            };
        }
        if next != Stage::FullFeature || self.stage == Stage::Security {
            return Ok(true);
        }
        let mut asked = Text::new();
        if claim.negotiator.offer_needed(&mut asked) {
            self.outgoing.put(asked.into_bytes());
        }
        Ok(!claim.negotiator.awaits_answers())
    }

    fn admission(&self) -> Result<Admission, LoginError> {
        let (Some(claim), Some(opening)) = (&self.claim, self.opening) else {
            return Err(LoginError::OutOfTurn);
        };
        let user = match &self.progress {
            Progress::Done(user) => user.clone(),
            _ => None,
        };
        Ok(Admission {
            initiator: claim.initiator.clone(),
            initiator_alias: self.alias.clone(),
            user,
            target: claim.target.clone(),
            session_type: claim.session_type,
            isid: opening.isid,
            tsih: opening.tsih,
            cid: opening.cid,
            cmd_sn: self.cmd_sn,
            parameters: claim.negotiator.finish()?,
        })
    }

    fn segment_limit(&self) -> usize {
        self.settings.max_segment.clamp(1, MAX_LOGIN_SEGMENT)
    }

    fn reply(&mut self, flags: LoginFlags, data: Vec<u8>) -> Pdu {
        self.reply_in(self.stage, flags, data)
    }

    fn reply_in(&mut self, current: Stage, flags: LoginFlags, data: Vec<u8>) -> Pdu {
        let opening = self.opening.unwrap_or_default();
        let flags = if flags.contains(LoginFlags::TRANSIT) {
            flags
        } else {
            flags.with_stages(current, Stage::Security)
        };
        // Until the session is known, the window is the login's own number.
        let counters = (self.cmd_sn, self.cmd_sn);
        self.response(opening, flags, Status::Success, counters, data)
    }

    fn fail(&mut self, request: &LoginRequest, error: LoginError) -> Failure {
        self.failure(Opening::of(request), error)
    }

    fn failure(&mut self, opening: Opening, error: LoginError) -> Failure {
        self.state = State::Ended;
        self.incoming.clear();
        let mut text = Text::new();
        if let LoginError::Denied(Denial::Moved { address, .. }) = &error {
            text.push("TargetAddress", address);
        }
        let counters = (self.cmd_sn, self.cmd_sn);
        let response =
            self.response(opening, LoginFlags::empty(), error.status(), counters, text.into_bytes());
        Failure { error, response: Some(response) }
    }

    fn response(
        &mut self,
        opening: Opening,
        flags: LoginFlags,
        status: Status,
        (exp_cmd_sn, max_cmd_sn): (CmdSn, CmdSn),
        data: Vec<u8>,
    ) -> Pdu {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.next();
        let header = LoginResponse {
            opcode: LoginResponse::OPCODE.number(),
            flags,
            version_max: VERSION,
            version_active: VERSION,
            data_len: U24::new(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            isid: opening.isid,
            tsih: opening.tsih.0.into(),
            itt: opening.itt.into(),
            stat_sn: stat_sn.into(),
            exp_cmd_sn: exp_cmd_sn.into(),
            max_cmd_sn: max_cmd_sn.into(),
            status_class: status.class(),
            status_detail: status.detail(),
            ..LoginResponse::new_zeroed()
        };
        Pdu { bhs: header.into(), data }
    }
}

impl Default for Opening {
    fn default() -> Self {
        Self { isid: Isid::default(), tsih: Tsih(0), itt: Itt(0), cid: Cid(0) }
    }
}

impl Opening {
    fn of(request: &LoginRequest) -> Self {
        Self {
            isid: request.isid,
            tsih: Tsih(request.tsih.get()),
            itt: request.itt.into(),
            cid: Cid(request.cid.get()),
        }
    }

    /// The name of the first field that differs.
    fn difference(&self, other: &Self) -> &'static str {
        if self.isid != other.isid {
            "ISID"
        } else if self.tsih != other.tsih {
            "TSIH"
        } else if self.itt != other.itt {
            "initiator task tag"
        } else {
            "CID"
        }
    }
}

/// The keys of one text that say who wants what.
#[derive(Clone, Copy, Debug, Default)]
struct IdentityKeys<'a> {
    initiator: Option<&'a str>,
    target: Option<&'a str>,
    session_type: Option<&'a str>,
}

impl<'a> IdentityKeys<'a> {
    fn take(&mut self, key: &str, value: &'a str) -> Result<bool, LoginError> {
        let (name, slot) = match key {
            "InitiatorName" => ("InitiatorName", &mut self.initiator),
            "TargetName" => ("TargetName", &mut self.target),
            "SessionType" => ("SessionType", &mut self.session_type),
            _ => return Ok(false),
        };
        if slot.replace(value).is_some() {
            return Err(LoginError::Repeated(name));
        }
        Ok(true)
    }

    fn session_type(&self) -> Result<Option<SessionType>, LoginError> {
        match self.session_type {
            None => Ok(None),
            Some("Normal") => Ok(Some(SessionType::Normal)),
            Some("Discovery") => Ok(Some(SessionType::Discovery)),
            Some(_) => Err(LoginError::SessionType),
        }
    }

    /// Some initiators say again in the operational stage who they are: that is let pass, a change of
    /// mind is not.
    fn check_against(&self, claim: &Claim) -> Result<(), LoginError> {
        let same = |text: Option<&str>, name: Option<&IscsiName>| {
            text.is_none_or(|text| name.is_some_and(|name| name.as_str().eq_ignore_ascii_case(text)))
        };
        if !same(self.initiator, Some(&claim.initiator)) {
            return Err(LoginError::Repeated("InitiatorName"));
        }
        if !same(self.target, claim.target.as_ref()) {
            return Err(LoginError::Repeated("TargetName"));
        }
        if self.session_type()?.is_some_and(|again| again != claim.session_type) {
            return Err(LoginError::Repeated("SessionType"));
        }
        Ok(())
    }
}
