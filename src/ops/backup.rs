//! `backup`: list, get, create, delete, restore, verify.

use super::{
    args::CallArgs,
    branch::BRANCH_FIELDS,
    known::probe_by_key,
    restore::{INTO, TEMPORARY, restore_permission, restore_to_point},
    spec::{
        CallContext, Effect, Field, Operation, Param, ParamKind, ParamSlot, Permission, ProbeResult,
        Recovery, ReturnShape, TARGET, field,
    },
};
use crate::provider::{
    Result,
    model::{Backup, BackupDeletion, BackupRequest, RecoveryPoint, RecoveryTarget},
};
use serde_json::{Value, json};

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
        recovery: Recovery::Read,
        examples: &[r#"backup::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_backups(cx, args)),
    },
    Operation {
        namespace: "backup",
        name: "get",
        summary: "Show one backup",
        params: &[TARGET, BACKUP],
        returns: ReturnShape::One(BACKUP_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::get("sandbox", backup::list("sandbox")[0])"#],
        perform: |cx, args| Box::pin(get_backup(cx, args)),
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
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[r#"backup::create("sandbox", #{ label: "before deploy" })"#],
        perform: |cx, args| Box::pin(create_backup(cx, args)),
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
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_backup_deletion(cx, args))),
        examples: &[r#"backup::delete("sandbox", backup::list("sandbox")[0], #{ plan: true })"#],
        perform: |cx, args| Box::pin(delete_backup(cx, args)),
    },
    Operation {
        namespace: "backup",
        name: "restore",
        summary: "Restore a backup, in place or into a new branch",
        params: &[TARGET, BACKUP, INTO, TEMPORARY],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: Some(restore_permission),
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[
            r#"backup::restore("sandbox", backup::list("sandbox")[0], #{ into: "look", temporary: true })"#,
        ],
        perform: |cx, args| Box::pin(restore_backup(cx, args)),
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
        recovery: Recovery::Read,
        examples: &[r#"backup::verify("sandbox", backup::list("sandbox")[0])"#],
        perform: |cx, args| Box::pin(verify_backup(cx, args)),
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

async fn create_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let request = BackupRequest { label: args.get_optional_text("label") };
    let job = cx.adopt_or_start_job(target.backups()?.create(&request, cx.key)).await?;
    cx.wait_for_job(&*target, &job, args.timeout()).await
}

/// Plans the deletion, records the plan, then deletes; a resume finishes the recorded plan.
async fn delete_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let recorded: Option<BackupDeletion> = cx.accepted.clone().and_then(|v| serde_json::from_value(v).ok());
    let plan = match recorded {
        Some(plan) => plan,
        None => target.backups()?.plan_delete(args.get_text("backup")).await?,
    };
    if !args.get_flag("plan") {
        if cx.accepted.is_none() {
            cx.record_accepted(&plan).await?;
        }
        target.backups()?.delete(&plan, cx.key).await?;
    }
    Ok(json!(plan))
}

/// Looks whether any backup that was to be deleted is still there.
async fn probe_backup_deletion(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(plan) = cx.accepted.clone() else { return Ok(ProbeResult::NotDone) };
    let going =
        |id: &str| plan["id"] == id || plan["also"].as_array().is_some_and(|a| a.iter().any(|b| b == id));
    let target = cx.open_target(args.get("target")).await?;
    let is_there = target.backups()?.list().await?.iter().any(|b| going(&b.id));
    Ok(if is_there { ProbeResult::NotDone } else { ProbeResult::Done(plan) })
}

async fn restore_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let to = RecoveryPoint { at: RecoveryTarget::BackupEnd, inclusive: true, timeline: None };
    restore_to_point(cx, args, args.get_optional_text("backup"), to).await
}

async fn verify_backup(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.backups()?.verify(args.get_text("backup")).await?))
}
