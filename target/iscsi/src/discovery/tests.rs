//! Question and answer against each other, and the answers of a target by hand.

use super::*;
use crate::build::Counters;
use crate::discovery::{Directory, TextContext, TextExchange};
use crate::login::SessionType;
use crate::pdu::RejectReason;
use proptest::prelude::*;

/// So many targets, each with two addresses.
struct Many(usize);

fn name(index: usize) -> IscsiName {
    IscsiName::new(&format!("iqn.2026-11.io.kagami:t{index}")).unwrap()
}

fn addresses() -> [TargetAddress; 2] {
    ["127.0.0.1:3260,1".parse().unwrap(), "[::1]:3260,2".parse().unwrap()]
}

impl Directory for Many {
    fn for_each(&self, visit: &mut dyn FnMut(&IscsiName, &[TargetAddress])) {
        (0..self.0).for_each(|index| visit(&name(index), &addresses()));
    }
}

fn discovery(directory: &Many, segment: u32) -> TextContext<'_> {
    TextContext {
        session_type: SessionType::Discovery,
        target: None,
        max_send_data_segment_length: segment,
        directory,
    }
}

fn ask(wanted: &Wanted, context: &TextContext<'_>) -> Result<Vec<Discovered>, QueryError> {
    let mut query = SendTargets::new(Itt(9), wanted);
    let mut exchange = TextExchange::new();
    let mut counters = Counters::default();
    loop {
        let request = query.poll_transmit(CmdSn(1), StatSn(1)).expect("the initiator's turn");
        let reply = exchange.on_request(&request.bhs, &request.data, context, &counters).unwrap();
        assert_eq!(reply.pdu.bhs.as_text_response().stat_sn.get(), counters.stat_sn.0);
        assert!(reply.pdu.data.len() <= context.max_send_data_segment_length as usize);
        counters.stat_sn = counters.stat_sn.next();
        if let Some(found) = query.on_pdu(&reply.pdu.bhs, &reply.pdu.data)? {
            return Ok(found);
        }
    }
}

#[test]
fn all_targets_one_target_no_target() {
    let many = Many(3);
    let context = discovery(&many, 8192);
    let found = ask(&Wanted::All, &context).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], Discovered { name: name(2), addresses: addresses().into() });
    assert_eq!(ask(&Wanted::Named(name(1)), &context).unwrap()[0].name, name(1));
    assert_eq!(ask(&Wanted::Named(name(7)), &context).unwrap(), []);
    assert_eq!(ask(&Wanted::Own, &context), Err(QueryError::Rejected));
}

#[test]
fn a_normal_session_sees_its_own_target() {
    let own = name(1);
    let many = Many(3);
    let context =
        TextContext { session_type: SessionType::Normal, target: Some(&own), ..discovery(&many, 8192) };
    assert_eq!(ask(&Wanted::Own, &context).unwrap()[0].name, own);
    assert_eq!(ask(&Wanted::Named(name(1)), &context).unwrap().len(), 1);
    assert_eq!(ask(&Wanted::Named(name(2)), &context).unwrap(), []);
    assert_eq!(ask(&Wanted::All, &context), Err(QueryError::Rejected));
}

#[test]
fn an_answer_is_bounded() {
    let found = ask(&Wanted::All, &discovery(&Many(100_000), 65536)).unwrap();
    assert!(found.len() > 10_000 && found.len() < 100_000);
    assert!(found.iter().all(|target| target.addresses.len() == 2));
}

/// A request by hand, and the flags, tag and text of the reply.
fn request(
    exchange: &mut TextExchange,
    (flags, itt, ttt): (TextFlags, u32, Ttt),
    text: &str,
) -> Result<(TextFlags, Ttt, String, Option<u32>), RejectReason> {
    let text = text.replace(' ', "\0");
    let header =
        TextRequest { opcode: 4, flags, itt: itt.into(), ttt: ttt.into(), ..TextRequest::new_zeroed() };
    let reply = exchange.on_request(
        header.as_bhs(),
        text.as_bytes(),
        &discovery(&Many(1), 8192),
        &Counters::default(),
    )?;
    let response = reply.pdu.bhs.as_text_response();
    let data = String::from_utf8(reply.pdu.data.clone()).unwrap().replace('\0', " ");
    Ok((response.flags, response.ttt.into(), data, reply.max_send_data_segment_length))
}

const FINAL: TextFlags = TextFlags::FINAL;
const NEW: Ttt = Ttt::RESERVED;

#[test]
fn keys_of_the_full_feature_phase() {
    let mut exchange = TextExchange::new();
    let got = request(
        &mut exchange,
        (FINAL, 1, NEW),
        "MaxRecvDataSegmentLength=4096 MaxBurstLength=512 X-a=b InitiatorAlias=me ",
    );
    assert_eq!(got, Ok((FINAL, NEW, "MaxBurstLength=Reject X-a=NotUnderstood ".into(), Some(4096))));
    let got = request(&mut exchange, (FINAL, 1, NEW), "TargetName=iqn.a CHAP_A=5 ");
    assert_eq!(got, Ok((FINAL, NEW, "TargetName=Reject CHAP_A=Reject ".into(), None)));
}

#[test]
fn a_request_in_parts() {
    let mut exchange = TextExchange::new();
    let (flags, tag, text, _) = request(&mut exchange, (TextFlags::CONTINUE, 1, NEW), "SendTar").unwrap();
    assert!(flags.is_empty() && text.is_empty() && !tag.is_reserved());
    let (flags, next, text, _) = request(&mut exchange, (TextFlags::empty(), 1, tag), "gets=All ").unwrap();
    assert!(flags.is_empty() && text.starts_with("TargetName=") && next != tag);
    let got = request(&mut exchange, (FINAL, 1, next), "");
    assert_eq!(got, Ok((FINAL, NEW, String::new(), None)));
}

#[test]
fn what_breaks_the_rules_is_rejected() {
    use RejectReason::{InvalidPduField, ProtocolError};
    for (flags, tag, text, reason) in [
        (FINAL | TextFlags::CONTINUE, NEW, "", ProtocolError),
        (FINAL, Ttt(5), "", InvalidPduField),
        (FINAL, NEW, "SendTargets", ProtocolError),
        (FINAL, NEW, "SendTargets=All SendTargets=All ", ProtocolError),
        (FINAL, NEW, "MaxRecvDataSegmentLength=1 ", ProtocolError),
    ] {
        assert_eq!(request(&mut TextExchange::new(), (flags, 1, tag), text), Err(reason), "{text}");
    }
    let mut exchange = TextExchange::new();
    let (_, tag, ..) = request(&mut exchange, (TextFlags::CONTINUE, 1, NEW), "A").unwrap();
    assert_eq!(request(&mut exchange, (FINAL, 2, tag), ""), Err(InvalidPduField), "another task's tag");
    assert!(request(&mut exchange, (FINAL, 2, NEW), "A=1 ").is_ok(), "a new exchange");
    let part = "A".repeat(40_000);
    let (_, tag, ..) = request(&mut exchange, (TextFlags::CONTINUE, 1, NEW), &part).unwrap();
    assert_eq!(request(&mut exchange, (FINAL, 1, tag), &part), Err(ProtocolError), "too long");
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_targets(count in 0usize..40, segment in 16u32..3000) {
        let found = ask(&Wanted::All, &discovery(&Many(count), segment)).unwrap();
        prop_assert_eq!(found, ask(&Wanted::All, &discovery(&Many(count), 65536)).unwrap());
    }
}
