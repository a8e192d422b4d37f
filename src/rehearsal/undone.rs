//! Clean-up that was not done, and what it would have undone: as far as other runs of the runbook show what it undoes where
//! it is done, and else as its text says.

use super::{
    clean_up::list_clean_up_failed_by_itself,
    operators::OperatorAct,
    remainders::{kind_changed_by_operation, list_changed_elements},
    scenario_result::ScenarioResult,
};
use crate::{
    base::value,
    journal::{Outcome, Record},
    ops::{
        self,
        spec::{Operation, parse_target_ref},
    },
    runtime::{CLEAN_UP_PATH, Remainder, RemainderKind, names_missed_clean_up},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the clean-up of a runbook undoes, by the names under which it is deferred.
#[derive(Debug, Default)]
pub(super) struct KnownCleanUps(BTreeMap<String, BTreeSet<Undoing>>);

/// What one call of a clean-up undoes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Undoing {
    target: String,
    kind: RemainderKind,
    /// Its name; nothing where it may be any of its kind.
    name: Option<String>,
}

impl KnownCleanUps {
    /// Adds what the clean-up of a run undid, where all of it was done.
    pub(super) fn add_undone_by_clean_up(&mut self, result: &ScenarioResult) {
        if !result.has_ended() {
            return;
        }
        for name in list_deferred_clean_up(result) {
            self.0.entry(name.to_owned()).or_default();
        }
        self.add_undone_by_calls(result);
    }

    /// Adds what the calls of a run's clean-up undid, or began to.
    fn add_undone_by_calls(&mut self, result: &ScenarioResult) {
        let mut begun: BTreeMap<&str, (&str, &Value)> = BTreeMap::new();
        for entry in &result.entries {
            let (call, found) = match &entry.record {
                Record::Begin { call, op, args, .. } => {
                    begun.insert(call, (op, args));
                    (call, list_undone_things(result, op, args))
                }
                Record::Accepted { call, what } => {
                    let Some((op, args)) = begun.get(call.as_str()) else { continue };
                    (call, list_undone_elements(op, args, what))
                }
                _ => continue,
            };
            if let Some(name) = clean_up_of_call(call) {
                self.0.entry(name.to_owned()).or_default().extend(found);
            }
        }
    }

    /// Returns whether a clean-up is known to undo something.
    fn undoes(&self, name: &str, target: &str, remainder: &Remainder) -> bool {
        let is_it = |undoing: &Undoing| {
            undoing.target == target
                && undoing.kind == remainder.kind
                && undoing.name.as_ref().is_none_or(|name| *name == remainder.name)
        };
        self.0.get(name).is_some_and(|all| all.iter().any(is_it))
    }
}

/// The clean-up that a run says it did not do.
pub(super) struct UndoneCleanUp<'a> {
    result: &'a ScenarioResult,
    known: &'a KnownCleanUps,
    /// What the run began to undo itself.
    own: KnownCleanUps,
    /// The names under which it was deferred.
    names: BTreeSet<&'a str>,
    /// Whether it is said of clean-up of which nothing at all is known.
    is_unknown: bool,
}

impl<'a> UndoneCleanUp<'a> {
    pub(super) fn from_result(known: &'a KnownCleanUps, result: &'a ScenarioResult) -> Self {
        let mut own = KnownCleanUps::default();
        own.add_undone_by_calls(result);
        let deferred = list_deferred_clean_up(result).chain(known.0.keys().map(String::as_str));
        let failed = result.failed_clean_up.iter().filter_map(|failed| outermost_deferral(&failed.name));
        let all: BTreeSet<&str> = deferred.chain(failed).collect();
        let told: Vec<&String> =
            result.fold.left_behind().iter().filter(|left| names_missed_clean_up(left)).collect();
        let told_names: BTreeSet<&str> = told
            .iter()
            .filter_map(|left| all.iter().find(|name| names_deferral(left, name)).copied())
            .collect();
        // Of a run that is left as it is nobody knows what it would have deferred next.
        let is_left = result.acts.iter().any(|(_, act)| matches!(act, OperatorAct::Leave));
        let may_mean_any =
            is_left || told.iter().any(|left| !all.iter().any(|name| names_deferral(left, name)));
        let by_itself: BTreeSet<&str> = list_clean_up_failed_by_itself(result)
            .into_iter()
            .filter_map(|failed| outermost_deferral(&failed.name))
            .collect();
        let is_any = may_mean_any && !told.is_empty();
        let is_unknown = is_any && all.is_empty();
        let names = if is_any { all } else { told_names };
        Self { result, known, own, names: &names - &by_itself, is_unknown }
    }

    /// Returns whether some of it would have undone something, as far as that can be known.
    pub(super) fn would_undo(&self, target: &str, remainder: &Remainder) -> bool {
        let would_undo = |name: &&str| {
            self.known.undoes(name, target, remainder)
                || self.own.undoes(name, target, remainder)
                || (!self.known.0.contains_key(*name) && self.may_undo_by_text(name, remainder.kind))
        };
        self.is_unknown || self.names.iter().any(would_undo)
    }

    /// Returns whether clean-up that never was done may undo things of a kind: an operation in its text says so, or the
    /// text names none, and nobody knows.
    fn may_undo_by_text(&self, name: &str, kind: RemainderKind) -> bool {
        let text =
            self.result.fold.call(name).and_then(|call| call.args["text"].as_str()).unwrap_or_default();
        let named = ops::all_operations().map(Operation::path).filter(|path| text.contains(path.as_str()));
        let kinds: Vec<RemainderKind> = named.filter_map(|path| kind_changed_by_operation(&path)).collect();
        kinds.is_empty() || kinds.contains(&kind)
    }
}

/// Returns the names under which a run has deferred clean-up, but for what its clean-up deferred itself.
fn list_deferred_clean_up(result: &ScenarioResult) -> impl Iterator<Item = &str> {
    let deferred = result.fold.calls().filter(|(_, call)| call.op == DEFER);
    deferred.map(|(name, _)| name).filter(|name| !name.starts_with(CLEAN_UP_PATH))
}

/// The name under which deferred clean-up is recorded.
const DEFER: &str = "defer";

/// Returns whether something that is left behind is named by the clean-up of this name.
fn names_deferral(left: &str, name: &str) -> bool {
    left.ends_with(&format!("({name})")) || left.starts_with(&format!("what {name} "))
}

/// Returns the clean-up that a call is part of, if it is part of any.
fn clean_up_of_call(call: &str) -> Option<&str> {
    call.starts_with(CLEAN_UP_PATH).then(|| outermost_deferral(call))?
}

/// Returns the clean-up in which a name of clean-up, or of one of its calls, is: what clean-up defers is its own.
fn outermost_deferral(name: &str) -> Option<&str> {
    let path = name.trim_start_matches(CLEAN_UP_PATH);
    let word = format!("/{DEFER}#");
    let begin = path.find(&word)?;
    let end = path[begin + 1..].find('/').map_or(path.len(), |length| begin + 1 + length);
    Some(&path[..end])
}

/// Returns what a call undoes that has no elements: the thing that it removes, or the power.
fn list_undone_things(result: &ScenarioResult, op: &str, args: &Value) -> Vec<Undoing> {
    let (Some(kind), Ok(place)) = (kind_changed_by_operation(op), parse_target_ref(&args["target"])) else {
        return Vec::new();
    };
    let name = match kind {
        RemainderKind::Branch => name_removed_branch(&args["branch"]),
        RemainderKind::Replica => name_removed_thing(result, &args["replica"], "region"),
        RemainderKind::Schedule => name_removed_thing(result, &args["schedule"], "at"),
        RemainderKind::Power | RemainderKind::Tls => Some(String::new()),
        RemainderKind::Setting | RemainderKind::Ranges | RemainderKind::Bans => return Vec::new(),
    };
    vec![Undoing { target: place.target, kind, name }]
}

fn name_removed_branch(branch: &Value) -> Option<String> {
    let handle = value::untag_as(branch, value::BRANCH_TAG).and_then(|handle| handle["name"].as_str());
    handle.or_else(|| branch.as_str()).map(str::to_owned)
}

/// Returns what something that is removed by its id is called, by the call that made it.
fn name_removed_thing(result: &ScenarioResult, id: &Value, field: &str) -> Option<String> {
    result.entries.iter().find_map(|entry| match &entry.record {
        Record::End { outcome: Outcome::Ok(made), .. } if made["id"] == *id && id.is_string() => {
            made[field].as_str().map(str::to_owned)
        }
        _ => None,
    })
}

/// Returns the elements that a call undoes, by its evidence.
fn list_undone_elements(op: &str, args: &Value, evidence: &Value) -> Vec<Undoing> {
    let (Some(kind), Ok(place)) = (kind_changed_by_operation(op), parse_target_ref(&args["target"])) else {
        return Vec::new();
    };
    let undo = |name: String| Undoing { target: place.target.clone(), kind, name: Some(name) };
    list_changed_elements(evidence).into_iter().map(undo).collect()
}
