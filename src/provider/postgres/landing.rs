//! Until when a request to a cluster may still take effect.

use crate::provider::model::{EffectKind, Landing};

/// Returns until when a request of a kind may still take effect once nobody waits for its answer.
pub(in crate::provider) fn state_landing(kind: EffectKind) -> Landing {
    match kind {
        EffectKind::Settings | EffectKind::RestorePoint => Landing::Fenced(
            "its session bears the name of what it changes, and is ended before anybody looks",
        ),
        EffectKind::Statement => {
            Landing::Fenced("its session is ended, and the server is asked for the transaction")
        }
        _ => Landing::Fenced(
            "redrill and its child processes do it on this host, and find it again by its key",
        ),
    }
}
