//! Learning what the far unit is: INQUIRY, TEST UNIT READY, READ CAPACITY, one after the other.
//!
//! Done when a session begins, before any host's command is passed on, and again whenever the far unit
//! says that something about it has changed.

use crate::link::{Event, Link, State};
use crate::receive::{Broken, attention, is_stopped};
use crate::task::{Owner, Stage};
use kagami_iscsi::pdu::TaskAttribute;
use kagami_memory::Scatter;
use kagami_scsi::path::{MOST_ARRAYS, PATH_PAGE, Path};
use kagami_types::Time;

/// Bytes of standard INQUIRY data to ask for; some units dislike more.
const STANDARD: u8 = 96;
/// Bytes of a vital product data page, and of READ CAPACITY(16).
const PAGE: u16 = 1024;
const CAPACITY: u32 = 32;
/// Conditions that a unit may report before it is ready.
const MOST_CONDITIONS: u8 = 32;
/// The pages that are asked for, where the far unit has them.
const PAGES: [u8; 7] = [0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2, PATH_PAGE];

/// What the far unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Standard INQUIRY data (SPC-5 6.6.2).
    pub standard: Vec<u8>,
    /// Vital product data pages with their headers, by code.
    pub pages: Vec<(u8, Vec<u8>)>,
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block.
    pub block_len: u32,
    /// The arrays behind this one; empty where the far array does not tell.
    pub arrays: Vec<kagami_types::Uuid>,
}

impl Learnt {
    /// A vital product data page.
    #[must_use]
    pub fn page(&self, code: u8) -> Option<&[u8]> {
        self.pages.iter().find(|(page, _)| *page == code).map(|(_, bytes)| bytes.as_slice())
    }
}

/// The question that is to be answered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Standard,
    List,
    Page(u8),
    Ready,
    Capacity16,
    Capacity10,
}

/// How far it is.
#[derive(Debug)]
pub(crate) struct Learning {
    step: Step,
    learnt: Learnt,
    list: Vec<u8>,
    conditions: u8,
    reset: bool,
    /// Something changed meanwhile: it is asked all over.
    again: bool,
}

impl<T: Copy> Link<T> {
    /// Begins to ask, or to ask again.
    pub(crate) fn begin_to_learn(&mut self) {
        if let Some(learning) = &mut self.learning {
            learning.again = true;
            return;
        }
        self.learning = Some(Learning {
            step: Step::Standard,
            learnt: Learnt::default(),
            list: Vec::new(),
            conditions: 0,
            reset: false,
            again: false,
        });
        let limit = self.plan.io_timeout.max(self.plan.login_timeout);
        if let State::Full(full) = &mut self.state {
            full.learning_until = Some(full.last_heard() + limit);
        }
        self.ask();
    }

    /// Puts the next question into the link's own slot.
    fn ask(&mut self) {
        let Some(learning) = &self.learning else { return };
        let [high, low] = PAGE.to_be_bytes();
        let mut cdb = [0; 16];
        let expects = match learning.step {
            Step::Standard => {
                cdb[..5].copy_from_slice(&[0x12, 0, 0, 0, STANDARD]);
                u32::from(STANDARD)
            }
            Step::List => {
                cdb[..5].copy_from_slice(&[0x12, 1, 0, high, low]);
                u32::from(PAGE)
            }
            Step::Page(code) => {
                cdb[..5].copy_from_slice(&[0x12, 1, code, high, low]);
                u32::from(PAGE)
            }
            Step::Ready => 0,
            Step::Capacity16 => {
                (cdb[0], cdb[1]) = (0x9e, 0x10);
                cdb[10..14].copy_from_slice(&CAPACITY.to_be_bytes());
                CAPACITY
            }
            Step::Capacity10 => {
                cdb[0] = 0x25;
                8
            }
        };
        let own = self.tasks.own();
        let Some(task) = self.tasks.get_mut(own) else { return };
        task.stage = Stage::Waiting;
        task.owner = Owner::Link;
        task.cdb = cdb;
        task.attribute = TaskAttribute::Simple;
        task.repeatable = false;
        task.blocks = None;
        task.writes = false;
        task.expects = expects;
        task.deadline = Time::NEVER;
        task.rewind();
    }

    /// An answer.
    pub(crate) fn learnt(
        &mut self,
        status: u8,
        completed: bool,
        sense: Option<&[u8]>,
        data: &Scatter,
        now: Time,
    ) -> Result<(), Broken> {
        let Some(learning) = &mut self.learning else { return Ok(()) };
        let good = completed && status == 0;
        if status == 2
            && learning.conditions < MOST_CONDITIONS
            && let Some(code) = attention(sense)
        {
            // Reported once to the new session; the question is asked again.
            learning.conditions += 1;
            learning.reset |= matches!(code, 0x2900..=0x2904);
            self.ask();
            return Ok(());
        }
        let bytes = data.to_vec();
        let listed =
            |list: &[u8], after: u8| PAGES.into_iter().find(|code| *code > after && list.contains(code));
        learning.step = match learning.step {
            Step::Standard if !good || bytes.len() < 5 => {
                return Err(Broken("the far unit does not say what it is"));
            }
            Step::Standard => {
                // Peripheral qualifier and device type: a direct access block device that is there.
                if bytes.first() != Some(&0) {
                    return Err(Broken("the far array has no such unit, or it is no disk"));
                }
                learning.learnt.standard = bytes;
                Step::List
            }
            Step::List => {
                // Without any, there is still a disk.
                learning.list = if good { body(&bytes).to_vec() } else { Vec::new() };
                listed(&learning.list, 0).map_or(Step::Ready, Step::Page)
            }
            Step::Page(code) => {
                if good && bytes.get(1) == Some(&code) {
                    learning.learnt.pages.push((code, bytes));
                }
                listed(&learning.list, code).map_or(Step::Ready, Step::Page)
            }
            // Commands pass to a unit that was stopped: one of them starts it.
            Step::Ready if !good && !is_stopped(sense) => return Err(Broken("the far unit is not ready")),
            Step::Ready => Step::Capacity16,
            Step::Capacity16 if !good => Step::Capacity10,
            Step::Capacity16 | Step::Capacity10 if !good => {
                return Err(Broken("the far unit does not say how large it is"));
            }
            Step::Capacity16 => {
                let Some((last, len)) = capacity16(&bytes) else {
                    return Err(Broken("the far unit does not say how large it is"));
                };
                return self.known(last, len, now);
            }
            Step::Capacity10 => {
                let Some((last, len)) = capacity10(&bytes) else {
                    return Err(Broken("the far unit does not say how large it is"));
                };
                return self.known(last, len, now);
            }
        };
        if learning.step == Step::Ready && self.path_leads_back()? {
            return Err(Broken("the far unit leads back to this array, or over too many: a loop"));
        }
        self.ask();
        Ok(())
    }

    /// Whether the far unit's path has this array in it, or is too long; its arrays are kept.
    fn path_leads_back(&mut self) -> Result<bool, Broken> {
        let array = self.plan.array;
        let Some(learning) = &mut self.learning else { return Ok(false) };
        let Some(path) = learning.learnt.page(PATH_PAGE).and_then(Path::read) else { return Ok(false) };
        let complete = path.complete;
        let back = path.arrays.contains(&array) || path.arrays.len() >= MOST_ARRAYS;
        learning.learnt.arrays.clone_from(&path.arrays);
        // Told even where it does not lead anywhere yet: arrays in a ring learn of each other so.
        self.far_path = Some(path);
        if back {
            self.looped = true;
        } else if complete {
            self.looped = false;
        } else {
            return Err(Broken("the far unit does not know yet where its data is"));
        }
        Ok(back)
    }

    /// All is known: hosts' commands may come.
    fn known(&mut self, last: u64, block_len: u32, now: Time) -> Result<(), Broken> {
        let Some(mut learning) = self.learning.take() else { return Ok(()) };
        if !matches!(block_len, 512 | 4096) {
            return Err(Broken("the far unit has blocks of another size than 512 or 4096 bytes"));
        }
        learning.learnt.blocks = last.saturating_add(1);
        learning.learnt.block_len = block_len;
        let State::Full(full) = &mut self.state else { return Ok(()) };
        full.learning_until = None;
        full.serving = true;
        self.down_since = None;
        self.attempts = 0;
        self.reason = None;
        self.next_tick = self.next_tick.min(now);
        self.events.push_back(Event::Up { learnt: Box::new(learning.learnt), reset: learning.reset });
        if learning.again {
            self.begin_to_learn();
        }
        Ok(())
    }
}

/// What a page says, as long as it says that it is.
fn body(page: &[u8]) -> &[u8] {
    let len = match page {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let rest = page.get(4..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// The last block and the length of one (SBC-4 5.20.2).
fn capacity16(bytes: &[u8]) -> Option<(u64, u32)> {
    let (last, rest) = bytes.split_first_chunk::<8>()?;
    let (len, _) = rest.split_first_chunk::<4>()?;
    Some((u64::from_be_bytes(*last), u32::from_be_bytes(*len)))
}

/// The same of READ CAPACITY(10) (SBC-4 5.19.2).
fn capacity10(bytes: &[u8]) -> Option<(u64, u32)> {
    let (last, rest) = bytes.split_first_chunk::<4>()?;
    let (len, _) = rest.split_first_chunk::<4>()?;
    Some((u64::from(u32::from_be_bytes(*last)), u32::from_be_bytes(*len)))
}
