//! What is found on a journal after a crash: how far it goes, and whether that can be trusted.
//!
//! Without I/O: says what is to be flushed and read, takes what came of it, and ends with [`Recovered`]. First the device
//! is flushed, so that what is read is what a later crash leaves. Then frames are read from the superblock's `out` on, each
//! whole and the follower of the one before. What is where the next one should be is the [`Ending`]; whether anything
//! anywhere says that more than this was stable is the [`Proof`]; and [`verdict`] is the table of both.
//!
//! What is before `destaged` is in the volumes: only the reader may still want it, who checks it himself. So there only the
//! heads of entries count, which say what the reader may lack. Where even these are damaged, recovery goes on at
//! `destaged`, and [`Recovered::damaged`] says that nobody knows what was between: the hosts' data are all there.

use crate::bits::Bits;
use crate::frame::{FrameHead, FrameKind, HeadFound, MAX_FRAME};
use crate::index::{Index, IndexRecord};
use crate::layout::{BLOCK, Layout};
use crate::parser::{Expect, Frame, ParseError, Parser};
use crate::superblock::Superblock;
use crate::writer::FLYING_BYTES;
use kagami_memory::{Class, Pool, Purpose, Scatter};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;
/// How far behind the end frames are looked for: as many bytes as can have been under way when a frame became stable.
const AHEAD: u64 = FLYING_BYTES + MAX_FRAME as u64;

/// What is where the next frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Nothing that looks like a frame.
    Nothing,
    /// A frame of an earlier round of the area.
    OtherPlace,
    /// A frame of an epoch that does not follow: of one whose end was dropped by an earlier recovery.
    OtherEpoch,
    /// A frame of another group.
    OtherGroup,
    /// A frame whose head is whole and whose entries' heads are not.
    TornEntries,
    /// A frame with damaged data.
    TornData,
    /// A frame that reaches beyond the end of the area.
    TooLong,
    /// A whole frame of the right epoch that does not go on from the one before: no crash does that.
    Gap,
    /// The area has been gone through once: its end is where it began.
    Whole,
    /// The device cannot read it.
    Unreadable,
    /// A frame of a later format.
    Newer,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::OtherPlace,
        Self::OtherEpoch,
        Self::OtherGroup,
        Self::TornEntries,
        Self::TornData,
        Self::TooLong,
        Self::Gap,
        Self::Whole,
        Self::Unreadable,
        Self::Newer,
    ];

    const fn of(error: &ParseError) -> Self {
        match error {
            ParseError::Nothing(_) | ParseError::NotNext { .. } => Self::Nothing,
            ParseError::OtherPlace { .. } => Self::OtherPlace,
            ParseError::OtherGroup(_) => Self::OtherGroup,
            ParseError::OtherEpoch { .. } => Self::OtherEpoch,
            ParseError::Entries(_) => Self::TornEntries,
            ParseError::Data { .. } => Self::TornData,
            ParseError::Gap(_) => Self::Gap,
            ParseError::TooLong(_) => Self::TooLong,
            ParseError::Newer(_) => Self::Newer,
        }
    }
}

/// What says that more was stable than was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The superblock: stable, destaged, confirmed or index.
    Superblock,
    /// The reader, who has it.
    Reader,
    /// A frame behind the end.
    LaterFrame,
}

/// What is to be done with what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The journal goes as far as was found; what is behind that was never stable.
    End,
    /// Something that was stable is damaged: the volumes stop, the group is PSUE, the operator decides.
    Corrupt,
    /// It cannot be known: the place behind the last whole frame cannot be read. As `Corrupt`, and says that it may be the
    /// device.
    Unreadable,
    /// A later version of the program wrote this: it must not be opened by this one.
    Newer,
}

/// The decision table of recovery.
#[must_use]
pub const fn verdict(ending: Ending, proof: Option<Proof>) -> Verdict {
    match (ending, proof) {
        (Ending::Newer, _) => Verdict::Newer,
        (_, Some(Proof::Superblock | Proof::Reader | Proof::LaterFrame)) => Verdict::Corrupt,
        (Ending::Gap, None) => Verdict::Corrupt,
        (Ending::Unreadable, None) => Verdict::Unreadable,
        (
            Ending::Nothing
            | Ending::OtherPlace
            | Ending::OtherEpoch
            | Ending::OtherGroup
            | Ending::TornEntries
            | Ending::TornData
            | Ending::TooLong
            | Ending::Whole,
            None,
        ) => Verdict::End,
    }
}

/// What recovery must know.
#[derive(Clone, Debug)]
pub struct RecoveryPlan {
    /// The group whose frames they are.
    pub group: Uuid,
    /// Where the parts lie.
    pub layout: Layout,
    /// Where frames begin, and the epoch of the frame before.
    pub out: JournalPos,
    /// The last sequence before `destaged`; what is not found in frames goes on from here.
    pub sequence: Sequence,
    /// The present epoch of the superblock and those before it.
    pub epochs: Vec<Epoch>,
    /// What the superblock knows as stable.
    pub stable: u64,
    /// What is before this is in the volumes and flushed.
    pub destaged: u64,
    /// What is before this is durable at the reader, as far as the superblock knows.
    pub confirmed: u64,
    /// What the reader itself says that it has, where it could be asked; else 0.
    pub reader: u64,
    /// Granules of each volume, in the order of their numbers.
    pub granules: Vec<u64>,
}

impl RecoveryPlan {
    /// From a primary's superblock.
    #[must_use]
    pub fn of(superblock: &Superblock, reader: u64, granules: &[u64]) -> Self {
        let s = superblock;
        Self {
            group: s.group,
            layout: s.layout,
            out: JournalPos { epoch: s.out_epoch, offset: s.out },
            sequence: s.destaged_sequence,
            epochs: std::iter::once(s.epoch).chain(s.parents.iter().copied()).collect(),
            stable: s.stable,
            destaged: s.destaged,
            confirmed: s.confirmed,
            reader,
            granules: granules.to_vec(),
        }
    }
}

/// What recovery wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that was written is made stable. Then [`Recovery::on_flushed`].
    Flush,
    /// Bytes of the device. Then [`Recovery::on_read`].
    Read {
        /// Where.
        at: u64,
        /// How many.
        len: u32,
    },
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What to do with it.
    pub verdict: Verdict,
    /// What was where the next frame should be.
    pub ending: Ending,
    /// What says that there was more.
    pub proof: Option<Proof>,
    /// Where the journal ends, in the epoch of its last frame.
    pub end: JournalPos,
    /// The place of the last frame; the end itself where there is none.
    pub previous: u64,
    /// The last sequence; a new epoch goes on with the next.
    pub sequence: Sequence,
    /// The time of the last entry, or 0.
    pub time: u64,
    /// From here on writes are applied to the volumes again: a place where a frame begins, at or before `destaged`, and
    /// the epoch before it.
    pub replay: JournalPos,
    /// The place where each epoch begins that begins behind `out`, with the epoch; in order.
    pub epochs: Vec<(u64, Epoch)>,
    /// Of each volume: what entries changed that the reader had not confirmed. All of it where that is not known.
    pub unconfirmed: Vec<Bits>,
    /// From this place on, before `destaged`, it is not known what was changed: heads of entries are damaged there. The
    /// volumes have all of it; the reader can never have it from this journal.
    pub damaged: Option<u64>,
    /// Places among the frames that were found, with their times and sequences.
    pub index: Index,
    /// Frames and entries that were found.
    pub frames: u64,
    /// Entries among them.
    pub entries: u64,
}

#[derive(Debug)]
enum Step {
    Flush,
    /// Frames are read one after another.
    Frames,
    /// What is at `destaged`: the frames before it are damaged.
    Skip,
    /// Later frames are looked for.
    Ahead {
        at: u64,
    },
    Done,
}

/// Finds the end of a journal.
#[derive(Debug)]
pub struct Recovery {
    plan: RecoveryPlan,
    parser: Parser,
    step: Step,
    /// A read is under way: its place in the journal, and its length.
    asked: Option<(u64, u32)>,
    /// Blocks to read one by one, as a longer read failed.
    single: u64,
    found: Recovered,
}

impl Recovery {
    /// Begins.
    #[must_use]
    pub fn new(plan: RecoveryPlan) -> Self {
        let parser = Parser::new(plan.group, plan.layout, plan.out).heads_only_before(plan.destaged);
        let found = Recovered {
            verdict: Verdict::End,
            ending: Ending::Nothing,
            proof: None,
            end: plan.out,
            previous: plan.out.offset,
            sequence: plan.sequence,
            time: 0,
            replay: plan.out,
            epochs: Vec::new(),
            unconfirmed: plan.granules.iter().map(|&granules| Bits::new(granules)).collect(),
            damaged: None,
            index: Index::new(plan.group, plan.layout, 0),
            frames: 0,
            entries: 0,
        };
        Self { plan, parser, step: Step::Flush, asked: None, single: 0, found }
    }

    /// What is to be done next; `None` while something is under way, and at the end.
    pub fn next_wanted(&mut self) -> Option<Wanted> {
        if self.asked.is_some() {
            return None;
        }
        let at = match self.step {
            Step::Flush => {
                self.asked = Some((0, 0));
                return Some(Wanted::Flush);
            }
            Step::Frames => self.parser.wants(),
            Step::Skip => self.plan.destaged,
            Step::Ahead { at } => at,
            Step::Done => return None,
        };
        let most = if self.single > 0 || matches!(self.step, Step::Skip) { BLOCK } else { CHUNK };
        let layout = &self.plan.layout;
        let len = most.min(layout.until_wrap(at)).min(self.limit().saturating_sub(at)).max(BLOCK);
        let len = u32::try_from(len).unwrap_or(0);
        self.asked = Some((at, len));
        Some(Wanted::Read { at: layout.place(at), len })
    }

    /// The flush is done, or failed: then nothing can be known.
    pub fn on_flushed(&mut self, good: bool) {
        self.asked = None;
        if good {
            self.step = Step::Frames;
        } else {
            self.end_here(Ending::Unreadable);
            self.step = Step::Done;
            self.decide();
        }
    }

    /// What was read; `None` where the device could not. Before `destaged` what cannot be read may be data, which nobody
    /// needs; the pool gives a page in their place.
    pub fn on_read(&mut self, data: Option<Scatter>, pool: &Pool) {
        let Some((at, len)) = self.asked.take() else { return };
        self.single = self.single.saturating_sub(1);
        let data = data.filter(|data| data.len_bytes() == len as usize);
        match (&self.step, data) {
            (Step::Frames, Some(data)) => {
                if self.parser.push(at, data).is_ok() {
                    self.take_frames();
                }
            }
            (Step::Frames, None) if u64::from(len) > BLOCK => self.single = u64::from(len) / BLOCK,
            (Step::Frames, None) => match zeroes(pool).filter(|_| at + BLOCK <= self.plan.destaged) {
                Some(zeroes) => {
                    if self.parser.push(at, zeroes).is_ok() {
                        self.take_frames();
                    }
                }
                None => self.no_frame(Ending::Unreadable),
            },
            (Step::Skip, data) => {
                self.skip_to(data.as_ref());
                if data.is_none() {
                    self.look_ahead(Ending::Unreadable);
                }
            }
            (Step::Ahead { .. }, Some(data)) => self.on_ahead(at, &data),
            (Step::Ahead { .. }, None) if u64::from(len) > BLOCK => self.single = u64::from(len) / BLOCK,
            // What cannot be read there proves nothing.
            (Step::Ahead { .. }, None) => self.go_ahead(at + BLOCK),
            (Step::Flush | Step::Done, _) => {}
        }
    }

    /// What was found, at the end.
    #[must_use]
    pub fn result(&self) -> Option<&Recovered> {
        matches!(self.step, Step::Done).then_some(&self.found)
    }

    /// The same, given away.
    #[must_use]
    pub fn into_result(self) -> Option<Recovered> {
        matches!(self.step, Step::Done).then_some(self.found)
    }

    /// How far it has come, as a place in the journal.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.found.end.offset
    }

    /// Frames end here at the latest.
    fn limit(&self) -> u64 {
        self.plan.out.offset + self.plan.layout.data_len
    }

    fn take_frames(&mut self) {
        while let Some(result) = self.parser.next() {
            match result {
                Ok(frame) if frame.head.end() > self.limit() => return self.no_frame(Ending::TooLong),
                Ok(frame) => self.count(&frame),
                Err(error) => return self.no_frame(Ending::of(&error)),
            }
        }
        if self.parser.wants() >= self.limit() {
            let whole = self.parser.at().offset == self.limit();
            self.no_frame(if whole { Ending::Whole } else { Ending::TooLong });
        }
    }

    /// Where a frame should be there is none: the end, if nothing was before that must be there.
    fn no_frame(&mut self, ending: Ending) {
        let destaged = self.plan.destaged;
        if ending == Ending::Newer || self.found.end.offset >= destaged || destaged > self.limit() {
            return self.look_ahead(ending);
        }
        self.found.damaged = Some(self.found.end.offset);
        self.found.unconfirmed.iter_mut().for_each(Bits::set_all);
        self.single = 0;
        self.step = Step::Skip;
    }

    /// Goes on at `destaged`, where a frame ends. What is there says in which epoch; where it is no frame of ours, the
    /// superblock that has `destaged` does.
    fn skip_to(&mut self, first: Option<&Scatter>) {
        let offset = self.plan.destaged;
        let present = self.plan.epochs.first().copied().unwrap_or(self.plan.out.epoch);
        let mut bytes = [0; crate::frame::HEAD_LEN];
        if let Some(first) = first {
            first.copy_into(&mut bytes, 0);
        }
        let epoch = match FrameHead::decode(&bytes) {
            HeadFound::Head(head, _) if head.group == self.plan.group && head.offset == offset => {
                let before = if head.kind == FrameKind::Opening { head.parent } else { head.epoch };
                self.plan.epochs.iter().copied().find(|epoch| *epoch == before).unwrap_or(present)
            }
            _ => present,
        };
        let at = JournalPos { epoch, offset };
        let found = &mut self.found;
        if epoch != found.end.epoch {
            // Somewhere between; nobody reads there.
            found.epochs.push((found.end.offset, epoch));
        }
        (found.end, found.previous, found.replay) = (at, offset, at);
        self.parser = Parser::new(self.plan.group, self.plan.layout, at);
        self.step = Step::Frames;
        if offset >= self.limit() {
            self.look_ahead(Ending::Whole);
        }
    }

    fn count(&mut self, frame: &Frame) {
        let head = &frame.head;
        let found = &mut self.found;
        if frame.new_epoch {
            found.epochs.push((head.offset, head.epoch));
        }
        for (entry, _) in &frame.entries {
            let (from, to) = entry.bytes();
            if head.end() > self.plan.confirmed
                && let Some(bits) = found.unconfirmed.get_mut(usize::from(entry.volume))
            {
                bits.set_bytes(from, to);
            }
            found.time = found.time.max(entry.time);
        }
        found.frames += 1;
        found.entries += frame.entries.len() as u64;
        found.previous = head.offset;
        found.sequence = found.sequence.max(head.last());
        found.end = frame.end();
        found.index.note(IndexRecord { at: found.end, sequence: found.sequence, time: found.time });
        if head.end() <= self.plan.destaged {
            found.replay = found.end;
        }
    }

    fn end_here(&mut self, ending: Ending) {
        self.found.ending = ending;
        let end = self.found.end.offset;
        let plan = &self.plan;
        if plan.stable.max(plan.destaged).max(plan.confirmed) > end {
            self.found.proof = Some(Proof::Superblock);
        } else if plan.reader > end {
            self.found.proof = Some(Proof::Reader);
        }
    }

    fn look_ahead(&mut self, ending: Ending) {
        self.end_here(ending);
        self.single = 0;
        self.go_ahead(self.found.end.offset);
    }

    fn go_ahead(&mut self, at: u64) {
        let end = self.found.end.offset;
        if self.found.proof.is_some() || at >= self.limit().min(end + AHEAD) {
            self.step = Step::Done;
            self.decide();
        } else {
            self.step = Step::Ahead { at };
        }
    }

    /// Looks at each block that could be a frame's first.
    fn on_ahead(&mut self, from: u64, data: &Scatter) {
        let end = self.found.end;
        let mut at = from;
        let until = from + data.len_bytes() as u64;
        let mut first = [0; crate::frame::HEAD_LEN];
        while at < until {
            let offset = usize::try_from(at - from).unwrap_or(usize::MAX);
            data.copy_into(&mut first, offset);
            let mut step = BLOCK;
            if let HeadFound::Head(head, _) = FrameHead::decode(&first)
                && head.group == self.plan.group
                && head.offset == at
                && (head.epoch == end.epoch || (head.kind == FrameKind::Opening && head.parent == end.epoch))
            {
                if head.stable > end.offset {
                    self.found.proof = Some(Proof::LaterFrame);
                    break;
                }
                if at > end.offset {
                    // Its data may be anything; they are no frames.
                    step = u64::from(head.len);
                }
            }
            at += step;
        }
        self.go_ahead(at.max(from + BLOCK));
    }

    fn decide(&mut self) {
        self.found.verdict = verdict(self.found.ending, self.found.proof);
    }

    /// What the frame behind the end would have to be.
    #[must_use]
    pub fn expect(&self) -> Expect {
        self.parser.expect()
    }
}

/// A block of zeroes, where there is a page.
fn zeroes(pool: &Pool) -> Option<Scatter> {
    let mut page = pool.take(Class::Page, Purpose::Internal)?;
    page.fill(0);
    let mut data = Scatter::new();
    data.push_page(page.freeze());
    Some(data)
}

#[cfg(test)]
mod tests;
