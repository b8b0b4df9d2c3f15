//! Small types shared by every room: addresses, lengths, identities, time.
//!
//! Newtypes stand where a mix-up would corrupt data: a block address is never a
//! byte offset, a core is never a logical unit number. Nothing here does I/O.
#![forbid(unsafe_code)]

mod address;
mod block;
mod identity;
mod journal;
mod time;

pub use address::{BlockCount, BlockSize, ByteLen, CoreId, Lba};
pub use block::{Access, BlockError, BlockOp, BlockRange, Compare, LbaStatus};
pub use identity::{Lun, LunFormatError, Naa};
pub use journal::{Epoch, JournalPos, Sequence};
pub use time::Time;
pub use uuid::Uuid;
