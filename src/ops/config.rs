//! `db::config`: get, set.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges},
    protocol::{SetEffect, SetLook, take_set},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::Thing,
};
use crate::provider::{
    Result, Settings,
    model::{EffectKind, Setting},
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

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
                help: "restart the server at once if a setting needs it",
            },
        ],
        returns: ReturnShape::List(&[
            field("name", "text", "its name"),
            field("before", "any", "what it was overridden with before"),
            field("overridden", "any", "what it is overridden with now"),
            field("effective", "any", "what holds now, where the platform says"),
            field("pending_restart", "bool", "whether it waits for a restart"),
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
    let things = values.keys().map(|name| Thing::named(args, &format!("setting:{name}")));
    let effect = SettingsEffect {
        things: things.collect::<Result<_>>()?,
        settings: target.settings()?,
        restart: args.get_flag("restart"),
        values,
    };
    take_set(cx, args, &*target, &effect).await
}

/// Overrides settings: an element is a setting, its value the override.
struct SettingsEffect<'a> {
    things: Vec<Thing>,
    settings: &'a dyn Settings,
    values: Map<String, Value>,
    restart: bool,
}

impl SettingsEffect<'_> {
    /// Returns the settings that the call is about, in the order of their names.
    async fn read_settings(&self) -> Result<Vec<Setting>> {
        let names: Vec<String> = self.values.keys().cloned().collect();
        self.settings.get(&names).await
    }
}

#[async_trait]
impl SetEffect for SettingsEffect<'_> {
    fn subject(&self) -> &'static str {
        "the override of settings"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Settings
    }

    fn things(&self) -> Vec<Thing> {
        self.things.clone()
    }

    /// Plans every setting, also one that is as wanted: it may wait for the restart that the call asks for.
    async fn plan(&self) -> Result<ElementChanges> {
        let now = self.read_settings().await?;
        let change = |setting: &Setting| ElementChange {
            before: setting_to_text(&setting.overridden),
            wanted: setting_to_text(self.values.get(&setting.name).unwrap_or(&Value::Null)),
        };
        Ok(now.iter().map(|setting| (setting.name.clone(), change(setting))).collect())
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        let now = self.read_settings().await?;
        let waits = self.restart && now.iter().any(|setting| setting.pending_restart);
        Ok(SetLook {
            elements: now.iter().map(|s| (s.name.clone(), setting_to_text(&s.overridden))).collect(),
            unapplied: waits.then(|| "a setting waits for a restart".to_owned()),
            shown: json!(now),
        })
    }

    async fn ask(&self, _: &ElementChanges) -> Result<()> {
        self.settings.set(&self.values, self.restart).await.map(drop)
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

/// Returns a value as text: platforms give back `120` for `"120"`, and the other way round.
fn setting_to_text(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        other => other.to_string().into(),
    }
}
