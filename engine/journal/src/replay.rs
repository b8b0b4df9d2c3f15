//! The frames of a stretch of the journal that is known to be whole: to apply writes again after a crash, or to restore
//! from a secondary's journal. Reads ahead of what is taken, by as much as whoever calls it asks for.

use crate::layout::{BLOCK, Layout};
use crate::parser::{Frame, ParseError, Parser};
use kagami_memory::Scatter;
use kagami_types::{JournalPos, Uuid};

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

/// Reads frames from a place on, up to another.
#[derive(Debug)]
pub struct Replay {
    layout: Layout,
    parser: Parser,
    /// What is to be read next.
    ask: u64,
    end: u64,
}

impl Replay {
    /// From where a frame begins, behind one of that epoch, up to `end`, where one ends.
    #[must_use]
    pub fn new(group: Uuid, layout: Layout, from: JournalPos, end: u64) -> Self {
        Self { layout, parser: Parser::new(group, layout, from), ask: from.offset, end }
    }

    /// The same, where only the heads of entries are wanted: data that are damaged do not matter.
    #[must_use]
    pub fn heads_only(self) -> Self {
        Self { parser: self.parser.heads_only(), ..self }
    }

    /// The next read: a byte of the device and a length. Results must come to [`on_read`](Self::on_read) in the order in
    /// which they were asked for.
    pub fn next_read(&mut self) -> Option<(u64, u32)> {
        let len = CHUNK.min(self.layout.until_wrap(self.ask)).min(self.end.saturating_sub(self.ask));
        let len = u32::try_from(len).ok().filter(|&len| u64::from(len) >= BLOCK)?;
        let at = self.layout.place(self.ask);
        self.ask += u64::from(len);
        Some((at, len))
    }

    /// What was read.
    ///
    /// # Errors
    /// More or fewer bytes came than was asked for.
    pub fn on_read(&mut self, data: Scatter) -> Result<(), ParseError> {
        let at = self.parser.wants();
        if at + data.len_bytes() as u64 > self.ask {
            return Err(ParseError::NotNext { given: at + data.len_bytes() as u64, wanted: self.ask });
        }
        self.parser.push(at, data)
    }

    /// The next frame; `None` where more must be read, and at the end.
    ///
    /// # Errors
    /// What was whole before is not any more.
    #[expect(clippy::should_implement_trait, reason = "more may come after None")]
    pub fn next(&mut self) -> Option<Result<Frame, ParseError>> {
        if self.is_done() { None } else { self.parser.next() }
    }

    /// What is before this has been taken.
    #[must_use]
    pub fn at(&self) -> JournalPos {
        self.parser.at()
    }

    /// Bytes asked for and not taken yet.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        self.ask - self.parser.at().offset
    }

    /// Everything has been taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.parser.at().offset >= self.end
    }

    /// Goes on to another end, further away: more has been written.
    pub fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }
}
