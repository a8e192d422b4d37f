//! `branch`: list, get, create, delete, reset, promote.

use super::{
    args::CallArgs,
    known::probe_by_key,
    restore::{TEMPORARY, restore_to_point},
    spec::{
        CallContext, Effect, Field, Operation, Param, ParamKind, ParamSlot, Permission, ProbeResult,
        Recovery, ReturnShape, TARGET, field, parse_target_ref,
    },
};
use crate::{
    base::value,
    provider::{
        Code, Error, Result,
        model::{Branch, RecoveryPoint, RecoveryTarget},
    },
};
use serde_json::{Value, json};

const BRANCH: Param = Param {
    name: "branch",
    kind: ParamKind::Branch,
    slot: ParamSlot::Positional,
    help: "the branch, or its name",
};

pub(super) const BRANCH_FIELDS: &[Field] = &[
    field("name", "text", "what names it under its target"),
    field("status", "text", "`ready`, `preparing`, `failed` or `stopped`"),
    field("target", "text", "the target it is of"),
    field("created_at", "moment", "when it was asked for"),
    field("reached", "moment", "the last transaction that is in it, where that is known"),
    field("backup", "text", "the backup it was made from"),
    field("timeline", "int", "its timeline"),
    field("host", "text", "how to connect: a socket folder or an address"),
    field("port", "int", "the port"),
    field("temporary", "bool", "whether the run that made it removes it"),
    field("run", "text", "the run that made it"),
    field("id", "text", "unique for ever, unlike the name"),
    field("key", "text", "the key of the call that made it"),
];

/// What scripts call the removal of a branch.
pub const DELETE_PATH: &str = "branch::delete";

/// The operations of `branch`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "branch",
        name: "list",
        summary: "List the branches of a target, oldest first",
        params: &[TARGET],
        returns: ReturnShape::List(BRANCH_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"branch::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_branches(cx, args)),
    },
    Operation {
        namespace: "branch",
        name: "get",
        summary: "Show one branch",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::get("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(get_branch(cx, args)),
    },
    Operation {
        namespace: "branch",
        name: "create",
        summary: "Make an isolated copy of a target as it is now, or was at a given point",
        params: &[
            TARGET,
            Param {
                name: "into",
                kind: ParamKind::Text,
                slot: ParamSlot::Named,
                help: "the name of the new branch",
            },
            Param {
                name: "to",
                kind: ParamKind::Point,
                slot: ParamSlot::Optional("the latest that can be restored"),
                help: "the point to copy: one of `time`, `xid`, `lsn`, `name`",
            },
            TEMPORARY,
        ],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[r#"branch::create("sandbox", #{ into: "look", temporary: true })"#],
        perform: |cx, args| Box::pin(create_branch(cx, args)),
    },
    Operation {
        namespace: "branch",
        name: "delete",
        summary: "Stop a branch and remove everything of it",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(&[
            field("name", "text", "the branch"),
            field("id", "text", "its id"),
            field("target", "text", "the target it was of"),
        ]),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_branch_deletion(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::delete("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(delete_branch(cx, args)),
    },
    Operation {
        namespace: "branch",
        name: "reset",
        summary: "Give a branch back as it was made; what was done in it since is lost",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::reset("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(reset_branch(cx, args)),
    },
    Operation {
        namespace: "branch",
        name: "promote",
        summary: "Make the target what a branch is, as far as the platform carries it over",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(&[
            field("target", "text", "the target that was overwritten"),
            field("branch", "text", "the branch, which stays"),
            field(
                "carried",
                "text",
                "what was carried over: `data` is all of it, `migrations` only the schema's",
            ),
        ]),
        effect: Effect::Destroy,
        // What is lost is the target's, not a branch's.
        needs: Some(|_| Permission::new("db", Effect::Destroy)),
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "next", temporary: true }); branch::promote("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(promote_branch(cx, args)),
    },
];

async fn list_branches(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(target.branches()?.list().await?.iter().map(Branch::to_handle).collect())
}

async fn get_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(find_branch(cx, args).await?.to_handle())
}

async fn create_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let latest = RecoveryPoint { at: RecoveryTarget::Latest, inclusive: true, timeline: None };
    restore_to_point(cx, args, None, args.get_point("to").unwrap_or(latest)).await
}

/// Finds the branch, records which one it is, and only then removes it: a resume removes that one, and no later one of
/// its name.
async fn delete_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let gone = if let Some(recorded) = cx.accepted.clone() {
        recorded
    } else {
        let branch = find_branch(cx, args).await?;
        let gone = json!({ "name": branch.name, "id": branch.id, "target": branch.target });
        cx.record_accepted(&gone).await?;
        gone
    };
    let target = cx.open_target(args.get("target")).await?;
    target
        .branches()?
        .delete(gone["name"].as_str().unwrap_or_default(), gone["id"].as_str().unwrap_or_default())
        .await?;
    Ok(gone)
}

/// Looks whether the branch that was to be removed is still there.
async fn probe_branch_deletion(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(gone) = cx.accepted.clone() else { return Ok(ProbeResult::NotDone) };
    let target = cx.open_target(args.get("target")).await?;
    let is_there = target.branches()?.list().await?.iter().any(|b| gone["id"] == b.id.as_str());
    Ok(if is_there { ProbeResult::NotDone } else { ProbeResult::Done(gone) })
}

async fn reset_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let start = async {
        let branch = find_branch(cx, args).await?;
        target.branches()?.reset(&branch, cx.key, &cx.intent()).await
    };
    let job = cx.adopt_or_start_job(start).await?;
    cx.wait_for_job(&*target, &job, args.timeout()).await
}

async fn promote_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let start = async {
        let branch = find_branch(cx, args).await?;
        target.branches()?.promote(&branch, cx.key, &cx.intent()).await
    };
    let job = cx.adopt_or_start_job(start).await?;
    cx.wait_for_job(&*target, &job, args.timeout()).await
}

/// Returns the branch that a removal is about, as `left_behind` names it.
pub fn left_behind_name(args: &CallArgs) -> String {
    let target = parse_target_ref(args.get("target")).map(|place| place.to_string()).unwrap_or_default();
    let handle = value::untag_as(args.get("branch"), value::BRANCH_TAG);
    let name = handle.map_or(args.get_text("branch"), |h| h["name"].as_str().unwrap_or_default());
    format!("branch {target}/{name}")
}

/// Returns the branch that the arguments name. A handle pins its id; a plain name means today's branch.
async fn find_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Branch> {
    let target = cx.open_target(args.get("target")).await?;
    let handle = value::untag_as(args.get("branch"), value::BRANCH_TAG);
    let name = handle.map_or(args.get_text("branch"), |h| h["name"].as_str().unwrap_or_default());
    let branch = target.branches()?.get(name).await?;
    match handle.and_then(|h| h["id"].as_str()) {
        Some(id) if id != branch.id => Err(Error::new(Code::NotFound, format!("branch `{name}` is gone"))
            .with_hint(format!("a later branch has its name: it was made {}", branch.created_at))),
        _ => Ok(branch),
    }
}
