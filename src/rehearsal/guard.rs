//! The invariant about calls that destroy something: `guard`.

use super::{runbook_rules::RunbookRules, scenario_result::ScenarioResult};
use crate::{
    base::value,
    journal::{APPROVE, Outcome, Record},
    ops::{
        self,
        args::CallArgs,
        spec::{Effect, Permission, parse_target_ref},
    },
    provider::TargetRef,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the calls that destroy something of a source without what must come before.
pub(super) fn check_destruction_guarded(rules: &RunbookRules<'_>, result: &ScenarioResult) -> Vec<String> {
    let mut run = GuardedRun::default();
    let mut found = Vec::new();
    for entry in &result.entries {
        match &entry.record {
            Record::End { op, args, outcome: Outcome::Ok(given), .. } => run.note_end(op, args, given),
            Record::Begin { op, args, at, .. } => {
                let Some(target) = run.target_of_destruction(op, args) else { continue };
                let is_protected = rules.config.targets.get(&target).is_some_and(|t| t.protect);
                if !is_protected && !run.is_guarded(&target) {
                    let what = format!("`{op}` at {at} destroys something of `{target}`");
                    let saved = run.describe_missing_backup(&target);
                    found.push(format!("{what} {saved}, and `{target}` is not protected"));
                }
            }
            _ => {}
        }
    }
    found
}

/// What a run has come to that guards what it destroys.
#[derive(Default)]
struct GuardedRun {
    /// The target of each backup that the run made and that is still there, by id.
    backups: BTreeMap<String, String>,
    /// The targets of which a backup that the run made is gone.
    lost: BTreeSet<String>,
    /// The ids of what the run made.
    own: BTreeSet<String>,
    is_approved: bool,
}

impl GuardedRun {
    /// Notes what a call made, removed or asked for that ended well.
    fn note_end(&mut self, op: &str, args: &Value, given: &Value) {
        match op {
            APPROVE => self.is_approved = true,
            "backup::create" => {
                let made = value::untag_as(given, value::BACKUP_TAG).and_then(|b| b["id"].as_str());
                let source = parse_target_ref(&args["target"]).ok().filter(is_source);
                if let (Some(id), Some(source)) = (made, source) {
                    self.backups.insert(id.into(), source.target);
                    self.own.insert(id.into());
                }
            }
            "backup::delete" if required_permission(op, args).is_some_and(|p| p.effect != Effect::Read) => {
                let also = given["also"].as_array().into_iter().flatten();
                let gone = also.chain([&args["backup"]]).filter_map(Value::as_str);
                self.lost.extend(gone.filter_map(|id| self.backups.remove(id)));
            }
            _ if makes_something(op) => self.own.extend(given["id"].as_str().map(str::to_owned)),
            _ => {}
        }
    }

    /// Returns whether what is destroyed of a target can be had back, or was approved of.
    fn is_guarded(&self, target: &str) -> bool {
        self.is_approved || self.backups.values().any(|saved| saved == target)
    }

    fn describe_missing_backup(&self, target: &str) -> &'static str {
        if self.lost.contains(target) {
            "after the run deleted its own backup of it"
        } else {
            "without a backup made before it in the same run"
        }
    }

    /// Returns the target of which a call destroys something that the run did not make.
    fn target_of_destruction(&self, op: &str, args: &Value) -> Option<String> {
        let need = required_permission(op, args)?;
        let place = parse_target_ref(&args["target"]).ok().filter(is_source)?;
        let removed = match op {
            "backup::delete" => &args["backup"],
            "backup::schedule::delete" => &args["schedule"],
            "db::replicas::delete" => &args["replica"],
            _ => &Value::Null,
        };
        let is_own = removed.as_str().is_some_and(|id| self.own.contains(id));
        let destroys = need.effect == Effect::Destroy && need.area != "branch";
        (destroys && !is_own).then_some(place.target)
    }
}

/// Returns whether a place is the target itself rather than a branch of it.
fn is_source(place: &TargetRef) -> bool {
    place.branch.is_none()
}

fn required_permission(op: &str, args: &Value) -> Option<Permission> {
    let args = CallArgs::from_unchecked(args.as_object().cloned().unwrap_or_default());
    Some(ops::find_operation(op)?.required_permission(&args))
}

/// Returns whether an operation makes something, which may have an id.
fn makes_something(op: &str) -> bool {
    ops::find_operation(op).is_some_and(|op| op.effect == Effect::Create)
}
