//! The invariants about what a run may do: `needs` and `gate`.

use super::{runbook_rules::RunbookRules, scenario_result::ScenarioResult};
use crate::{
    journal::{EDIT_GATE, GateEnd, Record, RunFold},
    ops::{
        self,
        spec::{Effect, Permission},
    },
    provider::sim::COLLEAGUE_KINDS,
    runtime::{CLEAN_UP_PATH, are_in_different_forks, is_gate},
};

/// Returns the effects that the runbook has not declared.
pub(super) fn check_effects_declared(rules: &RunbookRules<'_>, result: &ScenarioResult) -> Vec<String> {
    let mut found = Vec::new();
    for world in &result.worlds {
        for effect in &world.log {
            let may = |area: &str, effect: Effect| {
                rules.needs.iter().any(|n| n.covers(&Permission::new(area, effect)))
            };
            let is_allowed = match effect.kind.as_str() {
                "backup.create" | "mark.create" | "schedule.create" => may("backup", Effect::Create),
                "restore.in_place" | "backup.delete" | "schedule.delete" => may("backup", Effect::Destroy),
                "restore.branch" => may("branch", Effect::Create),
                "branch.delete" => may("branch", Effect::Destroy) || may("branch", Effect::Create),
                "sql.execute" | "branch.promote" | "replica.delete" => may("db", Effect::Destroy),
                "branch.reset" => may("branch", Effect::Destroy),
                "replica.create" => may("db", Effect::Create),
                "config.set" | "server.restart" => may("db", Effect::Change),
                "network.allow" | "network.unban" | "network.ssl" => may("network", Effect::Change),
                "project.pause" | "project.resume" => may("project", Effect::Change),
                "clock.pass" => may("supabase", Effect::Destroy),
                // Giving up what the run began itself.
                "job.cancel" => true,
                kind if kind.starts_with(COLLEAGUE_KINDS) => true,
                _ => false,
            };
            if !is_allowed {
                found.push(format!(
                    "`{}` of `{}` is not among what the runbook `needs`",
                    effect.kind, effect.what
                ));
            }
        }
    }
    found
}

/// Returns the calls that change something and were begun while a gate stood open, or after one that was passed before the
/// text was edited, unless somebody approved the edited text. Branches of a rehearsed run go one at a time, so that none of
/// them is beside a gate.
pub(super) fn check_gates_were_passed(result: &ScenarioResult) -> Vec<String> {
    let mut fold = RunFold::default();
    let mut found = Vec::new();
    for entry in &result.entries {
        if let Record::Begin { call, op, at, .. } = &entry.record
            && changes_anything(op)
            && !call.starts_with(CLEAN_UP_PATH)
        {
            let open = fold.open_calls().filter(|(_, gate)| is_gate(&gate.op));
            found.extend(open.map(|(gate, _)| format!("`{op}` at {at} was begun before {gate} was given")));
            if fold.call(call).is_none() && is_past_gate_of_other_text(&fold, call) {
                found.push(format!(
                    "`{op}` at {at} was begun after a gate that was passed before the text was edited, and nobody approved that"
                ));
            }
        }
        // What does not fit is what `journal` finds.
        drop(fold.apply_entry(entry));
    }
    found
}

/// Returns whether a new call comes after a gate that was passed under another text, and neither behind one of its own text
/// nor under a text that somebody approved as a whole.
fn is_past_gate_of_other_text(fold: &RunFold, call: &str) -> bool {
    let gates = fold.ended_gates();
    let is_covered =
        gates.iter().any(|(gate, end)| *end == GateEnd::Approved && !are_in_different_forks(gate, call));
    let is_other = gates.values().any(|end| *end == GateEnd::UnderEarlierText);
    let own_gate = fold.call(&format!("/{EDIT_GATE}#{}", fold.source_edition()));
    let is_approved = own_gate.is_some_and(|gate| !gate.is_open());
    is_other && !is_covered && !is_approved
}

fn changes_anything(op: &str) -> bool {
    ops::find_operation(op).is_some_and(|op| op.effect != Effect::Read)
}
