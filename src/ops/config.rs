//! `db::config`: get, set.

use super::{
    args::CallArgs,
    canonical::setting_to_text,
    evidence::{ElementChange, ElementChanges, Evidence},
    protocol::{PlannedFrom, SetEffect, SetLook, begin_or_continue_set},
    server_restart::{restart_for_settings, take_restart_up},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::{Thing, ThingPart},
};
use crate::{
    base::{clock::Stopwatch, lock::lock_unpoisoned},
    provider::{
        Code, Result, Settings,
        model::{EffectKind, Setting},
    },
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// The operations of `db::config`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "db::config",
        name: "get",
        summary: "Show settings of the server: what overrides them, and what holds",
        params: &[
            TARGET,
            Param {
                name: "names",
                kind: ParamKind::Words,
                slot: ParamSlot::Optional("every setting that is overridden"),
                help: "the settings to show",
            },
        ],
        returns: ReturnShape::List(&[
            field("name", "text", "its name"),
            field("overridden", "any", "what it was overridden with; nothing without an override"),
            field("effective", "any", "what holds now, where the platform says"),
            field("pending_restart", "bool", "whether an override waits for a restart"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(get_settings(cx, args))),
        examples: &[r#"db::config::get("sandbox", #{ names: ["work_mem", "max_connections"] })"#],
    },
    Operation {
        namespace: "db::config",
        name: "set",
        summary: "Override settings of the server, or take overrides away",
        params: &[
            TARGET,
            Param {
                name: "values",
                kind: ParamKind::Settings,
                slot: ParamSlot::Positional,
                help: "the settings by name; nothing as a value takes an override away",
            },
            Param {
                name: "restart",
                kind: ParamKind::Bool,
                slot: ParamSlot::Optional("false: what needs a restart waits for one"),
                help: "restart the server once they are set, if one of them waits for it",
            },
        ],
        returns: ReturnShape::List(&[
            field("name", "text", "its name"),
            field("before", "any", "what it was overridden with before"),
            field("overridden", "any", "what it is overridden with now"),
            field("effective", "any", "what holds now, where the platform says"),
            field("pending_restart", "bool", "whether it waits for a restart"),
            field(
                "warning",
                "text",
                "what somebody else set meanwhile and is lost, where an override is taken away by replacing them all",
            ),
        ]),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(set_settings(cx, args))),
        examples: &[
            r#"db::config::set("sandbox", #{ work_mem: "8MB", max_connections: 120 })"#,
            r#"db::config::set("sandbox", #{ max_connections: () }, #{ restart: true })"#,
        ],
    },
];

async fn get_settings(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.settings()?.get(&args.get_list("names")).await?))
}

async fn set_settings(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let values = args.get_map("values");
    let settings = target.settings()?;
    let mut things: Vec<String> = values.keys().map(|name| setting_part(name)).collect();
    if settings.replaces_all_overrides() {
        // A replacement that lands late would undo what was set after it.
        things.push("overrides".into());
    }
    let effect = SettingsEffect {
        things: things.into_iter().map(|thing| Thing::named(args, thing)).collect::<Result<_>>()?,
        settings,
        restarts: args.get_flag("restart"),
        values,
        others_before: Mutex::default(),
        seen_overrides: Mutex::default(),
    };
    // The settings were set, and the restart for them was begun.
    if let Some(Evidence::Make { before, .. }) = &cx.recorded
        && effect.restarts
    {
        return take_restart_up(cx, args, &*target, before).await;
    }
    let stopwatch = Stopwatch::start(cx.fleet.clock().as_ref());
    let set = begin_or_continue_set(cx, args, &*target, &effect).await?;
    if !effect.restarts {
        return Ok(set);
    }
    restart_for_settings(cx, args, &*target, (set, stopwatch.remaining_of(args.timeout()))).await
}

/// Returns the part of a target that a setting is: servers take its name in any case.
/// How the name of the part of the target begins that a setting is.
const SETTING_PREFIX: &str = "setting:";

fn setting_part(name: &str) -> String {
    format!("{SETTING_PREFIX}{}", name.to_lowercase())
}

/// The name of the element that stands for the overrides which are replaced with themselves; no setting has a space.
const CARRIED: &str = "other overrides";

/// Overrides settings: an element is a setting, its value the override.
///
/// Where an override is taken away by replacing them all, [`CARRIED`] is an element too: what the request carries along is
/// on disk before it is sent. It counts as changed when the settings of the call are: what others set is not judged.
struct SettingsEffect<'a> {
    things: Vec<Thing>,
    settings: &'a dyn Settings,
    values: Map<String, Value>,
    /// Whether the call restarts the server afterwards, where a setting waits for that.
    restarts: bool,
    /// The other overrides as the last look showed them before the replacement.
    others_before: Mutex<Option<Map<String, Value>>>,
    /// Every override as the last plan has seen it, where it carries the others along.
    seen_overrides: Mutex<Option<Map<String, Value>>>,
}

impl SettingsEffect<'_> {
    /// Returns the settings that the call is about, in the order of their names.
    async fn read_settings(&self) -> Result<Vec<Setting>> {
        self.settings.get(&self.list_names()).await
    }

    fn list_names(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// Returns every override that the call is not about.
    async fn read_other_overrides(&self) -> Result<Map<String, Value>> {
        Ok(self.without_own(self.settings.overrides().await?))
    }

    fn without_own(&self, mut overrides: Map<String, Value>) -> Map<String, Value> {
        overrides.retain(|name, _| !self.values.contains_key(name));
        overrides
    }

    /// Looks what became of the overrides that a replacement carries along, given whether it has taken effect: returns
    /// what was lost or is otherwise.
    async fn find_lost_overrides(
        &self,
        carried: &Map<String, Value>,
        has_landed: bool,
    ) -> Result<Vec<String>> {
        let now = self.read_other_overrides().await?;
        let mut before = lock_unpoisoned(&self.others_before);
        if !has_landed {
            *before = Some(now);
            return Ok(Vec::new());
        }
        Ok(describe_override_losses(carried, before.as_ref().unwrap_or(carried), &now))
    }
}

/// Describes what a replacement of all overrides with `carried` has undone of what others had set `before`, and what it
/// carried that is otherwise `now`.
fn describe_override_losses(
    carried: &Map<String, Value>,
    before: &Map<String, Value>,
    now: &Map<String, Value>,
) -> Vec<String> {
    let shown = |value: Option<&Value>| value.map_or_else(|| "not set".to_owned(), |v| format!("`{v}`"));
    let names: BTreeSet<&String> = carried.keys().chain(before.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (sent, was, is) = (carried.get(name), before.get(name), now.get(name));
            if was != sent && is == sent {
                let theirs = match was {
                    Some(value) => format!("set `{name}` to `{value}`"),
                    None => format!("taken the override of `{name}` away"),
                };
                return Some(format!(
                    "somebody else had {theirs}, and the replacement has undone that: it is {} again",
                    shown(is)
                ));
            }
            (is != sent && sent.is_some()).then(|| {
                format!(
                    "`{name}` was carried along as {}, and is {}: somebody else changes it",
                    shown(sent),
                    shown(is)
                )
            })
        })
        .collect()
}

#[async_trait]
impl SetEffect for SettingsEffect<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the override of settings"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Settings
    }

    fn changed_things(&self) -> Vec<Thing> {
        self.things.clone()
    }

    fn things_of(&self, names: &[&str]) -> Vec<Thing> {
        let parts: Vec<ThingPart> = names.iter().map(|name| ThingPart::Named(setting_part(name))).collect();
        self.things.iter().filter(|thing| parts.contains(&thing.part)).cloned().collect()
    }

    /// Plans every setting, also one that is as wanted: it may wait for the restart that the call asks for afterwards.
    async fn plan(&self) -> Result<ElementChanges> {
        if self.restarts {
            // Where the server is not restarted, that is said before anything is set.
            self.settings.server_start().await?;
        }
        let values = self.settings.normalize(&self.values).await?;
        match self.settings.end_lost_requests(&self.list_names()).await {
            // That there is a lost one is not known here.
            Err(e) if e.code == Code::Unknown => {}
            ended => ended?,
        }
        let now = self.read_settings().await?;
        let change = |setting: &Setting| ElementChange {
            before: setting_to_text(&setting.overridden),
            wanted: setting_to_text(values.get(&setting.name).unwrap_or(&Value::Null)),
        };
        let mut changes: ElementChanges =
            now.iter().map(|setting| (setting.name.clone(), change(setting))).collect();
        let takes_away = changes.values().any(|change| change.wanted.is_null() && !change.before.is_null());
        *lock_unpoisoned(&self.seen_overrides) = None;
        if takes_away && self.settings.replaces_all_overrides() {
            let all = self.settings.overrides().await?;
            *lock_unpoisoned(&self.seen_overrides) = Some(all.clone());
            let carried = self.without_own(all);
            changes.insert(CARRIED.into(), ElementChange { before: Value::Null, wanted: carried.into() });
        }
        Ok(changes)
    }

    /// A replacement of all overrides carries the others along as they were seen.
    fn planned_from(&self) -> Option<PlannedFrom> {
        let seen = lock_unpoisoned(&self.seen_overrides);
        let element = |(name, value): (&String, &Value)| {
            (format!("{}/{name}", setting_part(name)), setting_to_text(value))
        };
        let shown = seen.as_ref()?.iter().map(element).collect();
        Some(PlannedFrom::elements(self.things.first()?, SETTING_PREFIX, shown, Value::Null))
    }

    async fn look(&self, changes: &ElementChanges) -> Result<SetLook> {
        let now = self.read_settings().await?;
        let mut elements: BTreeMap<String, Value> =
            now.iter().map(|s| (s.name.clone(), setting_to_text(&s.overridden))).collect();
        let mut shown = json!(now);
        let mut warnings = Vec::new();
        if let Some(ElementChange { wanted: Value::Object(carried), .. }) = changes.get(CARRIED) {
            let is_new = |(name, found): (&String, &Value)| {
                changes.get(name).is_some_and(|change| change.wanted == *found && change.before != *found)
            };
            let has_landed = elements.iter().any(is_new);
            warnings = self.find_lost_overrides(carried, has_landed).await?;
            let as_seen = if has_landed { carried.clone().into() } else { Value::Null };
            elements.insert(CARRIED.into(), as_seen);
        }
        for row in shown.as_array_mut().into_iter().flatten() {
            let is_taken_away = row["overridden"].is_null() && !warnings.is_empty();
            row["warning"] = if is_taken_away { warnings.join("; ").into() } else { Value::Null };
        }
        Ok(SetLook { elements, unapplied: None, shown })
    }

    async fn end_lost_requests(&self) -> Result<()> {
        self.settings.end_lost_requests(&self.list_names()).await
    }

    async fn find_half_done(&self) -> Result<Option<String>> {
        self.settings.find_unloaded().await
    }

    /// Returns the settings whose override is to be taken away and that have none, where only a replacement of all
    /// takes one away: there is nothing to replace for them.
    fn list_elements_not_requested(&self, changes: &ElementChanges) -> Vec<String> {
        if !self.settings.replaces_all_overrides() || changes.contains_key(CARRIED) {
            return Vec::new();
        }
        let unasked = changes.iter().filter(|(_, change)| change.wanted.is_null());
        unasked.map(|(name, _)| name.clone()).collect()
    }

    /// Asks for the settings. Where they are all replaced, an override is only taken away with the others on record.
    async fn send_request(&self, changes: &ElementChanges) -> Result<()> {
        let asked = match changes.get(CARRIED) {
            Some(ElementChange { wanted: Value::Object(carried), .. }) => {
                self.settings.set_if_others_unchanged(&self.values, carried).await
            }
            _ if self.settings.replaces_all_overrides() => {
                let mut values = self.values.clone();
                values.retain(|_, value| !value.is_null());
                self.settings.set(&values).await
            }
            _ => self.settings.set(&self.values).await,
        };
        asked.map(drop)
    }

    fn result(&self, changes: &ElementChanges, look: SetLook) -> Value {
        let mut settings = look.shown;
        for setting in settings.as_array_mut().into_iter().flatten() {
            let change = setting["name"].as_str().and_then(|name| changes.get(name));
            setting["before"] = change.map_or(Value::Null, |change| change.before.clone());
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replacement_of_all_overrides_undoes_is_said() {
        let map = |value: Value| value.as_object().expect("a map").clone();
        let carried = map(json!({"max_connections": 90, "wal_keep_size": "1GB"}));
        let losses = |before: Value, now: Value| describe_override_losses(&carried, &map(before), &map(now));
        assert_eq!(losses(json!(carried), json!(carried)), Vec::<String>::new());
        let later = json!({"max_connections": 90, "wal_keep_size": "1GB", "work_mem": "8MB"});
        assert_eq!(losses(json!(carried), later.clone()), Vec::<String>::new(), "set after it, and there");
        assert_eq!(
            losses(later, json!(carried)),
            [
                "somebody else had set `work_mem` to `\"8MB\"`, and the replacement has undone that: it is not set again"
            ]
        );
        assert_eq!(
            losses(json!({"max_connections": 120}), json!(carried)),
            [
                "somebody else had set `max_connections` to `120`, and the replacement has undone that: it is `90` again",
                "somebody else had taken the override of `wal_keep_size` away, and the replacement has undone that: it is `\"1GB\"` again",
            ]
        );
        assert_eq!(
            losses(json!(carried), json!({"max_connections": 120, "wal_keep_size": "1GB"})),
            ["`max_connections` was carried along as `90`, and is `120`: somebody else changes it"]
        );
    }
}
