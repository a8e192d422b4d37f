//! Clean-up that fails: by itself, or where a fault may be why.

use super::{
    fault_injector::FailedCleanUp,
    operators::OperatorAct,
    points::{Fault, InjectedFault},
    remainders::kind_changed_by_operation,
    scenario_result::ScenarioResult,
};
use crate::{
    journal::{ScriptError, SideEffects},
    provider::sim::faults::RequestOutcome,
    runtime::CLEAN_UP_PATH,
};

/// What to do about clean-up that fails by itself.
pub(super) const HINT_FOR_CLEAN_UP: &str = "clean-up runs at every end of a run, also one in the middle of the script: let it look what is there first, and throw nothing itself";

/// Returns the clean-up that failed although nothing had gone wrong that explains it. What a fault elsewhere made of
/// the run explains nothing: clean-up is for that.
pub(super) fn list_clean_up_failed_by_itself(result: &ScenarioResult) -> Vec<&FailedCleanUp> {
    let may_be_why = result.faults.iter().any(may_fail_clean_up)
        || result
            .acts
            .iter()
            .any(|(_, act)| matches!(act, OperatorAct::ClockBack | OperatorAct::ClockForward));
    if may_be_why || !result.has_ended() {
        return Vec::new();
    }
    result.failed_clean_up.iter().collect()
}

/// Returns the clean-up of a run that must not have failed: by itself, and other than because its call was turned away that
/// would undo something. That is no harm where the run ended before there was anything to undo, and what is left otherwise
/// is found by itself: such clean-up hides nothing.
pub(super) fn list_broken_clean_up(result: &ScenarioResult) -> Vec<&FailedCleanUp> {
    let is_disturbed = !result.faults.is_empty() || !result.acts.is_empty();
    let mut failed = list_clean_up_failed_by_itself(result);
    failed.retain(|failed| !(is_disturbed && could_not_undo(&failed.failure.fault)));
    failed
}

/// Returns whether an error is that of a call that would undo something, and changed nothing.
fn could_not_undo(fault: &ScriptError) -> bool {
    let undoes = fault.operation.as_deref().and_then(kind_changed_by_operation).is_some();
    undoes && fault.call_name.is_some() && fault.side_effects == SideEffects::None
}

/// Returns whether clean-up may fail because of a fault: it strikes there, or before the first call of a process, or what
/// clean-up reads is other than what the run did.
fn may_fail_clean_up(struck: &InjectedFault) -> bool {
    let InjectedFault { point, fault, .. } = struck;
    let is_untrue = fault.makes_answer_untrue()
        || matches!(fault, Fault::Silence(_) | Fault::Request(RequestOutcome::BesideColleague(_)));
    let strikes_there = point.call.is_empty() || point.call.starts_with(CLEAN_UP_PATH);
    is_untrue || (strikes_there && fault.fails_request())
}

/// Returns what failed, where, and with which error, in one sentence; `text` is how the script defers it.
pub(super) fn describe_failed_clean_up(failed: &FailedCleanUp, text: Option<&str>) -> String {
    let what = text.filter(|text| !text.is_empty()).unwrap_or(&failed.name);
    let place = failed.failure.place.as_ref();
    let place = place.map(|at| format!(" at {}:{}:{}", at.file, at.line, at.column)).unwrap_or_default();
    format!("the clean-up `{what}` failed{place}, and no fault is why: {}", failed.failure.fault.message)
}
