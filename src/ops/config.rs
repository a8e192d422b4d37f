//! `db::config`: get, set.

use super::{
    args::CallArgs,
    known,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery, ReturnShape,
        TARGET, field,
    },
};
use crate::provider::{
    Code, Error, Provider, Result,
    model::{JobStatus, Setting},
};
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
        recovery: Recovery::Read,
        examples: &[r#"db::config::get("sandbox", #{ names: ["work_mem", "max_connections"] })"#],
        perform: |cx, args| Box::pin(get_settings(cx, args)),
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
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_settings(cx, args))),
        examples: &[
            r#"db::config::set("sandbox", #{ work_mem: "8MB", max_connections: 120 })"#,
            r#"db::config::set("sandbox", #{ max_connections: () }, #{ restart: true })"#,
        ],
        perform: |cx, args| Box::pin(set_settings(cx, args)),
    },
];

async fn get_settings(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.settings()?.get(&args.get_list("names")).await?))
}

async fn set_settings(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let values = args.get_map("values");
    let before = overrides_to_json(&read_settings(&*target, &values).await?);
    known::about_to(cx, &before, &wanted_to_json(&values)).await?;
    target.settings()?.set(&values, args.get_flag("restart")).await?;
    let seen =
        || async { Ok(JobStatus::Done(changes_to_json(&read_settings(&*target, &values).await?, &before))) };
    known::applied(cx, args, &*target, seen).await?.ok_or_else(|| {
        Error::new(Code::Timeout, "the settings were set, and cannot be read back")
            .with_hint("look with `db::config::get`")
            .with_side_effects()
    })
}

/// Looks whether the settings are as wanted. A restart leaves no trace of who asked for it: if the call was to restart
/// the server and a setting still waits for a restart, nobody knows whether the call asked for one.
async fn probe_settings(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(before) = known::before(cx) else { return Ok(ProbeResult::NotDone) };
    let target = cx.open_target(args.get("target")).await?;
    let now = read_settings(&*target, &args.get_map("values")).await?;
    if !known::is_done(cx, "a setting", &overrides_to_json(&now))? {
        return Ok(ProbeResult::NotDone);
    }
    if args.get_flag("restart") && now.iter().any(|setting| setting.pending_restart) {
        return Err(Error::new(
            Code::Unknown,
            "the settings are as wanted and wait for a restart, of which nobody knows whether it was asked for",
        ));
    }
    Ok(ProbeResult::Done(changes_to_json(&now, before)))
}

/// Returns the settings that a call is about, in the order of their names.
async fn read_settings(target: &dyn Provider, values: &Map<String, Value>) -> Result<Vec<Setting>> {
    let names: Vec<String> = values.keys().cloned().collect();
    target.settings()?.get(&names).await
}

fn overrides_to_json(settings: &[Setting]) -> Value {
    settings.iter().map(|s| (s.name.clone(), setting_to_text(&s.overridden))).collect::<Map<_, _>>().into()
}

fn wanted_to_json(values: &Map<String, Value>) -> Value {
    values.iter().map(|(name, value)| (name.clone(), setting_to_text(value))).collect::<Map<_, _>>().into()
}

/// Returns a value as text: platforms give back `120` for `"120"`, and the other way round.
fn setting_to_text(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        other => other.to_string().into(),
    }
}

fn changes_to_json(settings: &[Setting], before: &Value) -> Value {
    let with_before = |s: &Setting| {
        let mut fields = json!(s);
        fields["before"] = before[&s.name].clone();
        fields
    };
    settings.iter().map(with_before).collect()
}
