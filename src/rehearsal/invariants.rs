//! What must hold after a scenario, whatever went wrong in it, once everything has landed that was still on its way.
//! A run that stopped undecided, and says why, is always an allowed end: nothing is asked of it that wants a run to have
//! ended. The same invariants hold whoever takes the run up: by `resume`, `abandon`, `abandon --leave`, `decide`, another
//! process that takes it over, or after the clock was set, the machine booted or the text edited.
//!
//! | name | what must hold |
//! |---|---|
//! | `once` | No key stands twice in the world's own log of effects. Nothing that makes or changes something was asked for again after the world had done it, or while it was still on its way: a platform that keeps no keys would have done it twice. A run that succeeded had the effects of the undisturbed one, each as often (a job that was given up, and giving it up, count as nothing; nor does what sets a value, where something landed late or branches went in another order: set again in part, it is the same value, and `same-world` sees it). |
//! | `truth` | A call whose error says `side_effects: "none"` had none in the world, under a key or without one. A request that lands after its call ended well changes nothing. When the run has ended, it knows of every call that changed something. |
//! | `left-over` | When the run has ended, however it did: each branch, replica and schedule that the run made or removed, and each setting, range, ban and switch that it changed, is as it was before the run, or an entry of the header's `leaves` names it. Nothing is left that a call made that did not end well, be it a backup or in `leaves`; nothing goes on that was accepted; no lease is held by a process that saw the run's end. (The lease of one that died right then gives way by itself.) What the run names in `left_behind` it has told, and does not count: by its whole name, by the call that began it, or by the clean-up that would have undone it; nor does what the error that ended the run says to be changed. Backups, restore points and data are what a runbook is for, and what a colleague changed is not the run's. What clean-up would have undone is what it undoes where the run is given up without a fault, behind each effect and at the end of the script; only of clean-up that was done in none of these its text is asked, and where that says nothing it may be anything. |
//! | `same-world` | When it succeeded, the world is the undisturbed one: the rows of the database and of every branch, in whatever order they came, backups and the rows that they hold, restore points and policies, schedules, replicas, settings, ranges, bans and switches, without ids, keys and times. It is so, too, where the branches of a `parallel` or `each` go in the reverse order, or one of them goes last (of those that change something, which are neither the first nor the last of these, at most eight, spread over all), but for the order in which lists came to be: a real run ends with either. |
//! | `same-end` | A run that was only killed or taken over, and had no request fail, ends as the undisturbed one, unless an operator gave it up or decided that a call has failed, or the script read another time from a clock that was set; or it is undecided in a write past the catalogue (`supabase::api`), of which nobody can know. |
//! | `ends-well` | A run in which nothing went wrong succeeds: whatever would come after its end was not rehearsed. |
//! | `says-why` | When it stopped, or failed, it says for what. It comes to rest, and can be resumed until then. |
//! | `clean-up` | Every temporary branch of a run that has ended was removed by it once, or is named in `left_behind`; a run that succeeded did the clean-up calls of the undisturbed one. |
//! | `clean-up-works` | Clean-up that the runbook defers does not fail, at whichever end of a run, unless a fault strikes in the clean-up, or makes untrue what it reads, or its call is turned away that would undo something, as where the run ended before there was anything to undo. What failed without one hides nothing that is left over. |
//! | `ends` | Every process of a run comes to an end within the limits of a rehearsal: of steps that the script computes, of calls, and of time that passes (`limits.rs`). Nothing else is asked of a run that is stopped there; where it is the undisturbed one, no other scenario is played. |
//! | `journal` | The chain of records is whole, and a run that has ended has one last record. |
//! | `needs` | Every effect in the world's log is of a kind that the runbook's `needs` allow; removing its own temporary branch is allowed to whoever may make one. |
//! | `guard` | Before a call that destroys something of a source (a restore in place, `db::execute` on the target itself, the deletion of a backup that the run did not make) the same run had completed a backup of that target that it has not deleted again, or the target is protected, so that a person typed its name, or a person has approved (`approve`) of it: an approval is of what is destroyed first behind it (the data, the backups, the schedules or the replicas of one target) and of more of the same, so that another target, or something else of it, wants another one. |
//! | `gate` | While a gate (`approve`) stands open, nothing that changes anything begins, but for clean-up: whoever has edited it away, or approved of another text, has not given it. Behind a gate that was passed before the text was edited, nothing new begins before somebody has approved the edited text. |
//! | `edited` | An edited text that does not match what was recorded does nothing. Whatever is taken out, put in or moved, nothing is done more often than by the text before the edit or by the edited one. A run that goes on with an edited text is held by all the others to the undisturbed run of that text, unless that breaks them as well, or to that of the text before, in whose order was done what the edit only moves; one whose edit was refused goes on as if there had been none. |
//! | `colleague` | What somebody else changed beside a change of ours (another range, another setting) is there at the end, unless a call of the run was recorded to take it away; and no change of ours fails or is undecided because of it. |
//! | `author` | The runbook's own `invariant(world)` neither throws nor returns `false`. |

use super::{
    clean_up::{HINT_FOR_CLEAN_UP, describe_failed_clean_up, list_broken_clean_up},
    colleague::{check_colleague_conflicts, list_colleague_elements},
    forks::HINT_FOR_FORKS,
    guard::check_destruction_guarded,
    left_over::{LeftOver, find_untold_left_over, list_unfinished},
    limits::LimitMet,
    points::render_call,
    rights::{check_effects_declared, check_gates_were_passed},
    runbook_rules::RunbookRules,
    scenario_result::ScenarioResult,
    told::{names_branch, names_call},
    world_diff::{WorldDifference, diff_worlds},
    world_snapshot::WorldSnapshot,
};
use crate::{
    base::value,
    journal::{Attempt, JournalEntry, Outcome, Record, RunError, RunStatus, SideEffects},
    ops::{
        self,
        spec::{Effect, parse_target_ref},
        supabase::API_PATH,
    },
    provider::{
        model::CallKey,
        sim::{COLLEAGUE_KINDS, EffectRow},
    },
    runtime::CLEAN_UP_PATH,
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub invariant: &'static str,
    /// What was found: one sentence without a full stop.
    pub what: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the run left behind or changed, where that is what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<LeftOver>,
}

impl Violation {
    pub(super) fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what, hint: None, left: None }
    }

    /// Returns the violation of a run of which a process met a limit.
    pub(super) fn from_limit(limit: LimitMet) -> Self {
        let hint = "bound every loop: `for`, `retry`, or `wait_until` with a `timeout`";
        Self { hint: Some(hint.into()), ..Self::new(ENDS, limit.describe()) }
    }

    /// Returns the violation with what it comes from and what to do, where the world or the end is another one only
    /// because branches went in another order.
    fn with_order_of(self, result: &ScenarioResult) -> Self {
        match &result.reordered {
            Some(forks) if [SAME_WORLD, SAME_END].contains(&self.invariant) => {
                let what = format!("{}, where {}", self.what, forks.describe());
                Self { what, hint: Some(HINT_FOR_FORKS.into()), ..self }
            }
            _ => self,
        }
    }

    fn from_left_over(left: LeftOver) -> Self {
        Self { invariant: LEFT_OVER, what: left.describe(), hint: Some(left.hint()), left: Some(left) }
    }
}

/// The invariant about what a run leaves behind or changed.
pub(super) const LEFT_OVER: &str = "left-over";
/// The invariant about clean-up that fails though nothing disturbed it.
pub(super) const CLEAN_UP_WORKS: &str = "clean-up-works";
/// The invariant about the world that a run leaves.
const SAME_WORLD: &str = "same-world";
/// The invariant about how a run ends.
const SAME_END: &str = "same-end";
/// The invariant about runs that come to an end.
const ENDS: &str = "ends";

/// Returns what was broken in a scenario.
pub(super) fn find_violations(
    rules: &RunbookRules<'_>,
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Vec<Violation> {
    // How far it came says nothing of where it would have ended.
    if let Some(limit) = result.limit_met {
        return vec![Violation::from_limit(limit)];
    }
    let found = [
        ("once", check_nothing_done_twice(undisturbed, result)),
        ("truth", check_errors_match_world(result)),
        (LEFT_OVER, list_unfinished(result)),
        (SAME_WORLD, check_same_world(undisturbed, result)),
        (SAME_END, check_same_end(undisturbed, result)),
        ("ends-well", check_undisturbed_success(result)),
        ("says-why", check_stop_is_explained(result)),
        ("clean-up", check_clean_up_complete(undisturbed, result)),
        ("journal", check_journal_is_whole(result)),
        ("needs", check_effects_declared(rules, result)),
        ("guard", check_destruction_guarded(rules, result)),
        ("gate", check_gates_were_passed(result)),
        ("colleague", check_colleague_conflicts(undisturbed, result)),
    ];
    let violations = found
        .into_iter()
        .flat_map(|(invariant, found)| found.into_iter().map(move |what| Violation::new(invariant, what)))
        .map(|violation| violation.with_order_of(result));
    let left = find_untold_left_over(rules, result).into_iter().map(Violation::from_left_over);
    let failed = list_broken_clean_up(result).into_iter().map(|failed| {
        let text = result.fold.call(&failed.name).and_then(|call| call.args["text"].as_str());
        let what = describe_failed_clean_up(failed, text);
        Violation { hint: Some(HINT_FOR_CLEAN_UP.into()), ..Violation::new(CLEAN_UP_WORKS, what) }
    });
    violations.chain(left).chain(failed).collect()
}

fn has_succeeded(result: &ScenarioResult) -> bool {
    result.status() == Some(RunStatus::Succeeded)
}

fn check_nothing_done_twice(undisturbed: &ScenarioResult, result: &ScenarioResult) -> Vec<String> {
    let mut found: Vec<String> = result
        .repeated_requests
        .iter()
        .map(|what| format!("{what} was asked for again after it was done or sent"))
        .collect();
    for world in &result.worlds {
        let mut keys = BTreeSet::new();
        let twice = world.log.iter().filter(|e| e.key.as_ref().is_some_and(|key| !keys.insert(&key.0)));
        found.extend(twice.map(|e| format!("`{}` of `{}` took effect twice", e.kind, e.what)));
    }
    if has_same_task(undisturbed, result) {
        let (wanted, had) = (count_effects(undisturbed), count_effects(result));
        let landed_late = result.faults.iter().any(|struck| struck.fault.makes_answer_untrue());
        let may_set_otherwise = landed_late || result.reordered.is_some();
        let is_counted = |kind: &str| !(may_set_otherwise && SETTING_KINDS.contains(&kind));
        let kinds: BTreeSet<_> = wanted.keys().chain(had.keys()).collect();
        for effect in kinds.into_iter().filter(|(_, kind, _)| is_counted(kind)) {
            let count = |of: &BTreeMap<EffectIdentity, usize>| of.get(effect).copied().unwrap_or(0);
            if count(&wanted) != count(&had) {
                let (target, kind, what) = effect;
                let (had, wanted) = (count(&had), count(&wanted));
                found.push(format!(
                    "`{kind}` of `{what}` on `{target}` took effect {had} times instead of {wanted}"
                ));
            }
        }
    }
    found
}

/// Returns whether two runs that both succeeded had the same to do: a script that handles a rejection does something else.
fn has_same_task(undisturbed: &ScenarioResult, result: &ScenarioResult) -> bool {
    has_succeeded(undisturbed) && has_succeeded(result) && !result.is_rejected()
}

/// What an effect was done to, and what it was: the target, the kind, and the thing.
type EffectIdentity = (String, String, String);

/// Returns the run's effects on a world, but for jobs that were given up, and giving them up.
fn lasting_run_effects(world: &WorldSnapshot) -> impl Iterator<Item = &EffectRow> {
    let given_up: Vec<&str> =
        world.log.iter().filter(|e| e.kind == "job.cancel").map(|e| e.what.as_str()).collect();
    let is_void = move |key: &CallKey| {
        given_up.iter().any(|job| job.strip_suffix(&key.0).is_some_and(|j| j.ends_with('-')))
    };
    let is_own = |e: &EffectRow| e.kind != "job.cancel" && !e.kind.starts_with(COLLEAGUE_KINDS);
    world.log.iter().filter(move |e| is_own(e) && !e.key.as_ref().is_some_and(&is_void))
}

/// Counts effects by target, kind and what they were done to.
pub(super) fn count_effects(result: &ScenarioResult) -> BTreeMap<EffectIdentity, usize> {
    let mut counts = BTreeMap::new();
    for world in &result.worlds {
        let keys: Vec<&str> = world.log.iter().filter_map(|e| e.key.as_ref()).map(|k| k.0.as_str()).collect();
        for effect in lasting_run_effects(world) {
            let what = keys.iter().fold(effect.what.clone(), |what, key| what.replace(key, "…"));
            *counts.entry((world.target.clone(), effect.kind.clone(), what)).or_default() += 1;
        }
    }
    counts
}

/// The effects that set a value, under no key.
const SETTING_KINDS: &[&str] = &["config.set", "network.allow", "network.ssl", "network.unban"];

/// Compares what errors say with what the world did.
fn check_errors_match_world(result: &ScenarioResult) -> Vec<String> {
    let mut found = Vec::new();
    for (_, call) in result.fold.calls() {
        let denied = call.attempts.iter().filter(|attempt| says_no_effect(attempt));
        for key in denied.filter_map(|attempt| attempt.key.as_ref()) {
            if result.worlds.iter().any(|world| has_effect(world, key)) {
                found.push(describe_denied_effect(&call.op));
            }
        }
    }
    let early =
        |call: &String| format!("{} ended well before its effect was in the world", render_call(call));
    found.extend(result.premature_ends.iter().map(early));
    found.extend(
        result.calls_with_keyless_effects.iter().filter_map(|call| check_keyless_effect(result, call)),
    );
    found
}

/// Returns what a run says wrongly of a call that changed the world under no key.
fn check_keyless_effect(result: &ScenarioResult, name: &str) -> Option<String> {
    let known = result.fold.calls().find(|(known, _)| *known == name).map(|(_, call)| call);
    let attempts = known.map_or(&[][..], |call| &call.attempts);
    let mut settled = attempts.iter().filter(|attempt| attempt.outcome.is_some()).peekable();
    match known {
        Some(call) if settled.peek().is_some() => {
            settled.all(says_no_effect).then(|| describe_denied_effect(&call.op))
        }
        _ if result.has_ended() && !names_call(result, name) => {
            Some(format!("{} changed the world, and the run does not know", render_call(name)))
        }
        _ => None,
    }
}

fn describe_denied_effect(op: &str) -> String {
    format!("`{op}` says that nothing was changed, and its effect is in the world")
}

/// Returns whether an attempt ended with an error that says that nothing was changed.
fn says_no_effect(attempt: &Attempt) -> bool {
    let outcome = attempt.outcome.as_ref().map(Outcome::decode);
    matches!(outcome, Some(Ok(Outcome::Err(fault))) if fault.side_effects == SideEffects::None)
}

/// Returns whether a key has a lasting effect in a world.
fn has_effect(world: &WorldSnapshot, key: &str) -> bool {
    lasting_run_effects(world).any(|effect| effect.key.as_ref().is_some_and(|of| of.0 == key))
}

fn check_same_world(undisturbed: &ScenarioResult, result: &ScenarioResult) -> Vec<String> {
    if !has_same_task(undisturbed, result) {
        return Vec::new();
    }
    let is_by_colleague = |difference: &WorldDifference| {
        difference.undisturbed.is_none()
            && difference.here.as_ref().is_some_and(|here| {
                result.worlds.iter().flat_map(list_colleague_elements).any(|(element, _)| *here == element)
            })
    };
    let mut differences = diff_worlds(&undisturbed.worlds, &result.worlds);
    let is_by_order = |difference: &WorldDifference| result.reordered.is_some() && difference.is_of_order();
    differences.retain(|difference| !is_by_colleague(difference) && !is_by_order(difference));
    differences.iter().map(|difference| format!("another world: {}", difference.describe())).collect()
}

fn check_same_end(undisturbed: &ScenarioResult, result: &ScenarioResult) -> Vec<String> {
    if result.failed > 0
        || result.is_ended_by_operator()
        || result.is_restless
        || result.worlds.iter().any(|world| !list_colleague_elements(world).is_empty())
        || result.status() == undisturbed.status()
        || is_undecided_raw_call(result)
    {
        return Vec::new();
    }
    let word = |result: &ScenarioResult| result.status().map_or("refused", RunStatus::as_str);
    vec![format!("nothing failed, and the run is {} instead of {}", word(result), word(undisturbed))]
}

/// Returns why a run did not succeed that nobody disturbed.
fn check_undisturbed_success(result: &ScenarioResult) -> Vec<String> {
    if !result.faults.is_empty() || result.refused.is_some() || has_succeeded(result) {
        return Vec::new();
    }
    let word = result.status().map_or("not there", RunStatus::as_str);
    let fold = &result.fold;
    let why = fold.reason().map(str::to_owned).or_else(|| fold.error().map(error_message));
    vec![format!("nothing went wrong, and the run is {word}: {}", why.unwrap_or_default())]
}

/// Returns the message of the error that a run ended with.
fn error_message(error: &Value) -> String {
    match RunError::decode(error) {
        Ok(RunError { fault: Some(fault), .. }) => fault.message,
        Ok(RunError { cleanup, .. }) => cleanup.join("; "),
        Err(_) => error.to_string(),
    }
}

/// Returns whether the run is undecided in a write past the catalogue, of which nobody here can know.
fn is_undecided_raw_call(result: &ScenarioResult) -> bool {
    result.status() == Some(RunStatus::Undecided)
        && result.fold.open_calls().any(|(_, call)| call.op == API_PATH)
}

fn check_stop_is_explained(result: &ScenarioResult) -> Vec<String> {
    let mut found = Vec::new();
    if result.is_restless {
        found.push("the run was resumed again and again, and never came to rest".to_owned());
    }
    if let (Some(why), false) = (&result.refused, result.entries.is_empty()) {
        found.push(format!("the run cannot be resumed: {why}"));
    }
    let fold = &result.fold;
    let is_silent = match result.status() {
        Some(RunStatus::Failed) => fold.error().is_none(),
        Some(status) if status.is_stopped() => fold.reason().is_none_or(str::is_empty),
        _ => false,
    };
    if is_silent {
        found.push("the run does not say why it is where it is".to_owned());
    }
    found
}

fn check_clean_up_complete(undisturbed: &ScenarioResult, result: &ScenarioResult) -> Vec<String> {
    if !result.has_ended() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let removed: Vec<&Value> =
        result.entries.iter().filter_map(|entry| branch_removed_by_record(&entry.record)).collect();
    for (target, branch) in
        result.entries.iter().filter_map(|entry| temporary_branch_made_by_record(&entry.record))
    {
        let times = removed.iter().filter(|gone| gone["id"] == branch["id"]).count();
        let name = branch["name"].as_str().unwrap_or_default();
        if times != 1 && !names_branch(result, &target, name) {
            found.push(format!("the temporary branch `{name}` was removed {times} times"));
        }
    }
    if has_same_task(undisturbed, result) {
        let (wanted, had) =
            (count_clean_up_calls(&undisturbed.entries), count_clean_up_calls(&result.entries));
        if wanted != had {
            found.push(format!("at its end the run did {had:?} instead of {wanted:?}"));
        }
    }
    found
}

/// Returns the branch that a record says the run owns, behind its target.
fn temporary_branch_made_by_record(record: &Record) -> Option<(String, &Value)> {
    match record {
        Record::End { args, outcome: Outcome::Ok(made), .. } if args["temporary"] == true => {
            let branch = value::untag_as(made, value::BRANCH_TAG)?;
            Some((parse_target_ref(&args["target"]).ok()?.target, branch))
        }
        _ => None,
    }
}

/// Returns the branch that a record says was removed.
fn branch_removed_by_record(record: &Record) -> Option<&Value> {
    match record {
        Record::End { op, outcome: Outcome::Ok(gone), .. } if op == "branch::delete" => Some(gone),
        _ => None,
    }
}

/// Returns what the clean-up did, with how often. Where it did it is left out: what failed before it may have been
/// tried again, and deferred in another attempt.
fn count_clean_up_calls(entries: &[JournalEntry]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        if let Record::End { call, op, outcome: Outcome::Ok(_), .. } = &entry.record
            && call.starts_with(CLEAN_UP_PATH)
            && ops::find_operation(op).is_some_and(|op| op.effect != Effect::Read)
        {
            *counts.entry(op.as_str()).or_default() += 1;
        }
    }
    counts
}

fn check_journal_is_whole(result: &ScenarioResult) -> Vec<String> {
    let mut found: Vec<String> =
        result.broken.iter().map(|why| format!("the journal is broken: {why}")).collect();
    let ends = result.entries.iter().filter(|e| matches!(e.record, Record::Finished { .. })).count();
    if result.has_ended() && ends != 1 {
        found.push(format!("the run has {ends} last records"));
    }
    found
}
