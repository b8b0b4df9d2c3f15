//! The rows of the opcode table, sorted by operation code.
//!
//! Usage data are those of SPC-5 and SBC-4 less what this device server refuses: protection
//! information fields, ANCHOR, PMI, power conditions, NACA. Reservation behaviour follows
//! SPC-5 table 66 and SBC-4 table 14.

use crate::table::DataKind::{BlocksIn, BlocksOut, None as NoData};
use crate::table::Form::{Compare, Six, Sixteen, Ten, Twelve};
use crate::table::{Gates, Op, Row};

/// The LUN field that SCSI-2 had in byte 1; Linux still fills it before it knows better.
const SCSI2_LUN: u8 = 0xe0;
/// FUA_NV, obsolete since SBC-3.
const FUA_NV: u8 = 0x02;
/// SYNC_NV, obsolete since SBC-3.
const SYNC_NV: u8 = 0x04;

/// Every command that is served.
pub static ROWS: [Row; 53] = [
    Row::new(Op::TestUnitReady, "TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0], Gates::READY)
        .accepting(SCSI2_LUN)
        .forwarded(),
    Row::new(Op::RequestSense, "REQUEST SENSE", &[0x03, 0x01, 0, 0, 0xff, 0], Gates::FREE)
        .accepting(SCSI2_LUN)
        .allocates(4, 1),
    Row::new(Op::Read, "READ(6)", &[0x08, 0x1f, 0xff, 0xff, 0xff, 0], Gates::READ)
        .accepting(SCSI2_LUN)
        .blocks(Six, BlocksIn),
    Row::new(Op::Write, "WRITE(6)", &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0], Gates::WRITE)
        .accepting(SCSI2_LUN)
        .blocks(Six, BlocksOut),
    Row::new(Op::Inquiry, "INQUIRY", &[0x12, 0x01, 0xff, 0xff, 0xff, 0], Gates::FREE)
        .accepting(SCSI2_LUN)
        .allocates(3, 2),
    Row::new(Op::ModeSelect, "MODE SELECT(6)", &[0x15, 0x11, 0, 0, 0xff, 0], Gates::SELECT)
        .accepting(SCSI2_LUN)
        .takes(4, 1)
        .forwarded(),
    Row::new(Op::Reserve, "RESERVE(6)", &[0x16, 0, 0, 0, 0, 0], Gates::REPORT).accepting(SCSI2_LUN),
    Row::new(Op::Release, "RELEASE(6)", &[0x17, 0, 0, 0, 0, 0], Gates::REPORT).accepting(SCSI2_LUN),
    Row::new(Op::ModeSense, "MODE SENSE(6)", &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], Gates::SENSE)
        .accepting(SCSI2_LUN)
        .allocates(4, 1)
        .forwarded(),
    Row::new(
        Op::StartStop,
        "START STOP UNIT",
        &[0x1b, 0x01, 0, 0, 0x05, 0],
        Gates::ATTENTION.union(Gates::RESERVED),
    )
    .accepting(SCSI2_LUN)
    .forwarded()
    .seconds(120),
    Row::new(Op::ReadCapacity10, "READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Gates::REPORT)
        .accepting(SCSI2_LUN)
        .allocates(0, 0)
        .forwarded(),
    Row::new(Op::Read, "READ(10)", &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0], Gates::READ)
        .accepting(FUA_NV)
        .blocks(Ten, BlocksIn),
    Row::new(
        Op::Write,
        "WRITE(10)",
        &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::WRITE,
    )
    .accepting(FUA_NV)
    .blocks(Ten, BlocksOut),
    Row::new(
        Op::WriteVerify,
        "WRITE AND VERIFY(10)",
        &[0x2e, 0x12, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::WRITE,
    )
    .blocks(Ten, BlocksOut)
    .seconds(60),
    Row::new(
        Op::Verify,
        "VERIFY(10)",
        &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::READ,
    )
    .blocks(Ten, BlocksOut)
    .seconds(60),
    Row::new(
        Op::Prefetch,
        "PRE-FETCH(10)",
        &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::READ,
    )
    .blocks(Ten, NoData),
    Row::new(
        Op::SynchronizeCache,
        "SYNCHRONIZE CACHE(10)",
        &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::SYNC,
    )
    .accepting(SYNC_NV)
    .blocks(Ten, NoData)
    .seconds(120),
    Row::new(
        Op::WriteSame,
        "WRITE SAME(10)",
        &[0x41, 0x08, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
        Gates::WRITE,
    )
    .blocks(Ten, BlocksOut)
    .seconds(120),
    Row::new(
        Op::Unmap,
        "UNMAP",
        &[0x42, 0, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0],
        Gates::WRITE.union(Gates::NOT_THIN),
    )
    .takes(7, 2)
    .forwarded()
    .seconds(120),
    Row::new(Op::ModeSelect, "MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0], Gates::SELECT)
        .takes(7, 2)
        .forwarded(),
    Row::new(Op::Reserve, "RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], Gates::REPORT),
    Row::new(Op::Release, "RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], Gates::REPORT),
    Row::new(
        Op::ModeSense,
        "MODE SENSE(10)",
        &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
        Gates::SENSE,
    )
    .allocates(7, 2)
    .forwarded(),
    persistent_in("PERSISTENT RESERVE IN: READ KEYS", &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    persistent_in("PERSISTENT RESERVE IN: READ RESERVATION", &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    persistent_in("PERSISTENT RESERVE IN: REPORT CAPABILITIES", &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    persistent_in("PERSISTENT RESERVE IN: READ FULL STATUS", &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    persistent_out("PERSISTENT RESERVE OUT: REGISTER", &[0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    persistent_out("PERSISTENT RESERVE OUT: RESERVE", &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    persistent_out("PERSISTENT RESERVE OUT: RELEASE", &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    persistent_out("PERSISTENT RESERVE OUT: CLEAR", &[0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    persistent_out("PERSISTENT RESERVE OUT: PREEMPT", &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    persistent_out(
        "PERSISTENT RESERVE OUT: PREEMPT AND ABORT",
        &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
    ),
    persistent_out(
        "PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY",
        &[0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
    ),
    persistent_out(
        "PERSISTENT RESERVE OUT: REGISTER AND MOVE",
        &[0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
    ),
    Row::new(
        Op::Read,
        "READ(16)",
        &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::READ,
    )
    .accepting(FUA_NV)
    .blocks(Sixteen, BlocksIn),
    Row::new(
        Op::CompareAndWrite,
        "COMPARE AND WRITE",
        &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .accepting(FUA_NV)
    .blocks(Compare, BlocksOut),
    Row::new(
        Op::Write,
        "WRITE(16)",
        &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .accepting(FUA_NV)
    .blocks(Sixteen, BlocksOut),
    Row::new(
        Op::WriteVerify,
        "WRITE AND VERIFY(16)",
        &[0x8e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .blocks(Sixteen, BlocksOut)
    .seconds(60),
    Row::new(
        Op::Verify,
        "VERIFY(16)",
        &[0x8f, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::READ,
    )
    .blocks(Sixteen, BlocksOut)
    .seconds(60),
    Row::new(
        Op::Prefetch,
        "PRE-FETCH(16)",
        &[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::READ,
    )
    .blocks(Sixteen, NoData),
    Row::new(
        Op::SynchronizeCache,
        "SYNCHRONIZE CACHE(16)",
        &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::SYNC,
    )
    .accepting(SYNC_NV)
    .blocks(Sixteen, NoData)
    .seconds(120),
    Row::new(
        Op::WriteSame,
        "WRITE SAME(16)",
        &[0x93, 0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .blocks(Sixteen, BlocksOut)
    .seconds(120),
    Row::new(
        Op::ReadCapacity16,
        "READ CAPACITY(16)",
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::REPORT,
    )
    .service(0x10)
    .allocates(10, 4)
    .forwarded(),
    Row::new(
        Op::GetLbaStatus,
        "GET LBA STATUS(16)",
        &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::READ,
    )
    .service(0x12)
    .allocates(10, 4)
    .forwarded(),
    Row::new(
        Op::ReportLuns,
        "REPORT LUNS",
        &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::FREE,
    )
    .accepting(SCSI2_LUN)
    .allocates(6, 4),
    Row::new(
        Op::ReportTargetPortGroups,
        "REPORT TARGET PORT GROUPS",
        &[0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::REPORT,
    )
    .service(0x0a)
    .allocates(6, 4),
    Row::new(
        Op::ReportOpcodes,
        "REPORT SUPPORTED OPERATION CODES",
        &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::SENSE,
    )
    .service(0x0c)
    .allocates(6, 4),
    Row::new(
        Op::ReportTaskManagement,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Gates::SENSE,
    )
    .service(0x0d)
    .allocates(6, 4),
    Row::new(
        Op::Read,
        "READ(12)",
        &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::READ,
    )
    .accepting(FUA_NV)
    .blocks(Twelve, BlocksIn),
    Row::new(
        Op::Write,
        "WRITE(12)",
        &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .accepting(FUA_NV)
    .blocks(Twelve, BlocksOut),
    Row::new(
        Op::WriteVerify,
        "WRITE AND VERIFY(12)",
        &[0xae, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::WRITE,
    )
    .blocks(Twelve, BlocksOut)
    .seconds(60),
    Row::new(
        Op::Verify,
        "VERIFY(12)",
        &[0xaf, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
        Gates::READ,
    )
    .blocks(Twelve, BlocksOut)
    .seconds(60),
];

const fn persistent_in(name: &'static str, usage: &'static [u8]) -> Row {
    Row::new(Op::PersistentIn, name, usage, Gates::REPORT).service(usage[1]).allocates(7, 2)
}

/// SCOPE and TYPE are in the usage data of every service action: those that ignore the fields
/// must not refuse them.
const fn persistent_out(name: &'static str, usage: &'static [u8]) -> Row {
    Row::new(Op::PersistentOut, name, usage, Gates::REPORT).service(usage[1]).takes(5, 4)
}
