//! `branch`: list, get, create, delete, reset, promote.

use super::{
    args::CallArgs,
    protocol::{JobEffect, PlannedFrom, RemoveEffect, begin_or_continue_job, begin_or_continue_removal},
    restore::{TEMPORARY, restore_to_point},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Permission,
        Protocol, ReturnShape, TARGET, field, parse_target_ref,
    },
    thing::Thing,
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    provider::{
        Branches, Code, Error, PlannedJob, Result,
        model::{Branch, EffectKind, LandingLimit, RecoveryPoint, RecoveryTarget},
    },
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Mutex, OnceLock};

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
    field(
        "unseen",
        "text",
        "what of the target could not be searched for where to stop; nothing when all was",
    ),
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
        protocol: Protocol::Read(|cx, args| Box::pin(list_branches(cx, args))),
        examples: &[r#"branch::list("sandbox")"#],
    },
    Operation {
        namespace: "branch",
        name: "get",
        summary: "Show one branch",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(get_branch(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::get("sandbox", made)"#,
        ],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(create_branch(cx, args))),
        examples: &[r#"branch::create("sandbox", #{ into: "look", temporary: true })"#],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(delete_branch(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::delete("sandbox", made)"#,
        ],
    },
    Operation {
        namespace: "branch",
        name: "reset",
        summary: "Give a branch back as it was made; what was done in it since is lost",
        params: &[TARGET, BRANCH],
        returns: ReturnShape::One(BRANCH_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(reset_branch(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "look", temporary: true }); branch::reset("sandbox", made)"#,
        ],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(promote_branch(cx, args))),
        examples: &[
            r#"let made = branch::create("sandbox", #{ into: "next", temporary: true }); branch::promote("sandbox", made)"#,
        ],
    },
];

async fn list_branches(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(target.branches()?.list().await?.iter().map(Branch::to_handle).collect())
}

async fn get_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(find_branch(cx, args).await?.to_handle())
}

async fn create_branch(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let latest = RecoveryPoint { at: RecoveryTarget::Latest, inclusive: true, timeline: None };
    restore_to_point(cx, args, None, args.get_recovery_point("to").unwrap_or(latest)).await
}

async fn delete_branch(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let thing = whole_branch_of_call(args)?;
    let landing = target.landing_limit(EffectKind::BranchDeletion);
    let removal =
        BranchRemoval { thing, cx, args, branches: target.branches()?, landing, seen: Mutex::default() };
    begin_or_continue_removal(cx, args, &*target, &removal).await
}

/// Removes a branch: the one that it was when the call began, and no later one of its name.
struct BranchRemoval<'a> {
    thing: Thing,
    cx: &'a CallContext<'a>,
    args: &'a CallArgs,
    branches: &'a dyn Branches,
    landing: LandingLimit,
    /// From what the last plan was made or refused; of one that was made, only where the branch is meant by its name.
    seen: Mutex<Option<PlannedFrom>>,
}

impl BranchRemoval<'_> {
    /// Returns what the call's handle says of its branch; for a plain name the error is `otherwise`.
    fn decode_handle_or(&self, otherwise: Error) -> Result<GoneBranch> {
        let Some(handle) = value::untag_as(self.args.get("branch"), value::BRANCH_TAG) else {
            return Err(otherwise);
        };
        GoneBranch::deserialize(handle)
            .map_err(|e| Error::new(Code::Invalid, format!("the handle of the branch cannot be read: {e}")))
    }
}

/// A branch that goes.
#[derive(Serialize, Deserialize)]
struct GoneBranch {
    name: String,
    id: String,
    target: String,
}

#[async_trait]
impl RemoveEffect for BranchRemoval<'_> {
    type Gone = GoneBranch;

    fn name_effect_for_messages(&self) -> String {
        branch_name_for_left_behind(self.args)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::BranchDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn gone_id<'g>(&self, gone: &'g GoneBranch) -> &'g str {
        &gone.id
    }

    async fn plan(&self) -> Result<GoneBranch> {
        let found = find_branch(self.cx, self.args).await;
        let is_named = value::untag_as(self.args.get("branch"), value::BRANCH_TAG).is_none();
        let seen = branch_planned_from(&self.thing, &found);
        let planned = match found {
            Ok(branch) => Ok(GoneBranch { name: branch.name, id: branch.id, target: branch.target }),
            // The id of one that no look shows is enough to ask for its removal: the look may lag behind.
            Err(e) if e.code == Code::NotFound && !self.landing.cannot_land_late() => {
                self.decode_handle_or(e)
            }
            Err(e) => Err(e),
        };
        *lock_unpoisoned(&self.seen) = Some(seen).filter(|_| is_named || planned.is_err());
        planned
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        lock_unpoisoned(&self.seen).take()
    }

    async fn is_any_left(&self, gone: &GoneBranch) -> Result<bool> {
        Ok(self.branches.list().await?.iter().any(|b| b.id == gone.id))
    }

    async fn send_request(&self, gone: &GoneBranch) -> Result<()> {
        self.branches.delete(&gone.name, &gone.id).await
    }
}

async fn reset_branch(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    perform_branch_change(cx, args, vec![whole_branch_of_call(args)?], BranchChange::Reset).await
}

async fn promote_branch(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let things = vec![Thing::whole_target(args)?, whole_branch_of_call(args)?];
    perform_branch_change(cx, args, things, BranchChange::Promote).await
}

async fn perform_branch_change(
    cx: &CallContext<'_>,
    args: &CallArgs,
    things: Vec<Thing>,
    workflow: BranchChange,
) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let branches = target.branches()?;
    let effect = BranchWorkflow { things, cx, args, branches, workflow, branch: OnceLock::new() };
    begin_or_continue_job(cx, args, &*target, &effect).await
}

/// What is done with a whole branch.
enum BranchChange {
    /// It becomes again what it was when it was made.
    Reset,
    /// The target becomes what it is.
    Promote,
}

/// Resets or promotes a branch.
struct BranchWorkflow<'a> {
    things: Vec<Thing>,
    cx: &'a CallContext<'a>,
    args: &'a CallArgs,
    branches: &'a dyn Branches,
    workflow: BranchChange,
    /// The branch, once it was looked for.
    branch: OnceLock<Branch>,
}

#[async_trait]
impl JobEffect for BranchWorkflow<'_> {
    fn name_effect_for_messages(&self) -> String {
        match self.workflow {
            BranchChange::Reset => "the reset of the branch".into(),
            BranchChange::Promote => "the promotion of the branch".into(),
        }
    }

    fn kind(&self) -> EffectKind {
        EffectKind::BranchWorkflow
    }

    fn changed_things(&self) -> Vec<Thing> {
        self.things.clone()
    }

    fn is_found_by_difference(&self) -> bool {
        true
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        let branch = find_branch(self.cx, self.args).await?;
        let branch = self.branch.get_or_init(|| branch);
        match self.workflow {
            BranchChange::Reset => self.branches.plan_reset(branch, self.cx.key).await,
            BranchChange::Promote => self.branches.plan_promotion(branch, self.cx.key).await,
        }
    }

    fn refused_from(&self, refusal: &Error) -> Vec<PlannedFrom> {
        let Some(thing) = self.things.last() else { return Vec::new() };
        // A handle's branch is not there also where an earlier one of its name is shown.
        vec![branch_planned_from(thing, &Err(refusal.clone())), PlannedFrom::unknown_id(thing)]
    }
}

/// Returns of what a look speaks that looked for a branch: one that is not unique is not the only one of its name.
fn branch_planned_from(thing: &Thing, found: &Result<Branch>) -> PlannedFrom {
    match found {
        Ok(branch) => PlannedFrom::ids(thing, Some(&branch.id)),
        Err(e) if e.code == Code::NotFound => PlannedFrom::ids(thing, None),
        Err(_) => PlannedFrom::unknown_id(thing),
    }
}

/// Returns all of the call's branch.
fn whole_branch_of_call(args: &CallArgs) -> Result<Thing> {
    Thing::whole_branch(args, branch_name(args))
}

/// Returns the name of the call's branch, which is given as a handle or by its name.
fn branch_name(args: &CallArgs) -> &str {
    let handle = value::untag_as(args.get("branch"), value::BRANCH_TAG);
    handle.and_then(|handle| handle["name"].as_str()).unwrap_or_else(|| args.get_text("branch"))
}

/// Returns the branch that a removal is about, as `left_behind` names it.
pub fn branch_name_for_left_behind(args: &CallArgs) -> String {
    let name = branch_name(args);
    parse_target_ref(args.get("target"))
        .map_or_else(|_| format!("branch {name}"), |place| format!("branch {place}/{name}"))
}

/// Returns the branch that the arguments name. A handle pins its id; a plain name means today's branch.
async fn find_branch(cx: &CallContext<'_>, args: &CallArgs) -> Result<Branch> {
    let target = cx.open_target(args.get("target")).await?;
    let handle = value::untag_as(args.get("branch"), value::BRANCH_TAG);
    let name = branch_name(args);
    let branch = target.branches()?.get(name).await?;
    match handle.and_then(|h| h["id"].as_str()) {
        Some(id) if id != branch.id => Err(Error::new(Code::NotFound, format!("branch `{name}` is gone"))
            .with_hint(format!("a later branch has its name: it was made {}", branch.created_at))),
        _ => Ok(branch),
    }
}
