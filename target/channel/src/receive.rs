//! From received bytes to PDUs, and to where their data belongs.
//!
//! One rule for data segments of tasks, whole in the window or not: the header is understood
//! as soon as it is there, which decides where the data lands; the part that is in the window
//! is copied, the rest is received in place. Other PDUs are understood when they are whole.

use crate::answer::Answer;
use crate::connection::{Close, Link};
use crate::full::{Full, Landing};
use crate::hub::Hub;
use crate::task::{Failure, Stage};
use kagami_iscsi::crc::{Crc32c, DIGEST_LEN};
use kagami_iscsi::frame::{FrameError, Header, padding};
use kagami_iscsi::pdu::{Bhs, Opcode, RejectReason};
use kagami_reactor::Io;

/// The longest data segment of a PDU that is no task's: texts and pings.
const MOST_CONTROL_DATA: u32 = 64 << 10;

/// Answers that wait to go out, beyond which a host that does not read is cut off. Commands alone,
/// with all their R2Ts, cannot get there: the window bounds them.
const MOST_WAITING: usize = 4096;

/// What became of a PDU.
pub(crate) enum Step {
    /// It was understood; its header, and its data unless it lands elsewhere, are used up.
    Taken,
    /// It is not whole yet.
    More,
    /// It cannot be taken now; it stays where it is, and is tried again.
    Stall,
}

impl Full {
    /// Understands all that has been received.
    pub(crate) fn consume<I: Io>(
        &mut self,
        link: &mut Link,
        io: &mut I,
        hub: &mut Hub<I::Stream>,
    ) -> Result<(), Close> {
        self.stalled = false;
        if self.landing.is_none() && self.place.hold.is_none() {
            hub.look_ahead(&self.framing_in, link.pending());
        }
        loop {
            if self.landing.is_some() {
                if !self.land(link, io, hub)? {
                    return Ok(());
                }
                continue;
            }
            if self.place.hold.is_some() {
                // What comes now is understood at the other core.
                return Ok(());
            }
            // The window is taken out while its bytes are looked at, so that everything else of
            // the connection can be changed meanwhile.
            let Some(window) = link.window.take() else { return Ok(()) };
            let bytes = window.get(link.start..link.end).unwrap_or_default();
            let step = match self.framing_in.read_header(bytes) {
                Ok(Some(header)) => self.pdu(&header, bytes, io, hub),
                Ok(None) => Ok((Step::More, 0)),
                Err(FrameError::HeaderDigest) => Err(Close::HeaderDigest),
                Err(FrameError::DataTooLong { .. }) => {
                    Err(Close::Protocol("a data segment longer than declared"))
                }
            };
            link.window = Some(window);
            match step? {
                (Step::Taken, used) => {
                    link.start += used;
                    hub.metrics.network.pdus_received.inc();
                    if self.urgent.len() + self.answers.len() > MOST_WAITING {
                        return Err(Close::Protocol("it asks faster than it takes answers"));
                    }
                }
                (Step::More, _) => return Ok(()),
                (Step::Stall, _) => {
                    self.stalled = true;
                    return Ok(());
                }
            }
        }
    }

    /// One PDU; and how many bytes of the window it used up.
    fn pdu<I: Io>(
        &mut self,
        header: &Header<'_>,
        bytes: &[u8],
        io: &mut I,
        hub: &mut Hub<I::Stream>,
    ) -> Result<(Step, usize), Close> {
        match header.bhs.opcode() {
            Some(Opcode::ScsiCommand) => Ok((self.scsi_command(header, io, hub)?, header.len)),
            Some(Opcode::DataOut) => Ok((self.data_out(header, hub)?, header.len)),
            _ if header.data_len > MOST_CONTROL_DATA => {
                Err(Close::Protocol("a data segment too long for its PDU"))
            }
            opcode => {
                let whole = header.wire_len();
                let Some(segment) = bytes.get(header.len..whole) else { return Ok((Step::More, 0)) };
                if !self.framing_in.data_digest_ok(segment) {
                    // RFC 7143 7.8: the PDU is discarded; without recovery nothing brings it back.
                    hub.metrics.network.digest_errors.inc();
                    self.reject(RejectReason::DataDigestError, header.bhs);
                    return Ok((Step::Taken, whole));
                }
                let data = segment.get(..header.data_len as usize).unwrap_or_default();
                let step = match opcode {
                    Some(Opcode::NopOut) => self.nop_out(header.bhs, data, hub),
                    Some(Opcode::TaskManagementRequest) => self.task_management(header.bhs, hub),
                    Some(Opcode::TextRequest) => self.text_request(header.bhs, data, hub),
                    Some(Opcode::LogoutRequest) => self.logout(header.bhs, hub),
                    Some(Opcode::Snack) => {
                        // Recovery within a connection needs level 1, which was not agreed upon.
                        self.reject(RejectReason::SnackReject, header.bhs);
                        Ok(Step::Taken)
                    }
                    Some(Opcode::LoginRequest) => Err(Close::Protocol("a login request after the login")),
                    _ => {
                        self.reject(RejectReason::CommandNotSupported, header.bhs);
                        Ok(Step::Taken)
                    }
                }?;
                Ok((step, whole))
            }
        }
    }

    /// Moves received bytes to where they belong. False where more must come first.
    fn land<I: Io>(&mut self, link: &mut Link, io: &mut I, hub: &mut Hub<I::Stream>) -> Result<bool, Close> {
        let Some(landing) = &mut self.landing else { return Ok(true) };
        let bytes = link.pending();
        let data = bytes.get(..landing.left.min(bytes.len())).unwrap_or_default();
        let wanted =
            data.get(..landing.keep_end.saturating_sub(landing.at).min(data.len())).unwrap_or_default();
        let task = landing.task.filter(|_| !wanted.is_empty());
        if let Some(task) = task.and_then(|(slot, turn)| self.tasks.get_turn(slot, turn)) {
            if task.cold {
                task.data.copy_cold_from(landing.at, wanted);
            } else {
                task.data.copy_from(landing.at, wanted);
            }
            hub.metrics.network.bytes_copied.add(wanted.len() as u64);
        }
        landing.at += data.len();
        landing.left -= data.len();
        let tail = bytes.get(data.len()..data.len() + landing.tail);
        if landing.left > 0 || tail.is_none() {
            link.start += data.len();
            return Ok(false);
        }
        let landing = *landing;
        let good = self.landed_well(&landing, tail.unwrap_or_default());
        link.start += data.len() + landing.tail;
        self.landing = None;
        if let Some((slot, turn)) = landing.task {
            self.data_landed(slot, turn, good, io, hub);
        }
        Ok(true)
    }

    /// Checks the data digest of a segment that has landed. What was dropped is not checked.
    fn landed_well(&mut self, landing: &Landing, tail: &[u8]) -> bool {
        let Some((tail, &digest)) =
            tail.split_last_chunk::<DIGEST_LEN>().filter(|_| self.framing_in.data_digest)
        else {
            return true;
        };
        let Some(task) = landing.task.and_then(|(slot, turn)| self.tasks.get_turn(slot, turn)) else {
            return true;
        };
        if landing.keep_end < landing.at {
            return true;
        }
        let mut crc = Crc32c::new();
        task.data.range(landing.from, landing.at - landing.from).for_each(|span| crc.update(span.bytes()));
        crc.update(tail);
        crc.matches(digest)
    }

    /// Where the data segment behind this header goes. Without data there is nothing to wait for.
    pub(crate) fn begin_landing(
        &mut self,
        header: &Header<'_>,
        task: Option<(u16, u16)>,
        offset: u32,
        keep: u32,
    ) {
        if header.data_len == 0 {
            return;
        }
        let from = offset as usize;
        let data_len = header.data_len as usize;
        let digest = if self.framing_in.data_digest { DIGEST_LEN } else { 0 };
        self.landing = Some(Landing {
            task,
            from,
            at: from,
            keep_end: if task.is_some() { from + keep as usize } else { 0 },
            left: data_len,
            tail: padding(header.data_len) as usize + digest,
        });
    }

    /// A segment of a task's data is there.
    fn data_landed<I: Io>(&mut self, slot: u16, turn: u16, good: bool, io: &mut I, hub: &mut Hub<I::Stream>) {
        let Some(task) = self.tasks.get_turn(slot, turn) else { return };
        if !good {
            hub.metrics.network.digest_errors.inc();
            // RFC 7143 7.8, 11.4.7.2: protocol service CRC error.
            task.failed = Some(Failure::Sense(0x47, 0x05));
            if let Some(out) = &mut task.out {
                out.abandon();
            }
            let mut bhs = Bhs::default();
            bhs.as_data_out_mut().opcode = Opcode::DataOut.number();
            bhs.as_data_out_mut().itt = task.itt.into();
            self.reject(RejectReason::DataDigestError, &bhs);
        }
        self.go_on_collecting(slot, io, hub);
    }

    /// A task that collects its data: asks for more, or executes once all is there.
    pub(crate) fn go_on_collecting<I: Io>(&mut self, slot: u16, io: &mut I, hub: &mut Hub<I::Stream>) {
        let landing_here = self.landing.is_some_and(|landing| landing.task.is_some_and(|(s, _)| s == slot));
        let Some(task) = self.tasks.get_mut(slot).filter(|task| task.stage == Stage::Collecting) else {
            return;
        };
        let Some(out) = &mut task.out else { return };
        while let Some(r2t) = out.poll_r2t() {
            self.urgent.push_back(Answer::ReadyToTransfer { slot, turn: task.turn, r2t });
        }
        if out.is_complete() && !landing_here {
            self.execute(slot, io, hub);
        }
    }

    /// Refuses a PDU (RFC 7143 11.17).
    pub(crate) fn reject(&mut self, reason: RejectReason, bhs: &Bhs) {
        self.urgent.push_back(Answer::Reject { reason, header: Box::new(*bhs) });
    }
}
