//! `branch`: list, get, create, delete, reset, promote.

use super::{
    BRANCH_FIELDS, TARGET, TEMPORARY,
    args::Args,
    backup::{made_under_key, restore_to},
    spec::{Context, Effect, Kind, Need, Op, Param, Probed, Recovery, Returns, Slot, field, place_of},
};
use crate::{
    base::value,
    provider::{
        Code, Error, Result,
        model::{At, Branch, RecoveryPoint},
    },
};
use serde_json::{Value, json};

const NAME: Param =
    Param { name: "branch", kind: Kind::Branch, slot: Slot::Positional, help: "the branch, or its name" };

/// What scripts call the removal of a branch.
pub const DELETE: &str = "branch::delete";

/// The operations of `branch`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "branch",
        name: "list",
        summary: "List the branches of a target, oldest first",
        params: &[TARGET],
        returns: Returns::List(BRANCH_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"branch::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "branch",
        name: "get",
        summary: "Show one branch",
        params: &[TARGET, NAME],
        returns: Returns::One(BRANCH_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::get("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(get(cx, args)),
    },
    Op {
        namespace: "branch",
        name: "create",
        summary: "Make an isolated copy of a target as it is now, or was at a given point",
        params: &[
            TARGET,
            Param { name: "into", kind: Kind::Text, slot: Slot::Named, help: "the name of the new branch" },
            Param {
                name: "to",
                kind: Kind::Point,
                slot: Slot::Optional("the latest that can be restored"),
                help: "the point to copy: one of `time`, `xid`, `lsn`, `name`",
            },
            TEMPORARY,
        ],
        returns: Returns::One(BRANCH_FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[r#"branch::create("sandbox", #{ into: "look", temporary: true })"#],
        perform: |cx, args| Box::pin(create(cx, args)),
    },
    Op {
        namespace: "branch",
        name: "delete",
        summary: "Stop a branch and remove everything of it",
        params: &[TARGET, NAME],
        returns: Returns::One(&[
            field("name", "text", "the branch"),
            field("id", "text", "its id"),
            field("target", "text", "the target it was of"),
        ]),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_gone(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::delete("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(delete(cx, args)),
    },
    Op {
        namespace: "branch",
        name: "reset",
        summary: "Give a branch back as it was made; what was done in it since is lost",
        params: &[TARGET, NAME],
        returns: Returns::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::reset("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(reset(cx, args)),
    },
    Op {
        namespace: "branch",
        name: "promote",
        summary: "Make the target what a branch is, as far as the platform carries it over",
        params: &[TARGET, NAME],
        returns: Returns::One(&[
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
        needs: Some(|_| Need::new("db", Effect::Destroy)),
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "next", temporary: true }); branch::promote("sandbox", made)"#,
        ],
        perform: |cx, args| Box::pin(promote(cx, args)),
    },
];

async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    Ok(target.branches()?.list().await?.iter().map(Branch::handle).collect())
}

async fn get(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(existing(cx, args).await?.handle())
}

async fn create(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let latest = RecoveryPoint { at: At::Latest, inclusive: true, timeline: None };
    restore_to(cx, args, None, args.point("to").unwrap_or(latest)).await
}

/// Finds out which branch it is, writes that down, and only then removes it: a resume removes that one and no later
/// one of its name.
async fn delete(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let gone = if let Some(recorded) = cx.accepted.clone() {
        recorded
    } else {
        let branch = existing(cx, args).await?;
        let gone = json!({ "name": branch.name, "id": branch.id, "target": branch.target });
        cx.accept(&gone).await?;
        gone
    };
    let target = cx.place(args.get("target")).await?;
    target
        .branches()?
        .delete(gone["name"].as_str().unwrap_or_default(), gone["id"].as_str().unwrap_or_default())
        .await?;
    Ok(gone)
}

/// Looks whether the branch that was to be removed is there.
async fn is_gone(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(gone) = cx.accepted.clone() else { return Ok(Probed::NotDone) };
    let target = cx.place(args.get("target")).await?;
    let is_there = target.branches()?.list().await?.iter().any(|b| gone["id"] == b.id.as_str());
    Ok(if is_there { Probed::NotDone } else { Probed::Done(gone) })
}

async fn reset(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let asked = async {
        let branch = existing(cx, args).await?;
        target.branches()?.reset(&branch, cx.key, &cx.intent()).await
    };
    let job = cx.job(asked).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

async fn promote(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let asked = async {
        let branch = existing(cx, args).await?;
        target.branches()?.promote(&branch, cx.key, &cx.intent()).await
    };
    let job = cx.job(asked).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

/// Returns the branch that a removal is about, as `left_behind` names it.
pub fn named(args: &Args) -> String {
    let target = place_of(args.get("target")).map(|place| place.to_string()).unwrap_or_default();
    let handle = value::inside(args.get("branch"), value::BRANCH);
    let name = handle.map_or(args.text("branch"), |h| h["name"].as_str().unwrap_or_default());
    format!("branch {target}/{name}")
}

/// Returns the branch that the arguments name, which a handle names for ever and a name only for now.
async fn existing(cx: &Context<'_>, args: &Args) -> Result<Branch> {
    let target = cx.place(args.get("target")).await?;
    let handle = value::inside(args.get("branch"), value::BRANCH);
    let name = handle.map_or(args.text("branch"), |h| h["name"].as_str().unwrap_or_default());
    let branch = target.branches()?.get(name).await?;
    match handle.and_then(|h| h["id"].as_str()) {
        Some(id) if id != branch.id => Err(Error::new(Code::NotFound, format!("branch `{name}` is gone"))
            .hint(format!("a later branch has its name: it was made {}", branch.created_at))),
        _ => Ok(branch),
    }
}
