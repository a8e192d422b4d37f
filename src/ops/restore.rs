//! Restoring, in place or into a branch: what `backup restore`, `pitr restore` and `branch create` share.

use super::{
    args::CallArgs,
    spec::{CallContext, Effect, Param, ParamKind, ParamSlot, Permission},
};
use crate::provider::{
    Code, Error, Result,
    model::{RecoveryPoint, RestoreRequest},
};
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

/// Returns the permission that a restore needs: to make a branch, or to overwrite the target.
pub(super) fn restore_permission(args: &CallArgs) -> Permission {
    match args.get_optional_text("into") {
        Some(_) => Permission::new("branch", Effect::Create),
        None => Permission::new("backup", Effect::Destroy),
    }
}
