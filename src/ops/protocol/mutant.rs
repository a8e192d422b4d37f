//! Where the protocol is wrong on purpose.

use super::{elements::SetLook, set_effect::SetEffect};
use crate::{
    base::mutant::{Mutant, is_mutant},
    ops::evidence::ElementChanges,
    provider::Result,
};
use serde_json::Value;
use std::cell::RefCell;

thread_local! {
    /// The whole list as it was when the last change was planned.
    static PLANNED_LIST: RefCell<Value> = const { RefCell::new(Value::Null) };
}

pub(super) fn looks_once() -> bool {
    is_mutant(Mutant::LooksOnce)
}

pub(super) fn believes_lagging_look() -> bool {
    is_mutant(Mutant::LaggingLookBelieved)
}

pub(super) fn believes_past_value() -> bool {
    is_mutant(Mutant::PastValueBelieved)
}

pub(super) fn believes_planning_look() -> bool {
    is_mutant(Mutant::PlanningLookBelieved)
}

pub(super) fn takes_look_for_landing() -> bool {
    is_mutant(Mutant::LookTakenForLanding)
}

pub(super) fn counts_from_record() -> bool {
    is_mutant(Mutant::BoundFromRecord)
}

/// Notes the whole list as it is when a change is planned.
pub(super) async fn note_planned_list(effect: &dyn SetEffect) -> Result<()> {
    if is_mutant(Mutant::WholeListCompared) {
        let look = effect.look(&ElementChanges::new()).await?;
        PLANNED_LIST.set(look.shown);
    }
    Ok(())
}

/// Returns whether the list has other elements than it had, beside those of the change.
pub(super) fn finds_other_list(changes: &ElementChanges, look: &SetLook) -> bool {
    is_mutant(Mutant::WholeListCompared)
        && PLANNED_LIST
            .with_borrow(|planned| list_others(planned, changes) != list_others(&look.shown, changes))
}

/// Returns the ranges of a list that a change does not touch.
fn list_others(shown: &Value, changes: &ElementChanges) -> Vec<String> {
    let names = shown["ranges"].as_array().into_iter().flatten().filter_map(|range| range["cidr"].as_str());
    names.filter(|name| !changes.contains_key(*name)).map(str::to_owned).collect()
}
