//! A call as whoever hosts it knows it: of which run it is, and by which name.

use super::{run_context::RunContext, stop::StopReason};
use crate::{
    journal,
    provider::{Code, Error, Result},
};

/// A call on its way, and what it was asked as.
pub(super) struct HostedCall<'a> {
    pub(super) context: &'a RunContext,
    pub(super) name: &'a str,
    pub(super) op: String,
}

impl HostedCall<'_> {
    /// Stops the run when the journal failed.
    pub(super) fn stop_on_journal_error<T>(
        &self,
        result: std::result::Result<T, journal::Error>,
    ) -> Result<T> {
        result.map_err(|e| {
            let message = format!("the journal cannot be written: {e}");
            drop(self.context.stopper.stop_run(StopReason::Journal(e)));
            Error::new(Code::Internal, message)
        })
    }
}
