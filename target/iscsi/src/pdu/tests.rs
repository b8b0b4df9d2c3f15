//! Golden bytes of what initiators send, and the views over them.

use super::*;
use crate::serial::{CmdSn, StatSn};

/// A header from twelve words, as RFC 7143 11 draws them.
fn header(words: [u32; 12]) -> Bhs {
    let mut bytes = [0; BHS_LEN];
    for (chunk, word) in bytes.chunks_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    Bhs::from(bytes)
}

#[test]
fn a_write_command() {
    let bhs = header([
        0x01a1_0000,
        0x0000_1000,
        0x0005_0000,
        0,
        0x1234_5678,
        0x0001_0000,
        7,
        9,
        0x2a00_0000,
        0x0800_0000,
        0x8000_0000,
        0,
    ]);
    assert_eq!(bhs.opcode(), Some(Opcode::ScsiCommand));
    assert!(!bhs.is_immediate() && bhs.is_final());
    assert_eq!((bhs.ahs_len(), bhs.data_segment_len(), bhs.itt()), (0, 4096, Itt(0x1234_5678)));
    assert_eq!((bhs.cmd_sn(), bhs.exp_stat_sn(), bhs.lun()), (CmdSn(7), StatSn(9), [0, 5, 0, 0, 0, 0, 0, 0]));
    let command = bhs.as_scsi_command();
    assert_eq!(command.flags & CommandFlags::READ, CommandFlags::empty());
    assert!(command.flags.contains(CommandFlags::WRITE | CommandFlags::FINAL));
    assert_eq!(command.flags.attribute(), Some(TaskAttribute::Simple));
    assert_eq!(command.expected_len.get(), 65536);
    assert_eq!(command.cdb[..10], [0x2a, 0, 0, 0, 8, 0, 0, 0, 0x80, 0]);
    assert_eq!(command.as_bhs(), &bhs);
}

#[test]
fn a_data_out() {
    let bhs = header([0x0580_0000, 0x0000_0200, 0, 0, 1, 0x0000_0701, 0, 5, 0, 3, 0x600, 0]);
    let data = bhs.as_data_out();
    assert_eq!(
        (data.ttt.get(), data.data_sn.get(), data.offset.get(), data.data_len.get()),
        (0x701, 3, 0x600, 512)
    );
    assert_eq!(bhs.opcode(), Some(Opcode::DataOut));
}

#[test]
fn a_login_request() {
    let bhs = header([0x4387_0000, 0x0000_0100, 0x4000_0137, 0x0000_0000, 1, 0x0002_0000, 5, 6, 0, 0, 0, 0]);
    let login = bhs.as_login_request();
    assert!(bhs.is_immediate());
    assert!(login.flags.contains(LoginFlags::TRANSIT) && !login.flags.contains(LoginFlags::CONTINUE));
    assert_eq!(
        (login.flags.current(), login.flags.next()),
        (Some(Stage::Operational), Some(Stage::FullFeature))
    );
    assert_eq!((login.isid, login.tsih.get(), login.cid.get()), (Isid([0x40, 0, 1, 0x37, 0, 0]), 0, 2));
    assert_eq!(login.isid.to_string(), "0x400001370000");
    let flags = LoginFlags::TRANSIT.with_stages(Stage::Operational, Stage::FullFeature);
    assert_eq!(flags, login.flags);
    assert_eq!(LoginFlags::from_bits_retain(0x0a).current(), None);
}

#[test]
fn management_logout_text_and_snack() {
    let bhs = header([0x4281_0000, 0, 0x0003_0000, 0, 2, 0x55, 8, 9, 7, 0, 0, 0]);
    let request = bhs.as_task_management_request();
    assert_eq!(request.function(), Ok(TmfFunction::AbortTask));
    assert_eq!((request.referenced_tag.get(), request.ref_cmd_sn.get()), (0x55, 7));
    let bhs = header([0x0681_0000, 0, 0, 0, 2, 0x0003_0000, 8, 9, 0, 0, 0, 0]);
    assert_eq!(bhs.as_logout_request().reason(), Ok(LogoutReason::CloseConnection));
    assert_eq!(bhs.as_logout_request().cid.get(), 3);
    let bhs = header([0x0480_0000, 0x0000_0010, 0, 0, 2, RESERVED_TAG, 8, 9, 0, 0, 0, 0]);
    assert!(Ttt::from(bhs.as_text_request().ttt).is_reserved());
    assert_eq!(bhs.as_text_request().flags, TextFlags::FINAL);
    let bhs = header([0x1081_0000, 0, 0, 0, 2, 3, 0, 9, 0, 0, 4, 5]);
    let snack = bhs.as_snack();
    assert_eq!((snack.kind(), snack.beg_run.get(), snack.run_length.get()), (Ok(SnackKind::Status), 4, 5));
    let bhs = header([0x4080_0000, 0x0000_0004, 0, 0, 2, RESERVED_TAG, 8, 9, 0, 0, 0, 0]);
    assert_eq!((bhs.opcode(), bhs.as_nop_out().data_len.get()), (Some(Opcode::NopOut), 4));
}

#[test]
fn opcodes_convert_both_ways() {
    let known = (0..=0x3f).filter_map(Opcode::from_wire).inspect(|op| {
        assert_eq!(Opcode::from_wire(op.number()), Some(*op));
        assert_eq!(op.is_from_target(), op.number() >= 0x20);
    });
    assert_eq!(known.count(), 18);
}

#[test]
fn codes_convert_both_ways_and_refuse_the_rest() {
    for value in 0..=255 {
        assert_eq!(
            TmfFunction::try_from(value).map(u8::from).ok(),
            (1..=12).contains(&value).then_some(value)
        );
        assert_eq!(Stage::try_from(value).map(u8::from).ok(), [0, 1, 3].contains(&value).then_some(value));
    }
    let refused = RejectReason::try_from(1).unwrap_err();
    assert_eq!(refused.to_string(), "0x01 is not a defined reject reason");
}

#[test]
fn lengths_of_24_bits() {
    assert_eq!(U24::new(0x01_0203).get(), 0x01_0203);
    assert_eq!(U24::new(u32::MAX).get(), MAX_DATA_SEGMENT);
    assert_eq!(Bhs::at_front(&[0; 47]), None);
}
