//! What a link hears: from received bytes to the ends of commands.

use crate::connection::{Burst, Landing, Place, Pong};
use crate::link::{Event, Link, State};
use crate::request::Outcome;
use crate::task::{Owner, Stage, Tag, Task};
use crate::transmit::Full;
use kagami_iscsi::crc::{Crc32c, DIGEST_LEN};
use kagami_iscsi::frame::{FrameError, Framing, Header, padding};
use kagami_iscsi::pdu::{AsyncEvent, Bhs, Itt, Opcode, ResponseFlags, ScsiResponseCode, TmfResponse};
use kagami_iscsi::pdu::{DataInFlags, Ttt};
use kagami_iscsi::serial::{CmdSn, DataSn, StatSn};
use kagami_memory::{Scatter, ScatterMut};
use kagami_types::Time;

/// The longest data segment of a PDU that is no task's: sense data, texts, pings.
const MOST_CONTROL_DATA: u32 = 16 << 10;
/// CHECK CONDITION.
const CHECK_CONDITION: u8 = 2;
/// UNIT ATTENTION.
const NOT_READY: u8 = 2;
const UNIT_ATTENTION: u8 = 6;
/// Times that one command is sent again because of unit attentions that are not its host's.
const MOST_DEFERRED: u8 = 16;
/// Answers to pings that wait, beyond which the far array is cut off.
const MOST_PONGS: usize = 64;

/// Why a session is ended after a reset that this link did not ask for.
const RESET: &str = "the far unit was reset";

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// Pages that bytes may be received into without a copy.
#[derive(Debug)]
pub struct InPlace {
    /// The pages.
    pub data: ScatterMut,
    /// How much of them is there.
    pub filled: usize,
    /// Up to where they may be filled.
    pub limit: usize,
}

impl<T: Copy> Link<T> {
    /// Takes bytes received on a connection, as many as it can understand; how many. The rest is to be given again,
    /// with more behind it.
    ///
    /// # Errors
    /// The connection is to be given up, and the link [told](Self::lost) of it.
    pub fn consume(&mut self, at: usize, bytes: &[u8], now: Time) -> Result<usize, Broken> {
        let mut used = 0;
        if let State::Full(full) = &mut self.state
            && let Some(connection) = full.open(at)
        {
            connection.last_heard = now;
            connection.pinged = None;
        }
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let framing = match &self.state {
                State::Down { .. } => return Ok(bytes.len()),
                State::Login { .. } if at == 0 => Framing::LOGIN,
                State::Login { .. } => return Ok(bytes.len()),
                State::Full(full) => match full.places.get(at) {
                    None | Some(Place::Empty { .. }) => return Ok(bytes.len()),
                    Some(Place::Login { .. }) => Framing::LOGIN,
                    Some(Place::Open(connection)) if connection.landing.is_some() => {
                        let (taken, landed) = self.land(at, rest, now)?;
                        used += taken;
                        if !landed {
                            return Ok(used);
                        }
                        continue;
                    }
                    Some(Place::Open(connection)) => connection.incoming,
                },
            };
            let header = match framing.read_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(used),
                Err(FrameError::HeaderDigest) => return Err(Broken("a wrong header digest")),
                Err(FrameError::DataTooLong { .. }) => {
                    return Err(Broken("a data segment longer than declared"));
                }
            };
            if header.bhs.opcode() == Some(Opcode::DataIn) {
                self.data_in(at, &header, now)?;
                used += header.len;
                continue;
            }
            if header.data_len > MOST_CONTROL_DATA {
                return Err(Broken("a data segment too long for its PDU"));
            }
            let Some(segment) = rest.get(header.len..header.wire_len()) else { return Ok(used) };
            if !framing.data_digest_ok(segment) {
                return Err(Broken("a wrong data digest"));
            }
            let data = segment.get(..header.data_len as usize).unwrap_or_default();
            used += header.wire_len();
            self.pdu(at, header.bhs, data, now)?;
        }
    }

    /// A whole PDU that is no Data-In.
    fn pdu(&mut self, at: usize, bhs: &Bhs, data: &[u8], now: Time) -> Result<(), Broken> {
        if self.joins(at, bhs, data, now)? {
            return Ok(());
        }
        if let State::Login { login, .. } = &mut self.state {
            return match login.on_pdu(bhs, data) {
                Ok(None) => Ok(()),
                Ok(Some(established)) => {
                    self.logged_in(&established, now);
                    Ok(())
                }
                Err(error) => {
                    self.reason = Some(error.to_string().into());
                    Err(Broken("the login failed"))
                }
            };
        }
        let State::Full(full) = &mut self.state else { return Ok(()) };
        match bhs.opcode() {
            Some(Opcode::ScsiResponse) => {
                full.status(at, bhs)?;
                self.response(at, bhs, data, now)
            }
            Some(Opcode::R2t) => self.ready_to_transfer(at, bhs),
            Some(Opcode::NopIn) => {
                let nop = bhs.as_nop_in();
                full.window(nop.exp_cmd_sn.into(), nop.max_cmd_sn.into());
                let ttt = Ttt::from(nop.ttt);
                if Itt::from(nop.itt).is_reserved() {
                    // StatSN stands in it, but is not used up (RFC 7143 11.19.1).
                    if let Some(connection) = full.open(at).filter(|_| !ttt.is_reserved()) {
                        if connection.pongs.len() >= MOST_PONGS {
                            return Err(Broken("it pings faster than it takes answers"));
                        }
                        connection.pongs.push_back(Pong { ttt, lun: nop.lun, data: data.into() });
                    }
                    return Ok(());
                }
                full.status(at, bhs)
            }
            Some(Opcode::TaskManagementResponse) => {
                full.status(at, bhs)?;
                self.managed(bhs)
            }
            Some(Opcode::Async) => {
                full.status(at, bhs)?;
                match bhs.as_async().event() {
                    Ok(AsyncEvent::LogoutRequest) => Err(Broken("the far array asks to end the connection")),
                    Ok(AsyncEvent::DropConnection | AsyncEvent::DropSession) => {
                        Err(Broken("the far array ends the session"))
                    }
                    // Unit attentions come with the commands as well.
                    _ => Ok(()),
                }
            }
            Some(Opcode::Reject) => Err(Broken("the far array rejected a PDU")),
            _ => Err(Broken("a PDU that was not asked for")),
        }
    }

    /// A PDU of a connection that is about to join. Whether it was.
    fn joins(&mut self, at: usize, bhs: &Bhs, data: &[u8], now: Time) -> Result<bool, Broken> {
        let State::Full(full) = &mut self.state else { return Ok(false) };
        let session = full.parameters;
        let Some(place) = full.places.get_mut(at) else { return Ok(false) };
        let Place::Login { login, .. } = place else { return Ok(false) };
        match login.on_pdu(bhs, data) {
            Ok(None) => {}
            Ok(Some(established)) => {
                place.join(&established, &session, now);
                self.joined += 1;
                self.events.push_back(Event::Connections);
                if full.places.iter().all(Place::is_open) {
                    self.reason = None;
                }
            }
            Err(_) => return Err(Broken("it was not let in")),
        }
        Ok(true)
    }

    /// A Data-In header: where its data goes.
    fn data_in(&mut self, at: usize, header: &Header<'_>, now: Time) -> Result<(), Broken> {
        let State::Full(full) = &mut self.state else { return Err(Broken("data before the login ended")) };
        let fields = header.bhs.as_data_in();
        let ends = fields.flags.contains(DataInFlags::STATUS);
        if ends {
            full.status(at, header.bhs)?;
        } else {
            full.window(fields.exp_cmd_sn.into(), fields.max_cmd_sn.into());
        }
        let Some(Tag::Task(slot, turn)) = Tag::of(fields.itt.into()) else {
            return Err(Broken("data for no command"));
        };
        let offset = fields.offset.get();
        let task = on(at, self.tasks.get_turn(slot, turn))?;
        let waits = task.as_ref().is_some_and(|task| task.stage == Stage::Sent);
        if let Some(task) = task {
            let end = u64::from(offset) + u64::from(header.data_len);
            if offset != task.arrived || DataSn::from(fields.data_sn) != task.next_data_sn {
                return Err(Broken("data out of order"));
            }
            if end > u64::from(task.expects) {
                return Err(Broken("more data than the command asked for"));
            }
            task.arrived = offset + header.data_len;
            task.next_data_sn = task.next_data_sn.next();
        }
        if header.data_len == 0 {
            return if ends { self.response(at, header.bhs, &[], now) } else { Ok(()) };
        }
        let Some(connection) = full.open(at) else { return Ok(()) };
        let digest = if connection.incoming.data_digest { DIGEST_LEN } else { 0 };
        let from = offset as usize;
        connection.landing = Some(Landing {
            task: waits.then_some((slot, turn)),
            from,
            at: from,
            left: header.data_len as usize,
            lent: false,
            tail: padding(header.data_len) as usize + digest,
            end: ends.then_some(*header.bhs),
        });
        Ok(())
    }

    /// Moves received bytes to where they belong. How many, and whether the segment is whole.
    fn land(&mut self, at: usize, bytes: &[u8], now: Time) -> Result<(usize, bool), Broken> {
        let State::Full(full) = &mut self.state else { return Ok((0, true)) };
        let Some(connection) = full.open(at) else { return Ok((0, true)) };
        let Some(landing) = &mut connection.landing else { return Ok((0, true)) };
        let data = bytes.get(..landing.left.min(bytes.len())).unwrap_or_default();
        let room = landing.task.and_then(|(slot, turn)| waiting(self.tasks.get_turn(slot, turn)));
        if let Some(task) = room.filter(|_| !data.is_empty()) {
            task.room.copy_from(landing.at, data);
        }
        landing.at += data.len();
        landing.left -= data.len();
        let tail = bytes.get(data.len()..data.len() + landing.tail);
        let (Some(tail), 0) = (tail, landing.left) else { return Ok((data.len(), false)) };
        let landing = *landing;
        connection.landing = None;
        if connection.incoming.data_digest
            && let Some((padding, &digest)) = tail.split_last_chunk::<DIGEST_LEN>()
            && let Some((slot, turn)) = landing.task
            && let Some(task) = waiting(self.tasks.get_turn(slot, turn))
        {
            let mut crc = Crc32c::new();
            let range = task.room.range(landing.from, landing.at - landing.from);
            range.for_each(|span| crc.update(span.bytes()));
            crc.update(padding);
            if !crc.matches(digest) {
                return Err(Broken("a wrong data digest"));
            }
        }
        if let Some(bhs) = &landing.end {
            self.response(at, bhs, &[], now)?;
        }
        Ok((data.len() + landing.tail, true))
    }

    /// The pages that the next bytes of a connection belong to, from `least` bytes on. They come back with
    /// [`received`](Self::received).
    pub fn in_place(&mut self, at: usize, least: usize) -> Option<InPlace> {
        let State::Full(full) = &mut self.state else { return None };
        let landing =
            full.open(at)?.landing.as_mut().filter(|landing| landing.left >= least && !landing.lent)?;
        let (slot, turn) = landing.task?;
        let task = waiting(self.tasks.get_turn(slot, turn))?;
        let limit = landing.at + landing.left;
        landing.lent = true;
        Some(InPlace { data: std::mem::take(&mut task.room), filled: landing.at, limit })
    }

    /// Takes lent pages back, with `count` bytes more in them.
    pub fn received(&mut self, at: usize, data: ScatterMut, count: usize) {
        let State::Full(full) = &mut self.state else { return };
        let landing = full.open(at).and_then(|connection| connection.landing.as_mut());
        let Some(landing) = landing.filter(|landing| landing.lent) else { return };
        landing.lent = false;
        let count = count.min(landing.left);
        landing.at += count;
        landing.left -= count;
        if let Some((slot, turn)) = landing.task
            && let Some(task) = self.tasks.get_turn(slot, turn)
        {
            task.room = data;
        }
    }

    /// A command has ended at the far array: a SCSI response, or a Data-In with status.
    fn response(&mut self, at: usize, bhs: &Bhs, data: &[u8], now: Time) -> Result<(), Broken> {
        let in_data = bhs.opcode() == Some(Opcode::DataIn);
        let response = bhs.as_scsi_response();
        let (itt, status, completed, residual, under, over) = if in_data {
            let fields = bhs.as_data_in();
            let has = |flag| fields.flags.contains(flag);
            let (under, over) = (has(DataInFlags::UNDERFLOW), has(DataInFlags::OVERFLOW));
            (fields.itt, fields.status, true, fields.residual, under, over)
        } else {
            let completed = response.response() == Ok(ScsiResponseCode::CommandCompleted);
            let has = |flag| response.flags.contains(flag);
            let (under, over) = (has(ResponseFlags::UNDERFLOW), has(ResponseFlags::OVERFLOW));
            (response.itt, response.status, completed, response.residual, under, over)
        };
        let Some(Tag::Task(slot, turn)) = Tag::of(itt.into()) else {
            return Err(Broken("the end of no command"));
        };
        let Some(task) = on(at, self.tasks.get_turn(slot, turn))? else { return Ok(()) };
        if task.stage == Stage::InDoubt {
            self.over(slot, turn);
            return Ok(());
        }
        let sense = sense_of(data);
        let attention = (status == CHECK_CONDITION).then(|| attention(sense.as_deref())).flatten();
        if let (Some(code), Owner::Host(told)) = (attention, &task.owner) {
            let told = *told;
            if self.attention(slot, code, told)? {
                return Ok(());
            }
        }
        let Some(task) = self.tasks.get_turn(slot, turn) else { return Ok(()) };
        let moves = task.out.len_bytes().max(task.expects as usize) as u64;
        let residual = u64::from(residual.get());
        let wanted = match (under, over) {
            (true, _) => moves.saturating_sub(residual),
            (_, true) => moves + residual,
            _ => moves,
        };
        task.room.truncate(task.arrived as usize);
        let mut returned = std::mem::take(&mut task.out);
        // What was sent is not needed any more; the list's storage is used again.
        let held = returned.len_bytes() as u64 + u64::from(task.expects);
        returned.clear();
        task.room.freeze_into(&mut returned);
        if matches!(task.owner, Owner::Link) {
            self.tasks.release(slot);
            return self.learnt(status, completed, sense.as_deref(), &returned, now);
        }
        if !completed {
            self.end(slot, Outcome::Lost, Scatter::new(), 0, held);
            return Ok(());
        }
        if says_not_done(status, attention) && task.tried && task.writes {
            self.end(slot, Outcome::Lost, Scatter::new(), 0, held);
            return Ok(());
        }
        if status == 0
            && task.writes
            && let Some(blocks) = task.blocks
        {
            let number = task.number;
            self.acked.note(number, blocks);
        }
        self.end(slot, Outcome::Status(status, sense), returned, wanted, held);
        if attention.is_some_and(ends_tasks) {
            // What else was under way there ended without a word (SAM-5 5.14); the session's
            // reinstatement makes that certain, and then it is sent again.
            return Err(Broken(RESET));
        }
        Ok(())
    }

    /// A command is over on both sides.
    #[inline]
    fn end(&mut self, slot: u16, outcome: Outcome, data: Scatter, wanted: u64, held: u64) {
        // Its lists were taken out already.
        self.bytes = self.bytes.saturating_sub(held);
        if let Some(task) = self.tasks.get_mut(slot) {
            task.expects = 0;
        }
        self.settle(slot, outcome, data, wanted);
        self.tasks.release(slot);
    }

    /// The far unit reported a condition instead of executing a host's command. True where it
    /// concerns nobody but the link, and the command is sent again.
    #[cold]
    fn attention(&mut self, slot: u16, code: u16, told: T) -> Result<bool, Broken> {
        if changes_identity(code) {
            self.begin_to_learn();
        }
        // A reset that was asked for through this link: its hosts have been told.
        let ours = ends_tasks(code) && self.resets_done > 0;
        self.resets_done -= u8::from(ours);
        let passed_on = !ours && !is_links_own(code);
        let Some(task) = self.tasks.get_mut(slot) else { return Ok(false) };
        // A condition says that the command was not executed; of one that was sent before nobody knows that.
        let is_told = passed_on && !(task.tried && task.writes) || task.deferred >= MOST_DEFERRED;
        if passed_on {
            self.events.push_back(Event::Attention { code, told: is_told.then_some(told) });
        }
        if is_told {
            return Ok(false);
        }
        task.deferred += 1;
        task.again();
        let number = task.number;
        let before = self
            .queue
            .iter()
            .take_while(|&&other| self.tasks.get(other).is_some_and(|other| other.number < number));
        let at = before.count();
        self.queue.insert(at, slot);
        if passed_on && ends_tasks(code) {
            return Err(Broken(RESET));
        }
        Ok(true)
    }

    fn ready_to_transfer(&mut self, at: usize, bhs: &Bhs) -> Result<(), Broken> {
        let State::Full(full) = &mut self.state else { return Ok(()) };
        let r2t = bhs.as_r2t();
        full.window(r2t.exp_cmd_sn.into(), r2t.max_cmd_sn.into());
        let Some(Tag::Task(slot, turn)) = Tag::of(r2t.itt.into()) else {
            return Err(Broken("an R2T for no command"));
        };
        let Some(task) = on(at, self.tasks.get_turn(slot, turn))? else { return Ok(()) };
        let (offset, len) = (r2t.offset.get(), r2t.desired_len.get());
        let end = u64::from(offset) + u64::from(len);
        let Some(end) = u32::try_from(end).ok().filter(|_| len > 0) else {
            return Err(Broken("an R2T beyond the command's data"));
        };
        if task.stage == Stage::InDoubt {
            // Its abort is under way: nothing more is sent for it.
            return Ok(());
        }
        if end as usize > task.out.len_bytes() {
            return Err(Broken("an R2T beyond the command's data"));
        }
        let Some(connection) = full.open(at) else { return Ok(()) };
        let most = usize::from(connection.parameters.max_outstanding_r2t).max(1);
        let of_task =
            connection.bursts.iter().filter(|burst| (burst.slot, burst.turn) == (slot, turn)).count();
        if of_task > most {
            return Err(Broken("more R2Ts than agreed upon"));
        }
        let ttt = r2t.ttt.into();
        connection.bursts.push_back(Burst { slot, turn, ttt, offset, end, data_sn: DataSn(0) });
        Ok(())
    }

    /// The answer to an abort or a reset.
    fn managed(&mut self, bhs: &Bhs) -> Result<(), Broken> {
        let response = bhs.as_task_management_response();
        let ended = matches!(
            response.response(),
            Ok(TmfResponse::FunctionComplete | TmfResponse::TaskDoesNotExist | TmfResponse::LunDoesNotExist)
        );
        if !ended {
            // The session's reinstatement ends the tasks instead.
            return Err(Broken("the far array refused an abort"));
        }
        match Tag::of(response.itt.into()) {
            Some(Tag::Abort(slot, turn)) => self.over(slot, turn),
            Some(Tag::Reset(number)) => {
                // Those that were sent before it are ended; it ended all of them.
                let waits = self.waits.iter().filter(|wait| wait.reset == Some(number));
                let tasks: Vec<(u16, u16)> = waits.flat_map(|wait| wait.tasks.clone()).collect();
                tasks.into_iter().for_each(|(slot, turn)| self.over(slot, turn));
                self.waits_over(|wait| wait.reset == Some(number));
                self.resets_done = self.resets_done.saturating_add(1);
            }
            _ => return Err(Broken("the end of no abort")),
        }
        Ok(())
    }
}

/// A task that a PDU on that connection names: it has to be the task's own (RFC 7143 4.2.2.2).
#[inline]
fn on<T>(at: usize, task: Option<&mut Task<T>>) -> Result<Option<&mut Task<T>>, Broken> {
    match task {
        Some(task) if task.connection != at => {
            Err(Broken("an answer on another connection than the command's"))
        }
        task => Ok(task),
    }
}

/// The task, where its host still waits.
#[inline]
fn waiting<T>(task: Option<&mut Task<T>>) -> Option<&mut Task<T>> {
    task.filter(|task| task.stage == Stage::Sent)
}

impl Full {
    /// The command window (RFC 7143 4.2.2.1): it never shrinks.
    #[inline]
    pub fn window(&mut self, exp: CmdSn, max: CmdSn) {
        if exp.is_after(self.exp_cmd_sn) && !exp.is_after(self.cmd_sn) {
            self.exp_cmd_sn = exp;
        }
        if max.is_after(self.max_cmd_sn) && !max.next().is_before(exp) {
            self.max_cmd_sn = max;
        }
    }

    /// A PDU that carries a status: they come in order, without gaps, at error recovery level 0.
    #[inline]
    fn status(&mut self, at: usize, bhs: &Bhs) -> Result<(), Broken> {
        let fields = bhs.as_scsi_response();
        let Some(connection) = self.open(at) else { return Err(Broken("a status before the login ended")) };
        if StatSn::from(fields.stat_sn) != connection.exp_stat_sn {
            return Err(Broken("statuses out of order"));
        }
        connection.exp_stat_sn = connection.exp_stat_sn.next();
        self.window(fields.exp_cmd_sn.into(), fields.max_cmd_sn.into());
        Ok(())
    }
}

/// The sense data of a SCSI response's data segment (RFC 7143 11.4.7).
fn sense_of(segment: &[u8]) -> Option<Box<[u8]>> {
    let (len, rest) = segment.split_first_chunk::<2>()?;
    let sense = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
    (!sense.is_empty()).then(|| sense.into())
}

/// Additional sense code and qualifier, where it is a current UNIT ATTENTION (SPC-5 4.4).
pub(crate) fn attention(sense: Option<&[u8]>) -> Option<u16> {
    key_and_code(sense?).and_then(|(key, code)| (key == UNIT_ATTENTION).then_some(code))
}

/// Whether it says that the unit was stopped and waits for START STOP UNIT: NOT READY, INITIALIZING COMMAND REQUIRED.
pub(crate) fn is_stopped(sense: Option<&[u8]>) -> bool {
    sense.and_then(key_and_code) == Some((NOT_READY, 0x0402))
}

/// Sense key, and additional sense code with its qualifier, of a current error.
fn key_and_code(sense: &[u8]) -> Option<(u8, u16)> {
    let byte = |at: usize| sense.get(at).copied().unwrap_or(0);
    let (key, code, qualifier) = match byte(0) & 0x7f {
        0x70 => (byte(2) & 0x0f, byte(12), byte(13)),
        0x72 => (byte(1) & 0x0f, byte(2), byte(3)),
        _ => return None,
    };
    Some((key, u16::from_be_bytes([code, qualifier])))
}

/// Whether a command's end tells its host that nothing of it was done: a unit attention, BUSY, RESERVATION CONFLICT, TASK
/// SET FULL.
fn says_not_done(status: u8, attention: Option<u16>) -> bool {
    attention.is_some() || matches!(status, 0x08 | 0x18 | 0x28)
}

/// Conditions of the link's own nexus: its session, its target's list of units, reservations that it
/// has none of.
fn is_links_own(code: u16) -> bool {
    matches!(code, 0x2907 | 0x3f0e | 0x2a03..=0x2a05)
}

/// Conditions that tell that commands under way were ended.
fn ends_tasks(code: u16) -> bool {
    matches!(code, 0x2900..=0x2904 | 0x2f00)
}

/// Conditions after which the far unit may be another than it was.
fn changes_identity(code: u16) -> bool {
    matches!(code, 0x2a09 | 0x3f03 | 0x2800 | 0x3f0e | 0x3f01 | 0x2900..=0x2904)
}
