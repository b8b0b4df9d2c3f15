//! A command of a host, from its CDB to the judgement of its answer.

use super::plan::{HostPlan, LunPlan};
use super::workload::Wish;
use crate::checker::{
    self, Change, Ending, Flush, ModeChange, ModeEnding, Outcome, Read, Seen, Since, Units, Write,
};
use crate::coverage::Happening;
use kagami_iscsi::pdu::{Cid, Itt};
use kagami_iscsi::serial::CmdSn;
use kagami_types::Time;

/// What a command does, with what the checker has to be told of it.
#[derive(Debug)]
pub(super) enum Work {
    /// READ; with FUA also a flush of what it reads.
    Read(Read, Units, Option<Flush>),
    /// WRITE, WRITE AND VERIFY, WRITE SAME of a pattern.
    Write {
        write: Write,
        /// Stable when it is acknowledged.
        stable: bool,
        what: Happening,
    },
    /// UNMAP or WRITE SAME with zeroes.
    Zero(Write, Happening),
    /// SYNCHRONIZE CACHE.
    Flush(Flush, Units, Happening),
    /// COMPARE AND WRITE: what the blocks are compared with comes first in the data.
    Compare(Write, Units),
    /// VERIFY with data.
    Verify(Read, Units),
    /// MODE SELECT of the caching page, to write-back or not.
    Mode(ModeChange, bool),
    /// MODE SELECT of the control page.
    Control,
    /// PERSISTENT RESERVE OUT.
    Reserve(Change, checker::Order),
    /// PERSISTENT RESERVE IN, READ KEYS.
    Keys(Since),
    /// READ CAPACITY (16).
    Capacity,
    /// Only the status matters.
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
    /// All of its data, if any, went with its command: it was in the target's hands at once.
    pub(super) entire: bool,
    /// ORDERED, and tasks that it has to wait for were open when it was sent.
    pub(super) behind: bool,
    /// HEAD OF QUEUE, and when all of it had gone out.
    pub(super) head: bool,
    pub(super) out_at: Option<Time>,
    /// ORDERED: when the last of those that it had to wait for was answered.
    pub(super) waited_until: Option<Time>,
    /// And how many HEAD OF QUEUE ones that came later were answered before it.
    pub(super) overtaken: u64,
    pub(super) issued: Time,
    pub(super) patience: u64,
    /// The tag of the request to abort it.
    pub(super) aborting: Option<Itt>,
    /// What it was made from, where it can be made again.
    pub(super) wish: Option<Wish>,
    /// Which reservations it began under.
    pub(super) since: Since,
    /// And in which part of its device's life.
    pub(super) seen: Seen,
}

/// A sense code: key, additional code and qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sense {
    pub(super) key: u8,
    pub(super) code: u16,
}

/// WRITE ERROR.
const WRITE_ERROR: u16 = 0x0c00;

/// LOGICAL UNIT COMMUNICATION TIME-OUT.
const COMMUNICATION_TIMEOUT: u16 = 0x0801;

/// LOGICAL UNIT NOT SUPPORTED.
const NO_SUCH_UNIT: u16 = 0x2500;

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
    /// COMPARE AND WRITE or VERIFY found a difference.
    Miscompared,
    /// A reservation is in its way.
    Conflict,
    /// It asks for what cannot be.
    Illegal,
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
    pub(in super::super) const RESERVATION_CONFLICT: u8 = 0x18;
    pub(in super::super) const TASK_SET_FULL: u8 = 0x28;
    pub(in super::super) const TASK_ABORTED: u8 = 0x40;
}

impl Task {
    /// The numbers of the write or read for the trace: write, first unit, units.
    pub(super) fn numbers(&self) -> [u64; 3] {
        let of = |units: &Units| (units.first, units.count);
        let (id, (first, count)) = match &self.work {
            Work::Read(_, units, _) | Work::Verify(_, units) | Work::Flush(_, units, _) => (0, of(units)),
            Work::Write { write, .. } | Work::Zero(write, _) | Work::Compare(write, _) => {
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

    /// Whether persistent reservations matter to it, and then whether it counts as a write
    /// (SPC-5 table 66, SBC-4 table 14).
    fn barred_as(&self) -> Option<bool> {
        match self.cdb[0] {
            0x08 | 0x28 | 0xa8 | 0x88 | 0x2f | 0xaf | 0x8f | 0x34 | 0x90 => Some(false),
            0x9e if self.cdb[1] & 0x1f == 0x12 => Some(false),
            _ => match self.work {
                Work::Write { .. } | Work::Zero(..) | Work::Flush(..) | Work::Compare(..) => Some(true),
                Work::Mode(..) | Work::Control => Some(true),
                _ if matches!(self.cdb[0], 0x35 | 0x91) => Some(true),
                _ => None,
            },
        }
    }

    /// Whether it changes the logical unit rather than its blocks.
    pub(super) fn changes_unit(&self) -> bool {
        matches!(self.work, Work::Mode(..) | Work::Control | Work::Reserve(..))
    }

    /// Judges a status. Counts what it sees.
    pub(super) fn judge(
        &self,
        status: u8,
        sense: Option<Sense>,
        plan: &HostPlan,
        unit: &LunPlan,
        mut hit: impl FnMut(Happening),
    ) -> Result<Verdict, String> {
        let unexpected = || Err(format!("{} ended with status {status:#04x} and {sense:x?}", self.name()));
        let explained = |verdict| if plan.faulty { Ok(verdict) } else { unexpected() };
        let barred = self.barred_as();
        let admitted =
            barred.and_then(|writes| unit.checker.reservations().admits(plan.number, writes, self.since));
        match (status, sense.map(|sense| sense.key)) {
            (status::GOOD, _) if admitted == Some(false) => {
                Err(format!("{} was executed in spite of a reservation", self.name()))
            }
            (status::GOOD, _) => Ok(Verdict::Good),
            (status::RESERVATION_CONFLICT, _) if plan.reserves => {
                hit(Happening::ReservationConflict);
                if matches!(self.work, Work::Reserve(..)) || barred.is_some() && admitted != Some(true) {
                    return Ok(Verdict::Conflict);
                }
                Err(format!("{} conflicts with no reservation", self.name()))
            }
            (status::BUSY, _) => {
                hit(Happening::Busy);
                Ok(if self.changes_unit() && plan.loose_changes { Verdict::Failed } else { Verdict::Refused })
            }
            (status::TASK_SET_FULL, _) => {
                hit(Happening::TaskSetFull);
                Ok(Verdict::Refused)
            }
            (status::TASK_ABORTED, _) if plan.resets => {
                hit(Happening::TaskAbortedStatus);
                Ok(Verdict::Failed)
            }
            (status::CHECK_CONDITION, Some(0x6)) => {
                hit(Happening::UnitAttention);
                Ok(Verdict::Refused)
            }
            (status::CHECK_CONDITION, Some(0x5))
                if plan.comes_and_goes && sense.is_some_and(|sense| sense.code == NO_SUCH_UNIT) =>
            {
                hit(Happening::NoSuchUnit);
                Ok(Verdict::Refused)
            }
            (status::CHECK_CONDITION, Some(0xe)) if matches!(self.work, Work::Compare(..)) => {
                hit(Happening::Miscompare);
                Ok(Verdict::Miscompared)
            }
            (status::CHECK_CONDITION, Some(0xe)) if matches!(self.work, Work::Verify(..)) => {
                hit(Happening::VerifyMiscompare);
                Ok(Verdict::Miscompared)
            }
            (status::CHECK_CONDITION, Some(0x5)) if matches!(self.work, Work::Reserve(..)) => {
                Ok(Verdict::Illegal)
            }
            // NOT READY, MEDIUM ERROR, HARDWARE ERROR, DATA PROTECT.
            (status::CHECK_CONDITION, Some(0x2 | 0x3 | 0x4 | 0x7)) => {
                let lost = sense.is_some_and(|sense| sense.code == WRITE_ERROR);
                hit(match self.work {
                    Work::Flush(..) if lost && unit.spread => Happening::FlushOfLostSpread,
                    Work::Flush(..) if lost => Happening::FlushOfLost,
                    _ => Happening::CommandFailed,
                });
                explained(Verdict::Failed)
            }
            // ABORTED COMMAND: a device that did not answer in time may do so yet.
            (status::CHECK_CONDITION, Some(0xb)) => {
                hit(Happening::CommandFailed);
                if sense.is_some_and(|sense| sense.code == COMMUNICATION_TIMEOUT) {
                    hit(Happening::TimedOut);
                }
                explained(Verdict::FailedOpen)
            }
            _ => unexpected(),
        }
    }

    /// Tells the checker how it ended, and counts. `late`: device operations of it may be under way.
    /// `loose`: see [`HostPlan::loose_changes`].
    pub(super) fn finish(
        self,
        unit: &LunPlan,
        late: bool,
        loose: bool,
        verdict: Verdict,
        hit: impl FnOnce(Happening),
    ) -> Result<(), String> {
        let ending = match verdict {
            Verdict::Good => Ending::Done,
            Verdict::Miscompared | Verdict::Refused | Verdict::Conflict | Verdict::Illegal => Ending::Nothing,
            Verdict::Failed if !late => Ending::Unknown,
            Verdict::Failed | Verdict::FailedOpen => Ending::Lingering,
        };
        let good = verdict == Verdict::Good;
        let checker = &unit.checker;
        match self.work {
            Work::Read(read, units, flush) => {
                // A read with room for less than it asked for is checked as far as it came.
                let whole = self.received.len() - self.received.len() % checker.unit().max(1);
                let data = self.received.get(..whole).filter(|_| good);
                checker.end_read(read, units.first, data)?;
                if good {
                    // FUA: what it found is stable (SBC-4 5.15).
                    if let Some(flush) = flush {
                        checker.end_flush(flush, units);
                    }
                    hit(Happening::ReadChecked);
                }
            }
            Work::Write { write, stable, what } => {
                checker.end_write(write, if good && stable { Ending::Stable } else { ending });
                if good {
                    hit(what);
                }
            }
            Work::Zero(write, what) => {
                checker.end_write(write, ending);
                if good {
                    hit(what);
                }
            }
            Work::Flush(flush, units, what) => {
                if good {
                    checker.end_flush(flush, units);
                    hit(what);
                }
            }
            Work::Compare(write, units) => {
                if good || verdict == Verdict::Miscompared {
                    let expected = self.out.get(..self.out.len() / 2).unwrap_or_default();
                    checker.compared(&write, units, expected, good)?;
                }
                let fua = good && self.cdb[1] & 0x08 != 0;
                checker.end_write(write, if fua { Ending::Stable } else { ending });
                if good {
                    hit(Happening::CompareWrote);
                }
            }
            Work::Verify(read, units) => {
                if good || verdict == Verdict::Miscompared {
                    checker.verified(read, units, &self.out, good)?;
                } else {
                    checker.end_read(read, 0, None)?;
                }
                if good {
                    hit(Happening::Verified);
                }
            }
            Work::Mode(change, write_back) => {
                let ending = match (good, ending) {
                    (true, _) => ModeEnding::Done,
                    (false, Ending::Nothing) => ModeEnding::Nothing,
                    _ if verdict == Verdict::Failed && loose => ModeEnding::Lost,
                    _ => ModeEnding::Unknown,
                };
                checker.end_mode(&change, ending);
                if good {
                    hit(if write_back { Happening::CacheOn } else { Happening::CacheOff });
                }
            }
            Work::Reserve(change, order) => {
                let outcome = match verdict {
                    Verdict::Good => Outcome::Good,
                    Verdict::Conflict => Outcome::Conflict,
                    Verdict::Illegal => Outcome::Illegal,
                    Verdict::Refused | Verdict::Miscompared => Outcome::Nothing,
                    Verdict::Failed | Verdict::FailedOpen => Outcome::Unknown,
                };
                checker.reservations().end(&change, outcome)?;
                if good {
                    hit(match order {
                        checker::Order::Register { .. } => Happening::Registered,
                        checker::Order::Reserve { .. } => Happening::Reserved,
                        checker::Order::Preempt { .. } if self.cdb[1] == 5 => Happening::PreemptedAborting,
                        checker::Order::Preempt { .. } => Happening::Preempted,
                        _ => Happening::Released,
                    });
                }
            }
            Work::Keys(since) if good => {
                let told = self.received.get(8..).unwrap_or_default();
                let mut told: Vec<u64> = told
                    .chunks_exact(8)
                    .map(|key| key.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
                    .collect();
                told.sort_unstable();
                match checker.reservations().keys(since) {
                    Some(keys) if keys != told => {
                        return Err(format!("READ KEYS says {told:x?}, registered are {keys:x?}"));
                    }
                    Some(_) => hit(Happening::KeysChecked),
                    None => {}
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
            Work::Capacity | Work::Keys(_) | Work::Control | Work::Other => {}
        }
        Ok(())
    }

    /// It was aborted, or lost with its session: nobody knows, and nothing happens any more, unless
    /// the array has given device operations of it up.
    pub(super) fn forget(self, plan: &HostPlan, now: Time, mut hit: impl FnMut(Happening)) {
        let late = plan.gives_up.is_some_and(|after| now.nanos_since(self.issued) >= after);
        if late {
            hit(Happening::LateAbort);
        }
        if let Some(unit) = plan.luns.get(self.unit) {
            // Without data there is nothing that could be wrong.
            let _ = self.finish(unit, late, plan.loose_changes, Verdict::Failed, |_| ());
        }
    }

    fn name(&self) -> &'static str {
        match self.cdb[0] {
            0x00 => "TEST UNIT READY",
            0x12 => "INQUIRY",
            0x15 => "MODE SELECT",
            0x08 | 0x28 | 0xa8 | 0x88 => "READ",
            0x0a | 0x2a | 0xaa | 0x8a => "WRITE",
            0x2e | 0xae | 0x8e => "WRITE AND VERIFY",
            0x2f | 0xaf | 0x8f => "VERIFY",
            0x34 | 0x90 => "PRE-FETCH",
            0x5e => "PERSISTENT RESERVE IN",
            0x5f => "PERSISTENT RESERVE OUT",
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
