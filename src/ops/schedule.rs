//! `backup::schedule`: list, create, delete.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges},
    protocol::{
        MakeEffect, PlannedFrom, RemoveEffect, SetEffect, SetLook, begin_or_continue_make,
        begin_or_continue_removal, begin_or_continue_set,
    },
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Protocol,
        ReturnShape, TARGET, field,
    },
    thing::Thing,
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result, Schedules,
        model::{CallKey, EffectKind, Frequency, Schedule, ScheduleRequest},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

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
        protocol: Protocol::Read(|cx, args| Box::pin(list_schedules(cx, args))),
        examples: &[r#"backup::schedule::list("sandbox")"#],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(create_schedule(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "03:00", keep_days: 7 }); backup::schedule::delete("sandbox", made.id)"#,
        ],
    },
    Operation {
        namespace: "backup::schedule",
        name: "delete",
        summary: "Take no more backups by this schedule; those that it took stay",
        params: &[TARGET, SCHEDULE],
        returns: ReturnShape::One(SCHEDULE_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(delete_schedule(cx, args))),
        examples: &[
            r#"let made = backup::schedule::create("sandbox", #{ at: "04:00", every: "week" }); backup::schedule::delete("sandbox", made.id)"#,
        ],
    },
];

async fn list_schedules(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(fetch_schedules(cx, args).await?))
}

async fn fetch_schedules(cx: &CallContext<'_>, args: &CallArgs) -> Result<Vec<Schedule>> {
    cx.open_target(args.get("target")).await?.schedules()?.list().await
}

fn parse_schedule_request(args: &CallArgs) -> Result<ScheduleRequest> {
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

async fn create_schedule(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let (thing, request, key) = (Thing::named(args, "schedules")?, parse_schedule_request(args)?, cx.key);
    let schedules = target.schedules()?;
    if schedules.has_exactly_one() {
        let effect = ScheduleSetting { thing, schedules, request, key };
        return begin_or_continue_set(cx, args, &*target, &effect).await;
    }
    begin_or_continue_make(cx, args, &*target, &ScheduleMaking { thing, schedules, request, key }).await
}

/// Makes a schedule.
struct ScheduleMaking<'a> {
    thing: Thing,
    schedules: &'a dyn Schedules,
    request: ScheduleRequest,
    key: &'a CallKey,
}

#[async_trait]
impl MakeEffect for ScheduleMaking<'_> {
    fn name_effect_for_messages(&self) -> String {
        format!("the schedule at {}", self.request.at)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Schedule
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Looks for the schedule that carries the call's key.
    async fn find(&self, _: &Value) -> Result<Option<Value>> {
        let now = self.schedules.list().await?;
        Ok(now.iter().find(|s| s.key.as_ref() == Some(self.key)).map(|made| json!(made)))
    }

    async fn send_request(&self) -> Result<Value> {
        Ok(json!(self.schedules.create(&self.request, self.key).await?))
    }
}

/// The element of a change of the one schedule that a platform has: when it takes a backup.
const SCHEDULE_TIME: &str = "schedule";

/// Sets the one schedule that the platform has.
struct ScheduleSetting<'a> {
    thing: Thing,
    schedules: &'a dyn Schedules,
    request: ScheduleRequest,
    key: &'a CallKey,
}

impl ScheduleSetting<'_> {
    /// Returns the one schedule, with its value as an element.
    async fn read_schedule(&self) -> Result<(Schedule, Value)> {
        let all = self.schedules.list().await?;
        let [schedule] = &all[..] else {
            let message = format!("the platform has one schedule, and shows {}", all.len());
            return Err(Error::new(Code::Internal, message));
        };
        Ok((schedule.clone(), schedule_value(schedule.every, &schedule.at)))
    }
}

/// Returns when backups are taken, as an element has it.
fn schedule_value(every: Frequency, at: &str) -> Value {
    json!({ "every": every, "at": at })
}

#[async_trait]
impl SetEffect for ScheduleSetting<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the schedule of backups"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Schedule
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let (_, before) = self.read_schedule().await?;
        let wanted = schedule_value(self.request.every, &self.request.at);
        Ok([(SCHEDULE_TIME.to_owned(), ElementChange { before, wanted })].into())
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        let (schedule, found) = self.read_schedule().await?;
        let elements = [(SCHEDULE_TIME.to_owned(), found)].into();
        Ok(SetLook { elements, unapplied: None, shown: json!(schedule) })
    }

    async fn send_request(&self, _: &ElementChanges) -> Result<()> {
        self.schedules.create(&self.request, self.key).await.map(drop)
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

async fn delete_schedule(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let id = args.get_text("schedule");
    let thing = Thing::named(args, format!("schedule:{id}"))?;
    begin_or_continue_removal(
        cx,
        args,
        &*target,
        &ScheduleRemoval { thing, schedules: target.schedules()?, id, is_seen: AtomicBool::new(false) },
    )
    .await
}

/// Removes a schedule.
struct ScheduleRemoval<'a> {
    thing: Thing,
    schedules: &'a dyn Schedules,
    id: &'a str,
    /// Whether the last plan has seen it.
    is_seen: AtomicBool,
}

#[async_trait]
impl RemoveEffect for ScheduleRemoval<'_> {
    type Gone = Schedule;

    fn name_effect_for_messages(&self) -> String {
        format!("the schedule `{}`", self.id)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::ScheduleDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn gone_id<'g>(&self, gone: &'g Schedule) -> &'g str {
        &gone.id
    }

    async fn plan(&self) -> Result<Schedule> {
        let all = self.schedules.list().await?;
        let found = all.iter().find(|s| s.id == self.id).cloned();
        self.is_seen.store(found.is_some(), Ordering::Relaxed);
        found.ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no schedule `{}`", self.id))
                .with_hint(suggest::suggest_name_or_list_known(self.id, all.iter().map(|s| s.id.as_str())))
        })
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        Some(PlannedFrom::id(&self.thing, self.id, self.is_seen.load(Ordering::Relaxed)))
    }

    async fn is_any_left(&self, gone: &Schedule) -> Result<bool> {
        Ok(self.schedules.list().await?.iter().any(|s| s.id == gone.id))
    }

    async fn send_request(&self, gone: &Schedule) -> Result<()> {
        self.schedules.delete(&gone.id).await
    }
}
