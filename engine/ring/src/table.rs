//! The table of a ring's sockets and files; an entry's place is its registered-file index.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub(crate) enum Entry {
    Listener(OwnedFd),
    Socket(OwnedFd),
    File { fd: OwnedFd, polled: bool },
}

#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Table {
    pub(crate) fn new(capacity: usize) -> Self {
        let entries = std::iter::repeat_with(|| None).take(capacity).collect();
        Self { entries, free: (0..u32::try_from(capacity).unwrap_or(u32::MAX)).rev().collect() }
    }

    /// Puts an entry in; `None`, and the entry closed, where the table is full.
    pub(crate) fn insert(&mut self, entry: Entry) -> Option<u32> {
        let index = self.free.pop()?;
        self.entries[index as usize] = Some(entry);
        Some(index)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(entry)
    }

    pub(crate) fn fd(&self, index: u32) -> Option<BorrowedFd<'_>> {
        Some(match self.entries.get(index as usize)?.as_ref()? {
            Entry::Listener(fd) | Entry::Socket(fd) | Entry::File { fd, .. } => fd.as_fd(),
        })
    }

    pub(crate) fn is_socket(&self, index: u32) -> bool {
        matches!(self.entries.get(index as usize), Some(Some(Entry::Socket(_))))
    }

    pub(crate) fn is_file(&self, index: u32) -> bool {
        matches!(self.entries.get(index as usize), Some(Some(Entry::File { .. })))
    }

    pub(crate) fn is_polled(&self, index: u32) -> bool {
        matches!(self.entries.get(index as usize), Some(Some(Entry::File { polled: true, .. })))
    }
}
