//! What a CDB says of itself, before any logical unit is asked: blocks addressed, data called for.
//!
//! The transport calls [`transfer`] when a command arrives, to know whether to collect a
//! parameter list and, at the end, to compute residuals. Checks are the device server's.

use crate::bytes::{be16, be32, byte};
use crate::table::{DataKind, Field, Form, Found, Op, Row, lookup};
use kagami_types::BlockSize;

/// A command descriptor block as the transport delivers it: sixteen bytes, shorter ones padded.
pub type Cdb = [u8; 16];

/// The longest parameter list that a transport has to collect, in bytes. A longer one is
/// refused with PARAMETER LIST LENGTH ERROR.
pub const MAX_PARAMETERS: usize = 65_536;

/// The data that a CDB itself calls for, whatever the transport expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which data; `None` also where the length is zero.
    pub kind: DataKind,
    /// How many bytes: exact for blocks and parameter lists; for [`DataKind::In`] the
    /// allocation length, the most that can come.
    pub bytes: u64,
}

impl Transfer {
    /// No data.
    pub const NONE: Self = Self { kind: DataKind::None, bytes: 0 };

    /// The bytes of parameter list to collect for [`LogicalUnit::execute`](crate::LogicalUnit::execute),
    /// given how many the initiator offers (its Expected Data Transfer Length).
    #[must_use]
    pub fn gather(&self, offered: u64) -> usize {
        if self.kind != DataKind::Parameters {
            return 0;
        }
        usize::try_from(self.bytes.min(offered)).unwrap_or(MAX_PARAMETERS).min(MAX_PARAMETERS)
    }
}

/// The data that a CDB calls for on a logical unit with that block size. Nothing for a command
/// that is not served.
#[must_use]
#[inline]
pub fn transfer(cdb: &Cdb, block_size: BlockSize) -> Transfer {
    let Found::Row(row) = lookup(cdb) else { return Transfer::NONE };
    let bytes = match row.data {
        DataKind::None => 0,
        DataKind::In | DataKind::Parameters => u64::from(length(cdb, row)),
        DataKind::BlocksIn => blocks_moved(cdb, row) << block_size.shift(),
        DataKind::BlocksOut => blocks_moved(cdb, row) << block_size.shift(),
    };
    Transfer { kind: if bytes == 0 { DataKind::None } else { row.data }, bytes }
}

/// The first block that a CDB addresses; 0 for a command that addresses none.
#[must_use]
#[inline]
pub fn first_block(cdb: &Cdb) -> u64 {
    match lookup(cdb) {
        Found::Row(row) => extent(cdb, row.form).0,
        _ => 0,
    }
}

/// Whether [`execute`](crate::LogicalUnit::execute) may end such a command with
/// [`Deferred`](crate::Disposition::Deferred).
#[must_use]
pub fn may_defer(cdb: &Cdb) -> bool {
    matches!(lookup(cdb), Found::Row(row) if matches!(row.op, Op::ModeSelect | Op::PersistentOut))
}

/// The blocks of data that go with the command, at most 2^32.
fn blocks_moved(cdb: &Cdb, row: &Row) -> u64 {
    let (_, blocks) = extent(cdb, row.form);
    let blocks = u64::from(blocks);
    match row.op {
        Op::CompareAndWrite => blocks * 2,
        Op::WriteSame => u64::from(!no_data_out(cdb)),
        Op::Verify => match byte_check(cdb) {
            1 => blocks,
            3 => blocks.min(1),
            _ => 0,
        },
        _ => blocks,
    }
}

/// The allocation length or parameter list length in bytes.
#[inline]
pub(crate) fn length(cdb: &Cdb, row: &Row) -> u32 {
    let Field { at, width } = row.length;
    let at = usize::from(at);
    match width {
        1 => u32::from(byte(cdb, at)),
        2 => u32::from(be16(cdb, at)),
        4 => be32(cdb, at),
        // READ CAPACITY(10) has no allocation length: its parameter data are 8 bytes.
        _ => 8,
    }
}

/// First block and number of blocks.
#[inline]
pub(crate) fn extent(cdb: &Cdb, form: Form) -> (u64, u32) {
    let c = cdb;
    match form {
        Form::None => (0, 0),
        Form::Six => {
            let lba = u32::from_be_bytes([0, c[1] & 0x1f, c[2], c[3]]);
            let blocks = if c[4] == 0 { 256 } else { u32::from(c[4]) };
            (u64::from(lba), blocks)
        }
        Form::Ten => {
            let lba = u32::from_be_bytes([c[2], c[3], c[4], c[5]]);
            (u64::from(lba), u32::from(u16::from_be_bytes([c[7], c[8]])))
        }
        Form::Twelve => {
            let lba = u32::from_be_bytes([c[2], c[3], c[4], c[5]]);
            (u64::from(lba), u32::from_be_bytes([c[6], c[7], c[8], c[9]]))
        }
        Form::Sixteen => (lba16(c), u32::from_be_bytes([c[10], c[11], c[12], c[13]])),
        Form::Compare => (lba16(c), u32::from(c[13])),
    }
}

/// The LBA of a sixteen-byte CDB.
#[inline]
pub(crate) fn lba16(c: &Cdb) -> u64 {
    u64::from_be_bytes([c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]])
}

/// The byte where the length field of a block command starts, for field pointers.
pub(crate) fn length_at(form: Form) -> u16 {
    match form {
        Form::None => 0,
        Form::Six => 4,
        Form::Ten => 7,
        Form::Twelve => 6,
        Form::Sixteen => 10,
        Form::Compare => 13,
    }
}

/// BYTCHK of VERIFY (SBC-4 5.34).
pub(crate) fn byte_check(cdb: &Cdb) -> u8 {
    (cdb[1] >> 1) & 3
}

/// NDOB of WRITE SAME(16): no data-out buffer (SBC-4 5.54). WRITE SAME(10) has no such bit.
pub(crate) fn no_data_out(cdb: &Cdb) -> bool {
    cdb[0] == 0x93 && cdb[1] & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Transfer {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        transfer(&cdb, BlockSize::B512)
    }

    #[test]
    fn reads_and_writes_move_their_blocks() {
        assert_eq!(of(&[0x08, 0, 0, 0, 0]), Transfer { kind: DataKind::BlocksIn, bytes: 256 * 512 });
        assert_eq!(of(&[0x28, 0, 0, 0, 0, 0, 0, 1, 2]).bytes, 0x102 * 512);
        assert_eq!(of(&[0xa8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).bytes, 0xffff_ffff * 512);
        assert_eq!(of(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]).bytes, 3 * 512);
        assert_eq!(of(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 0]), Transfer::NONE);
    }

    #[test]
    fn other_block_commands_move_what_their_bits_say() {
        assert_eq!(of(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]).bytes, 4 * 512);
        assert_eq!(of(&[0x41, 0, 0, 0, 0, 0, 0, 9, 9]).bytes, 512);
        assert_eq!(of(&[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]).bytes, 512);
        assert_eq!(of(&[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]), Transfer::NONE);
        assert_eq!(of(&[0x2f, 0, 0, 0, 0, 0, 0, 0, 9]), Transfer::NONE);
        assert_eq!(of(&[0x2f, 2, 0, 0, 0, 0, 0, 0, 9]).bytes, 9 * 512);
        assert_eq!(of(&[0x2f, 6, 0, 0, 0, 0, 0, 0, 9]).bytes, 512);
        assert_eq!(of(&[0x35, 0, 0, 0, 0, 0, 0, 0, 9]), Transfer::NONE);
    }

    #[test]
    fn parameter_lengths_are_taken_from_their_fields() {
        assert_eq!(of(&[0x12, 1, 0x83, 1, 0]), Transfer { kind: DataKind::In, bytes: 256 });
        assert_eq!(of(&[0x25]), Transfer { kind: DataKind::In, bytes: 8 });
        let prout = of(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24]);
        assert_eq!(prout, Transfer { kind: DataKind::Parameters, bytes: 24 });
        assert_eq!((prout.gather(100), prout.gather(8)), (24, 8));
        assert_eq!(of(&[0x5f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).gather(u64::MAX), MAX_PARAMETERS);
        assert_eq!(of(&[0xff]), Transfer::NONE);
    }
}
