//! A command of a host, from its CDB to the judgement of its answer.

use super::plan::LunPlan;
use crate::checker::{Ending, Flush, Read, Units, Write};
use crate::coverage::Happening;
use kagami_iscsi::pdu::{Cid, Itt};
use kagami_iscsi::serial::CmdSn;
use kagami_types::Time;

/// What a command does, with what the checker has to be told of it.
#[derive(Debug)]
pub(super) enum Work {
    /// READ.
    Read(Read, Units),
    /// WRITE; with FUA.
    Write(Write, bool),
    /// UNMAP or WRITE SAME with zeroes.
    Zero(Write, Happening),
    /// SYNCHRONIZE CACHE of the whole unit.
    Flush(Flush),
    /// COMPARE AND WRITE: what the blocks are compared with comes first in the data.
    Compare(Write, Units),
    /// READ CAPACITY (16).
    Capacity,
    /// TEST UNIT READY, INQUIRY: only the status matters.
    Other,
}

/// A command on its way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) itt: Itt,
    /// Index into the host's logical units.
    pub(super) unit: usize,
    pub(super) cid: Cid,
    pub(super) cmd_sn: CmdSn,
    pub(super) cdb: [u8; 16],
    pub(super) work: Work,
    /// Data to be sent.
    pub(super) out: Vec<u8>,
    /// Bytes that the initiator expects, or has room for.
    pub(super) expected: u32,
    /// Bytes that the CDB asks for.
    pub(super) asked: u32,
    /// Data that came.
    pub(super) received: Vec<u8>,
    /// The next Data-In.
    pub(super) data_sn: u32,
    /// Bytes of Data-In since the last one with F.
    pub(super) burst: u32,
    /// The next R2T.
    pub(super) r2t_sn: u32,
    /// From where on the next R2T has to ask.
    pub(super) solicited: u32,
    /// R2Ts that are not yet answered.
    pub(super) open_r2ts: u16,
    pub(super) issued: Time,
    pub(super) patience: u64,
    /// The tag of the request to abort it.
    pub(super) aborting: Option<Itt>,
}

/// A sense code: key, additional code and qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sense {
    pub(super) key: u8,
    pub(super) code: u16,
}

impl Sense {
    /// Reads the data segment of a response: two bytes of length, then sense data of either format
    /// (SPC-5 4.4.2, 4.4.3).
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let sense = data.get(2..)?;
        let (key, code, qualifier) = match sense.first()? & 0x7f {
            0x70 | 0x71 => (sense.get(2)?, sense.get(12)?, sense.get(13)?),
            0x72 | 0x73 => (sense.get(1)?, sense.get(2)?, sense.get(3)?),
            _ => return None,
        };
        Some(Self { key: key & 0x0f, code: u16::from_be_bytes([*code, *qualifier]) })
    }
}

/// What a command's end is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// GOOD.
    Good,
    /// COMPARE AND WRITE found a difference.
    Miscompared,
    /// It had no effect and can be sent again.
    Refused,
    /// It failed as a device fails: what it wrote may be there.
    Failed,
    /// As before, and it may yet happen.
    FailedOpen,
}

pub(super) mod status {
    pub(in super::super) const GOOD: u8 = 0x00;
    pub(in super::super) const CHECK_CONDITION: u8 = 0x02;
    pub(in super::super) const BUSY: u8 = 0x08;
    pub(in super::super) const TASK_SET_FULL: u8 = 0x28;
    pub(in super::super) const TASK_ABORTED: u8 = 0x40;
}

impl Task {
    /// The numbers of the write or read for the trace: write, first unit, units.
    pub(super) fn numbers(&self) -> [u64; 3] {
        let of = |units: &Units| (units.first, units.count);
        let (id, (first, count)) = match &self.work {
            Work::Read(_, units) => (0, of(units)),
            Work::Write(write, _) | Work::Zero(write, _) | Work::Compare(write, _) => {
                (write.id.0, write.units().first().map_or((0, 0), of))
            }
            _ => (0, (0, 0)),
        };
        [id, first, count]
    }

    /// Whether data go to the target.
    pub(super) fn writes(&self) -> bool {
        !self.out.is_empty()
    }

    /// Judges a status. Counts what it sees.
    pub(super) fn judge(
        &self,
        status: u8,
        sense: Option<Sense>,
        faulty: bool,
        mut hit: impl FnMut(Happening),
    ) -> Result<Verdict, String> {
        let unexpected = || Err(format!("{} ended with status {status:#04x} and {sense:x?}", self.name()));
        let explained = |verdict| if faulty { Ok(verdict) } else { unexpected() };
        match (status, sense.map(|sense| sense.key)) {
            (status::GOOD, _) => Ok(Verdict::Good),
            (status::BUSY, _) => {
                hit(Happening::Busy);
                Ok(Verdict::Refused)
            }
            (status::TASK_SET_FULL, _) => {
                hit(Happening::TaskSetFull);
                Ok(Verdict::Refused)
            }
            (status::TASK_ABORTED, _) => Ok(Verdict::Failed),
            (status::CHECK_CONDITION, Some(0x6)) => {
                hit(Happening::UnitAttention);
                Ok(Verdict::Refused)
            }
            (status::CHECK_CONDITION, Some(0xe)) if matches!(self.work, Work::Compare(..)) => {
                hit(Happening::Miscompare);
                Ok(Verdict::Miscompared)
            }
            // NOT READY, MEDIUM ERROR, HARDWARE ERROR, DATA PROTECT.
            (status::CHECK_CONDITION, Some(0x2 | 0x3 | 0x4 | 0x7)) => {
                hit(Happening::CommandFailed);
                explained(Verdict::Failed)
            }
            // ABORTED COMMAND: a device that did not answer in time may do so yet.
            (status::CHECK_CONDITION, Some(0xb)) => {
                hit(Happening::CommandFailed);
                explained(Verdict::FailedOpen)
            }
            _ => unexpected(),
        }
    }

    /// Tells the checker how it ended, and counts.
    pub(super) fn finish(
        self,
        unit: &LunPlan,
        hangs: bool,
        verdict: Verdict,
        hit: impl FnOnce(Happening),
    ) -> Result<(), String> {
        let ending = match verdict {
            Verdict::Good => Ending::Done,
            Verdict::Miscompared | Verdict::Refused => Ending::Nothing,
            Verdict::Failed if !hangs => Ending::Unknown,
            Verdict::Failed | Verdict::FailedOpen => Ending::Lingering,
        };
        let good = verdict == Verdict::Good;
        let checker = &unit.checker;
        match self.work {
            Work::Read(read, units) => {
                // A read with room for less than it asked for is checked as far as it came.
                let whole = self.received.len() - self.received.len() % checker.unit().max(1);
                let data = self.received.get(..whole).filter(|_| good);
                checker.end_read(read, units.first, data)?;
                if good {
                    hit(Happening::ReadChecked);
                }
            }
            Work::Write(write, fua) => {
                checker.end_write(write, if good && fua { Ending::Stable } else { ending });
                if good {
                    hit(if fua { Happening::FuaAcked } else { Happening::WriteAcked });
                }
            }
            Work::Zero(write, what) => {
                checker.end_write(write, ending);
                if good {
                    hit(what);
                }
            }
            Work::Flush(flush) => {
                if good {
                    checker.end_flush(flush, Units { first: 0, count: checker.units() });
                    hit(Happening::FlushAcked);
                }
            }
            Work::Compare(write, units) => {
                if good || verdict == Verdict::Miscompared {
                    let expected = self.out.get(..self.out.len() / 2).unwrap_or_default();
                    checker.compared(&write, units, expected, good)?;
                }
                checker.end_write(write, ending);
                if good {
                    hit(Happening::CompareWrote);
                }
            }
            Work::Capacity if good => {
                let last = self.received.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
                let block = self.received.get(8..12).and_then(|bytes| bytes.try_into().ok());
                let block = block.map(u32::from_be_bytes);
                if last != Some(unit.blocks - 1) || block.map(|block| block as usize) != Some(unit.block) {
                    return Err(format!("READ CAPACITY says {last:?} of {block:?} bytes"));
                }
            }
            Work::Capacity | Work::Other => {}
        }
        Ok(())
    }

    /// It was aborted, or lost with its session: nobody knows, and nothing happens any more.
    pub(super) fn forget(self, unit: &LunPlan, hangs: bool) {
        // Without data there is nothing that could be wrong.
        let _ = self.finish(unit, hangs, Verdict::Failed, |_| ());
    }

    fn name(&self) -> &'static str {
        match self.cdb[0] {
            0x00 => "TEST UNIT READY",
            0x12 => "INQUIRY",
            0x28 | 0x88 => "READ",
            0x2a | 0x8a => "WRITE",
            0x35 | 0x91 => "SYNCHRONIZE CACHE",
            0x41 | 0x93 => "WRITE SAME",
            0x42 => "UNMAP",
            0x89 => "COMPARE AND WRITE",
            0x9e => "READ CAPACITY",
            _ => "a command",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sense_data_are_read() {
        let mut fixed = vec![0, 18, 0x70, 0, 0x06];
        fixed.resize(20, 0);
        (fixed[14], fixed[15]) = (0x29, 0x01);
        assert_eq!(Sense::read(&fixed), Some(Sense { key: 6, code: 0x2901 }));
        let descriptor = [0, 8, 0x72, 0x0b, 0x2e, 0x00, 0, 0, 0, 0];
        assert_eq!(Sense::read(&descriptor), Some(Sense { key: 0xb, code: 0x2e00 }));
        assert_eq!(Sense::read(&[0, 18, 0x70]), None);
        assert_eq!(Sense::read(&[]), None);
    }
}
