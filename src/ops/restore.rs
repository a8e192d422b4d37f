//! Restoring, in place or into a branch: what `backup restore`, `pitr restore` and `branch create` share.

use super::{
    args::CallArgs,
    protocol::{JobEffect, PlannedFrom, begin_or_continue_job},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Permission, field,
    },
    thing::Thing,
};
use crate::provider::{
    Backups, Code, Error, PlannedJob, Provider, Result,
    model::{EffectKind, Progress, RecoveryPoint, RestoreRequest, UnfinishedRestore},
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

/// What a restore in place gives back, where one into a branch gives back the branch.
pub(super) const RESTORED_IN_PLACE_FIELDS: &[Field] = &[
    field("target", "text", "the target that was overwritten"),
    field("backup", "text", "the backup it started from"),
    field("reached", "moment", "the last transaction that is in it, where that is known"),
    field("timeline", "int", "the timeline it is on now"),
    field("kept", "text", "where the data from before is kept, if it is"),
    field(
        "unseen",
        "text",
        "what of the target could not be searched for where to stop; nothing when all was",
    ),
    field("running", "bool", "whether its server runs; one that had been stopped stays so"),
];

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
        cx,
        target: &*target,
        things,
        backups: target.backups()?,
        request: RestoreRequest { backup, to, into, temporary, run: cx.run.map(str::to_owned) },
    };
    begin_or_continue_job(cx, args, &*target, &effect).await
}

/// A restore, in place or into a branch.
struct Restore<'a> {
    cx: &'a CallContext<'a>,
    target: &'a dyn Provider,
    things: Vec<Thing>,
    backups: &'a dyn Backups,
    request: RestoreRequest,
}

impl Restore<'_> {
    /// Brings to its end what an earlier restore in place has left that nobody takes up any more: its run has ended, or is this
    /// one, which has gone on from that call. Until then no other restore of the data can begin.
    ///
    /// # Errors
    /// [`Code::Conflict`] with what prevents it.
    async fn end_forsaken_restore(&self) -> Result<()> {
        let Some(UnfinishedRestore { job, run: Some(run) }) = self.backups.find_unfinished_restore()? else {
            return Ok(());
        };
        let is_own_call = job.id == self.cx.key.0;
        if is_own_call || (self.cx.run != Some(&run) && !self.cx.host.is_run_over(&run)) {
            return Ok(());
        }
        let phase = format!("undoing the restore in place that the run {run} has left unfinished");
        self.cx.host.report_progress(&Progress::with_phase(phase));
        self.target.give_job_up(&job).await.map(drop).map_err(|e| {
            let left = format!("the run `{run}` has left a restore in place that is neither done nor undone");
            let what = format!("{left}, and it cannot be undone now: {}", e.message);
            Error::new(Code::Conflict, what).with_hint("mend that, and ask again: it goes on undoing")
        })
    }
}

#[async_trait]
impl JobEffect for Restore<'_> {
    fn name_effect_for_messages(&self) -> String {
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

    /// Whoever gives a run up does not want the data overwritten that is still there.
    fn is_undone_when_given_up(&self) -> bool {
        self.request.into.is_none()
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        if self.request.into.is_none() {
            self.end_forsaken_restore().await?;
        }
        self.backups.plan_restore(&self.request, self.cx.key).await
    }

    /// The backup is not there; else there is something that prevents it: a replica of the target, a branch of the name.
    fn refused_from(&self, refusal: &Error) -> Vec<PlannedFrom> {
        if refusal.code != Code::NotFound {
            return self.things.iter().map(PlannedFrom::unknown_id).collect();
        }
        let target = self.things.last().zip(self.request.backup.as_deref());
        target.map(|(target, id)| PlannedFrom::id(target, id, false)).into_iter().collect()
    }
}

/// Returns whether a recorded call restores in place, by the right that it takes.
pub fn restores_in_place(op: &Operation, args: &Value) -> bool {
    CallArgs::from_recorded(op, args)
        .is_ok_and(|args| op.name == "restore" && op.required_permission(&args).effect == Effect::Destroy)
}

/// Returns the permission that a restore needs: to make a branch, or to overwrite the target.
pub(super) fn restore_permission(args: &CallArgs) -> Permission {
    match args.get_optional_text("into") {
        Some(_) => Permission::new("branch", Effect::Create),
        None => Permission::new("backup", Effect::Destroy),
    }
}
