//! Why a run is refused before it begins.

use super::runbook_error::RunbookError;
use crate::{
    journal::{self, SourceLocation, UnreadableRecord},
    provider,
};

/// Why a run was refused before it began: nothing was done, and no run was recorded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The runbook, or what it was given, is wrong.
    #[error(transparent)]
    Runbook(#[from] RunbookError),
    /// A right or a confirmation is missing.
    #[error("{message}")]
    Policy {
        message: String,
        /// What would allow it.
        hint: String,
        /// Where in the runbook it is missing.
        place: Option<SourceLocation>,
    },
    /// A target does not answer, or is not what it should be.
    #[error(transparent)]
    Target(#[from] provider::Error),
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<UnreadableRecord> for Refusal {
    fn from(record: UnreadableRecord) -> Self {
        Refusal::Journal(record.into())
    }
}
