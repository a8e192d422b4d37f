//! What a world has of what a run can leave behind or change, and which calls changed it.

use super::{
    colleague::list_colleague_elements, scenario_result::ScenarioResult, world_snapshot::WorldSnapshot,
};
use crate::{
    journal::Record,
    ops::spec::{Evidence, parse_target_ref},
    provider::{
        model::{Branch, CallKey, Frequency, Replica, Schedule},
        sim::COLLEAGUE_RANGE,
    },
    runtime::{Remainder, RemainderKind},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The ranges of a world that nothing restricts.
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// What is there of what a run can leave behind or change, each with how it is.
pub(super) type WorldRemainders = BTreeMap<Remainder, String>;

/// Something of a world that has an id, and the key of the call that made it.
pub(super) struct MadeThing<'a> {
    pub(super) id: &'a str,
    pub(super) key: Option<&'a CallKey>,
    pub(super) remainder: Remainder,
    /// How a list of things shows it.
    text: String,
}

/// Returns the branches, replicas and schedules of a world.
pub(super) fn list_made_things(world: &WorldSnapshot) -> Vec<MadeThing<'_>> {
    let branch = |b: &Branch| (RemainderKind::Branch, b.name.clone(), "there".to_owned());
    let replica =
        |r: &Replica| (RemainderKind::Replica, r.region.clone().unwrap_or_default(), "a replica".to_owned());
    let schedule = |s: &Schedule| {
        let kept = s.keep_days.map(|days| format!(", kept {days} days")).unwrap_or_default();
        (RemainderKind::Schedule, s.at.clone(), format!("every {}{kept}", frequency_word(s.every)))
    };
    let branches = world.branches.iter().map(|b| (&b.id, &b.key, branch(b)));
    let replicas = world.replicas.iter().map(|r| (&r.id, &r.key, replica(r)));
    let schedules = world.schedules.iter().map(|s| (&s.id, &s.key, schedule(s)));
    let all = branches.chain(replicas).chain(schedules);
    all.map(|(id, key, (kind, name, text))| MadeThing {
        id,
        key: key.as_ref(),
        remainder: Remainder { kind, name },
        text,
    })
    .collect()
}

/// Returns the word for how often a schedule takes a backup.
const fn frequency_word(every: Frequency) -> &'static str {
    match every {
        Frequency::Day => "day",
        Frequency::Week => "week",
        Frequency::Month => "month",
    }
}

/// Returns what a world has, of the things that were made only those that count.
pub(super) fn list_world_contents(
    world: &WorldSnapshot,
    is_counted: impl Fn(&MadeThing<'_>) -> bool,
) -> WorldRemainders {
    let mut found = list_settable_state(world);
    let mut made: BTreeMap<Remainder, Vec<String>> = BTreeMap::new();
    for thing in list_made_things(world).into_iter().filter(is_counted) {
        made.entry(thing.remainder).or_default().push(thing.text);
    }
    found.extend(made.into_iter().map(|(remainder, mut texts)| {
        texts.sort_unstable();
        (remainder, texts.join(" and "))
    }));
    found
}

/// Returns the settings, ranges, bans and switches of a world.
fn list_settable_state(world: &WorldSnapshot) -> WorldRemainders {
    let normalized = &world.normalized;
    let pair = |kind: RemainderKind, name: &str, value: &str| {
        (Remainder { kind, name: name.to_owned() }, value.to_owned())
    };
    let settings = normalized.settings.iter().filter_map(|line| line.split_once(" = "));
    let settings = settings.map(|(name, value)| pair(RemainderKind::Setting, name, value));
    let ranges = list_ranges(world).into_iter().map(|net| pair(RemainderKind::Ranges, net, "allowed"));
    let bans = normalized.bans.iter().map(|address| pair(RemainderKind::Bans, address, "shut out"));
    let switches = normalized.switches.iter().filter_map(|line| line.split_once(": "));
    let switches = switches.map(|(name, value)| match name {
        "ssl" => pair(RemainderKind::Tls, "", value),
        _ => pair(RemainderKind::Power, "", value),
    });
    settings.chain(ranges).chain(bans).chain(switches).collect()
}

/// Returns the ranges that may connect. A world without any is as open as one that lists everybody, which it does as soon
/// as another range is added.
fn list_ranges(world: &WorldSnapshot) -> Vec<&str> {
    match world.normalized.ranges.as_slice() {
        [] => EVERYBODY.to_vec(),
        ranges => ranges.iter().map(String::as_str).collect(),
    }
}

/// Returns how all ranges or all bans of a world are, in one line.
pub(super) fn describe_ranges_or_bans(world: &WorldSnapshot, kind: RemainderKind) -> Option<String> {
    let all = match kind {
        RemainderKind::Ranges => list_ranges(world),
        _ => world.normalized.bans.iter().map(String::as_str).collect(),
    };
    (!all.is_empty()).then(|| all.join(", "))
}

/// Returns whether something is as the colleague has left it.
pub(super) fn is_by_colleague(world: &WorldSnapshot, remainder: &Remainder, now: Option<&str>) -> bool {
    let Remainder { kind, name } = remainder;
    let element = match kind {
        RemainderKind::Setting => now.map(|value| format!("{name} = {value}")),
        RemainderKind::Ranges if name == COLLEAGUE_RANGE => now.map(|_| name.clone()),
        _ => None,
    };
    element.is_some_and(|element| list_colleague_elements(world).iter().any(|(known, _)| *known == element))
}

/// Returns the calls that may have changed something of a world, in their order.
pub(super) fn list_changing_calls<'a>(
    result: &'a ScenarioResult,
    world: &WorldSnapshot,
    remainder: &Remainder,
) -> Vec<&'a str> {
    let things = list_made_things(world);
    let own = things.iter().filter(|thing| thing.remainder == *remainder);
    let keys: BTreeSet<&str> = own.filter_map(|thing| thing.key).map(|key| key.0.as_str()).collect();
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &result.entries {
        match &entry.record {
            Record::Begin { call, op, args, key, .. } => {
                let place = parse_target_ref(&args["target"]).ok();
                if place.is_none_or(|place| place.target != world.target) {
                    continue;
                }
                begun.insert(call, op);
                let has_no_elements = !matches!(
                    remainder.kind,
                    RemainderKind::Setting | RemainderKind::Ranges | RemainderKind::Bans | RemainderKind::Tls
                );
                let changes = has_no_elements && kind_changed_by_operation(op) == Some(remainder.kind);
                if keys.contains(key.as_str()) || changes {
                    found.push(call.as_str());
                }
            }
            Record::Accepted { call, what } => {
                let changes = begun.get(call.as_str()).and_then(|op| kind_changed_by_operation(op));
                if changes == Some(remainder.kind) && has_element(what, remainder) {
                    found.push(call.as_str());
                }
            }
            _ => {}
        }
    }
    found
}

/// Returns whether an evidence says that its call sets an element.
fn has_element(evidence: &Value, remainder: &Remainder) -> bool {
    let elements = list_changed_elements(evidence);
    let is_tls = remainder.kind == RemainderKind::Tls && !elements.is_empty();
    is_tls || elements.contains(&remainder.name)
}

/// Returns the elements that an evidence says its call sets.
pub(super) fn list_changed_elements(evidence: &Value) -> Vec<String> {
    match Evidence::decode(evidence) {
        Ok(Evidence::Set { changes, .. }) => changes.into_keys().collect(),
        _ => Vec::new(),
    }
}

/// Returns what an operation changes or removes of what was there.
pub(super) fn kind_changed_by_operation(op: &str) -> Option<RemainderKind> {
    Some(match op {
        "db::config::set" => RemainderKind::Setting,
        "network::restrictions::add" | "network::restrictions::remove" => RemainderKind::Ranges,
        "network::bans::remove" => RemainderKind::Bans,
        "network::ssl::set" => RemainderKind::Tls,
        "project::pause" | "project::resume" => RemainderKind::Power,
        "branch::delete" => RemainderKind::Branch,
        "db::replicas::delete" => RemainderKind::Replica,
        "backup::schedule::delete" => RemainderKind::Schedule,
        _ => return None,
    })
}
