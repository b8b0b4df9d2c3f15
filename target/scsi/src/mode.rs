//! Mode pages: what they say, and MODE SENSE (SPC-5 6.13, 7.5; SBC-4 6.5).
//!
//! All pages are made from a few flags. Those that MODE SELECT may change have a current and a
//! saved value; the rest is fixed. `mode_select.rs` changes them.

use crate::bytes::{Put, byte, index, len8, len16};
use crate::cdb::{Cdb, length};
use crate::config::WriteCache;
use crate::disposition::Disposition;
use crate::sense::Sense;
use crate::table::{Gates, Row};
use crate::unit::LogicalUnit;
use bitflags::bitflags;

bitflags! {
    /// The changeable mode parameters.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Flags: u8 {
        /// WCE, caching page.
        const WRITE_CACHE = 1;
        /// D_SENSE, control page.
        const DESCRIPTOR_SENSE = 1 << 1;
        /// SWP, control page.
        const WRITE_PROTECT = 1 << 2;
        /// TAS, control page.
        const TASK_ABORTED = 1 << 3;
    }
}

/// The mode parameters of a logical unit, shared by all nexuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModeState {
    pub current: Flags,
    pub saved: Flags,
    pub default: Flags,
    pub changeable: Flags,
}

/// Which values MODE SENSE asks for (SPC-5 table 172).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageControl {
    Current,
    Changeable,
    Default,
    Saved,
}

/// The mode pages served, in the order in which they are returned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    ErrorRecovery,
    Reconnect,
    Caching,
    Control,
    Exceptions,
}

impl Page {
    pub const ALL: [Self; 5] =
        [Self::ErrorRecovery, Self::Reconnect, Self::Caching, Self::Control, Self::Exceptions];

    pub fn code(self) -> u8 {
        match self {
            Self::ErrorRecovery => 0x01,
            Self::Reconnect => 0x02,
            Self::Caching => 0x08,
            Self::Control => 0x0a,
            Self::Exceptions => 0x1c,
        }
    }

    /// The whole length in bytes, header included.
    pub fn len(self) -> usize {
        match self {
            Self::Reconnect => 16,
            Self::Caching => 20,
            Self::ErrorRecovery | Self::Control | Self::Exceptions => 12,
        }
    }

    /// Can its parameters be saved (the PS bit)?
    fn savable(self) -> bool {
        matches!(self, Self::Caching | Self::Control)
    }
}

impl ModeState {
    pub fn new(cache: &WriteCache) -> Self {
        let mut default = Flags::empty();
        default.set(Flags::WRITE_CACHE, cache.enabled);
        let mut changeable = Flags::all();
        changeable.set(Flags::WRITE_CACHE, cache.changeable);
        Self { current: default, saved: default, default, changeable }
    }

    /// Back to the saved values, as a reset does.
    pub fn reset(&mut self) {
        self.current = self.saved;
    }

    pub fn write_cache(&self) -> bool {
        self.current.contains(Flags::WRITE_CACHE)
    }

    pub fn descriptor_sense(&self) -> bool {
        self.current.contains(Flags::DESCRIPTOR_SENSE)
    }

    pub fn software_write_protect(&self) -> bool {
        self.current.contains(Flags::WRITE_PROTECT)
    }

    pub fn task_aborted_status(&self) -> bool {
        self.current.contains(Flags::TASK_ABORTED)
    }

    /// Appends a page with those values.
    pub fn put_page(&self, page: Page, control: PageControl, out: &mut Vec<u8>) {
        let values = match control {
            PageControl::Current => self.current,
            PageControl::Changeable => self.changeable,
            PageControl::Default => self.default,
            PageControl::Saved => self.saved,
        };
        let saving = u8::from(page.savable()) << 7;
        out.extend_from_slice(&[page.code() | saving, len8(page.len() - 2)]);
        let start = out.len();
        out.zeroes(page.len() - 2);
        let body = &mut out[start..];
        // Masks of changeable parameters have zeroes where the parameter is fixed.
        if control != PageControl::Changeable {
            fill_fixed(page, body);
        }
        fill_changeable(page, values, body);
    }
}

/// The parameters that never change. `body` starts behind the page's two header bytes.
fn fill_fixed(page: Page, body: &mut [u8]) {
    match page {
        // AWRE and ARRE: defective blocks are relocated by what is below.
        Page::ErrorRecovery => body[0] = 0xc0,
        Page::Reconnect | Page::Caching => {}
        Page::Control => {
            // GLTSD: no log parameters are saved; unrestricted reordering; unlimited busy timeout.
            body[0] = 0x02;
            body[1] = 0x10;
            body[6] = 0xff;
            body[7] = 0xff;
        }
        // DEXCPT: no informational exceptions are reported.
        Page::Exceptions => body[0] = 0x08,
    }
}

fn fill_changeable(page: Page, values: Flags, body: &mut [u8]) {
    let bit = |flag, at: u8| u8::from(values.contains(flag)) << at;
    match page {
        Page::Caching => body[0] |= bit(Flags::WRITE_CACHE, 2),
        Page::Control => {
            body[0] |= bit(Flags::DESCRIPTOR_SENSE, 2);
            body[2] |= bit(Flags::WRITE_PROTECT, 3);
            body[3] |= bit(Flags::TASK_ABORTED, 6);
        }
        Page::ErrorRecovery | Page::Reconnect | Page::Exceptions => {}
    }
}

/// The flags that a page's body has, as `fill_changeable` put them.
pub(crate) fn flags_of(page: Page, body: &[u8]) -> Flags {
    let bit = |at, mask| byte(body, at) & mask != 0;
    let mut flags = Flags::empty();
    match page {
        Page::Caching => flags.set(Flags::WRITE_CACHE, bit(0, 0x04)),
        Page::Control => {
            flags.set(Flags::DESCRIPTOR_SENSE, bit(0, 0x04));
            flags.set(Flags::WRITE_PROTECT, bit(2, 0x08));
            flags.set(Flags::TASK_ABORTED, bit(3, 0x40));
        }
        Page::ErrorRecovery | Page::Reconnect | Page::Exceptions => {}
    }
    flags
}

/// The flags that stand on a page.
pub(crate) fn flags_on(page: Page) -> Flags {
    match page {
        Page::Caching => Flags::WRITE_CACHE,
        Page::Control => Flags::DESCRIPTOR_SENSE | Flags::WRITE_PROTECT | Flags::TASK_ABORTED,
        Page::ErrorRecovery | Page::Reconnect | Page::Exceptions => Flags::empty(),
    }
}

impl LogicalUnit {
    /// MODE SENSE 6 and 10 (SPC-5 6.13, 6.14).
    pub(crate) fn mode_sense(&self, row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
        let ten = row.usage.len() == 10;
        let control = match cdb[2] >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        };
        let (code, subpage) = (cdb[2] & 0x3f, cdb[3]);
        // Page 3Fh is all pages; subpage FFh is all subpages, of which there is only 00h.
        if !matches!(subpage, 0 | 0xff) {
            return Err(Sense::cdb_field(3));
        }
        let wanted = |page: &Page| code == 0x3f || page.code() == code;
        if !Page::ALL.iter().any(wanted) {
            return Err(Sense::cdb_bit(2, 5));
        }
        let block_descriptor = cdb[1] & 0x08 == 0;
        let long = ten && cdb[1] & 0x10 != 0;
        out.clear();
        self.mode_header(ten, block_descriptor, long, out);
        for page in Page::ALL.into_iter().filter(wanted) {
            self.mode.put_page(page, control, out);
        }
        if ten {
            let length = len16(out.len() - 2).to_be_bytes();
            out.patch(0, &length);
        } else {
            let length = len8(out.len() - 1);
            out.patch(0, &[length]);
        }
        out.truncate(index(length(cdb, row)));
        Ok(Disposition::DataIn)
    }

    /// Mode parameter header, the length left open, and block descriptor (SPC-5 7.5.5 to 7.5.6,
    /// SBC-4 6.5.2).
    fn mode_header(&self, ten: bool, descriptor: bool, long: bool, out: &mut Vec<u8>) {
        // WP and DPOFUA: DPO and FUA are understood.
        let device = 0x10 | (u8::from(self.gates.contains(Gates::PROTECTED)) << 7);
        let descriptor_length = match (descriptor, long) {
            (false, _) => 0,
            (true, false) => 8,
            (true, true) => 16,
        };
        if ten {
            out.extend_from_slice(&[0, 0, 0, device, u8::from(long && descriptor), 0, 0, descriptor_length]);
        } else {
            out.extend_from_slice(&[0, 0, device, descriptor_length]);
        }
        match descriptor_length {
            8 => {
                out.put32(u32::try_from(self.capacity).unwrap_or(u32::MAX));
                out.put32(self.block_size.bytes());
            }
            16 => {
                out.put64(self.capacity);
                out.put32(0);
                out.put32(self.block_size.bytes());
            }
            _ => {}
        }
    }
}
