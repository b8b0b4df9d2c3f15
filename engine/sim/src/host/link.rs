//! One connection of a host: bytes in and out, PDUs, and the data that its tasks have to send.

use super::Trouble;
use crate::coverage::Happening;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::world::World;
use kagami_iscsi::frame::{FrameError, Framing};
use kagami_iscsi::login::InitiatorLogin;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{Bhs, Cid, DataOut, DataOutFlags, Itt, Ttt};
use kagami_iscsi::serial::StatSn;
use kagami_types::Time;

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    Login(Box<InitiatorLogin>),
    Full,
}

/// A run of data that a task has to send, PDU by PDU: unsolicited, or what an R2T asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataRun {
    pub(super) itt: Itt,
    pub(super) ttt: Ttt,
    pub(super) lun: [u8; 8],
    pub(super) offset: u32,
    pub(super) end: u32,
    pub(super) data_sn: u32,
}

/// A PDU that has come.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) bhs: Bhs,
    pub(super) data: Vec<u8>,
}

/// A connection of a host.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) cid: Cid,
    pub(super) stage: Stage,
    pub(super) parameters: Parameters,
    pub(super) exp_stat_sn: StatSn,
    pub(super) runs: Vec<DataRun>,
    pub(super) last_heard: Time,
    pub(super) ping: Option<(Itt, Time)>,
    input: Vec<u8>,
    /// What of it has been taken.
    taken: usize,
    output: Vec<u8>,
    opened: Time,
}

/// More than this is not queued for sending.
const OUTPUT: usize = 64 << 10;

impl Link {
    pub(super) fn new(conn: ConnId, cid: Cid, login: InitiatorLogin, now: Time) -> Self {
        Self {
            conn,
            cid,
            stage: Stage::Login(Box::new(login)),
            parameters: Parameters::default(),
            exp_stat_sn: StatSn(0),
            runs: Vec::new(),
            last_heard: now,
            ping: None,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            opened: now,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self.stage, Stage::Full)
    }

    pub(super) fn age(&self, now: Time) -> u64 {
        now.nanos_since(self.opened)
    }

    /// Whether more can be queued.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() < OUTPUT
    }

    /// Whether everything queued has gone out.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && self.runs.is_empty()
    }

    fn framing(&self, sending: bool) -> Framing {
        match (&self.stage, sending) {
            (Stage::Login(_), _) => Framing::LOGIN,
            (Stage::Full, true) => self.parameters.send_framing(),
            (Stage::Full, false) => self.parameters.receive_framing(),
        }
    }

    /// Queues a PDU.
    pub(super) fn push(&mut self, bhs: &Bhs, data: &[u8]) {
        let framing = self.framing(true);
        framing.append(&mut self.output, bhs, data);
    }

    /// Queues one Data-Out of some run; which, is random as far as the rules leave it open: data of
    /// one task in order, unsolicited data in the order of their commands (RFC 7143 4.2.5.2).
    /// `data` gives a task's data. Returns the run where that was its last PDU.
    pub(super) fn push_data<'a>(
        &mut self,
        rng: &mut Rng,
        data: impl Fn(Itt) -> Option<&'a [u8]>,
    ) -> Option<DataRun> {
        let first_unsolicited = self.runs.iter().position(|run| run.ttt.is_reserved());
        let eligible: Vec<usize> = (0..self.runs.len())
            .filter(|&at| {
                let run = &self.runs[at];
                let earlier = self.runs[..at].iter().any(|other| other.itt == run.itt);
                !earlier && (!run.ttt.is_reserved() || first_unsolicited == Some(at))
            })
            .collect();
        let at = *rng.pick(&eligible)?;
        let framing = self.framing(true);
        let run = self.runs.get_mut(at)?;
        let most = framing.max_data_len.min(run.end - run.offset);
        // Data-Out may be shorter than they could be.
        let len =
            if rng.one_in(8) { u32::try_from(rng.skewed(1, most.into())).unwrap_or(most) } else { most };
        let last = run.offset + len == run.end;
        let header = DataOut {
            opcode: DataOut::OPCODE.number(),
            flags: if last { DataOutFlags::FINAL } else { DataOutFlags::empty() },
            lun: run.lun,
            itt: run.itt.into(),
            ttt: run.ttt.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            data_sn: run.data_sn.into(),
            offset: run.offset.into(),
            ..zeroed()
        };
        let bytes = data(run.itt)?.get(run.offset as usize..(run.offset + len) as usize)?;
        run.offset += len;
        run.data_sn += 1;
        let run = *run;
        framing.append(&mut self.output, &Bhs::from(header), bytes);
        last.then(|| self.runs.remove(at)).map(|_| run)
    }

    /// Sends what is queued, as far as it goes.
    pub(super) fn send(&mut self, world: &World) -> Result<(), Trouble> {
        if !self.output.is_empty() {
            let sent =
                world.send(self.conn, &self.output).map_err(|_| Trouble::Lost("broken while sending"))?;
            self.output.drain(..sent);
        }
        Ok(())
    }

    /// Receives what has come.
    pub(super) fn receive(&mut self, world: &World) -> Result<(), Trouble> {
        self.input.drain(..std::mem::take(&mut self.taken));
        match world.receive(self.conn, &mut self.input, usize::MAX) {
            Ok(Some(0)) => Ok(()),
            Ok(Some(_)) => {
                self.last_heard = world.now();
                Ok(())
            }
            Ok(None) => Err(Trouble::Lost("end of the stream")),
            Err(_) => Err(Trouble::Lost("reset")),
        }
    }

    /// The next whole PDU that has come.
    pub(super) fn next(&mut self, world: &World) -> Result<Option<Incoming>, Trouble> {
        let framing = self.framing(false);
        let input = self.input.get(self.taken..).unwrap_or_default();
        let header = match framing.read_header(input) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(FrameError::HeaderDigest) => return Err(self.digest_error(world, "header")),
            Err(error) => return Err(Trouble::Wrong(format!("bad framing: {error}"))),
        };
        let (begin, end) = (header.len, header.wire_len());
        let Some(segment) = input.get(begin..end) else { return Ok(None) };
        if !framing.data_digest_ok(segment) {
            return Err(self.digest_error(world, "data"));
        }
        if !header.ahs.is_empty() {
            return Err(Trouble::Wrong("an additional header segment from a target".to_owned()));
        }
        let data = segment.get(..header.data_len as usize).unwrap_or_default().to_vec();
        let incoming = Incoming { bhs: *header.bhs, data };
        self.taken += end;
        Ok(Some(incoming))
    }

    fn digest_error(&self, world: &World, which: &'static str) -> Trouble {
        if world.was_flipped(self.conn) {
            world.hit(Happening::DigestErrorSeen);
            Trouble::Lost("digest error")
        } else {
            Trouble::Wrong(format!("wrong {which} digest from the target"))
        }
    }
}

/// A header of zeroes.
pub(super) fn zeroed<T: zerocopy::FromZeros>() -> T {
    T::new_zeroed()
}
