//! Until when a request to the Management API may still take effect.
//!
//! The platform does not say. What is assumed is `landing_time` of the target; a look lags behind for as long at most.

use super::{config::DEFAULT_LANDING_TIME, project::Supabase};
use crate::provider::model::{EffectKind, JobStatus, LandingLimit};

/// Returns until when a request of a kind may still take effect once nobody waits for its answer, where nothing else is
/// configured.
pub(in crate::provider) fn landing_limit_of_kind(kind: EffectKind) -> LandingLimit {
    match kind {
        EffectKind::Backup | EffectKind::BackupDeletion => {
            LandingLimit::Fenced("a dump is a file of this machine, made by a process that its key finds")
        }
        EffectKind::Statement => LandingLimit::Fenced(
            "it starts before a moment of the database's clock, its session is ended, and it leaves a mark",
        ),
        _ => LandingLimit::Assumed(DEFAULT_LANDING_TIME),
    }
}

impl Supabase {
    /// Returns until when a request of a kind to this project may still take effect once nobody waits for its answer.
    pub(super) fn configured_landing_limit(&self, kind: EffectKind) -> LandingLimit {
        match landing_limit_of_kind(kind) {
            LandingLimit::Assumed(_) => LandingLimit::Assumed(self.landing_time),
            stated => stated,
        }
    }

    /// Returns an end that a look shows which may be from before the job.
    pub(super) fn wrap_possibly_stale_end(&self, end: JobStatus) -> JobStatus {
        JobStatus::Lagging(Box::new(end), self.landing_time)
    }
}
