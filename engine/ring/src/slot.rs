//! Operations in flight, each with the kernel's view of its memory.

use kagami_reactor::{Op, Token};

/// What the kernel reads while an operation is in flight besides its data: it must not move.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) op: Option<(Token, Op)>,
    pub(crate) iovecs: Vec<libc::iovec>,
    pub(crate) message: libc::msghdr,
}

/// A fixed table of slots with a list of the free ones.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u32>,
}

// SAFETY: the pointers in `iovecs` and `message` point into the arena, which is shared memory
// that lives as long as the process, or into the slot itself, which is boxed and moves with no
// handle of the table. They are used by the kernel on behalf of whichever thread owns the table.
unsafe impl Send for Slots {}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        let slots = (0..count)
            .map(|_| Slot {
                op: None,
                iovecs: Vec::new(),
                // SAFETY: all zeroes is a valid `msghdr`: null pointers and zero lengths.
                message: unsafe { std::mem::zeroed() },
            })
            .collect();
        let free = (0..u32::try_from(count).unwrap_or(u32::MAX)).rev().collect();
        Self { slots, free }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts an operation into a free slot; gives it back where there is none.
    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    pub(crate) fn insert(&mut self, token: Token, op: Op) -> Result<u32, Op> {
        let Some(index) = self.free.pop() else { return Err(op) };
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.op.is_none());
        slot.op = Some((token, op));
        Ok(index)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Takes a completed operation out. `None` where the slot was free, which only a kernel
    /// that completes twice could bring about.
    pub(crate) fn take(&mut self, index: u32) -> Option<(Token, Op)> {
        let taken = self.slots.get_mut(index as usize)?.op.take()?;
        self.free.push(index);
        Some(taken)
    }
}

impl Drop for Slots {
    /// The kernel may still use the memory of operations in flight, so it is never given back.
    fn drop(&mut self) {
        if self.in_flight() == 0 {
            return;
        }
        for slot in std::mem::take(&mut self.slots) {
            std::mem::forget(slot);
        }
    }
}
