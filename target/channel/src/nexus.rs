//! What connections and tasks are called beyond their own core.

use kagami_types::CoreId;

/// A connection of some core, safe against a later one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Where it lives.
    pub core: CoreId,
    /// Its place there.
    pub index: u32,
    /// Which of the connections that had this place.
    pub generation: u32,
}

/// A task of a connection, safe likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// Whose.
    pub connection: ConnectionId,
    /// Its slot.
    pub slot: u16,
    /// Which of the tasks that had this slot.
    pub turn: u16,
}
