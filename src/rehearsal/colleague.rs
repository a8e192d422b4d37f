//! The invariant about what somebody else changes beside a run: `colleague`.

use super::{points::render_call, scenario_result::ScenarioResult, world_snapshot::WorldSnapshot};
use crate::{
    journal::{FoldedCall, Outcome, Record},
    ops::{
        self,
        spec::{Effect, Evidence},
    },
    provider::sim::{COLLEAGUE_KINDS, COLLEAGUE_RANGE, COLLEAGUE_SETTING},
};
use std::collections::BTreeSet;

/// Returns what the colleague has put into a world: as the normalized world shows it, and as a call names it.
pub(super) fn list_colleague_elements(world: &WorldSnapshot) -> Vec<(String, &'static str)> {
    let (setting, value) = COLLEAGUE_SETTING;
    let kinds: BTreeSet<&str> =
        world.log.iter().filter_map(|effect| effect.kind.strip_prefix(COLLEAGUE_KINDS)).collect();
    let elements = kinds.into_iter().map(|kind| match kind {
        "allow" => (COLLEAGUE_RANGE.to_owned(), COLLEAGUE_RANGE),
        _ => (format!("{setting} = {value}"), setting),
    });
    elements.collect()
}

/// Checks that the colleague and the run do not get into each other's way.
pub(super) fn check_colleague_conflicts(
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_there = false;
    for world in &result.worlds {
        let left = world.normalized.ranges.iter().chain(&world.normalized.settings).collect::<BTreeSet<_>>();
        for (element, name) in list_colleague_elements(world) {
            is_there = true;
            if !left.contains(&element) && !is_touched_by_call(result, name) {
                found.push(format!("`{element}`, which a colleague put into `{}`, is gone", world.target));
            }
        }
    }
    if is_there && result.failed == 0 && !result.is_ended_by_operator() {
        let failed = result.fold.calls().filter(|(name, call)| {
            is_failed_change(call) && !undisturbed.fold.call(name).is_some_and(is_failed_change)
        });
        found.extend(failed.map(|(name, _)| {
            format!(
                "{} does not succeed, only because a colleague changed something beside it",
                render_call(name)
            )
        }));
    }
    found
}

/// Returns whether the evidence of any call of the run names an element.
fn is_touched_by_call(result: &ScenarioResult, element: &str) -> bool {
    let evidence = result.entries.iter().filter_map(|entry| match &entry.record {
        Record::Accepted { what, .. } => Evidence::decode(what).ok(),
        _ => None,
    });
    let mut sets = evidence.filter_map(|evidence| match evidence {
        Evidence::Set { changes, .. } => Some(changes),
        _ => None,
    });
    sets.any(|changes| changes.contains_key(element))
}

/// Returns whether a call that sets elements has failed, or stays open.
fn is_failed_change(call: &FoldedCall) -> bool {
    let sets = ops::find_operation(&call.op).is_some_and(|op| op.effect == Effect::Change);
    sets && !matches!(call.outcome(), Some(Outcome::Ok(_)))
}
