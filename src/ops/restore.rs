//! Restoring, in place or into a branch: what `backup restore`, `pitr restore` and `branch create` share.

use super::{
    args::CallArgs,
    protocol::{JobEffect, begin_or_continue_job},
    spec::{CallContext, Effect, EffectResult, Param, ParamKind, ParamSlot, Permission},
    thing::Thing,
};
use crate::provider::{
    Backups, Code, Error, PlannedJob, Result,
    model::{CallKey, EffectKind, RecoveryPoint, RestoreRequest},
};
use async_trait::async_trait;
use serde_json::Value;

pub(super) const INTO: Param = Param {
    name: "into",
    kind: ParamKind::Text,
    slot: ParamSlot::Optional("in place: the target itself is overwritten"),
    help: "the name of a new, isolated branch to restore into",
};

pub(super) const TEMPORARY: Param = Param {
    name: "temporary",
    kind: ParamKind::Bool,
    slot: ParamSlot::Optional("false"),
    help: "the run owns the branch and removes it at its end",
};

/// Restores to a point, in place or into a branch, from one backup or whichever reaches it, and waits until it is done.
pub(super) async fn restore_to_point(
    cx: &CallContext<'_>,
    args: &CallArgs,
    backup: Option<String>,
    to: RecoveryPoint,
) -> EffectResult<Value> {
    let into = args.get_optional_text("into");
    let temporary = args.get_flag("temporary");
    if temporary && into.is_none() {
        return Err(Error::new(
            Code::Invalid,
            "`temporary` is for a branch, and a restore in place makes none",
        )
        .with_hint("name the branch with `into:`")
        .into());
    }
    let target = cx.open_target(args.get("target")).await?;
    let things = match &into {
        // What a branch is made of must not be overwritten meanwhile.
        Some(branch) => vec![Thing::whole_branch(args, branch)?, Thing::rows_of_target(args)?],
        None => vec![Thing::whole_target(args)?],
    };
    let effect = Restore {
        things,
        backups: target.backups()?,
        request: RestoreRequest { backup, to, into, temporary, run: cx.run.map(str::to_owned) },
        key: cx.key,
    };
    begin_or_continue_job(cx, args, &*target, &effect).await
}

/// A restore, in place or into a branch.
struct Restore<'a> {
    things: Vec<Thing>,
    backups: &'a dyn Backups,
    request: RestoreRequest,
    key: &'a CallKey,
}

#[async_trait]
impl JobEffect for Restore<'_> {
    fn subject_for_messages(&self) -> String {
        match &self.request.into {
            Some(branch) => format!("the branch `{branch}`"),
            None => "the restore in place".into(),
        }
    }

    fn kind(&self) -> EffectKind {
        if self.request.into.is_some() { EffectKind::Branch } else { EffectKind::Restore }
    }

    fn changed_things(&self) -> Vec<Thing> {
        self.things.clone()
    }

    fn is_found_by_difference(&self) -> bool {
        self.request.into.is_none()
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        self.backups.plan_restore(&self.request, self.key).await
    }
}

/// Returns the permission that a restore needs: to make a branch, or to overwrite the target.
pub(super) fn restore_permission(args: &CallArgs) -> Permission {
    match args.get_optional_text("into") {
        Some(_) => Permission::new("branch", Effect::Create),
        None => Permission::new("backup", Effect::Destroy),
    }
}
