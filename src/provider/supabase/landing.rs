//! Until when a request to the Management API may still take effect.
//!
//! The platform does not say. What is assumed is `landing_time` of the target.

use super::{config::DEFAULT_LANDING_TIME, project::Supabase};
use crate::provider::model::{EffectKind, Landing};

/// Returns until when a request of a kind may still take effect once nobody waits for its answer, where nothing else is
/// configured.
pub(in crate::provider) fn state_landing(kind: EffectKind) -> Landing {
    match kind {
        EffectKind::Backup | EffectKind::BackupDeletion => {
            Landing::Fenced("a dump is a file of this machine, made by a process that its key finds")
        }
        EffectKind::Statement => Landing::Fenced(
            "it starts before a moment of the database's clock, its session is ended, and it leaves a mark",
        ),
        _ => Landing::Assumed(DEFAULT_LANDING_TIME),
    }
}

impl Supabase {
    /// Returns until when a request of a kind to this project may still take effect once nobody waits for its answer.
    pub(super) fn configured_landing(&self, kind: EffectKind) -> Landing {
        match state_landing(kind) {
            Landing::Assumed(_) => Landing::Assumed(self.landing_time),
            stated => stated,
        }
    }
}
