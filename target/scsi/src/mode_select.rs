//! MODE SELECT (SPC-5 6.11, 6.12): changes the few mode parameters that can be changed.
//!
//! The whole list is checked before anything is changed. What cannot be changed has to come
//! as it is (SPC-5 6.11: else INVALID FIELD IN PARAMETER LIST).

use crate::attention::Attention;
use crate::bytes::{be16, be32, be64, byte, index};
use crate::cdb::{Cdb, length};
use crate::disposition::{Deferred, Disposition};
use crate::mode::{Flags, ModeState, Page, PageControl, flags_of, flags_on};
use crate::nexus::NexusId;
use crate::sense::Sense;
use crate::table::Row;
use crate::unit::LogicalUnit;

impl LogicalUnit {
    /// MODE SELECT 6 and 10. With SP the new values are saved, too.
    pub(crate) fn mode_select(
        &mut self,
        nexus: NexusId,
        row: &Row,
        cdb: &Cdb,
        list: &[u8],
    ) -> Result<Disposition, Sense> {
        // Without PF the pages would be of a vendor's format (SPC-2).
        if cdb[1] & 0x10 == 0 {
            return Err(Sense::cdb_bit(1, 4));
        }
        let save = cdb[1] & 0x01 != 0;
        let length = index(length(cdb, row));
        if length == 0 {
            return Ok(Disposition::Good);
        }
        let list = list.get(..length).ok_or(Sense::list_length())?;
        let pages_at = self.check_header(list, row.usage.len() == 10)?;
        let (values, named) = self.parse_pages(list, pages_at)?;
        Ok(self.apply_modes(nexus, values, named, save))
    }

    /// Checks header and block descriptor; returns where the pages start.
    fn check_header(&self, list: &[u8], ten: bool) -> Result<usize, Sense> {
        let header = if ten { 8 } else { 4 };
        if list.len() < header {
            return Err(Sense::list_length());
        }
        let medium_type = if ten { byte(list, 2) } else { byte(list, 1) };
        if medium_type != 0 {
            return Err(Sense::list_field(if ten { 2 } else { 1 }));
        }
        let long = ten && byte(list, 4) & 1 != 0;
        let descriptors = if ten { usize::from(be16(list, 6)) } else { usize::from(byte(list, 3)) };
        if descriptors == 0 {
            return Ok(header);
        }
        if descriptors != if long { 16 } else { 8 } {
            return Err(Sense::list_field(header - 1));
        }
        if list.len() < header + descriptors {
            return Err(Sense::list_length());
        }
        // A volume is neither cut nor reformatted this way: zero or what is there.
        let (blocks, size) = if long {
            (be64(list, header), be32(list, header + 12))
        } else {
            (u64::from(be32(list, header)), be32(list, header + 4) & 0x00ff_ffff)
        };
        let told = if long { self.capacity } else { self.capacity.min(u64::from(u32::MAX)) };
        if blocks != 0 && blocks != told {
            return Err(Sense::list_field(header));
        }
        if size != 0 && size != self.block_size.bytes() {
            return Err(Sense::list_field(header + descriptors - 4));
        }
        Ok(header + descriptors)
    }

    /// The values that the pages ask for, and which of them the pages name.
    fn parse_pages(&self, list: &[u8], mut at: usize) -> Result<(Flags, Flags), Sense> {
        let mut values = self.mode.current;
        let mut named = Flags::empty();
        while let Some(&head) = list.get(at) {
            // SPF: no subpages.
            let page = Page::ALL.into_iter().find(|page| head & 0x7f == page.code());
            let page = page.ok_or(Sense::list_field(at))?;
            if usize::from(byte(list, at + 1)) != page.len() - 2 && list.len() > at + 1 {
                return Err(Sense::list_field(at + 1));
            }
            let body = list.get(at + 2..at + page.len()).ok_or(Sense::list_length())?;
            self.check_fixed(page, body, at + 2)?;
            let on = flags_on(page);
            values = (values - on) | flags_of(page, body);
            named |= on;
            at += page.len();
        }
        Ok((values, named))
    }

    /// Everything that is not changeable has its current value.
    fn check_fixed(&self, page: Page, body: &[u8], at: usize) -> Result<(), Sense> {
        let mode: &ModeState = &self.mode;
        let (mut current, mut changeable) = (Vec::new(), Vec::new());
        mode.put_page(page, PageControl::Current, &mut current);
        mode.put_page(page, PageControl::Changeable, &mut changeable);
        let fixed = current.iter().zip(&changeable).skip(2);
        let wrong = body.iter().zip(fixed).position(|(new, (old, mask))| (new ^ old) & !mask != 0);
        wrong.map_or(Ok(()), |wrong| Err(Sense::list_field(at + wrong)))
    }

    fn apply_modes(&mut self, nexus: NexusId, values: Flags, named: Flags, save: bool) -> Disposition {
        // Also where the cache is off already: the flush that went with that may have failed.
        let flush = named.contains(Flags::WRITE_CACHE) && !values.contains(Flags::WRITE_CACHE);
        if flush && let Err(sense) = self.tell_loss(nexus) {
            return Disposition::Check(sense);
        }
        let before = self.mode;
        self.mode.current = values;
        if save {
            self.mode.saved = (self.mode.saved - named) | (values & named);
        }
        if self.mode != before {
            self.refresh_gates();
            self.establish_all(Some(nexus), Attention::ModeChanged);
        }
        let persist = (self.mode.saved != before.saved).then(|| self.snapshot());
        if flush || persist.is_some() {
            return Disposition::Deferred(Box::new(Deferred { persist, flush, abort: Vec::new() }));
        }
        Disposition::Good
    }
}
