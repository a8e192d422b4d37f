//! What the invariants hold a run to that its records and worlds do not say.

use super::{undone::KnownCleanUps, world_snapshot::WorldSnapshot};
use crate::{config::Config, ops::spec::Permission, runtime::RemainderRule};

/// What the runbook and its targets say that the invariants need.
pub(super) struct RunbookRules<'a> {
    pub(super) needs: &'a [Permission],
    pub(super) leaves: &'a [RemainderRule],
    /// The world of each target, before the run.
    pub(super) beginning: &'a [WorldSnapshot],
    pub(super) config: &'a Config,
    /// What the clean-up of the runbook undoes, as far as it was looked for.
    pub(super) clean_ups: &'a KnownCleanUps,
}
