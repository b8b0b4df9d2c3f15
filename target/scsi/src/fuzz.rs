//! One entry for fuzzers: bytes become commands to a small logical unit.
//!
//! Used by the fuzz targets and by this crate's own tests. It checks what must hold after any
//! command at all; a violation panics, which is what a fuzzer looks for.

use crate::config::{Limits, LuConfig, Role, Rotation, TargetName, TargetPort, WriteCache};
use crate::disposition::{DataOut, Disposition};
use crate::nexus::NexusId;
use crate::transport_id::TransportId;
use crate::unit::{LogicalUnit, Readiness, Reset};
use crate::{absent, report_luns, transfer};
use kagami_types::{BlockCount, BlockOp, BlockRange, BlockSize, Lun, Naa, Uuid};
use std::sync::Arc;

/// A configuration to try things on: thin, writable, two target ports, `blocks` blocks.
#[must_use]
pub fn config(block_size: BlockSize, blocks: u64) -> LuConfig {
    let uuid = Uuid::from_u128(0x6f1d_33ab_52c0_4c5e_9d1e_8a77_1234_5678);
    LuConfig {
        lun: Lun::ZERO,
        uuid,
        naa: Naa::from_uuid(uuid),
        role: Role::Volume,
        revision: "1".into(),
        serial: "6f1d33ab52c04c5e".into(),
        block_size,
        physical_exponent: 0,
        capacity: BlockCount(blocks),
        limits: Limits { registrations: 8, nexuses: 16, ..Limits::usual(block_size) },
        read_only: false,
        write_cache: WriteCache { enabled: true, changeable: true },
        thin: true,
        rotation: Rotation::SolidState,
        target: TargetName {
            name: "iqn.2026-11.io.kagami:test".into(),
            port_group: 1,
            ports: vec![
                TargetPort { relative: 1, portal_group: 1 },
                TargetPort { relative: 2, portal_group: 2 },
            ],
        },
    }
}

/// Runs a sequence of commands read from `data`: a control byte, a CDB and a length-prefixed
/// parameter list each.
///
/// # Panics
/// When an answer breaks one of the rules that hold for every command. Never else.
pub fn run(data: &[u8]) {
    let Ok(mut unit) = LogicalUnit::new(config(BlockSize::B512, 100_000)) else { return };
    for (number, name) in (0..3).zip(["iqn.a", "iqn.b", "iqn.c"]) {
        if let Some(id) = TransportId::new(name, [0; 6]) {
            let _ = unit.attach(NexusId(number), Arc::new(id), 1);
        }
    }
    let mut rest = data;
    let mut out = Vec::new();
    while let Some((&control, after)) = rest.split_first() {
        let Some((cdb, after)) = after.split_first_chunk::<16>() else { return };
        let list_length = usize::from(after.first().copied().unwrap_or(0));
        let after = after.get(1..).unwrap_or(&[]);
        let (list, after) = after.split_at(list_length.min(after.len()));
        rest = after;
        event(&mut unit, control);
        command(&mut unit, NexusId(u32::from(control & 3)), cdb, list, &mut out);
    }
}

/// What may happen between commands.
fn event(unit: &mut LogicalUnit, control: u8) {
    match control >> 3 {
        1 => unit.reset(Reset::LogicalUnit),
        2 => unit.reset(Reset::Power),
        3 => unit.set_readiness(Readiness::Unreachable),
        4 => unit.set_readiness(Readiness::Ready),
        5 => unit.set_capacity(BlockCount(50_000)),
        6 => unit.set_read_only(true),
        7 => unit.set_read_only(false),
        8 => unit.detach(NexusId(1)),
        9 => {
            let kept = unit.snapshot();
            assert_eq!(unit.restore(&kept), Ok(()), "a snapshot can always be restored");
        }
        _ => {}
    }
}

fn command(unit: &mut LogicalUnit, nexus: NexusId, cdb: &[u8; 16], list: &[u8], out: &mut Vec<u8>) {
    let transfer = transfer(cdb, unit.block_size());
    let offered = u64::try_from(list.len()).unwrap_or(0);
    let data = DataOut {
        parameters: list.get(..transfer.gather(offered)).unwrap_or(&[]),
        offered: if list.is_empty() { transfer.bytes } else { offered },
    };
    out.clear();
    let disposition = unit.execute(nexus, cdb, data, out);
    match disposition {
        Disposition::DataIn => {
            let length = u64::try_from(out.len()).unwrap_or(u64::MAX);
            assert!(length <= transfer.bytes, "no more data than the allocation length");
        }
        Disposition::Check(sense) => {
            let room = unit.encode(&sense).as_ref().len();
            assert!((8..=36).contains(&room), "sense data have a sensible length");
        }
        Disposition::Block(op) | Disposition::Background(op) => {
            check_op(unit, &op);
            if matches!(op, BlockOp::LbaStatus { .. }) {
                unit.finish_lba_status(cdb, &[], out);
            }
        }
        Disposition::ReportLuns(request) => report_luns(request, [Lun::ZERO], out),
        Disposition::Good | Disposition::Status(_) | Disposition::Deferred(_) => {}
    }
    let _ = absent(cdb, out);
}

/// Whatever reaches the volume is on the volume.
fn check_op(unit: &LogicalUnit, op: &BlockOp) {
    let inside =
        |range: &BlockRange| range.blocks > 0 && range.lba.0 + u64::from(range.blocks) <= unit.capacity().0;
    let fine = match op {
        BlockOp::Read(range, _) | BlockOp::Write(range, _) | BlockOp::CompareAndWrite(range, _) => {
            inside(range)
        }
        BlockOp::WriteVerify { range, .. } | BlockOp::Verify { range, .. } => inside(range),
        BlockOp::WriteSame { lba, blocks, .. } => blocks.0 > 0 && lba.0 + blocks.0 <= unit.capacity().0,
        BlockOp::Unmap(ranges) => !ranges.is_empty() && ranges.iter().all(inside),
        BlockOp::Flush { lba, blocks } => lba.0 + blocks.0 <= unit.capacity().0,
        BlockOp::LbaStatus { lba, .. } => *lba < kagami_types::Lba(unit.capacity().0),
    };
    assert!(fine, "{op:?} is not wholly on the volume");
}
