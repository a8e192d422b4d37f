//! `backup::schedule`: list, create, delete.

use super::{
    TARGET,
    args::Args,
    known,
    spec::{Context, Effect, Field, Kind, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Every, Schedule, ScheduleRequest},
    },
};
use serde_json::{Value, json};

const FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("every", "text", "`day`, `week` (on Monday) or `month` (on the first)"),
    field("at", "text", "the time of day in UTC"),
    field("keep_days", "int", "how many days its backups are kept, where the platform says"),
    field("next_at", "moment", "when it takes the next, where that can be known"),
    field("method", "text", "what it takes"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it, where the platform keeps one"),
];

const SCHEDULE: Param =
    Param { name: "schedule", kind: Kind::Text, slot: Slot::Positional, help: "the id of the schedule" };

/// The operations of `backup::schedule`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "backup::schedule",
        name: "list",
        summary: "List what takes backups by the clock",
        params: &[TARGET],
        returns: Returns::List(FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::schedule::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "backup::schedule",
        name: "create",
        summary: "Have backups taken by the clock; where the platform has exactly one schedule, set it",
        params: &[
            TARGET,
            Param {
                name: "at",
                kind: Kind::Clock,
                slot: Slot::Named,
                help: "the time of day in UTC, such as 03:00",
            },
            Param {
                name: "every",
                kind: Kind::Choice(&["day", "week", "month"]),
                slot: Slot::Optional("day"),
                help: "how often: a week begins on Monday, a month on its first day",
            },
            Param {
                name: "keep_days",
                kind: Kind::Int,
                slot: Slot::Optional("as long as the platform keeps backups"),
                help: "how many days a backup of it is kept",
            },
        ],
        returns: Returns::One(FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_made(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "03:00", keep_days: 7 }); backup::schedule::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(create(cx, args)),
    },
    Op {
        namespace: "backup::schedule",
        name: "delete",
        summary: "Take no more backups by this schedule; those that it took stay",
        params: &[TARGET, SCHEDULE],
        returns: Returns::One(FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_gone(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "04:00", every: "week" }); backup::schedule::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(delete(cx, args)),
    },
];

async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(there(cx, args).await?))
}

async fn there(cx: &Context<'_>, args: &Args) -> Result<Vec<Schedule>> {
    cx.place(args.get("target")).await?.schedules()?.list().await
}

fn request(args: &Args) -> Result<ScheduleRequest> {
    let every = match args.text("every") {
        "week" => Every::Week,
        "month" => Every::Month,
        _ => Every::Day,
    };
    let keep_days = args.int("keep_days").map(|days| u32::try_from(days).ok().filter(|days| *days > 0));
    if keep_days == Some(None) {
        return Err(Error::new(
            Code::Invalid,
            "`keep_days` of `backup::schedule::create` is no number of days",
        )
        .hint("give it at least 1"));
    }
    Ok(ScheduleRequest { every, at: args.text("at").to_owned(), keep_days: keep_days.flatten() })
}

/// A platform that keeps no key is compared with how it was, so that is written down first.
async fn create(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let request = request(args)?;
    let target = cx.place(args.get("target")).await?;
    let schedules = target.schedules()?;
    let before = keyless(&schedules.list().await?);
    known::about_to(cx, &before, &wanted(&request)).await?;
    Ok(json!(schedules.create(&request, cx.key).await?))
}

/// Looks for the schedule that carries the call's key, or, where the platform keeps none, for one that was not there.
async fn is_made(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(before) = known::before(cx) else { return Ok(Probed::NotDone) };
    let request = request(args)?;
    let now = there(cx, args).await?;
    if let Some(made) = now.iter().find(|s| s.key.as_ref() == Some(cx.key)) {
        return Ok(Probed::Done(json!(made)));
    }
    let is_new = |s: &&Schedule| !before.as_array().is_some_and(|known| known.contains(&essence(s)));
    let asked_for = |s: &&Schedule| s.every == request.every && s.at == request.at;
    let mut new = now.iter().filter(|s| s.key.is_none()).filter(is_new);
    match (new.next(), new.next()) {
        _ if keyless(&now) == *before => Ok(Probed::NotDone),
        (Some(made), None) if asked_for(&made) => Ok(Probed::Done(json!(made))),
        _ => Err(known::unknown("the list of schedules", before, &wanted(&request), &keyless(&now))),
    }
}

/// Returns what is asked for, for the record and for messages.
fn wanted(request: &ScheduleRequest) -> Value {
    json!({ "every": request.every, "at": request.at, "keep_days": request.keep_days })
}

/// Returns the schedules that carry no key, without what changes by itself.
fn keyless(schedules: &[Schedule]) -> Value {
    schedules.iter().filter(|s| s.key.is_none()).map(essence).collect()
}

fn essence(s: &Schedule) -> Value {
    json!({ "id": s.id, "every": s.every, "at": s.at, "keep_days": s.keep_days })
}

async fn delete(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let gone = known::about_to_remove(cx, async { Ok(json!(existing(cx, args).await?)) }).await?;
    let target = cx.place(args.get("target")).await?;
    target.schedules()?.delete(gone["id"].as_str().unwrap_or_default()).await?;
    Ok(gone)
}

async fn existing(cx: &Context<'_>, args: &Args) -> Result<Schedule> {
    let (id, all) = (args.text("schedule"), there(cx, args).await?);
    all.iter().find(|s| s.id == id).cloned().ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no schedule `{id}`"))
            .hint(suggest::hint(id, all.iter().map(|s| s.id.as_str())))
    })
}

async fn is_gone(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(gone) = cx.accepted.clone() else { return Ok(Probed::NotDone) };
    let is_there = there(cx, args).await?.iter().any(|s| gone["id"] == s.id.as_str());
    Ok(if is_there { Probed::NotDone } else { Probed::Done(gone) })
}
