//! Where random bytes come from: a trait, so that the simulator gives the same ones for a seed.

/// A source of unpredictable bytes, for challenges.
pub trait Random {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// The source has none to give; nothing may be authenticated then.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// No random bytes could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes")]
pub struct RandomError;

/// The operating system's source.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(bytes).map_err(|_| RandomError)
    }
}
