//! The invariant `left-over`: what a run made or changed is back at its end, or it was said that it stays.

use super::{
    points::render_call,
    remainders::{
        MadeThing, WorldRemainders, describe_ranges_or_bans, is_by_colleague, list_changing_calls,
        list_made_things, list_world_contents,
    },
    runbook_rules::RunbookRules,
    scenario_result::ScenarioResult,
    told::ToldRemainders,
    undone::UndoneCleanUp,
    world_snapshot::WorldSnapshot,
};
use crate::{
    journal::{Outcome, RunFold, RunStatus},
    provider::model::CallKey,
    runtime::{Remainder, RemainderKind},
};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;

/// What a run left behind or changed, and nobody said that it would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    pub target: String,
    /// What it is, as an entry of `leaves` names it.
    #[serde(serialize_with = "serialize_entry")]
    pub entry: Remainder,
    /// How it was before the run; nothing for what was not there.
    pub before: Option<String>,
    /// How the run left it.
    pub after: Option<String>,
    /// The last call that changed it, as far as the records say.
    pub call: Option<String>,
    /// How the run ended.
    pub ended: RunStatus,
}

fn serialize_entry<S: Serializer>(entry: &Remainder, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(entry)
}

impl LeftOver {
    /// Returns what is left, after what, in one sentence.
    pub(super) fn describe(&self) -> String {
        let Self { target, entry, before, after, call, ended } = self;
        let name = &entry.name;
        let of = |what: String| format!("{what} of `{target}`");
        let region = if name.is_empty() { String::new() } else { format!(" in `{name}`") };
        let subject = match entry.kind {
            RemainderKind::Branch => format!("the branch `{target}/{name}`"),
            RemainderKind::Replica => of(format!("the list of replicas{region}")),
            RemainderKind::Schedule => of(format!("the schedule at {name}")),
            RemainderKind::Setting => of(format!("the setting `{name}`")),
            RemainderKind::Ranges => of("the list of ranges".into()),
            RemainderKind::Bans => of("the list of bans".into()),
            RemainderKind::Tls => of("the enforcement of TLS".into()),
            RemainderKind::Power => of("the power".into()),
        };
        let change = match (before, after) {
            (None, Some(_)) if entry.kind == RemainderKind::Branch => "is left".to_owned(),
            (Some(_), None) if entry.kind == RemainderKind::Branch => "is gone".to_owned(),
            _ => {
                let [before, after] = [before, after].map(|part| self.render_part(part.as_deref()));
                format!("is left changed, from {before} to {after}")
            }
        };
        let by = call.as_ref().map(|call| format!(" by {}", render_call(call))).unwrap_or_default();
        format!("{subject} {change}{by}, at the end of a run that {}", describe_end(*ended))
    }

    /// Returns what to do about it.
    pub(super) fn hint(&self) -> String {
        let entry = &self.entry;
        let undo = match (&self.before, entry.kind) {
            (None, RemainderKind::Branch | RemainderKind::Replica | RemainderKind::Schedule) => {
                "remove it in a `defer` directly after it is made"
            }
            (_, RemainderKind::Bans) => "no operation shuts an address out again, so leave the ban as it is",
            _ => "undo it in a `defer` put before the change or directly after it",
        };
        format!("`{entry}`: {undo}; or, where it is to stay, name it in the header: `leaves: [\"{entry}\"]`")
    }

    /// Returns how it was or is, as text.
    fn render_part(&self, part: Option<&str>) -> String {
        match (part, self.entry.kind) {
            (Some(part), _) => format!("`{part}`"),
            (None, RemainderKind::Setting) => "no override".into(),
            (None, _) => "nothing".into(),
        }
    }
}

/// Returns what a run that has ended left behind or changed, and did not say so.
pub(super) fn find_untold_left_over(rules: &RunbookRules<'_>, result: &ScenarioResult) -> Vec<LeftOver> {
    let Some(ended) = result.status().filter(|status| status.is_final()) else { return Vec::new() };
    let told = ToldRemainders::from_result(result);
    let undone = UndoneCleanUp::from_result(rules.clean_ups, result);
    let worlds = rules.beginning.iter().zip(&result.worlds);
    let left = worlds.flat_map(|(before, after)| {
        list_untold_changes(before, after, result, &told)
            .into_iter()
            .filter(|change| !rules.leaves.iter().any(|rule| rule.covers(&change.remainder)))
            .filter(|change| !undone.would_undo(&after.target, &change.remainder))
            .fold(Vec::new(), |found, change| add_left_over(found, change, ended, before, after))
    });
    left.collect()
}

/// One part of a world that is not as it was before the run.
struct WorldChange {
    remainder: Remainder,
    before: Option<String>,
    after: Option<String>,
    /// The last call that changed it.
    call: Option<String>,
}

/// Returns what the run has changed in a world and does not tell.
fn list_untold_changes(
    before: &WorldSnapshot,
    after: &WorldSnapshot,
    result: &ScenarioResult,
    told: &ToldRemainders<'_>,
) -> Vec<WorldChange> {
    let ended_well = keys_ended_well(&result.fold);
    // What a call left that did not end well is told in a sentence of its own.
    let counts = |thing: &MadeThing<'_>| {
        !is_told_thing(told, &after.target, thing) && !is_of_failed_call(&ended_well, thing.key)
    };
    let (was, is) = (list_world_contents(before, |_| true), list_world_contents(after, counts));
    let mut found = Vec::new();
    for remainder in list_differing_remainders(&was, &is) {
        let calls = list_changing_calls(result, after, &remainder);
        let (before, now) = (was.get(&remainder).cloned(), is.get(&remainder).cloned());
        let is_told = calls.iter().any(|call| told.names_change_of(call));
        if !is_told && !is_by_colleague(after, &remainder, now.as_deref()) {
            let call = calls.last().map(|call| (*call).to_owned());
            found.push(WorldChange { remainder, before, after: now, call });
        }
    }
    found
}

/// Adds a change to what is left. All ranges are one element, and all bans, and shown as a whole.
fn add_left_over(
    mut found: Vec<LeftOver>,
    change: WorldChange,
    ended: RunStatus,
    before: &WorldSnapshot,
    after: &WorldSnapshot,
) -> Vec<LeftOver> {
    let WorldChange { remainder: entry, call, .. } = change;
    let target = after.target.clone();
    let mut left = LeftOver { target, entry, before: change.before, after: change.after, call, ended };
    let kind = left.entry.kind;
    if matches!(kind, RemainderKind::Ranges | RemainderKind::Bans) {
        left.entry.name.clear();
        (left.before, left.after) =
            (describe_ranges_or_bans(before, kind), describe_ranges_or_bans(after, kind));
    }
    if !found.iter().any(|known| known.entry == left.entry) {
        found.push(left);
    }
    found
}

/// Returns how a run ended, as the end of a sentence.
const fn describe_end(ended: RunStatus) -> &'static str {
    match ended {
        RunStatus::Failed => "failed",
        RunStatus::Abandoned => "was given up",
        _ => "succeeded",
    }
}

/// Returns what is in one of the two worlds only, or not the same in both.
fn list_differing_remainders(was: &WorldRemainders, is: &WorldRemainders) -> BTreeSet<Remainder> {
    let all = was.keys().chain(is.keys());
    all.filter(|remainder| was.get(*remainder) != is.get(*remainder)).cloned().collect()
}

/// Returns what was begun and not ended by the end of a run: what calls left that did not end well, what goes on, and
/// leases.
pub(super) fn list_unfinished(result: &ScenarioResult) -> Vec<String> {
    if !result.has_ended() {
        return Vec::new();
    }
    let ended_well = keys_ended_well(&result.fold);
    let told = ToldRemainders::from_result(result);
    let mut found = Vec::new();
    for world in &result.worlds {
        let of_failed = |thing: &MadeThing<'_>| {
            is_of_failed_call(&ended_well, thing.key) && !is_told_thing(&told, &world.target, thing)
        };
        for thing in list_made_things(world).iter().filter(|thing| of_failed(thing)) {
            found.push(match thing.remainder.kind {
                RemainderKind::Branch => {
                    let (target, name) = (&world.target, &thing.remainder.name);
                    format!("the branch `{target}/{name}` is left by a call that did not end well")
                }
                kind => {
                    let (kind, target) = (kind.word(), &world.target);
                    format!("a {kind} of `{target}` is left by a call that did not end well")
                }
            });
        }
        for backup in &world.backups {
            let is_told =
                told.names_id(&backup.id) || backup.key.as_ref().is_some_and(|key| told.names_key(&key.0));
            if is_of_failed_call(&ended_well, backup.key.as_ref()) && !is_told {
                let label = backup.label.as_deref().unwrap_or("no label");
                let target = &world.target;
                found.push(format!(
                    "a backup of `{target}` ({label}) is left by a call that did not end well"
                ));
            }
        }
        for job in world.unfinished.iter().filter(|job| !told.names_id(job)) {
            let (kind, _) = job.split_once('-').unwrap_or((job, ""));
            found.push(format!("a {kind} of `{}` goes on after the run's end", world.target));
        }
    }
    if result.leases > 0 && !result.has_died_last {
        found.push(format!("{} leases are held after the run's end", result.leases));
    }
    found
}

/// Returns whether the run names a thing: by its name or id, or by the call that made it.
fn is_told_thing(told: &ToldRemainders<'_>, target: &str, thing: &MadeThing<'_>) -> bool {
    let is_named_branch =
        thing.remainder.kind == RemainderKind::Branch && told.names_branch(target, &thing.remainder.name);
    is_named_branch || told.names_id(thing.id) || thing.key.is_some_and(|key| told.names_key(&key.0))
}

/// Returns whether a thing was made by a call that did not end well.
fn is_of_failed_call(ended_well: &BTreeSet<&str>, key: Option<&CallKey>) -> bool {
    key.is_some_and(|key| !ended_well.contains(key.0.as_str()))
}

/// Returns the keys of the calls that ended well.
fn keys_ended_well(fold: &RunFold) -> BTreeSet<&str> {
    let well = fold.calls().filter(|(_, call)| matches!(call.outcome(), Some(Outcome::Ok(_))));
    well.filter_map(|(_, call)| call.attempts.last()?.key.as_deref()).collect()
}
