//! `backup::schedule`: list, create, delete.

use super::{
    args::CallArgs,
    known,
    spec::{
        CallContext, Effect, Field, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery,
        ReturnShape, TARGET, field,
    },
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Frequency, Schedule, ScheduleRequest},
    },
};
use serde_json::{Value, json};

const SCHEDULE_FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("every", "text", "`day`, `week` (on Monday) or `month` (on the first)"),
    field("at", "text", "the time of day in UTC"),
    field("keep_days", "int", "how many days its backups are kept, where the platform says"),
    field("next_at", "moment", "when it takes the next, where that can be known"),
    field("method", "text", "what it takes"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it, where the platform keeps one"),
];

const SCHEDULE: Param = Param {
    name: "schedule",
    kind: ParamKind::Text,
    slot: ParamSlot::Positional,
    help: "the id of the schedule",
};

/// The operations of `backup::schedule`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "backup::schedule",
        name: "list",
        summary: "List what takes backups by the clock",
        params: &[TARGET],
        returns: ReturnShape::List(SCHEDULE_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::schedule::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_schedules(cx, args)),
    },
    Operation {
        namespace: "backup::schedule",
        name: "create",
        summary: "Have backups taken by the clock; where the platform has exactly one schedule, set it",
        params: &[
            TARGET,
            Param {
                name: "at",
                kind: ParamKind::Clock,
                slot: ParamSlot::Named,
                help: "the time of day in UTC, such as 03:00",
            },
            Param {
                name: "every",
                kind: ParamKind::Choice(&["day", "week", "month"]),
                slot: ParamSlot::Optional("day"),
                help: "how often: a week begins on Monday, a month on its first day",
            },
            Param {
                name: "keep_days",
                kind: ParamKind::Int,
                slot: ParamSlot::Optional("as long as the platform keeps backups"),
                help: "how many days a backup of it is kept",
            },
        ],
        returns: ReturnShape::One(SCHEDULE_FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_schedule(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "03:00", keep_days: 7 }); backup::schedule::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(create_schedule(cx, args)),
    },
    Operation {
        namespace: "backup::schedule",
        name: "delete",
        summary: "Take no more backups by this schedule; those that it took stay",
        params: &[TARGET, SCHEDULE],
        returns: ReturnShape::One(SCHEDULE_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_schedule_deletion(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "04:00", every: "week" }); backup::schedule::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(delete_schedule(cx, args)),
    },
];

async fn list_schedules(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(fetch_schedules(cx, args).await?))
}

async fn fetch_schedules(cx: &CallContext<'_>, args: &CallArgs) -> Result<Vec<Schedule>> {
    cx.open_target(args.get("target")).await?.schedules()?.list().await
}

fn parse_request(args: &CallArgs) -> Result<ScheduleRequest> {
    let every = match args.get_text("every") {
        "week" => Frequency::Week,
        "month" => Frequency::Month,
        _ => Frequency::Day,
    };
    let keep_days = args.get_int("keep_days").map(|days| u32::try_from(days).ok().filter(|days| *days > 0));
    if keep_days == Some(None) {
        return Err(Error::new(
            Code::Invalid,
            "`keep_days` of `backup::schedule::create` is no number of days",
        )
        .with_hint("give it at least 1"));
    }
    Ok(ScheduleRequest { every, at: args.get_text("at").to_owned(), keep_days: keep_days.flatten() })
}

/// Records the schedules first: where the platform keeps no key, a resume compares with them.
async fn create_schedule(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let request = parse_request(args)?;
    let target = cx.open_target(args.get("target")).await?;
    let schedules = target.schedules()?;
    let before = keyless_to_json(&schedules.list().await?);
    known::about_to(cx, &before, &request_to_json(&request)).await?;
    Ok(json!(schedules.create(&request, cx.key).await?))
}

/// Looks for the schedule that carries the call's key, or, where the platform keeps none, for one that was not there.
async fn probe_schedule(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(before) = known::before(cx) else { return Ok(ProbeResult::NotDone) };
    let request = parse_request(args)?;
    let now = fetch_schedules(cx, args).await?;
    if let Some(made) = now.iter().find(|s| s.key.as_ref() == Some(cx.key)) {
        return Ok(ProbeResult::Done(json!(made)));
    }
    let is_new = |s: &&Schedule| !before.as_array().is_some_and(|known| known.contains(&schedule_to_json(s)));
    let is_requested = |s: &&Schedule| s.every == request.every && s.at == request.at;
    let mut new = now.iter().filter(|s| s.key.is_none()).filter(is_new);
    match (new.next(), new.next()) {
        _ if keyless_to_json(&now) == *before => Ok(ProbeResult::NotDone),
        (Some(made), None) if is_requested(&made) => Ok(ProbeResult::Done(json!(made))),
        _ => Err(known::unknown(
            "the list of schedules",
            before,
            &request_to_json(&request),
            &keyless_to_json(&now),
        )),
    }
}

/// Returns the requested schedule, for the record and for messages.
fn request_to_json(request: &ScheduleRequest) -> Value {
    json!({ "every": request.every, "at": request.at, "keep_days": request.keep_days })
}

/// Returns the schedules that carry no key, without the fields that change by themselves.
fn keyless_to_json(schedules: &[Schedule]) -> Value {
    schedules.iter().filter(|s| s.key.is_none()).map(schedule_to_json).collect()
}

fn schedule_to_json(s: &Schedule) -> Value {
    json!({ "id": s.id, "every": s.every, "at": s.at, "keep_days": s.keep_days })
}

async fn delete_schedule(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let gone = known::about_to_remove(cx, async { Ok(json!(find_schedule(cx, args).await?)) }).await?;
    let target = cx.open_target(args.get("target")).await?;
    target.schedules()?.delete(gone["id"].as_str().unwrap_or_default()).await?;
    Ok(gone)
}

async fn find_schedule(cx: &CallContext<'_>, args: &CallArgs) -> Result<Schedule> {
    let (id, all) = (args.get_text("schedule"), fetch_schedules(cx, args).await?);
    all.iter().find(|s| s.id == id).cloned().ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no schedule `{id}`"))
            .with_hint(suggest::suggest_name(id, all.iter().map(|s| s.id.as_str())))
    })
}

async fn probe_schedule_deletion(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(gone) = cx.accepted.clone() else { return Ok(ProbeResult::NotDone) };
    let is_there = fetch_schedules(cx, args).await?.iter().any(|s| gone["id"] == s.id.as_str());
    Ok(if is_there { ProbeResult::NotDone } else { ProbeResult::Done(gone) })
}
