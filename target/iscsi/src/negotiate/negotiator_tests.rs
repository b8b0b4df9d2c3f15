//! Each key by itself, then both sides against each other.

use super::*;
use crate::text::pairs;
use proptest::prelude::*;

const LEADING: Scope = Scope { discovery: false, leading: true };

fn target(preferences: Preferences) -> Negotiator {
    Negotiator::new(Role::Target, LEADING, preferences)
}

/// What a target with these preferences answers to one text.
fn answer(side: &mut Negotiator, text: &[(&str, &str)]) -> Result<String, NegotiationError> {
    let mut out = Text::new();
    for (key, value) in text {
        side.receive(key, value, &mut out)?;
    }
    side.end_of_text(&mut out);
    Ok(String::from_utf8(out.into_bytes()).unwrap().replace('\0', " ").trim_end().to_owned())
}

fn one(key: &str, value: &str) -> String {
    answer(&mut target(Preferences::default()), &[(key, value)]).unwrap()
}

#[test]
fn each_key_with_its_function_and_range() {
    for (key, offer, expected) in [
        ("MaxConnections", "1", "1"),
        ("MaxConnections", "65535", "8"),
        ("MaxConnections", "0", "Reject"),
        ("MaxConnections", "65536", "Reject"),
        ("InitialR2T", "No", "No"),
        ("InitialR2T", "Yes", "Yes"),
        ("InitialR2T", "yes", "Reject"),
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("MaxBurstLength", "512", "512"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "16777215", "1048576"),
        ("MaxBurstLength", "16777216", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("FirstBurstLength", "16777215", "262144"),
        ("FirstBurstLength", "512", "512"),
        ("DefaultTime2Wait", "0", "2"),
        ("DefaultTime2Wait", "3600", "3600"),
        ("DefaultTime2Wait", "3601", "Reject"),
        ("DefaultTime2Retain", "3600", "0"),
        ("MaxOutstandingR2T", "1", "1"),
        ("MaxOutstandingR2T", "16", "8"),
        ("MaxOutstandingR2T", "0", "Reject"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("TaskReporting", "ResponseFence,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        ("iSCSIProtocolLevel", "31", "1"),
        ("iSCSIProtocolLevel", "0", "0"),
        ("iSCSIProtocolLevel", "32", "Reject"),
        ("OFMarker", "Yes", "No"),
        ("IFMarker", "No", "No"),
        ("OFMarkInt", "1~65535", "Reject"),
        ("X-com.example.key", "1", "NotUnderstood"),
        ("Unheard", "of", "NotUnderstood"),
    ] {
        assert_eq!(one(key, offer), format!("{key}={expected}"), "{key}={offer}");
    }
}

#[test]
fn a_declaration_has_no_answer() {
    let mut side = target(Preferences::default());
    assert_eq!(answer(&mut side, &[("MaxRecvDataSegmentLength", "512")]).unwrap(), "");
    assert_eq!(side.parameters().max_send_data_segment_length, 512);
    let mut side = target(Preferences::default());
    let bad = answer(&mut side, &[("MaxRecvDataSegmentLength", "511")]);
    assert_eq!(bad, Err(NegotiationError::BadValue("MaxRecvDataSegmentLength")));
}

#[test]
fn answers_are_not_answered() {
    assert_eq!(one("X-com.example.key", "NotUnderstood"), "");
}

#[test]
fn digests_by_preference() {
    use DigestPreference as D;
    for (preference, list, expected) in [
        (D::Never, "CRC32C,None", "None"),
        (D::Never, "CRC32C", "Reject"),
        (D::Allow, "CRC32C,None", "CRC32C"),
        (D::Allow, "None,CRC32C", "None"),
        (D::Allow, "Fletcher,CRC32C", "CRC32C"),
        (D::Prefer, "None,CRC32C", "CRC32C"),
        (D::Prefer, "None", "None"),
        (D::Require, "None,CRC32C", "CRC32C"),
        (D::Require, "None", "Reject"),
    ] {
        let mut side = target(Preferences { data_digest: preference, ..Preferences::default() });
        assert_eq!(answer(&mut side, &[("DataDigest", list)]).unwrap(), format!("DataDigest={expected}"));
        assert_eq!(side.parameters().data_digest, expected == "CRC32C");
        assert_eq!(side.finish().is_err(), preference == D::Require && expected == "Reject");
    }
}

#[test]
fn a_first_burst_fits_its_burst_in_either_order() {
    let expected = [("FirstBurstLength", "65536"), ("MaxBurstLength", "4096")];
    for text in [expected, [expected[1], expected[0]]] {
        let mut side = target(Preferences::default());
        assert_eq!(answer(&mut side, &text).unwrap(), "MaxBurstLength=4096 FirstBurstLength=4096");
    }
}

#[test]
fn no_key_twice() {
    let twice = [("InitialR2T", "No"), ("InitialR2T", "No")];
    let refused = answer(&mut target(Preferences::default()), &twice);
    assert_eq!(refused, Err(NegotiationError::Repeated("InitialR2T")));
}

#[test]
fn what_means_nothing_here_is_irrelevant() {
    let discovery = Scope { discovery: true, leading: true };
    let mut side = Negotiator::new(Role::Target, discovery, Preferences::default());
    let text = [("MaxBurstLength", "512"), ("ErrorRecoveryLevel", "0"), ("HeaderDigest", "None")];
    assert_eq!(
        answer(&mut side, &text).unwrap(),
        "MaxBurstLength=Irrelevant ErrorRecoveryLevel=0 HeaderDigest=None"
    );
    let joining = Scope { discovery: false, leading: false };
    let mut side = Negotiator::new(Role::Target, joining, Preferences::default());
    assert_eq!(
        answer(&mut side, &[("MaxConnections", "2"), ("DataDigest", "CRC32C")]).unwrap(),
        "MaxConnections=Irrelevant DataDigest=CRC32C"
    );
}

#[test]
fn a_target_asks_for_what_it_cannot_do_without() {
    let wanted = Preferences {
        immediate_data: false,
        max_burst_length: 65536,
        first_burst_length: 1024,
        header_digest: DigestPreference::Require,
        ..Preferences::default()
    };
    let mut side = target(wanted);
    answer(&mut side, &[("MaxBurstLength", "1048576")]).unwrap();
    let mut out = Text::new();
    assert!(side.offer_needed(&mut out));
    let asked: Vec<_> = pairs(out.as_bytes()).map(Result::unwrap).collect();
    let expected = [("HeaderDigest", "CRC32C"), ("ImmediateData", "No"), ("FirstBurstLength", "1024")];
    assert_eq!(asked, expected);
    assert!(side.awaits_answers() && !side.offer_needed(&mut Text::new()));
    assert!(side.finish().is_err());
    answer(&mut side, &[("HeaderDigest", "CRC32C"), ("FirstBurstLength", "512")]).unwrap();
    let refused = answer(&mut side.clone(), &[("ImmediateData", "Reject")]);
    assert_eq!(refused, Err(NegotiationError::NoAgreement("ImmediateData")));
    answer(&mut side, &[("ImmediateData", "No")]).unwrap();
    let parameters = side.finish().unwrap();
    assert!(parameters.header_digest && !parameters.immediate_data);
    assert_eq!((parameters.max_burst_length, parameters.first_burst_length), (65536, 512));
}

#[test]
fn what_an_offer_decides_needs_no_answer() {
    let wanted = Preferences { immediate_data: false, initial_r2t: true, ..Preferences::default() };
    let mut side = Negotiator::new(Role::Initiator, LEADING, wanted);
    side.offer_all(&mut Text::new());
    let mut heard = 0;
    for rule in &TABLE {
        let decided = ["InitialR2T", "ImmediateData", "DataPDUInOrder", "DataSequenceInOrder"];
        if side.offered & bit(rule.key) != 0 && !decided.contains(&rule.name) {
            assert!(side.awaits_answers(), "{}", rule.name);
            let value = if rule.function == Function::Digest {
                NONE.into()
            } else {
                text_of(rule, side.preferences.wanted(rule.key))
            };
            answer(&mut side, &[(rule.name, &value)]).unwrap();
            heard += 1;
        }
    }
    assert!(heard > 5 && !side.awaits_answers());
    let parameters = side.finish().unwrap();
    assert!(!parameters.immediate_data && parameters.initial_r2t);
    let contradicted = answer(&mut side, &[("ImmediateData", "Yes")]);
    assert_eq!(contradicted, Err(NegotiationError::BadAnswer("ImmediateData")));
}

#[test]
fn answers_beyond_the_offer_are_refused() {
    for (key, value) in [
        ("MaxBurstLength", "1048577"),
        ("MaxOutstandingR2T", "9"),
        ("DefaultTime2Wait", "1"),
        ("HeaderDigest", "CRC32C,None"),
        ("DataSequenceInOrder", "No"),
        ("InitialR2T", "Perhaps"),
    ] {
        let mut side = Negotiator::new(Role::Initiator, LEADING, Preferences::default());
        side.offer_all(&mut Text::new());
        let refused = side.receive(key, value, &mut Text::new());
        assert_eq!(refused, Err(NegotiationError::BadAnswer(Key::from_name(key).unwrap().rule().name)));
    }
}

fn preferences() -> impl Strategy<Value = Preferences> {
    use DigestPreference as D;
    let digest = || proptest::sample::select(vec![D::Never, D::Allow, D::Prefer, D::Require]);
    let numbers =
        (any::<u16>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>(), 0u8..12, 0u8..4);
    (digest(), digest(), any::<bool>(), any::<bool>(), numbers).prop_map(
        |(header, data, r2t, immediate, n)| Preferences {
            header_digest: header,
            data_digest: data,
            max_connections: n.0,
            initial_r2t: r2t,
            immediate_data: immediate,
            max_recv_data_segment_length: n.1,
            max_burst_length: n.2 >> (n.2 & 15),
            first_burst_length: n.3 >> (n.3 & 15),
            default_time2wait: n.4,
            default_time2retain: n.5,
            max_outstanding_r2t: n.6,
            protocol_level: n.7,
        },
    )
}

proptest! {
    /// Whatever two sides want, they end with the same parameters, within what both can do, or both
    /// know that there is no agreement.
    #[test]
    fn two_sides_agree(ours in preferences(), theirs in preferences(), discovery: bool) {
        let scope = Scope { discovery, leading: true };
        let mut initiator = Negotiator::new(Role::Initiator, scope, theirs);
        let mut target = Negotiator::new(Role::Target, scope, ours);
        let (mut request, mut response) = (Text::new(), Text::new());
        initiator.offer_all(&mut request);
        target.declare(&mut response);
        for pair in pairs(request.as_bytes()) {
            let (key, value) = pair.unwrap();
            target.receive(key, value, &mut response).unwrap();
        }
        target.end_of_text(&mut response);
        prop_assert!(!target.offer_needed(&mut response), "everything was offered");
        let mut rest = Text::new();
        let mut failed = false;
        for pair in pairs(response.as_bytes()) {
            let (key, value) = pair.unwrap();
            failed |= initiator.receive(key, value, &mut rest).is_err();
        }
        prop_assert!(rest.is_empty() && !initiator.awaits_answers());
        let (Ok(theirs_agreed), Ok(ours_agreed)) = (initiator.finish(), target.finish()) else { return Ok(()) };
        if failed { return Ok(()) }
        let mirrored = Parameters {
            max_recv_data_segment_length: ours_agreed.max_send_data_segment_length,
            max_send_data_segment_length: ours_agreed.max_recv_data_segment_length,
            ..ours_agreed
        };
        prop_assert_eq!(theirs_agreed, mirrored);
        if !discovery {
            prop_assert!(ours_agreed.max_burst_length <= ours.max_burst_length.max(512));
            prop_assert!(ours_agreed.first_burst_length <= ours_agreed.max_burst_length);
            prop_assert!((1..=8).contains(&ours_agreed.max_outstanding_r2t));
        }
    }

    #[test]
    fn any_text_ends_in_an_answer(index in 0usize..COUNT, value in "(0x)?[0-9]{0,11}|Yes|No|[A-Za-z0-9,~]{0,20}") {
        let _ = answer(&mut target(Preferences::default()), &[(TABLE[index].name, &value)]);
    }
}
