//! The invariant about calls that destroy something: `guard`.

use super::{runbook_rules::RunbookRules, scenario_result::ScenarioResult};
use crate::{
    base::value,
    journal::{APPROVE, Outcome, Record},
    ops::{
        self,
        args::CallArgs,
        spec::{Effect, Permission, parse_target_ref},
        supabase::API_PATH,
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
                let Some(loss) = run.find_loss(op, args) else { continue };
                let target = &loss.target;
                let is_protected = rules.config.targets.get(target).is_some_and(|t| t.protect);
                if !is_protected && !run.has_backup_of(target) && !run.is_approved(&loss) {
                    let what = format!("`{op}` at {at} destroys something of `{target}`");
                    let missing = run.describe_missing_guard(target);
                    found.push(format!("{what} {missing}, and `{target}` is not protected"));
                }
            }
            _ => {}
        }
    }
    found
}

/// What is destroyed of a target.
#[derive(Clone, PartialEq, Eq)]
struct Loss {
    target: String,
    kind: LossKind,
}

/// What of a target is destroyed. A statement, a restore in place and a promotion are of one kind: whoever approved of
/// one has let go of the data as it was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LossKind {
    Data,
    Backups,
    Schedules,
    Replicas,
    /// Whatever a request past the catalogue destroys.
    Platform,
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
    /// What each approval that was given turned out to be of; nothing for one behind which nothing was destroyed yet.
    approvals: Vec<Option<Loss>>,
}

impl GuardedRun {
    /// Notes what a call made, removed or asked for that ended well.
    fn note_end(&mut self, op: &str, args: &Value, given: &Value) {
        match op {
            APPROVE => self.approvals.push(None),
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

    fn has_backup_of(&self, target: &str) -> bool {
        self.backups.values().any(|saved| saved == target)
    }

    /// Returns whether somebody has approved of a loss. An approval is of what is destroyed first behind it, and of
    /// more of the same; where several were given before that, each is of one thing.
    fn is_approved(&mut self, loss: &Loss) -> bool {
        let is_of_loss = |approval: &Option<Loss>| approval.as_ref() == Some(loss);
        if self.approvals.last().is_some_and(Option::is_some) && self.approvals.iter().any(is_of_loss) {
            return true;
        }
        let unused = self.approvals.iter_mut().rfind(|approval| approval.is_none());
        unused.is_some_and(|approval| approval.replace(loss.clone()).is_none())
    }

    /// Returns what there is instead of a backup of a target and of an approval.
    fn describe_missing_guard(&self, target: &str) -> String {
        let backup = if self.lost.contains(target) {
            "after the run deleted its own backup of it"
        } else {
            "without a backup made before it in the same run"
        };
        let approval = if self.approvals.is_empty() { "" } else { ", what was approved is something else" };
        format!("{backup}{approval}")
    }

    /// Returns what a call destroys that the run did not make.
    fn find_loss(&self, op: &str, args: &Value) -> Option<Loss> {
        let need = required_permission(op, args)?;
        let place = parse_target_ref(&args["target"]).ok().filter(is_source)?;
        let (kind, removed) = match op {
            "backup::delete" => (LossKind::Backups, &args["backup"]),
            "backup::schedule::delete" => (LossKind::Schedules, &args["schedule"]),
            "db::replicas::delete" => (LossKind::Replicas, &args["replica"]),
            API_PATH => (LossKind::Platform, &Value::Null),
            _ => (LossKind::Data, &Value::Null),
        };
        let is_own = removed.as_str().is_some_and(|id| self.own.contains(id));
        let destroys = need.effect == Effect::Destroy && need.area != "branch";
        (destroys && !is_own).then_some(Loss { target: place.target, kind })
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
