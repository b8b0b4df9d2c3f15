//! From the bytes of the file to the state: the decision table.
//!
//! | found | then |
//! | --- | --- |
//! | no file | a new array |
//! | wrong magic | refused: not ours |
//! | header cut off or its checksum wrong | refused: damaged (the file came into being by rename, whole) |
//! | newer format, unknown incompatible feature | refused: newer version needed |
//! | unknown read-only feature | opened, no commits |
//! | first frame not a whole checkpoint | refused: damaged |
//! | whole frame, generation one above the last | applied |
//! | whole frame, any other generation, or a second checkpoint | refused: damaged |
//! | whole frame, record that cannot be understood | refused: newer version needed, or damaged |
//! | end of file right after a frame | done |
//! | no whole frame, and none whole after it | torn tail, never acknowledged: dropped |
//! | no whole frame, but a whole one after it | refused: damaged in the middle |
//!
//! One commit is under way at a time and the next starts only when it is durable; so what was
//! never acknowledged can only be the last frame, and a whole frame behind a broken one proves
//! that the broken one was acknowledged.

use crate::error::TablesError;
use crate::frame::{ALIGN, Features, Generation, HEADER, Header, KNOWN, Kind, decode_frame};
use crate::state::{ApplyError, Audit, State};

/// What the file held.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub state: State,
    pub generation: Generation,
    pub features: Features,
    /// Unknown read-only features: 0, or no commit is allowed.
    pub read_only: u64,
    /// Audit lines of the transactions in the file, to be written if they are missing.
    pub audits: Vec<(Generation, Audit)>,
    /// Bytes that are good.
    pub valid: usize,
    /// Bytes of the header and the checkpoint, which is what a rewrite would leave at least.
    pub checkpoint: usize,
    /// A torn tail was dropped.
    pub torn: bool,
}

pub(crate) fn recover(bytes: &[u8]) -> Result<Recovered, TablesError> {
    let header = Header::decode(bytes)?;
    let mut at = HEADER;
    let rest = |at: usize| bytes.get(at..).unwrap_or_default();
    let corrupt = |at: usize, what| TablesError::Corrupt { offset: at as u64, what };

    let first = decode_frame(rest(at)).map_err(|_| corrupt(at, "there is no whole checkpoint"))?;
    if first.kind != Kind::Checkpoint {
        return Err(corrupt(at, "the first frame is no checkpoint"));
    }
    let mut state = State::decode(first.body).map_err(|error| refused(at, error))?;
    if state.array().uuid != header.array {
        return Err(corrupt(at, "the header and the checkpoint are of different arrays"));
    }
    let mut generation = first.generation;
    at += first.len;
    let checkpoint = at;

    let mut audits = Vec::new();
    let mut torn = false;
    while !rest(at).is_empty() {
        let Ok(frame) = decode_frame(rest(at)) else {
            if let Some(later) = whole_frame_after(bytes, at, generation) {
                return Err(corrupt(later.min(at), "acknowledged changes in the middle are broken"));
            }
            torn = true;
            break;
        };
        if frame.kind != Kind::Transaction || Some(frame.generation.0) != generation.0.checked_add(1) {
            return Err(corrupt(at, "a frame is out of order"));
        }
        if let Some(audit) = state.apply_body(frame.body).map_err(|error| refused(at, error))? {
            audits.push((frame.generation, audit));
        }
        generation = frame.generation;
        at += frame.len;
    }
    Ok(Recovered {
        state,
        generation,
        features: header.features,
        read_only: header.features.read_only & !KNOWN.read_only,
        audits,
        valid: at,
        checkpoint,
        torn,
    })
}

/// Where a later frame starts, whole, behind a broken one, if anywhere. It must be later than
/// the broken one's own generation, so that bytes inside the broken frame do not pass for one.
fn whole_frame_after(bytes: &[u8], broken: usize, last: Generation) -> Option<usize> {
    let later = |rest| decode_frame(rest).is_ok_and(|frame| frame.generation.0 > last.0.saturating_add(1));
    (broken + ALIGN..bytes.len()).step_by(ALIGN).find(|at| bytes.get(*at..).is_some_and(later))
}

fn refused(at: usize, error: ApplyError) -> TablesError {
    match error {
        ApplyError::Malformed => {
            TablesError::Corrupt { offset: at as u64, what: "a record does not hold what its kind says" }
        }
        ApplyError::Unknown { kind, version } => TablesError::UnknownRecord { kind, version },
    }
}
