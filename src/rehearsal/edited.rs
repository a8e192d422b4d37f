//! The invariant about a text that is edited while a run stands still: `edited`.

use super::{
    invariants::{Violation, count_effects},
    operators::{OperatorAct, TrueDecision},
    points::Fault,
    scenario_result::ScenarioResult,
};
use crate::{journal::Record, runtime::CLEAN_UP_PATH};
use std::collections::BTreeSet;

/// The invariant about edited texts.
const EDITED: &str = "edited";

/// Checks that a text which does not match does nothing, and that no edit has anything done twice: more often than by any of
/// the texts, of which these are the undisturbed runs.
pub(super) fn check_edited_run(undisturbed: &[&ScenarioResult], result: &ScenarioResult) -> Vec<Violation> {
    if result.limit_met.is_some() {
        return Vec::new();
    }
    let effects = result.effects_of_mismatch.iter();
    let mut found: Vec<String> = effects
        .map(|effect| format!("{effect} was done, and the edited text does not match what was recorded"))
        .collect();
    let known: BTreeSet<&str> = undisturbed.iter().flat_map(|run| list_clean_up_calls(run)).collect();
    if is_only_edited(result) && list_clean_up_calls(result).is_subset(&known) {
        let by_text: Vec<_> = undisturbed.iter().map(|run| count_effects(run)).collect();
        let again = count_effects(result).into_iter().filter_map(|(effect, had)| {
            let wanted = by_text.iter().filter_map(|counts| counts.get(&effect)).max().map_or(0, |most| *most);
            let (target, kind, what) = effect;
            (had > wanted).then(|| {
                format!("`{kind}` of `{what}` on `{target}` was done {had} times, and no text does it more than {wanted} times")
            })
        });
        found.extend(again);
    }
    found.into_iter().map(|what| Violation::new(EDITED, what)).collect()
}

/// Returns whether nothing happened to a run but that it stood still, its text was edited, and a call that failed made anew.
fn is_only_edited(result: &ScenarioResult) -> bool {
    let stands_still = |fault: Fault| matches!(fault, Fault::Crash | Fault::Absence | Fault::HeldRefusal);
    let mut acts = result.acts.iter().map(|(_, act)| act);
    !result.acts.is_empty()
        && acts.all(|act| matches!(act, OperatorAct::Edit(_) | OperatorAct::Decide(TrueDecision::Redo)))
        && result.faults.iter().all(|struck| stands_still(struck.fault))
}

/// Returns the calls of the clean-up, which does other things in a run that fails or is given up.
fn list_clean_up_calls(result: &ScenarioResult) -> BTreeSet<&str> {
    let begun = result.entries.iter().filter_map(|entry| match &entry.record {
        Record::Begin { call, .. } => Some(call.as_str()),
        _ => None,
    });
    begun.filter(|call| call.starts_with(CLEAN_UP_PATH)).collect()
}
