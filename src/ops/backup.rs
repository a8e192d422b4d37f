//! `backup`: list, get, create, delete, restore, verify.

use super::{
    BACKUP, BACKUP_FIELDS, BRANCH_FIELDS, INTO, TARGET, TEMPORARY,
    args::CallArgs,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, Permission, ProbeResult, Recovery,
        ReturnShape, field,
    },
};
use crate::provider::{
    Code, Error, Result,
    model::{Backup, BackupDeletion, BackupRequest, RecoveryPoint, RecoveryTarget, RestoreRequest},
};
use serde_json::{Value, json};

/// The operations of `backup`.
pub const OPS: &[Operation] = &[
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

/// Plans the deletion, records the plan, then deletes: a resume finishes the recorded plan.
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

/// Looks whether any of what was to go is there.
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

/// Restores, in place or into a branch, to wherever; `pitr restore` and `branch create` are this too.
pub(super) async fn restore_to_point(
    cx: &CallContext<'_>,
    args: &CallArgs,
    backup: Option<String>,
    to: RecoveryPoint,
) -> Result<Value> {
    let into = args.get_optional_text("into");
    let temporary = args.get_flag("temporary");
    if temporary && into.is_none() {
        return Err(Error::new(
            Code::Invalid,
            "`temporary` is for a branch, and a restore in place makes none",
        )
        .with_hint("name the branch with `into:`"));
    }
    let target = cx.open_target(args.get("target")).await?;
    let request = RestoreRequest { backup, to, into, temporary, run: cx.run.map(str::to_owned) };
    let job = cx.adopt_or_start_job(target.backups()?.restore(&request, cx.key, &cx.intent())).await?;
    cx.wait_for_job(&*target, &job, args.timeout()).await
}

/// Returns what a restore needs to be allowed: a branch is made, or the target is overwritten.
pub(super) fn restore_permission(args: &CallArgs) -> Permission {
    match args.get_optional_text("into") {
        Some(_) => Permission::new("branch", Effect::Create),
        None => Permission::new("backup", Effect::Destroy),
    }
}

/// Looks for what this call's key has made.
pub(super) async fn probe_by_key(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(match target.find(cx.key, cx.intended()).await? {
        Some(job) => ProbeResult::Accepted(json!(job)),
        None => ProbeResult::NotDone,
    })
}
