//! The few SCSI commands that the tools send, and how they end (SAM-5 5.3, SBC-4 5, SPC-5 4.4).

use std::fmt;

/// Which way a command's data go, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// From the target.
    Read(u32),
    /// To the target.
    Write(u32),
}

/// A command for a logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The LUN as it goes on the wire.
    pub lun: [u8; 8],
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// The data.
    pub data: Direction,
}

impl Command {
    /// READ (16) (SBC-4 5.18).
    #[inline]
    #[must_use]
    pub fn read(lun: [u8; 8], lba: u64, blocks: u32, block_size: u32) -> Self {
        let data = Direction::Read(blocks.saturating_mul(block_size));
        Self { lun, cdb: long_cdb(0x88, 0, lba, blocks), data }
    }

    /// WRITE (16), with Force Unit Access where `fua` (SBC-4 5.42).
    #[inline]
    #[must_use]
    pub fn write(lun: [u8; 8], lba: u64, blocks: u32, block_size: u32, fua: bool) -> Self {
        let data = Direction::Write(blocks.saturating_mul(block_size));
        Self { lun, cdb: long_cdb(0x8a, u8::from(fua) << 3, lba, blocks), data }
    }

    /// SYNCHRONIZE CACHE (16) of the whole unit (SBC-4 5.29).
    #[must_use]
    pub fn synchronize_cache(lun: [u8; 8]) -> Self {
        Self { lun, cdb: long_cdb(0x91, 0, 0, 0), data: Direction::None }
    }

    /// TEST UNIT READY (SPC-5 6.47).
    #[must_use]
    pub fn test_unit_ready(lun: [u8; 8]) -> Self {
        Self { lun, cdb: [0; 16], data: Direction::None }
    }

    /// READ CAPACITY (16) (SBC-4 5.20).
    #[must_use]
    pub fn read_capacity(lun: [u8; 8]) -> Self {
        let mut cdb = long_cdb(0x9e, 0x10, 0, 0);
        cdb[13] = 32;
        Self { lun, cdb, data: Direction::Read(32) }
    }

    /// INQUIRY of the standard data (SPC-5 6.6).
    #[must_use]
    pub fn inquiry(lun: [u8; 8]) -> Self {
        let mut cdb = [0; 16];
        cdb[..5].copy_from_slice(&[0x12, 0, 0, 0, 96]);
        Self { lun, cdb, data: Direction::Read(96) }
    }

    /// MODE SENSE (6) of the caching mode page, without block descriptors (SPC-5 6.14, SBC-4 6.4.5).
    #[must_use]
    pub fn caching_page(lun: [u8; 8]) -> Self {
        let mut cdb = [0; 16];
        cdb[..5].copy_from_slice(&[0x1a, 0x08, 0x08, 0, 64]);
        Self { lun, cdb, data: Direction::Read(64) }
    }
}

#[inline]
fn long_cdb(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Sense key and additional sense code (SPC-5 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Reads the data segment of a SCSI response: two bytes of length, then sense data in fixed
    /// (SPC-5 4.4.3) or descriptor format (4.4.2).
    #[must_use]
    pub fn from_segment(segment: &[u8]) -> Self {
        let sense = segment.get(2..).unwrap_or_default();
        let byte = |at: usize| sense.get(at).copied().unwrap_or(0);
        match byte(0) & 0x7f {
            0x70 | 0x71 => Self { key: byte(2) & 0x0f, asc: byte(12), ascq: byte(13) },
            0x72 | 0x73 => Self { key: byte(1) & 0x0f, asc: byte(2), ascq: byte(3) },
            _ => Self::default(),
        }
    }

    /// Whether it is a unit attention: news that end one command and no more.
    #[must_use]
    pub fn is_unit_attention(self) -> bool {
        self.key == 6
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// GOOD.
    Good,
    /// CHECK CONDITION.
    Check(Sense),
    /// BUSY or TASK SET FULL: to be sent again.
    Busy,
    /// Any other status.
    Other(u8),
    /// iSCSI response code 1: the target failed (RFC 7143 11.4.3).
    TargetFailure,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("GOOD"),
            Self::Check(s) => {
                write!(f, "CHECK CONDITION, sense {:x}/{:02x}/{:02x}", s.key, s.asc, s.ascq)
            }
            Self::Busy => f.write_str("BUSY or TASK SET FULL"),
            Self::Other(status) => write!(f, "status {status:#04x}"),
            Self::TargetFailure => f.write_str("target failure"),
        }
    }
}

/// The end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub status: Status,
    /// Bytes of read data that came.
    pub received: u32,
    /// The target stated a residual (RFC 7143 11.4.5).
    pub residual: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_cdbs() {
        let read = Command::read([0; 8], 0x0102_0304_0506_0708, 16, 512);
        assert_eq!(read.cdb, [0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 16, 0, 0]);
        assert_eq!(read.data, Direction::Read(8192));
        assert_eq!(Command::write([0; 8], 0, 1, 512, true).cdb[..2], [0x8a, 0x08]);
        assert_eq!(
            Command::read_capacity([0; 8]).cdb,
            [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
        );
    }

    #[test]
    fn both_sense_formats() {
        let fixed = [0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1, 0, 0, 0, 0];
        assert_eq!(Sense::from_segment(&fixed), Sense { key: 6, asc: 0x29, ascq: 1 });
        assert_eq!(Sense::from_segment(&[0, 8, 0x72, 5, 0x24, 0]), Sense { key: 5, asc: 0x24, ascq: 0 });
        assert_eq!(Sense::from_segment(&[]), Sense::default());
    }
}
