//! Whom it is to be told that the device has lost what was not stable: every initiator port that was there since, once, with
//! the next command of its that is to make something stable. Also one whose session has ended meanwhile and is made again
//! (RFC 7143 6.3.5, session reinstatement): what it wrote is lost all the same.

use crate::nexus::NexusId;
use crate::sense::{Asc, Sense, SenseKey};
use crate::transport_id::TransportId;
use crate::unit::LogicalUnit;
use std::collections::VecDeque;
use std::sync::Arc;

/// Initiator ports that are remembered after their sessions; of more, the first that went are forgotten.
const MOST: usize = 256;

/// Initiator ports that were here, each with its target port, and whether something is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Departed(VecDeque<(Arc<TransportId>, u16, bool)>);

impl Departed {
    /// A nexus has ended.
    pub(crate) fn went(&mut self, id: Arc<TransportId>, port: u16, lost: bool) {
        let before = self.came(&id, port);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((id, port, lost | before));
    }

    /// It is there again: whether it is still to be told of a loss.
    pub(crate) fn came(&mut self, id: &TransportId, port: u16) -> bool {
        let at = self.0.iter().position(|(known, through, _)| **known == *id && *through == port);
        at.and_then(|at| self.0.remove(at)).is_some_and(|(.., lost)| lost)
    }

    fn lose(&mut self) {
        self.0.iter_mut().for_each(|(.., lost)| *lost = true);
    }
}

impl LogicalUnit {
    /// The device may have lost what it was given and had not flushed: the next command of each initiator port that flushes
    /// (SYNCHRONIZE CACHE, MODE SELECT that clears WCE, START STOP UNIT that stops) fails, once, and does nothing, as it
    /// cannot make stable what is not there. That the device was reset is for the caller to establish.
    pub fn lose_unflushed(&mut self) {
        for (_, state) in self.nexuses.iter_mut() {
            state.lost = true;
        }
        self.departed.lose();
    }

    /// Before a flush that a nexus asks for: a WRITE ERROR where the device has lost what it was to make stable. Not
    /// deferred, as it is about what this command was asked to do.
    pub(crate) fn tell_loss(&mut self, nexus: NexusId) -> Result<(), Sense> {
        match self.nexuses.get_mut(nexus).is_some_and(|state| std::mem::take(&mut state.lost)) {
            true => Err(Sense::new(SenseKey::MediumError, Asc::WRITE_ERROR)),
            false => Ok(()),
        }
    }
}
