//! The far page: when it is asked for, when the own one is written there, and which of several is the newest.
//!
//! One read and one write of pages are under way at a time. A page counts only if it is of this group and peer and newer than
//! all before, whichever way it came. Knows nothing of what pages mean.

use super::pages;
use crate::action::{FarEnd, FarOp, FarUnit};
use crate::context::{Context, Owner};
use crate::page::{PAGE, READER_PAGE_AT, Serial, StatusPage};
use crate::record::State;
use kagami_types::{Time, Uuid};
use std::time::Duration;

/// How often the far page is asked for where nothing else asks.
const IDLE: Duration = Duration::from_secs(1);
/// How often where something waits for the other side.
const BUSY: Duration = Duration::from_millis(20);
/// After one that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// What a far command of the link has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Not one of these.
    NotOurs,
    /// A page, newer than those before.
    Page,
    /// A page that is overtaken by one that came before; what that one says holds.
    Known,
    /// No page; or one of an array that has not found out yet what it is, or is not any more what it was.
    Nothing,
    /// The own page is there, or is not.
    Written(bool),
}

#[derive(Debug)]
pub(super) struct Link {
    group: Uuid,
    peer: Uuid,
    reading: Option<u64>,
    writing: Option<u64>,
    next_read: Time,
    next_write: Time,
    /// The newest page.
    pub(super) far: Option<Box<StatusPage>>,
    newest: Serial,
    /// When that came.
    taken: Time,
    /// When the read that is under way was begun, and the last one that brought a page.
    asked: Time,
    pub(super) answered: Option<Time>,
    /// When a page came last, by either way, and by which clock.
    pub(super) heard: Option<Time>,
    pub(super) heard_wall: u64,
    /// Why the last try failed.
    pub(super) error: String,
    /// A read is wanted at once, a write too.
    pub(super) want_read: bool,
    pub(super) want_write: bool,
    /// Something waits for the other side.
    pub(super) busy: bool,
    began: bool,
}

impl Link {
    /// `known`: the version of the newest page that a life before this one knew.
    pub(super) fn new(group: Uuid, peer: Uuid, known: u64) -> Self {
        Self {
            group,
            peer,
            reading: None,
            writing: None,
            next_read: Time(0),
            next_write: Time::NEVER,
            far: None,
            newest: Serial { version: known, counter: 0 },
            taken: Time(0),
            asked: Time(0),
            answered: None,
            heard: None,
            heard_wall: 0,
            error: "the other array was not asked yet".to_owned(),
            want_read: true,
            want_write: false,
            busy: false,
            began: false,
        }
    }

    /// The far page, where it is not older than that.
    pub(super) fn fresh(&self, now: Time, age: Duration) -> Option<&StatusPage> {
        let heard = self.heard?;
        self.far.as_deref().filter(|_| now.since(heard) <= age)
    }

    /// The version of the newest page.
    pub(super) fn newest(&self) -> u64 {
        self.newest.version
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// The last turn began a read.
    pub(super) fn began(&self) -> bool {
        self.began
    }

    /// Whether a write of the own page is to be begun.
    pub(super) fn may_write(&self, now: Time) -> bool {
        self.writing.is_none() && (self.want_write || self.next_write <= now)
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>, page: &[u8; PAGE]) {
        let Some(data) = pages(cx.pool, page) else {
            self.next_write = cx.now + AGAIN;
            return;
        };
        self.want_write = false;
        self.next_write = Time::NEVER;
        let op = FarOp::Write { at: READER_PAGE_AT, data };
        self.writing = Some(cx.actions.far(Owner::Group, FarUnit::Journal, op));
    }

    pub(super) fn turn(&mut self, cx: &mut Context<'_>) {
        self.began = false;
        if self.busy {
            self.next_read = self.next_read.min(cx.now + BUSY);
        }
        if self.reading.is_some() || !(self.want_read || self.next_read <= cx.now) {
            return;
        }
        self.want_read = false;
        self.began = true;
        self.next_read = Time::NEVER;
        self.asked = cx.now;
        let len = u32::try_from(PAGE).unwrap_or(4096);
        self.reading = Some(cx.actions.far(Owner::Group, FarUnit::Journal, FarOp::Read { at: 0, len }));
    }

    /// Bytes that should be a page of the other side. `asked`: when it was asked for, where it was. Pages of one side only get
    /// newer, so one that was asked for after the newest came is newer still; or its maker has started since, and is about to
    /// say what it is, or has lost what it said before.
    pub(super) fn take(&mut self, now: Time, wall: u64, bytes: &[u8], asked: Option<Time>) -> Heard {
        let page = match StatusPage::decode(bytes) {
            Ok(page) => page,
            Err(error) => {
                self.error = error.to_string();
                return Heard::Nothing;
            }
        };
        if page.group != self.group || page.array != self.peer {
            "the other array's journal is of another group".clone_into(&mut self.error);
            return Heard::Nothing;
        }
        let is_old = match self.far {
            Some(_) => page.serial <= self.newest,
            // One that was long on its way. A side that was made anew, perhaps with another journal, counts from the start.
            None => page.serial.version < self.newest.version && page.record.state != State::Smpl,
        };
        if is_old {
            if asked.is_none_or(|asked| asked <= self.taken) {
                self.heard = Some(now);
                self.heard_wall = wall;
                self.error.clear();
                return Heard::Known;
            }
            if page.recovering {
                "the other array is starting".clone_into(&mut self.error);
            } else {
                "the other array's journal is older than what it has said before: an old copy of it was put back"
                    .clone_into(&mut self.error);
            }
            return Heard::Nothing;
        }
        self.heard = Some(now);
        self.heard_wall = wall;
        self.error.clear();
        self.newest = page.serial;
        self.taken = now;
        self.far = Some(Box::new(page));
        Heard::Page
    }

    pub(super) fn on_far(&mut self, cx: &Context<'_>, tag: u64, end: &FarEnd) -> Heard {
        if self.reading == Some(tag) {
            self.reading = None;
            self.next_read = cx.now + if self.busy { BUSY } else { IDLE };
            return match end {
                FarEnd::Good(data) => {
                    let heard = self.take(cx.now, cx.wall, &data.to_vec(), Some(self.asked));
                    if heard != Heard::Nothing {
                        self.answered = Some(self.asked);
                    }
                    heard
                }
                FarEnd::Refused(why) => {
                    self.error.clone_from(why);
                    self.next_read = cx.now + AGAIN;
                    Heard::Nothing
                }
                _ => {
                    "the other array cannot be reached".clone_into(&mut self.error);
                    self.next_read = cx.now + AGAIN;
                    Heard::Nothing
                }
            };
        }
        if self.writing == Some(tag) {
            self.writing = None;
            let good = matches!(end, FarEnd::Good(_));
            if !good && self.busy {
                self.next_write = cx.now + AGAIN;
            }
            return Heard::Written(good);
        }
        Heard::NotOurs
    }

    pub(super) fn next_deadline(&self, now: Time) -> Time {
        let read = if self.reading.is_some() {
            Time::NEVER
        } else if self.want_read {
            now
        } else {
            self.next_read
        };
        let write = if self.writing.is_some() {
            Time::NEVER
        } else if self.want_write {
            now
        } else {
            self.next_write
        };
        read.min(write)
    }
}

#[cfg(test)]
mod tests;
