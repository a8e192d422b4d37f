//! What a run tells of what it leaves: in its `left_behind`, and in the error that ended it.

use super::scenario_runner::ScenarioResult;
use crate::{
    journal::{RunError, SideEffects},
    runtime::names_undone,
};
use std::collections::BTreeSet;

/// What a run tells of what it leaves.
pub(super) struct ToldRemainders<'a> {
    result: &'a ScenarioResult,
    /// The keys of the open calls that it names.
    keys: BTreeSet<&'a str>,
    /// The call whose error ended the run, and says that something is changed.
    failed_call: Option<String>,
}

impl<'a> ToldRemainders<'a> {
    pub(super) fn from_result(result: &'a ScenarioResult) -> Self {
        let open_and_named = result.fold.open_calls().filter(|(name, _)| names_call(result, name));
        let keys = open_and_named
            .flat_map(|(_, call)| &call.attempts)
            .filter_map(|attempt| attempt.key.as_deref())
            .collect();
        Self { result, keys, failed_call: find_failed_call(result) }
    }

    /// Returns whether something is named by its name or id, or by a call that it has the key of.
    pub(super) fn names_thing(&self, name: &str) -> bool {
        self.result.fold.left_behind().iter().any(|left| left.contains(name))
            || self.keys.iter().any(|key| name.ends_with(key))
    }

    /// Returns whether what a call changed is named: as what that call began or asked for, or by the error that ended the
    /// run.
    pub(super) fn names_change_of(&self, call: &str) -> bool {
        self.failed_call.as_deref() == Some(call) || names_call(self.result, call)
    }

    /// Returns whether it names clean-up that was not done: whatever it would have undone may be there.
    pub(super) fn names_clean_up(&self) -> bool {
        self.result.fold.left_behind().iter().any(|left| names_undone(left))
    }
}

/// Returns whether a run says that it leaves behind what a call began, or what it asked for and may still come.
pub(super) fn names_call(result: &ScenarioResult, name: &str) -> bool {
    let named = [format!("what {name} began"), format!("what {name} asked for,")];
    result.fold.left_behind().iter().any(|left| named.iter().any(|named| left.starts_with(named)))
}

/// Returns the call whose error ended the run, where it says that something is or may be changed.
fn find_failed_call(result: &ScenarioResult) -> Option<String> {
    let fault = RunError::decode(result.fold.error()?).ok()?.fault?;
    fault.call_name.filter(|_| fault.side_effects != SideEffects::None)
}
