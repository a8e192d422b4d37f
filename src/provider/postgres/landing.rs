//! Until when a request to a cluster may still take effect.

use crate::{
    base::moment::Span,
    provider::model::{EffectKind, Landing},
};

/// How long a statement that the server has read may take to do one small thing.
const STATEMENT_TIME: Span = Span::from_secs(5);

/// Returns until when a request of a kind may still take effect once nobody waits for its answer.
pub(in crate::provider) fn state_landing(kind: EffectKind) -> Landing {
    match kind {
        EffectKind::Settings | EffectKind::RestorePoint => {
            Landing::Bounded(STATEMENT_TIME, "the server runs a statement as soon as it has read it")
        }
        EffectKind::Statement => {
            Landing::Fenced("its session is ended, and the server is asked for the transaction")
        }
        _ => Landing::Fenced(
            "redrill and its child processes do it on this host, and find it again by its key",
        ),
    }
}
