//! The one error type of the generator, and the exit code of each kind.

use thiserror::Error;

/// Why a run ended without a result.
#[derive(Debug, Error)]
pub enum Error {
    /// An argument that makes no sense together with the others or with the target.
    #[error("{0}")]
    Usage(String),
    /// The target could not be reached, or did not let us in.
    #[error("{0}")]
    Unreachable(String),
    /// The target did not answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// Something failed: a lost connection, a refused command, a file.
    #[error("{0}")]
    Failed(String),
    /// The data are not what they must be.
    #[error("data check failed: {0}")]
    Mismatch(String),
}

impl From<kagami_initiator::Error> for Error {
    fn from(error: kagami_initiator::Error) -> Self {
        use kagami_initiator::Error as From;
        let text = error.to_string();
        match error {
            From::Unreachable(_) => Self::Unreachable(text),
            From::TimedOut(_) => Self::TimedOut(text),
            From::Lost(_) | From::Status { .. } | From::Failed(_) => Self::Failed(text),
        }
    }
}

impl Error {
    /// The same error with other words.
    #[must_use]
    pub fn map(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Usage(text) => Self::Usage(words(text)),
            Self::Unreachable(text) => Self::Unreachable(words(text)),
            Self::TimedOut(text) => Self::TimedOut(words(text)),
            Self::Failed(text) => Self::Failed(words(text)),
            Self::Mismatch(text) => Self::Mismatch(words(text)),
        }
    }

    /// The exit code that scripts rely on.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Mismatch(_) => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 4,
            Self::Unreachable(_) => 5,
        }
    }
}
