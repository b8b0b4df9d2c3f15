//! Both sides against each other, then the target against initiators written by hand.

use super::*;
use crate::chap::{Account, Algorithm, Credentials};
use crate::name::IscsiName;
use crate::negotiate::{DigestPreference, Parameters, Preferences};
use crate::pdu::{Isid, Itt, LoginFlags, LoginRequest, Opcode, Stage, Tsih, U24};
use crate::random::{Random, RandomError};
use crate::serial::{CmdSn, StatSn};
use proptest::prelude::*;
use std::sync::Arc;
use zerocopy::FromZeros;

/// A counter, so that every challenge is another.
pub(super) struct Counter(pub(super) u8);

impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(109).wrapping_add(89);
            *byte = self.0;
        }
        Ok(())
    }
}

const INITIATOR: &str = "iqn.2026-11.io.kagami:host";
const TARGET: &str = "iqn.2026-11.io.kagami:local";
const ISID: Isid = Isid([0x40, 0, 0, 1, 0, 2]);

/// One target, for one initiator.
struct OnePolicy(Authentication);

impl Policy for OnePolicy {
    fn check(&self, applicant: &Applicant<'_>) -> Result<Authentication, Denial> {
        match applicant.target.map(IscsiName::as_str) {
            Some("iqn.moved") => {
                return Err(Denial::Moved { address: "10.0.0.1:3260,1".into(), permanently: true });
            }
            Some("iqn.removed") => return Err(Denial::Removed),
            Some(name) if name != TARGET => return Err(Denial::NotFound),
            _ => {}
        }
        if applicant.initiator.as_str() != INITIATOR {
            return Err(Denial::NotAuthorized);
        }
        Ok(self.0.clone())
    }
}

fn name(text: &str) -> IscsiName {
    IscsiName::new(text).unwrap()
}

fn account(secret: &str, target_secret: Option<&str>) -> Account {
    let initiator = Credentials::new("host", secret.as_bytes()).unwrap();
    let target = target_secret.map(|secret| Credentials::new("array", secret.as_bytes()).unwrap());
    Account::new(initiator, target).unwrap()
}

fn chap(secret: &str, target_secret: Option<&str>) -> OnePolicy {
    OnePolicy(Authentication::Chap(Arc::new([account(secret, target_secret)])))
}

const OPEN: OnePolicy = OnePolicy(Authentication::None);

fn config() -> InitiatorConfig {
    InitiatorConfig::new(name(INITIATOR), Some(name(TARGET)), ISID)
}

fn login(settings: TargetSettings) -> TargetLogin {
    TargetLogin::new(Arc::new(settings), &mut Counter(1)).unwrap()
}

/// How a login between the two machines ends.
type Outcome = Result<(Established, Admission), (InitiatorError, LoginError)>;

fn run(config: InitiatorConfig, settings: TargetSettings, policy: &OnePolicy) -> Outcome {
    let mut initiator = InitiatorLogin::new(config, &mut Counter(77)).unwrap();
    let mut target = login(settings);
    let mut admission = None;
    for _ in 0..2 * MAX_EXCHANGES {
        let request = initiator.poll_transmit().expect("the initiator's turn");
        assert_eq!(request.bhs.data_segment_len() as usize, request.data.len());
        let response = match target.on_pdu(&request.bhs, &request.data, policy) {
            Ok(Step::Reply(pdu)) => pdu,
            Ok(Step::Admit(asked)) => {
                let tsih = if asked.tsih == Tsih(0) { Tsih(0x77) } else { asked.tsih };
                let placement =
                    Placement { tsih, exp_cmd_sn: asked.cmd_sn, max_cmd_sn: asked.cmd_sn.plus(31) };
                admission = Some(*asked);
                target.admit(placement).unwrap().response
            }
            Err(failure) => {
                let response = failure.response.expect("a login request is always answered");
                let error = initiator.on_pdu(&response.bhs, &response.data).unwrap_err();
                return Err((error, failure.error));
            }
        };
        assert_eq!(response.bhs.data_segment_len() as usize, response.data.len());
        match initiator.on_pdu(&response.bhs, &response.data) {
            Ok(None) => {}
            Ok(Some(established)) => return Ok((established, admission.expect("admitted"))),
            Err(error) => return Err((error, LoginError::OutOfTurn)),
        }
    }
    panic!("the login does not end");
}

#[test]
fn a_plain_login() {
    let (established, admission) = run(config(), TargetSettings::default(), &OPEN).unwrap();
    assert_eq!((admission.initiator, admission.target), (name(INITIATOR), Some(name(TARGET))));
    assert_eq!((admission.user, admission.isid, admission.session_type), (None, ISID, SessionType::Normal));
    assert_eq!((established.tsih, established.portal_group_tag), (Tsih(0x77), Some(1)));
    assert_eq!((established.cmd_sn, established.max_cmd_sn), (CmdSn(1), CmdSn(32)));
    let agreed = established.parameters;
    assert_eq!((agreed.max_burst_length, agreed.first_burst_length), (1 << 20, 256 << 10));
    assert!(!agreed.initial_r2t && agreed.immediate_data && !agreed.header_digest);
    assert_eq!((agreed.max_outstanding_r2t, agreed.max_connections), (8, 8));
    assert_eq!(
        (agreed.max_recv_data_segment_length, agreed.max_send_data_segment_length),
        (256 << 10, 256 << 10)
    );
    assert_eq!(agreed, admission.parameters);
}

#[test]
fn a_discovery_login() {
    let config = InitiatorConfig { target: None, ..config() };
    let (established, admission) = run(config, TargetSettings::default(), &OPEN).unwrap();
    assert_eq!((admission.session_type, admission.target), (SessionType::Discovery, None));
    assert_eq!(established.portal_group_tag, None);
    assert_eq!(established.parameters.max_burst_length, Parameters::default().max_burst_length);
}

#[test]
fn chap_one_way_and_mutual_with_both_hashes() {
    for algorithm in Algorithm::ALL {
        for mutual in [None, Some("the target's secret")] {
            let config = InitiatorConfig {
                account: Some(account("the host's secret", mutual)),
                chap_algorithms: [algorithm].into(),
                ..config()
            };
            let policy = chap("the host's secret", Some("the target's secret"));
            let (_, admission) = run(config, TargetSettings::default(), &policy).unwrap();
            assert_eq!(admission.user.as_deref(), Some("host"));
        }
    }
}

#[test]
fn who_has_a_secret_and_needs_none_is_let_in() {
    let config = InitiatorConfig { account: Some(account("secret secret", None)), ..config() };
    assert_eq!(run(config, TargetSettings::default(), &OPEN).unwrap().1.user, None);
}

#[test]
fn who_cannot_prove_anything_is_not_let_in() {
    let policy = chap("the host's secret", None);
    let refused = InitiatorError::Refused { class: 2, detail: 1 };
    let failed = |config: InitiatorConfig, policy: &OnePolicy| {
        run(config, TargetSettings::default(), policy).unwrap_err()
    };
    let wrong = InitiatorConfig { account: Some(account("another secret", None)), ..config() };
    let (seen, logged) = failed(wrong, &policy);
    assert_eq!(seen, refused);
    assert_eq!(logged.to_string(), "not authenticated: wrong CHAP user name or response");
    assert_eq!(failed(config(), &policy).0, refused, "nothing offered");
    let mut stranger = config();
    let credentials = Credentials::new("stranger", b"the host's secret").unwrap();
    stranger.account = Some(Account::new(credentials, None).unwrap());
    assert_eq!(failed(stranger, &policy).0, refused, "another user name");
    let weak = TargetSettings { chap_algorithms: [Algorithm::Sha256].into(), ..TargetSettings::default() };
    let old = InitiatorConfig {
        account: Some(account("the host's secret", None)),
        chap_algorithms: [Algorithm::Md5].into(),
        ..config()
    };
    assert_eq!(run(old, weak, &policy).unwrap_err().0, refused, "no common algorithm");
}

#[test]
fn a_target_that_cannot_prove_itself_is_not_talked_to() {
    let wants =
        InitiatorConfig { account: Some(account("the host's secret", Some("array secret"))), ..config() };
    let impostor = chap("the host's secret", Some("another secret"));
    let (error, _) = run(wants.clone(), TargetSettings::default(), &impostor).unwrap_err();
    assert_eq!(error, InitiatorError::Authentication("wrong CHAP user name or response from the target"));
    let (error, _) =
        run(wants.clone(), TargetSettings::default(), &chap("the host's secret", None)).unwrap_err();
    assert_eq!(error, InitiatorError::Refused { class: 2, detail: 1 });
    let (error, _) = run(wants, TargetSettings::default(), &OPEN).unwrap_err();
    assert_eq!(error, InitiatorError::Refused { class: 2, detail: 1 }, "CHAP alone was offered");
}

#[test]
fn denials_have_their_status() {
    for (target, class, detail) in [("iqn.nowhere", 2, 3), ("iqn.removed", 2, 4)] {
        let config = InitiatorConfig { target: Some(name(target)), ..config() };
        let (error, _) = run(config, TargetSettings::default(), &OPEN).unwrap_err();
        assert_eq!(error, InitiatorError::Refused { class, detail });
    }
    let moved = InitiatorConfig { target: Some(name("iqn.moved")), ..config() };
    let (error, _) = run(moved, TargetSettings::default(), &OPEN).unwrap_err();
    assert_eq!(error, InitiatorError::Moved { address: "10.0.0.1:3260,1".into(), permanently: true });
    let stranger = InitiatorConfig { initiator: name("iqn.stranger"), ..config() };
    let (error, _) = run(stranger, TargetSettings::default(), &OPEN).unwrap_err();
    assert_eq!(error, InitiatorError::Refused { class: 2, detail: 2 });
    assert_eq!(error.to_string(), "the target refused: class 0x02, detail 0x02 (authorization failure)");
}

#[test]
fn a_joining_connection_agrees_only_on_its_own() {
    let preferences = Preferences { data_digest: DigestPreference::Prefer, ..Preferences::default() };
    let config = InitiatorConfig { tsih: Tsih(5), preferences, ..config() };
    let (established, admission) = run(config, TargetSettings::default(), &OPEN).unwrap();
    assert_eq!((established.tsih, admission.tsih), (Tsih(5), Tsih(5)));
    assert!(established.parameters.data_digest);
    let session = Parameters { max_burst_length: 4096, ..Parameters::default() };
    let joined = admission.parameters.joined_to(&session);
    assert!(joined.data_digest && joined.max_burst_length == 4096);
    assert_eq!(joined.max_send_data_segment_length, 256 << 10);
}

#[test]
fn what_the_target_insists_on() {
    let preferences = Preferences {
        header_digest: DigestPreference::Require,
        immediate_data: false,
        ..Preferences::default()
    };
    let settings = TargetSettings { preferences, ..TargetSettings::default() };
    let (established, _) = run(config(), settings.clone(), &OPEN).unwrap();
    assert!(established.parameters.header_digest && !established.parameters.immediate_data);
    let never = Preferences { header_digest: DigestPreference::Never, ..Preferences::default() };
    let (error, _) = run(InitiatorConfig { preferences: never, ..config() }, settings, &OPEN).unwrap_err();
    assert_eq!(error, InitiatorError::Refused { class: 2, detail: 0 });
}

proptest! {
    /// However the text is cut into PDUs with the C bit, and whoever has to prove what, the login
    /// ends in the same agreement.
    #[test]
    fn any_cut_gives_the_same_login(
        initiator_segment in 1usize..600, target_segment in 1usize..600, security in 0u8..3, digests: bool,
    ) {
        let (account, policy) = match security {
            0 => (None, OPEN),
            1 => (Some(account("the host's secret", None)), chap("the host's secret", Some("array secret"))),
            _ => (Some(account("the host's secret", Some("array secret"))), chap("the host's secret", Some("array secret"))),
        };
        // One byte a PDU would take more PDUs than a login may have.
        let (initiator_segment, target_segment) = (initiator_segment.max(8), target_segment.max(8));
        let digest = if digests { DigestPreference::Prefer } else { DigestPreference::Allow };
        let preferences = Preferences { header_digest: digest, data_digest: digest, ..Preferences::default() };
        let whole = InitiatorConfig { account, preferences, ..config() };
        let cut = InitiatorConfig { max_segment: initiator_segment, ..whole.clone() };
        let settings = TargetSettings { max_segment: target_segment, ..TargetSettings::default() };
        let expected = run(whole, TargetSettings::default(), &policy).unwrap();
        let got = run(cut, settings, &policy).unwrap();
        prop_assert_eq!(got.1, expected.1);
        prop_assert_eq!(got.0.parameters, expected.0.parameters);
        prop_assert_eq!(got.0.parameters.data_digest, digests);
    }
}

/// A login request by hand.
struct Raw {
    flags: LoginFlags,
    text: &'static str,
    change: fn(&mut LoginRequest),
}

fn raw(transit: bool, current: Stage, next: Stage, text: &'static str) -> Raw {
    let flags = if transit { LoginFlags::TRANSIT } else { LoginFlags::empty() };
    Raw { flags: flags.with_stages(current, next), text, change: |_| {} }
}

impl Raw {
    fn send(self, target: &mut TargetLogin, policy: &OnePolicy) -> Result<Step, Failure> {
        let text = self.text.replace(' ', "\0");
        let mut request = LoginRequest {
            opcode: 0x43,
            flags: self.flags,
            data_len: U24::new(u32::try_from(text.len()).unwrap()),
            isid: ISID,
            itt: Itt(7).into(),
            cmd_sn: CmdSn(9).into(),
            ..LoginRequest::new_zeroed()
        };
        (self.change)(&mut request);
        target.on_pdu(request.as_bhs(), text.as_bytes(), policy)
    }
}

const WHO: &str =
    "InitiatorName=iqn.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local SessionType=Normal ";

/// The flags and the text of a reply.
fn reply(step: Result<Step, Failure>) -> (LoginFlags, String) {
    match step {
        Ok(Step::Reply(pdu)) => {
            (pdu.bhs.as_login_response().flags, String::from_utf8(pdu.data).unwrap().replace('\0', " "))
        }
        other => panic!("not a reply: {other:?}"),
    }
}

fn status(step: Result<Step, Failure>) -> Status {
    let response = step.unwrap_err().response.expect("a response");
    let header = response.bhs.as_login_response();
    assert!(!header.flags.contains(LoginFlags::TRANSIT));
    Status::from_wire(header.status_class, header.status_detail).unwrap()
}

use Stage::{FullFeature as Full, Operational as Op, Security as Sec};

/// The way libiscsi does it: who it is once more in the operational stage.
#[test]
fn an_initiator_may_repeat_who_it_is() {
    let mut target = login(TargetSettings::default());
    let first = Raw {
        text: concat!(
            "InitiatorName=iqn.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local ",
            "SessionType=Normal AuthMethod=None "
        ),
        ..raw(true, Sec, Op, "")
    };
    let (flags, text) = reply(first.send(&mut target, &OPEN));
    assert_eq!(flags, LoginFlags::TRANSIT.with_stages(Sec, Op));
    assert_eq!(text, "TargetPortalGroupTag=1 AuthMethod=None ");
    let second = Raw {
        text: concat!(
            "InitiatorName=IQN.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local ",
            "SessionType=Normal HeaderDigest=None "
        ),
        ..raw(true, Op, Full, "")
    };
    let Ok(Step::Admit(admission)) = second.send(&mut target, &OPEN) else { panic!("not admitted") };
    assert_eq!(admission.cmd_sn, CmdSn(9));
    let placement = Placement { tsih: Tsih(3), exp_cmd_sn: CmdSn(9), max_cmd_sn: CmdSn(40) };
    let admitted = target.admit(placement).unwrap();
    let header = admitted.response.bhs.as_login_response();
    assert_eq!((header.tsih.get(), header.exp_cmd_sn.get(), header.max_cmd_sn.get()), (3, 9, 40));
    assert_eq!((header.stat_sn.get(), admitted.stat_sn), (2, StatSn(3)));
    assert_eq!(header.flags, LoginFlags::TRANSIT.with_stages(Op, Full));
    assert_eq!(admitted.response.data, b"MaxRecvDataSegmentLength=262144\0HeaderDigest=None\0");
    assert!(target.admit(placement).is_err(), "once only");
}

#[test]
fn stages_that_may_be_left_out() {
    let mut target = login(TargetSettings::default());
    assert!(matches!(raw(true, Sec, Full, WHO).send(&mut target, &OPEN), Ok(Step::Admit(_))));
    let mut target = login(TargetSettings::default());
    assert!(matches!(raw(true, Op, Full, WHO).send(&mut target, &OPEN), Ok(Step::Admit(_))));
    for current in [Sec, Op] {
        let mut target = login(TargetSettings::default());
        let step = raw(true, current, Full, WHO).send(&mut target, &chap("the host's secret", None));
        assert_eq!(status(step), Status::AuthenticationFailure);
    }
}

#[test]
fn operational_keys_in_the_security_stage_are_answered() {
    let mut target = login(TargetSettings::default());
    let (_, text) = reply(
        raw(
            false,
            Sec,
            Sec,
            concat!(
                "InitiatorName=iqn.2026-11.io.kagami:host ",
                "TargetName=iqn.2026-11.io.kagami:local AuthMethod=CHAP,None ImmediateData=Yes X-a=b "
            ),
        )
        .send(&mut target, &OPEN),
    );
    assert_eq!(text, "TargetPortalGroupTag=1 AuthMethod=None ImmediateData=Yes X-a=NotUnderstood ");
    let (flags, text) = reply(raw(true, Sec, Op, "").send(&mut target, &OPEN));
    assert!(flags.contains(LoginFlags::TRANSIT) && text.is_empty());
    let (_, text) = reply(raw(false, Op, Op, "AuthMethod=None ").send(&mut target, &OPEN));
    assert_eq!(text, "MaxRecvDataSegmentLength=262144 AuthMethod=Reject ");
    let twice = raw(true, Op, Full, "ImmediateData=Yes ").send(&mut target, &OPEN);
    assert_eq!(status(twice), Status::InitiatorError);
}

#[test]
fn chap_with_method_and_algorithm_in_one_text() {
    let mut target = login(TargetSettings::default());
    let policy = chap("the host's secret", None);
    let text = concat!(
        "InitiatorName=iqn.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local ",
        "AuthMethod=CHAP CHAP_A=5 "
    );
    let (flags, text) = reply(raw(true, Sec, Op, text).send(&mut target, &policy));
    assert!(!flags.contains(LoginFlags::TRANSIT), "not before the proof");
    assert!(text.contains("AuthMethod=CHAP CHAP_A=5 CHAP_I=") && text.contains(" CHAP_C=0x"), "{text}");
}

#[test]
fn a_reflected_challenge_is_refused() {
    let mut target = login(TargetSettings::default());
    let policy = chap("the host's secret", Some("array secret"));
    let text = concat!(
        "InitiatorName=iqn.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local ",
        "AuthMethod=CHAP CHAP_A=5 "
    );
    let (_, text) = reply(raw(false, Sec, Sec, text).send(&mut target, &policy));
    let challenge = text.split("CHAP_C=").nth(1).unwrap().trim().to_owned();
    // Answered before the initiator has proved itself: no.
    let early = format!("CHAP_I=1\0CHAP_C={challenge}\0");
    let mut header =
        LoginRequest { opcode: 0x43, isid: ISID, itt: Itt(7).into(), ..LoginRequest::new_zeroed() };
    header.data_len = U24::new(u32::try_from(early.len()).unwrap());
    let failure = target.on_pdu(header.as_bhs(), early.as_bytes(), &policy).unwrap_err();
    assert_eq!(failure.error.status(), Status::AuthenticationFailure);
    // After it has: its own challenge, never.
    let mut target = login(TargetSettings::default());
    let text = concat!(
        "InitiatorName=iqn.2026-11.io.kagami:host TargetName=iqn.2026-11.io.kagami:local ",
        "AuthMethod=CHAP CHAP_A=5 "
    );
    let (_, text) = reply(raw(false, Sec, Sec, text).send(&mut target, &policy));
    let value = |key: &str| text.split(key).nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let bytes = crate::chap::from_text(&value("CHAP_C=")).unwrap();
    let known = account("the host's secret", None);
    let proof = Algorithm::Md5.response(value("CHAP_I=").parse().unwrap(), &known.initiator().secret, &bytes);
    let text = format!("CHAP_N=host\0CHAP_R={}\0CHAP_I=1\0CHAP_C={}\0", proof.to_text(), value("CHAP_C="));
    header.data_len = U24::new(u32::try_from(text.len()).unwrap());
    let failure = target.on_pdu(header.as_bhs(), text.as_bytes(), &policy).unwrap_err();
    assert_eq!(failure.error, LoginError::NotAuthenticated("the target's own challenge came back"));
}

#[test]
fn failures_have_their_status() {
    let change = |change: fn(&mut LoginRequest)| Raw { change, ..raw(true, Sec, Op, WHO) };
    for (step, expected) in [
        (raw(true, Sec, Op, "TargetName=iqn.x "), Status::MissingParameter),
        (raw(true, Sec, Op, "InitiatorName=iqn.2026-11.io.kagami:host "), Status::MissingParameter),
        (raw(true, Sec, Op, "InitiatorName=nonsense TargetName=iqn.x "), Status::InitiatorError),
        (raw(true, Sec, Op, "InitiatorName=iqn.2026-11.io.kagami:host TargetName=? "), Status::NotFound),
        (raw(true, Sec, Op, "InitiatorName=iqn.a SessionType=Other "), Status::SessionTypeNotSupported),
        (raw(true, Sec, Op, "InitiatorName=iqn.a InitiatorName=iqn.a "), Status::InitiatorError),
        (raw(true, Sec, Op, "InitiatorName=iqn.a"), Status::InitiatorError),
        (raw(true, Sec, Op, "InitiatorName "), Status::InitiatorError),
        (raw(true, Sec, Sec, WHO), Status::InitiatorError),
        (raw(true, Full, Full, WHO), Status::InitiatorError),
        (
            Raw { flags: LoginFlags::from_bits_retain(0x88), ..raw(true, Sec, Op, WHO) },
            Status::InitiatorError,
        ),
        (
            Raw { flags: LoginFlags::from_bits_retain(0xc1), ..raw(true, Sec, Op, WHO) },
            Status::InitiatorError,
        ),
        (change(|request| request.version_min = 1), Status::UnsupportedVersion),
        (change(|request| request.ahs_words = 1), Status::InitiatorError),
        (
            raw(
                true,
                Op,
                Full,
                concat!(
                    "InitiatorName=iqn.2026-11.io.kagami:host ",
                    "TargetName=iqn.2026-11.io.kagami:local MaxRecvDataSegmentLength=1 "
                ),
            ),
            Status::InitiatorError,
        ),
    ] {
        let what = step.text;
        assert_eq!(status(step.send(&mut login(TargetSettings::default()), &OPEN)), expected, "{what}");
    }
}

#[test]
fn a_login_keeps_its_header() {
    for change in [
        (|request: &mut LoginRequest| request.isid = Isid([9; 6])) as fn(&mut LoginRequest),
        |request| request.tsih = 1.into(),
        |request| request.itt = 1.into(),
        |request| request.cid = 1.into(),
        |request| request.flags = LoginFlags::empty().with_stages(Op, Sec),
    ] {
        let mut target = login(TargetSettings::default());
        reply(raw(false, Sec, Sec, WHO).send(&mut target, &OPEN));
        let step = Raw { change, ..raw(false, Sec, Sec, "") }.send(&mut target, &OPEN);
        assert_eq!(status(step), Status::InitiatorError);
        assert_eq!(status(raw(false, Sec, Sec, "").send(&mut target, &OPEN)), Status::InvalidDuringLogin);
    }
}

#[test]
fn other_pdus_end_a_login_without_an_answer() {
    let mut target = login(TargetSettings::default());
    let mut bhs = Bhs::default();
    bhs.as_nop_out_mut().opcode = 0x40;
    let failure = target.on_pdu(&bhs, b"", &OPEN).unwrap_err();
    assert_eq!((failure.error, failure.response), (LoginError::NotLogin(0), None));
    assert_eq!(bhs.opcode(), Some(Opcode::NopOut));
}

#[test]
fn the_caller_may_refuse() {
    for refusal in [Status::SessionDoesNotExist, Status::TooManyConnections, Status::OutOfResources] {
        let mut target = login(TargetSettings::default());
        assert!(matches!(raw(true, Sec, Full, WHO).send(&mut target, &OPEN), Ok(Step::Admit(_))));
        assert_eq!(status(Err(target.refuse(refusal))), refusal);
    }
    // Nor does an impatient initiator get in.
    let mut target = login(TargetSettings::default());
    raw(true, Sec, Full, WHO).send(&mut target, &OPEN).unwrap();
    assert_eq!(status(raw(true, Sec, Full, "").send(&mut target, &OPEN)), Status::InvalidDuringLogin);
    let placement = Placement { tsih: Tsih(3), exp_cmd_sn: CmdSn(9), max_cmd_sn: CmdSn(40) };
    assert!(target.admit(placement).is_err());
}

#[test]
fn a_login_does_not_go_on_for_ever() {
    let mut target = login(TargetSettings::default());
    reply(raw(false, Sec, Sec, WHO).send(&mut target, &OPEN));
    let end = (0..1000).find_map(|_| raw(false, Sec, Sec, "").send(&mut target, &OPEN).err());
    assert_eq!(end.map(|failure| failure.error), Some(LoginError::TooManyRequests));
}

#[test]
fn statuses_convert_both_ways() {
    for &status in Status::ALL {
        assert_eq!(Status::from_wire(status.class(), status.detail()), Some(status));
    }
    assert_eq!((Status::SessionDoesNotExist.class(), Status::SessionDoesNotExist.detail()), (2, 0x0a));
    assert_eq!(Status::from_wire(9, 9), None);
}
