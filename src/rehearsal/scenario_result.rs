//! What came of a scenario: the records and the worlds that it leaves, and what happened on the way.

use super::{
    edited_runbook::EditedRunbook,
    fault_injector::FailedCleanUp,
    fault_plan::ReorderedForks,
    limits::LimitMet,
    operators::OperatorAct,
    points::{Fault, InjectedFault, Visit},
    world_snapshot::WorldSnapshot,
};
use crate::journal::{JournalEntry, RunFold, RunStatus};
use std::{collections::BTreeSet, sync::Arc};

/// What came of a scenario.
pub(super) struct ScenarioResult {
    /// Every record that was kept.
    pub(super) entries: Vec<JournalEntry>,
    /// What the records come to.
    pub(super) fold: RunFold,
    /// Why the journal is not what it was, if so.
    pub(super) broken: Option<String>,
    /// The world of each target.
    pub(super) worlds: Vec<WorldSnapshot>,
    /// What was asked for again although the world had done it.
    pub(super) repeated_requests: Vec<String>,
    /// The calls whose requests without a key changed the world.
    pub(super) calls_with_keyless_effects: BTreeSet<String>,
    /// The calls that ended well before a request of theirs changed the world.
    pub(super) premature_ends: BTreeSet<String>,
    /// The faults that struck, in order.
    pub(super) faults: Vec<InjectedFault>,
    /// The `parallel` or `each` of which the forks went in another order than listed.
    pub(super) reordered: Option<ReorderedForks>,
    /// What operators did and what became of the clock, before which process, numbered from 0.
    pub(super) acts: Vec<(usize, OperatorAct)>,
    /// The edited text by which the run went in the end, where it was edited and matched what was recorded.
    pub(super) edited: Option<Arc<EditedRunbook>>,
    /// What took effect although an edited text did not match what was recorded.
    pub(super) effects_of_mismatch: Vec<String>,
    /// How many records were kept at the end of each process, where they are counted.
    pub(super) kept_records: Vec<usize>,
    /// Why it was refused: before anything was done, or when it was to be resumed.
    pub(super) refused: Option<String>,
    /// How many leases are still there.
    pub(super) leases: usize,
    /// How many requests failed, but for those of a process that was taken over or got no answer any more.
    pub(super) failed: u32,
    /// Whether the last process died, rather than seeing the run to where it is.
    pub(super) has_died_last: bool,
    /// Whether it was resumed as often as it may be and never came to rest.
    pub(super) is_restless: bool,
    /// The limit that a process met which did not come to an end.
    pub(super) limit_met: Option<LimitMet>,
    /// The clean-up that failed in the last process.
    pub(super) failed_clean_up: Vec<FailedCleanUp>,
    /// Every visit to a point, where nothing went wrong.
    pub(super) visits: Vec<Visit>,
}

impl ScenarioResult {
    /// Returns where the run stands; nothing for one that never was.
    pub(super) fn status(&self) -> Option<RunStatus> {
        self.fold.status()
    }

    /// Returns whether the run has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.status().is_some_and(RunStatus::is_final)
    }

    /// Returns whether somebody rejected what a gate asked for.
    pub(super) fn is_rejected(&self) -> bool {
        self.faults.iter().any(|struck| matches!(struck.fault, Fault::Rejection))
            || self.acts.iter().any(|(_, act)| matches!(act, OperatorAct::RejectLate))
    }

    /// Returns whether an operator, or the clock, may have made the run end otherwise.
    pub(super) fn is_ended_by_operator(&self) -> bool {
        self.acts.iter().any(|(_, act)| act.may_change_end())
    }
}
