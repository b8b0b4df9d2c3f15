//! Whether acknowledged writes are stable: the WCE bit as hosts change it, and as resets and
//! restarts change it back.
//!
//! A write that was issued when the write cache was certainly off, and acknowledged while it still
//! was, is stable. Where changes overlap, or nobody knows how one ended, nothing is promised until
//! the next change that is certain.

use super::history::Tick;

/// A change under way.
#[must_use = "a change that is never ended leaves everything in doubt"]
#[derive(Debug)]
pub struct ModeChange {
    pub(super) issued: Tick,
    /// To what; `None`: back to what is saved, by a reset.
    to: Option<bool>,
    save: bool,
    before: Option<Tick>,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeEnding {
    /// Done.
    Done,
    /// It had and will have no effect.
    Nothing,
    /// Nobody knows.
    Unknown,
    /// Nobody knows, and later changes say nothing either, until a restart.
    Lost,
}

/// What is known of the WCE bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheMode {
    /// The cache is certainly off, since then.
    through_since: Option<Tick>,
    /// What a reset or a restart brings back, where that is certain.
    saved: Option<bool>,
    changing: u32,
    /// Changes overlapped.
    contested: bool,
    /// Nothing is certain until a restart.
    lost: bool,
}

impl CacheMode {
    pub(super) fn new(write_through: bool) -> Self {
        Self {
            through_since: write_through.then_some(Tick(0)),
            saved: Some(!write_through),
            changing: 0,
            contested: false,
            lost: false,
        }
    }

    /// Whether a write that was issued then and is acknowledged now is stable.
    pub(super) fn is_through_since(&self, issued: Tick) -> bool {
        !self.lost && self.through_since.is_some_and(|since| since <= issued)
    }

    /// Turns the cache on or off (`Some`), also for after a restart (`save`); or back to what is
    /// saved (`None`).
    pub(super) fn begin(&mut self, to: Option<bool>, save: bool, now: Tick) -> ModeChange {
        self.contested |= self.changing > 0;
        self.changing += 1;
        let before = self.through_since;
        if to.or(self.saved) != Some(false) {
            self.through_since = None;
        }
        ModeChange { issued: now, to, save, before }
    }

    /// A change has ended; true where everything acknowledged before it was issued is stable now.
    pub(super) fn end(&mut self, change: &ModeChange, ending: ModeEnding, now: Tick) -> bool {
        self.changing = self.changing.saturating_sub(1);
        let sure = !self.contested;
        if self.changing == 0 {
            self.contested = false;
        }
        match (ending, sure) {
            (ModeEnding::Nothing, true) => {
                self.through_since = change.before;
                false
            }
            (ModeEnding::Nothing, false) => false,
            (ModeEnding::Done, true) => {
                let on = change.to.or(self.saved);
                if change.save {
                    self.saved = change.to;
                }
                self.through_since = match on {
                    Some(false) => Some(change.before.unwrap_or(now)),
                    _ => None,
                };
                change.to == Some(false) && !self.lost
            }
            (ModeEnding::Done | ModeEnding::Unknown | ModeEnding::Lost, _) => {
                self.lost |= ending == ModeEnding::Lost;
                self.through_since = None;
                if change.save {
                    self.saved = None;
                }
                false
            }
        }
    }

    /// Everything ended at once, and begins again from what is saved. Changes under way are over.
    pub(super) fn crashed(&mut self, now: Tick, saving: bool) {
        if saving && self.changing > 0 {
            self.saved = None;
        }
        (self.changing, self.contested, self.lost) = (0, false, false);
        self.through_since = (self.saved == Some(false)).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_it_off_holds_from_the_end_and_flushes() {
        let mut mode = CacheMode::new(false);
        let off = mode.begin(Some(false), false, Tick(5));
        assert!(!mode.is_through_since(Tick(6)));
        assert!(mode.end(&off, ModeEnding::Done, Tick(7)));
        assert!(!mode.is_through_since(Tick(6)) && mode.is_through_since(Tick(7)));
        // It was not saved.
        mode.crashed(Tick(9), false);
        assert!(!mode.is_through_since(Tick(10)));
    }

    #[test]
    fn turning_it_on_ends_the_promise_at_once() {
        let mut mode = CacheMode::new(true);
        assert!(mode.is_through_since(Tick(1)));
        let on = mode.begin(Some(true), true, Tick(5));
        assert!(!mode.is_through_since(Tick(1)));
        assert!(!mode.end(&on, ModeEnding::Nothing, Tick(6)));
        assert!(mode.is_through_since(Tick(1)));
        let on = mode.begin(Some(true), true, Tick(7));
        assert!(!mode.end(&on, ModeEnding::Done, Tick(8)));
        mode.crashed(Tick(9), false);
        assert!(!mode.is_through_since(Tick(10)));
    }

    #[test]
    fn overlapping_changes_promise_nothing() {
        let mut mode = CacheMode::new(false);
        let off = mode.begin(Some(false), false, Tick(5));
        let on = mode.begin(Some(true), false, Tick(6));
        assert!(!mode.end(&on, ModeEnding::Done, Tick(7)));
        assert!(!mode.end(&off, ModeEnding::Done, Tick(8)));
        assert!(!mode.is_through_since(Tick(9)));
        let off = mode.begin(Some(false), true, Tick(10));
        assert!(mode.end(&off, ModeEnding::Done, Tick(11)));
        assert!(mode.is_through_since(Tick(12)));
    }

    #[test]
    fn a_reset_brings_back_what_is_saved() {
        let mut mode = CacheMode::new(true);
        let on = mode.begin(Some(true), false, Tick(2));
        mode.end(&on, ModeEnding::Done, Tick(3));
        let reset = mode.begin(None, false, Tick(4));
        assert!(!mode.end(&reset, ModeEnding::Done, Tick(5)));
        assert!(!mode.is_through_since(Tick(4)) && mode.is_through_since(Tick(5)));
    }
}
