//! Until when a request to a cluster may still take effect.

use crate::provider::model::{EffectKind, LandingLimit};

/// Returns until when a request of a kind may still take effect once nobody waits for its answer.
pub(in crate::provider) fn landing_limit_of_kind(kind: EffectKind) -> LandingLimit {
    match kind {
        EffectKind::Settings | EffectKind::RestorePoint => LandingLimit::Fenced(
            "its session bears the name of what it changes, and is ended before anybody looks",
        ),
        EffectKind::Statement => {
            LandingLimit::Fenced("its session is ended, and the server is asked for the transaction")
        }
        _ => LandingLimit::Fenced(
            "redrill and its child processes do it on this host, and find it again by its key",
        ),
    }
}
