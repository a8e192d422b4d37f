//! `backup::pitr`: restore, window, find, mark.

use super::{
    args::CallArgs,
    branch::BRANCH_FIELDS,
    protocol::{MakeEffect, begin_or_continue_make},
    restore::{INTO, TEMPORARY, restore_permission, restore_to_point},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::Thing,
};
use crate::provider::{
    Backups, Code, Error, Result,
    model::{CallKey, EffectKind, TableEvent, TableEventQuery},
};
use async_trait::async_trait;
use serde_json::{Value, json};

const MARK_NAME: Param = Param {
    name: "name",
    kind: ParamKind::Text,
    slot: ParamSlot::Positional,
    help: "what to call the restore point",
};

/// The operations of `backup::pitr`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "backup::pitr",
        name: "restore",
        summary: "Restore to a moment, a transaction, a place in the WAL or a restore point, in place or into a new branch",
        params: &[
            TARGET,
            Param {
                name: "to",
                kind: ParamKind::Point,
                slot: ParamSlot::Named,
                help: "where to stop: one of `time`, `xid`, `lsn`, `name`, or what `mark` returned; `inclusive: false` stops just before it",
            },
            Param {
                name: "backup",
                kind: ParamKind::Backup,
                slot: ParamSlot::Optional("the newest that is old enough"),
                help: "the backup to start from",
            },
            INTO,
            TEMPORARY,
        ],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: Some(restore_permission),
        protocol: Protocol::Effect(|cx, args| Box::pin(restore_point_in_time(cx, args))),
        examples: &[
            r#"backup::pitr::restore("sandbox", #{ to: #{ time: now() - "10m" }, into: "then", temporary: true })"#,
        ],
    },
    Operation {
        namespace: "backup::pitr",
        name: "window",
        summary: "Show which moments can really be restored",
        params: &[TARGET],
        returns: ReturnShape::One(&[
            field("earliest", "moment", "the earliest restorable moment"),
            field("latest", "moment", "the latest restorable moment: the last commit that is archived"),
            field("latest_lsn", "text", "its place in the WAL"),
            field("gaps", "list", "stretches in between that cannot be restored, one sentence each"),
            field("backups", "list", "every backup, whether it is usable, and why not"),
            field("timelines", "list", "the timelines in the archive"),
            field("warnings", "list", "what keeps the window from growing, one sentence each"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(read_window(cx, args))),
        examples: &[r#"backup::pitr::window("sandbox")"#],
    },
    Operation {
        namespace: "backup::pitr",
        name: "find",
        summary: "Find when a table was dropped or truncated, newest first",
        params: &[
            TARGET,
            Param {
                name: "table",
                kind: ParamKind::Text,
                slot: ParamSlot::Optional("every table"),
                help: "the table, as `name` or `schema.name`",
            },
            Param {
                name: "event",
                kind: ParamKind::Choice(&["drop", "truncate"]),
                slot: ParamSlot::Optional("both"),
                help: "what happened to it",
            },
            Param {
                name: "after",
                kind: ParamKind::Moment,
                slot: ParamSlot::Optional("the oldest"),
                help: "nothing before this",
            },
            Param {
                name: "before",
                kind: ParamKind::Moment,
                slot: ParamSlot::Optional("the newest"),
                help: "nothing later than this",
            },
        ],
        returns: ReturnShape::List(&[
            field("event", "text", "`drop` or `truncate`"),
            field("table", "text", "the table, as `schema.name` where the name is known"),
            field("time", "moment", "when the transaction committed"),
            field("xid", "text", "the transaction"),
            field("lsn", "text", "the place of its commit in the WAL"),
            field("timeline", "int", "the timeline it is on"),
            field(
                "unseen",
                "text",
                "what could not be searched, so that a newer event may be missing; nothing when all was",
            ),
            field("restore_to", "map", "the recovery point just before it, for `backup::pitr::restore`"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(find_events(cx, args))),
        examples: &[r#"backup::pitr::find("sandbox", #{ event: "drop" })"#],
    },
    Operation {
        namespace: "backup::pitr",
        name: "mark",
        summary: "Make a restore point, under a name that no other one has",
        params: &[TARGET, MARK_NAME],
        returns: ReturnShape::One(&[
            field("name", "text", "its name"),
            field("lsn", "text", "its place in the WAL, where the platform says it"),
            field("timeline", "int", "the timeline it is on, where the platform says it"),
            field("time", "moment", "when it was made"),
        ]),
        effect: Effect::Create,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(create_restore_point(cx, args))),
        examples: &[
            r#"backup::pitr::mark("sandbox", "before-deploy")"#,
            r#"backup::pitr::restore("sandbox", #{ to: backup::pitr::mark("sandbox", "before-upgrade"), into: "upgrade" })"#,
        ],
    },
];

async fn restore_point_in_time(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let to = args
        .get_recovery_point("to")
        .ok_or_else(|| Error::new(Code::Invalid, "no recovery point was given"))?;
    restore_to_point(cx, args, args.get_optional_text("backup"), to).await
}

async fn read_window(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.backups()?.recovery_window().await?))
}

async fn find_events(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let query = TableEventQuery {
        table: args.get_optional_text("table"),
        event: args.get_optional_text("event"),
        since: args.get_moment("after"),
        until: args.get_moment("before"),
    };
    Ok(target.backups()?.table_events(&query).await?.iter().map(with_undoing_recovery_point).collect())
}

/// Adds the recovery point that undoes an event, so that no script has to know what makes it exact: the transaction,
/// not its time, which others may share.
fn with_undoing_recovery_point(event: &TableEvent) -> Value {
    let mut fields = json!(event);
    let mut point = json!({ "xid": event.xid, "inclusive": false });
    if let Some(timeline) = event.timeline {
        point["timeline"] = timeline.into();
    }
    fields["restore_to"] = point;
    fields
}

async fn create_restore_point(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let name = args.get_text("name");
    let thing = Thing::named(args, format!("restore_point:{name}"))?;
    begin_or_continue_make(
        cx,
        args,
        &*target,
        &RestorePointMaking { thing, backups: target.backups()?, name, key: cx.key },
    )
    .await
}

/// Makes a restore point.
struct RestorePointMaking<'a> {
    thing: Thing,
    backups: &'a dyn Backups,
    name: &'a str,
    key: &'a CallKey,
}

#[async_trait]
impl MakeEffect for RestorePointMaking<'_> {
    fn name_effect_for_messages(&self) -> String {
        format!("the restore point `{}`", self.name)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::RestorePoint
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<Value> {
        self.backups.plan_restore_point(self.name).await
    }

    async fn find(&self, before: &Value) -> Result<Option<Value>> {
        let found = match before {
            Value::Null => self.backups.find_restore_point(self.name, self.key).await?,
            plan => self.backups.find_restore_point_made_since_plan(self.name, plan).await?,
        };
        Ok(found.map(|mark| json!(mark)))
    }

    async fn send_request(&self) -> Result<Value> {
        Ok(json!(self.backups.create_restore_point(self.name, self.key).await?))
    }
}
