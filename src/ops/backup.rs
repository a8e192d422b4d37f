//! `backup`: list, get, create, delete, restore, verify.

use super::{
    BACKUP, BACKUP_FIELDS, BRANCH_FIELDS, INTO, TARGET, TEMPORARY,
    args::Args,
    spec::{Context, Effect, Kind, Need, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::provider::{
    Code, Error, Result,
    model::{At, Backup, BackupRequest, Deleted, RecoveryPoint, RestoreRequest},
};
use serde_json::{Value, json};

/// The operations of `backup`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "backup",
        name: "list",
        summary: "List the backups of a target, oldest first",
        params: &[TARGET],
        returns: Returns::List(BACKUP_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "backup",
        name: "get",
        summary: "Show one backup",
        params: &[TARGET, BACKUP],
        returns: Returns::One(BACKUP_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::get("sandbox", backup::list("sandbox")[0])"#],
        perform: |cx, args| Box::pin(get(cx, args)),
    },
    Op {
        namespace: "backup",
        name: "create",
        summary: "Take a backup and wait until it is complete and verified",
        params: &[
            TARGET,
            Param { name: "label", kind: Kind::Text, slot: Slot::Optional("none"), help: "what to call it" },
        ],
        returns: Returns::One(BACKUP_FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[r#"backup::create("sandbox", #{ label: "before deploy" })"#],
        perform: |cx, args| Box::pin(create(cx, args)),
    },
    Op {
        namespace: "backup",
        name: "delete",
        summary: "Delete a backup, and what depends on it",
        params: &[
            TARGET,
            BACKUP,
            Param {
                name: "plan",
                kind: Kind::Bool,
                slot: Slot::Optional("false"),
                help: "only say what would go with it",
            },
        ],
        returns: Returns::One(&[
            field("id", "text", "the backup"),
            field("also", "list", "other backups that need it and go too"),
            field("bytes", "int", "how many bytes become free"),
            field("earliest_before", "moment", "the earliest restorable moment before"),
            field("earliest_after", "moment", "the earliest restorable moment afterwards"),
        ]),
        effect: Effect::Destroy,
        needs: Some(|args| {
            Need::new("backup", if args.flag("plan") { Effect::Read } else { Effect::Destroy })
        }),
        recovery: Recovery::Probe(|cx, args| Box::pin(is_gone(cx, args))),
        examples: &[r#"backup::delete("sandbox", backup::list("sandbox")[0], #{ plan: true })"#],
        perform: |cx, args| Box::pin(delete(cx, args)),
    },
    Op {
        namespace: "backup",
        name: "restore",
        summary: "Restore a backup, in place or into a new branch",
        params: &[TARGET, BACKUP, INTO, TEMPORARY],
        returns: Returns::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: Some(restore_need),
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[
            r#"backup::restore("sandbox", backup::list("sandbox")[0], #{ into: "look", temporary: true })"#,
        ],
        perform: |cx, args| Box::pin(restore(cx, args)),
    },
    Op {
        namespace: "backup",
        name: "verify",
        summary: "Read a backup through and compare it with its checksums",
        params: &[TARGET, BACKUP],
        returns: Returns::One(&[
            field("id", "text", "the backup"),
            field("ok", "bool", "whether it can be trusted"),
            field("checked", "list", "what was looked at"),
            field("problems", "list", "what is wrong, one sentence each"),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"backup::verify("sandbox", backup::list("sandbox")[0])"#],
        perform: |cx, args| Box::pin(verify(cx, args)),
    },
];

async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    Ok(target.backups()?.list().await?.iter().map(Backup::handle).collect())
}

async fn get(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    Ok(target.backups()?.get(args.text("backup")).await?.handle())
}

async fn create(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let request = BackupRequest { label: args.maybe_text("label") };
    let job = cx.job(target.backups()?.create(&request, cx.key)).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

/// Says first what will go, writes that down, and only then deletes: what was written down is what a resume finishes.
async fn delete(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let recorded: Option<Deleted> = cx.accepted.clone().and_then(|v| serde_json::from_value(v).ok());
    let plan = match recorded {
        Some(plan) => plan,
        None => target.backups()?.plan_delete(args.text("backup")).await?,
    };
    if !args.flag("plan") {
        if cx.accepted.is_none() {
            cx.accept(&plan).await?;
        }
        target.backups()?.delete(&plan, cx.key).await?;
    }
    Ok(json!(plan))
}

/// Looks whether any of what was to go is there.
async fn is_gone(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(plan) = cx.accepted.clone() else { return Ok(Probed::NotDone) };
    let going =
        |id: &str| plan["id"] == id || plan["also"].as_array().is_some_and(|a| a.iter().any(|b| b == id));
    let target = cx.place(args.get("target")).await?;
    let is_there = target.backups()?.list().await?.iter().any(|b| going(&b.id));
    Ok(if is_there { Probed::NotDone } else { Probed::Done(plan) })
}

async fn restore(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let to = RecoveryPoint { at: At::BackupEnd, inclusive: true, timeline: None };
    restore_to(cx, args, args.maybe_text("backup"), to).await
}

async fn verify(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    Ok(json!(target.backups()?.verify(args.text("backup")).await?))
}

/// Restores, in place or into a branch, to wherever; `pitr restore` and `branch create` are this too.
pub(super) async fn restore_to(
    cx: &Context<'_>,
    args: &Args,
    backup: Option<String>,
    to: RecoveryPoint,
) -> Result<Value> {
    let into = args.maybe_text("into");
    let temporary = args.flag("temporary");
    if temporary && into.is_none() {
        return Err(Error::new(
            Code::Invalid,
            "`temporary` is for a branch, and a restore in place makes none",
        )
        .hint("name the branch with `into:`"));
    }
    let target = cx.place(args.get("target")).await?;
    let request = RestoreRequest { backup, to, into, temporary, run: cx.run.map(str::to_owned) };
    let job = cx.job(target.backups()?.restore(&request, cx.key, &cx.intent())).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

/// Returns what a restore needs to be allowed: a branch is made, or the target is overwritten.
pub(super) fn restore_need(args: &Args) -> Need {
    match args.maybe_text("into") {
        Some(_) => Need::new("branch", Effect::Create),
        None => Need::new("backup", Effect::Destroy),
    }
}

/// Looks for what this call's key has made.
pub(super) async fn made_under_key(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let target = cx.place(args.get("target")).await?;
    Ok(match target.find(cx.key, cx.intended()).await? {
        Some(job) => Probed::Accepted(json!(job)),
        None => Probed::NotDone,
    })
}
