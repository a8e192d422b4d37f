//! `backup`: list, get, create, delete, restore, verify.

use super::{
    args::CallArgs,
    branch::BRANCH_FIELDS,
    protocol::{JobEffect, PlannedFrom, RemoveEffect, begin_or_continue_job, begin_or_continue_removal},
    restore::{INTO, TEMPORARY, restore_permission, restore_to_point},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Permission,
        Protocol, ReturnShape, TARGET, field,
    },
    thing::Thing,
};
use crate::provider::{
    Backups, PlannedJob, Result,
    model::{Backup, BackupDeletion, BackupRequest, CallKey, EffectKind, RecoveryPoint, RecoveryTarget},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

const BACKUP: Param = Param {
    name: "backup",
    kind: ParamKind::Backup,
    slot: ParamSlot::Positional,
    help: "the backup, or its id",
};

const BACKUP_FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("label", "text", "what its maker called it"),
    field("status", "text", "`completed`, `running`, `damaged` or `failed`"),
    field("started_at", "moment", "when it was begun"),
    field("finished_at", "moment", "when it was complete: the earliest moment it restores to"),
    field("bytes", "int", "its size in bytes"),
    field("method", "text", "how it was made"),
    field("restorable", "list", "what it restores to: `branch`, `in_place`"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it"),
];

/// The operations of `backup`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "backup",
        name: "list",
        summary: "List the backups of a target, oldest first",
        params: &[TARGET],
        returns: ReturnShape::List(BACKUP_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(list_backups(cx, args))),
        examples: &[r#"backup::list("sandbox")"#],
    },
    Operation {
        namespace: "backup",
        name: "get",
        summary: "Show one backup",
        params: &[TARGET, BACKUP],
        returns: ReturnShape::One(BACKUP_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(get_backup(cx, args))),
        examples: &[r#"backup::get("sandbox", backup::list("sandbox")[0])"#],
    },
    Operation {
        namespace: "backup",
        name: "create",
        summary: "Take a backup and wait until it is complete and verified",
        params: &[
            TARGET,
            Param {
                name: "label",
                kind: ParamKind::Text,
                slot: ParamSlot::Optional("none"),
                help: "what to call it",
            },
        ],
        returns: ReturnShape::One(BACKUP_FIELDS),
        effect: Effect::Create,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(create_backup(cx, args))),
        examples: &[r#"backup::create("sandbox", #{ label: "before deploy" })"#],
    },
    Operation {
        namespace: "backup",
        name: "delete",
        summary: "Delete a backup, and what depends on it",
        params: &[
            TARGET,
            BACKUP,
            Param {
                name: "plan",
                kind: ParamKind::Bool,
                slot: ParamSlot::Optional("false"),
                help: "only say what would go with it",
            },
        ],
        returns: ReturnShape::One(&[
            field("id", "text", "the backup"),
            field("also", "list", "other backups that need it and go too"),
            field("bytes", "int", "how many bytes become free"),
            field("earliest_before", "moment", "the earliest restorable moment before"),
            field("earliest_after", "moment", "the earliest restorable moment afterwards"),
        ]),
        effect: Effect::Destroy,
        needs: Some(|args| {
            Permission::new("backup", if args.get_flag("plan") { Effect::Read } else { Effect::Destroy })
        }),
        protocol: Protocol::Effect(|cx, args| Box::pin(delete_backup(cx, args))),
        examples: &[r#"backup::delete("sandbox", backup::list("sandbox")[0], #{ plan: true })"#],
    },
    Operation {
        namespace: "backup",
        name: "restore",
        summary: "Restore a backup, in place or into a new branch",
        params: &[TARGET, BACKUP, INTO, TEMPORARY],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: Some(restore_permission),
        protocol: Protocol::Effect(|cx, args| Box::pin(restore_backup(cx, args))),
        examples: &[
            r#"backup::restore("sandbox", backup::list("sandbox")[0], #{ into: "look", temporary: true })"#,
        ],
    },
    Operation {
        namespace: "backup",
        name: "verify",
        summary: "Read a backup through and compare it with its checksums",
        params: &[TARGET, BACKUP],
        returns: ReturnShape::One(&[
            field("id", "text", "the backup"),
            field("ok", "bool", "whether it can be trusted"),
            field("checked", "list", "what was looked at"),
            field("problems", "list", "what is wrong, one sentence each"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(verify_backup(cx, args))),
        examples: &[r#"backup::verify("sandbox", backup::list("sandbox")[0])"#],
    },
];

async fn list_backups(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(target.backups()?.list().await?.iter().map(Backup::to_handle).collect())
}

async fn get_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(target.backups()?.get(args.get_text("backup")).await?.to_handle())
}

async fn create_backup(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let request = BackupRequest { label: args.get_optional_text("label") };
    let effect = BackupMaking {
        thing: Thing::rows_of_target(args)?,
        backups: target.backups()?,
        request,
        key: cx.key,
    };
    begin_or_continue_job(cx, args, &*target, &effect).await
}

/// Takes a backup.
struct BackupMaking<'a> {
    thing: Thing,
    backups: &'a dyn Backups,
    request: BackupRequest,
    key: &'a CallKey,
}

#[async_trait]
impl JobEffect for BackupMaking<'_> {
    fn name_effect_for_messages(&self) -> String {
        "the backup".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Backup
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        Ok(PlannedJob::without_traces(self.backups.create(&self.request, self.key)))
    }
}

async fn delete_backup(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let (backups, id) = (target.backups()?, args.get_text("backup"));
    if args.get_flag("plan") {
        return Ok(json!(backups.plan_delete(id).await?));
    }
    // One at a time: what goes with a backup depends on which others are there.
    let thing = Thing::named(args, "backups")?;
    let is_seen = AtomicBool::new(false);
    begin_or_continue_removal(cx, args, &*target, &BackupRemoval { thing, backups, id, key: cx.key, is_seen })
        .await
}

/// Deletes a backup and what depends on it.
struct BackupRemoval<'a> {
    thing: Thing,
    backups: &'a dyn Backups,
    id: &'a str,
    key: &'a CallKey,
    /// Whether the last plan has seen it.
    is_seen: AtomicBool,
}

#[async_trait]
impl RemoveEffect for BackupRemoval<'_> {
    type Gone = BackupDeletion;

    fn name_effect_for_messages(&self) -> String {
        format!("the backup `{}`", self.id)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::BackupDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn gone_id<'g>(&self, gone: &'g BackupDeletion) -> &'g str {
        &gone.id
    }

    async fn plan(&self) -> Result<BackupDeletion> {
        let planned = self.backups.plan_delete(self.id).await;
        self.is_seen.store(planned.is_ok(), Ordering::Relaxed);
        planned
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        Some(PlannedFrom::id(&self.thing, self.id, self.is_seen.load(Ordering::Relaxed)))
    }

    async fn is_any_left(&self, gone: &BackupDeletion) -> Result<bool> {
        Ok(self.backups.list().await?.iter().any(|b| b.id == gone.id || gone.also.contains(&b.id)))
    }

    async fn send_request(&self, gone: &BackupDeletion) -> Result<()> {
        self.backups.delete(gone, self.key).await
    }
}

async fn restore_backup(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let to = RecoveryPoint { at: RecoveryTarget::BackupEnd, inclusive: true, timeline: None };
    restore_to_point(cx, args, args.get_optional_text("backup"), to).await
}

async fn verify_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.backups()?.verify(args.get_text("backup")).await?))
}
