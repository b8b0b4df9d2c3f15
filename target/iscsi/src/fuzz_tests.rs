//! The entry points with random bytes, and with streams that are nearly right.

use super::*;
use crate::pdu::U24;
use proptest::prelude::*;

/// A PDU with a random header, of an opcode and a length that make sense.
fn pdu(opcodes: &'static [u8], texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let text =
        proptest::collection::vec(proptest::sample::select(texts), 0..6).prop_map(|list| list.concat());
    let fields = (proptest::sample::select(opcodes), any::<u8>(), any::<[u8; 40]>(), any::<bool>());
    (fields, text, any::<bool>()).prop_map(|((opcode, flags, rest, calm), text, cut)| {
        let mut bytes = [0; 48];
        bytes[0] = opcode;
        bytes[1] = flags;
        if !calm {
            bytes[8..].copy_from_slice(&rest);
        }
        let mut text = text.into_bytes();
        if cut {
            text.pop();
        }
        let mut bhs = Bhs::from(bytes);
        bhs.as_nop_in_mut().data_len = U24::new(u32::try_from(text.len()).unwrap());
        let mut wire = Vec::new();
        Framing::LOGIN.append(&mut wire, &bhs, &text);
        wire
    })
}

const TEXTS: &[&str] = &[
    "InitiatorName=iqn.a:i\0",
    "TargetName=iqn.a:t\0",
    "TargetName=iqn.a:s\0",
    "SessionType=Discovery\0",
    "AuthMethod=CHAP,None\0",
    "AuthMethod=CHAP\0",
    "CHAP_A=7,5\0",
    "CHAP_N=user\0",
    "CHAP_R=0x00112233445566778899aabbccddeeff\0",
    "CHAP_I=1\0",
    "CHAP_C=0b////\0",
    "HeaderDigest=CRC32C,None\0",
    "MaxBurstLength=4096\0",
    "FirstBurstLength=16777215\0",
    "MaxRecvDataSegmentLength=512\0",
    "ErrorRecoveryLevel=2\0",
    "X-com.example=1\0",
    "SendTargets=All\0",
    "TargetAddress=127.0.0.1:3260,1\0",
    "=\0",
];

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        pdu_stream(&bytes);
        target_login(&bytes);
        login_text(&bytes);
        initiator_login(&bytes);
    }

    #[test]
    fn nearly_a_login(pdus in proptest::collection::vec(pdu(&[0x43, 0x43, 0x04, 0x03], TEXTS), 1..8)) {
        target_login(&pdus.concat());
    }

    #[test]
    fn nearly_a_target(options: u8, pdus in proptest::collection::vec(pdu(&[0x23, 0x23, 0x24], TEXTS), 1..8)) {
        initiator_login(&[&[options][..], &pdus.concat()].concat());
    }

    #[test]
    fn nearly_a_session(options: u8, pdus in proptest::collection::vec(pdu(&[0x01, 0x05, 0x05, 0x04, 0x02, 0x06], TEXTS), 1..12)) {
        pdu_stream(&[&[options & !3][..], &pdus.concat()].concat());
    }

    #[test]
    fn nearly_text(list in proptest::collection::vec(proptest::sample::select(TEXTS), 0..12)) {
        login_text(list.concat().as_bytes());
    }
}
