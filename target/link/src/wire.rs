//! What the link writes to: the caller's message in the making.

use kagami_iscsi::frame::Framing;
use kagami_iscsi::pdu::Bhs;
use kagami_memory::{Scatter, ScatterMut};

/// The data segment of a PDU.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// None.
    None,
    /// A few bytes, to be copied behind the header.
    Inline(&'a [u8]),
    /// So many bytes of these pages from that offset on, to be sent from where they are.
    Pages(&'a Scatter, usize, usize),
}

/// Where PDUs and pages come to and from: implemented by the channel's outbox, and by tests.
pub trait Sink {
    /// Whether one more PDU fits, with that many inline bytes.
    fn has_room(&mut self, inline: usize) -> bool;

    /// Adds a PDU. The header states the length of its data already. There must be
    /// [room](Self::has_room).
    fn push(&mut self, framing: &Framing, bhs: &Bhs, payload: Payload<'_>);

    /// Adds pages for so many bytes to `room`; false, and nothing has changed, where there are none.
    fn take(&mut self, room: &mut ScatterMut, bytes: usize) -> bool;
}
