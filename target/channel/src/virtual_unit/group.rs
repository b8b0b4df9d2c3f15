//! Commands of a group for the other array: they go through a virtual volume that no host sees.
//!
//! READ and WRITE (with FUA) in blocks of the far unit, and GET LBA STATUS. All of them may be repeated, so the link does
//! that where it has to. What finds no slot waits here, in order; what a unit attention or BUSY stood in the way of is
//! asked again, up to a limit. How each ends is kept until the core takes it to the group.

use super::{Owner, VirtualUnit};
use kagami_iscsi::pdu::TaskAttribute;
use kagami_link::{Blocks, Outcome, Refusal, Request};
use kagami_memory::Scatter;
use kagami_replica::action::{FarEnd, FarOp};
use kagami_types::Time;
use std::collections::VecDeque;

/// How often a command is asked again that the far array did not begin.
const MOST_TRIES: u8 = 5;

/// What GET LBA STATUS may return: a header and descriptors of 16 bytes (SBC-4 5.6).
const STATUS_LEN: u32 = 8 + 16 * 255;

/// GOOD, CHECK CONDITION, BUSY, TASK SET FULL (SAM-5 5.3.1).
const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;

/// The UNIT ATTENTION sense key (SPC-5 4.4.8).
const UNIT_ATTENTION: u8 = 0x6;

/// A command of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfGroup {
    /// The journal unit's place at this core.
    unit: u32,
    /// The group's tag.
    tag: u64,
    kind: Kind,
    at: u64,
    len: u32,
    tries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Status,
}

/// Ends that the core is to take to groups, and commands that wait for a slot.
#[derive(Debug, Default)]
pub(crate) struct ForGroups {
    pub(crate) ends: Vec<(u32, u64, FarEnd)>,
    waiting: VecDeque<(OfGroup, Scatter)>,
    /// The link has taken some that are not sent yet.
    taken: bool,
}

impl VirtualUnit {
    /// A command of the group of the journal unit in that place.
    pub(crate) fn command(&mut self, unit: u32, tag: u64, op: FarOp, now: Time) {
        let (kind, at, len, data) = match op {
            FarOp::Read { at, len } => (Kind::Read, at, len, Scatter::default()),
            FarOp::Write { at, data } => {
                (Kind::Write, at, u32::try_from(data.len_bytes()).unwrap_or(u32::MAX), data)
            }
            FarOp::Status { at } => (Kind::Status, at, STATUS_LEN, Scatter::default()),
        };
        let whose = OfGroup { unit, tag, kind, at, len, tries: 0 };
        self.for_groups.waiting.push_back((whose, data));
        self.try_waiting(now);
        // The caller sees to it that they are sent.
        self.for_groups.taken = false;
    }

    /// Lets go what waits for a slot, whatever it was that held it. Whether there is something to be sent now.
    pub(crate) fn go_on_with_commands(&mut self, now: Time) -> bool {
        self.try_waiting(now);
        std::mem::take(&mut self.for_groups.taken)
    }

    /// Whether the link took it, or it has ended; else it waits.
    fn try_command(&mut self, whose: OfGroup, data: Scatter, now: Time) -> bool {
        let request = match self.request(whose, data) {
            Ok(request) => request,
            Err(end) => {
                self.for_groups.ends.push((whose.unit, whose.tag, end));
                return true;
            }
        };
        match self.link.submit(request, now) {
            Ok(()) => {
                self.for_groups.taken = true;
                true
            }
            Err((Refusal::Down, _)) => {
                self.for_groups.ends.push((whose.unit, whose.tag, FarEnd::Unreachable));
                true
            }
            Err((Refusal::Full, request)) => {
                self.for_groups.waiting.push_front((whose, request.out));
                false
            }
        }
    }

    /// Slots may have become free.
    fn try_waiting(&mut self, now: Time) {
        while let Some((whose, data)) = self.for_groups.waiting.pop_front() {
            if !self.try_command(whose, data, now) {
                return;
            }
        }
    }

    fn request(&self, whose: OfGroup, out: Scatter) -> Result<Request<Owner>, FarEnd> {
        let OfGroup { kind, at, len, .. } = whose;
        if self.link.is_looped() {
            return Err(FarEnd::Refused("the far unit is a virtual volume of this array".to_owned()));
        }
        let shift = self.shape.block_size().ok_or(FarEnd::Unreachable)?.shift();
        let block = 1_u64 << shift;
        let (first, count) = (at >> shift, len >> shift);
        if at % block != 0 || (kind != Kind::Status && u64::from(len) % block != 0) {
            return Err(FarEnd::Refused(format!(
                "{len} bytes from byte {at} on are no whole blocks of {block}"
            )));
        }
        if kind != Kind::Status && (len == 0 || u64::from(len) > self.most_bytes) {
            return Err(FarEnd::Refused(format!("{len} bytes are not possible in one command")));
        }
        let mut cdb = [0; 16];
        let words = match kind {
            Kind::Read => {
                cdb[0] = 0x88;
                // FUA: of a volume it waits for the journaled writes before it.
                cdb[1] = 0x08;
                count
            }
            Kind::Write => {
                cdb[0] = 0x8a;
                // FUA.
                cdb[1] = 0x08;
                count
            }
            Kind::Status => {
                cdb[0] = 0x9e;
                cdb[1] = 0x12;
                len
            }
        };
        cdb[2..10].copy_from_slice(&first.to_be_bytes());
        cdb[10..14].copy_from_slice(&words.to_be_bytes());
        Ok(Request {
            owner: Owner::Group(whose),
            cdb,
            attribute: TaskAttribute::Simple,
            repeatable: true,
            blocks: (kind != Kind::Status).then_some(Blocks { first, count: u64::from(count) }),
            writes: kind == Kind::Write,
            out,
            expects: if kind == Kind::Write { 0 } else { len },
        })
    }

    /// A command of a group has ended.
    pub(super) fn ended(&mut self, mut whose: OfGroup, outcome: Outcome, mut data: Scatter, now: Time) {
        let end = match outcome {
            Outcome::Status(GOOD, _) => match whose.kind {
                Kind::Read if data.len_bytes() != whose.len as usize => {
                    FarEnd::Refused("the far array sent less than it was asked for".to_owned())
                }
                Kind::Read | Kind::Write => FarEnd::Good(data),
                Kind::Status => self.status(&data),
            },
            Outcome::Status(status, sense) => {
                let key = sense.as_deref().and_then(key);
                let not_begun = matches!(status, BUSY | TASK_SET_FULL)
                    || (status == CHECK_CONDITION && key == Some(UNIT_ATTENTION));
                if not_begun && whose.kind != Kind::Write && whose.tries < MOST_TRIES {
                    whose.tries += 1;
                    data.clear();
                    self.for_groups.waiting.push_back((whose, data));
                    self.try_waiting(now);
                    return;
                }
                FarEnd::Refused(describe(status, sense.as_deref()))
            }
            Outcome::Unreachable | Outcome::Lost | Outcome::Aborted => FarEnd::Unreachable,
        };
        self.for_groups.ends.push((whose.unit, whose.tag, end));
        self.try_waiting(now);
    }

    /// The descriptors of GET LBA STATUS, in bytes (SBC-4 5.6.2).
    fn status(&self, data: &Scatter) -> FarEnd {
        let shift = self.shape.block_size().map_or(9, |size| size.shift());
        let bytes = data.to_vec();
        let runs = bytes.get(8..).unwrap_or_default().chunks_exact(16).map_while(|descriptor| {
            let (lba, rest) = descriptor.split_first_chunk::<8>()?;
            let (blocks, rest) = rest.split_first_chunk::<4>()?;
            let (lba, blocks) = (u64::from_be_bytes(*lba), u64::from(u32::from_be_bytes(*blocks)));
            let is_unallocated = rest.first()? & 0x0f != 0;
            Some((lba.checked_shl(shift)?, blocks << shift, is_unallocated))
        });
        FarEnd::Status(runs.collect())
    }
}

/// The sense key, in either format (SPC-5 4.4).
fn key(sense: &[u8]) -> Option<u8> {
    match sense.first()? & 0x7f {
        0x70 | 0x71 => sense.get(2).map(|key| key & 0x0f),
        0x72 | 0x73 => sense.get(1).map(|key| key & 0x0f),
        _ => None,
    }
}

/// A status and its sense data for people.
fn describe(status: u8, sense: Option<&[u8]>) -> String {
    let Some(sense) = sense else { return format!("the far array answered with status {status:02x}h") };
    let fixed = matches!(sense.first().map(|byte| byte & 0x7f), Some(0x70 | 0x71));
    let code = if fixed { sense.get(12..14) } else { sense.get(2..4) };
    let &[code, qualifier] = code.unwrap_or_default() else {
        return format!("the far array answered with status {status:02x}h");
    };
    let key = key(sense).unwrap_or(0);
    format!("the far array answered with sense {key:x}h/{code:02x}h/{qualifier:02x}h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_is_told_in_both_formats() {
        let fixed = [0x70, 0, 7, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x27, 0, 0, 0, 0, 0];
        assert_eq!(describe(2, Some(&fixed)), "the far array answered with sense 7h/27h/00h");
        let descriptor = [0x72, 2, 4, 1, 0, 0, 0, 0];
        assert_eq!(describe(2, Some(&descriptor)), "the far array answered with sense 2h/04h/01h");
        assert_eq!(key(&descriptor), Some(2));
        assert_eq!(describe(0x18, None), "the far array answered with status 18h");
        assert_eq!(describe(2, Some(&[0x72])), "the far array answered with status 02h");
    }
}
