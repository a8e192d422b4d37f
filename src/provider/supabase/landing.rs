//! Until when a request to the Management API may still take effect.
//!
//! The platform does not say. What is assumed is `landing_time` of the target.

use super::project::Supabase;
use crate::{
    base::moment::Span,
    provider::model::{EffectKind, Landing},
};

/// The time that is assumed where the target gives none.
pub(super) const DEFAULT_LANDING_TIME: Span = Span::from_secs(300);
/// The longest time that may be assumed: a run waits for it at three in the morning.
pub(super) const MAX_LANDING_TIME: Span = Span::from_secs(600);

/// Returns until when a request of a kind may still take effect once nobody waits for its answer, where nothing else is
/// configured.
pub(in crate::provider) fn state_landing(kind: EffectKind) -> Landing {
    match kind {
        EffectKind::Backup | EffectKind::BackupDeletion => {
            Landing::Fenced("a dump is a file of this machine, made by a process that its key finds")
        }
        _ => Landing::Assumed(DEFAULT_LANDING_TIME),
    }
}

impl Supabase {
    /// Returns until when a request of a kind to this project may still take effect once nobody waits for its answer.
    pub(super) fn project_landing(&self, kind: EffectKind) -> Landing {
        match state_landing(kind) {
            Landing::Assumed(_) => Landing::Assumed(self.landing_time),
            stated => stated,
        }
    }
}
