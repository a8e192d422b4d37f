//! Rights, identity of targets, protection and leases: what a run may do, and to which target.

use super::{
    run_context::{RunContext, VerifiedTarget},
    stop::{NativeError, StopReason},
};
use crate::{
    base::{lock::lock_unpoisoned, shell},
    journal::{Durability, Holder, Lease, LeaseMode, Record, Run, UnreadableRecord},
    ops::{
        args::CallArgs,
        spec::{Effect, Operation, Permission},
    },
    provider::{self, Error, Fleet, model::Identity},
};
use std::sync::Arc;

/// Stops the run when it lacks the right to a call.
pub(super) fn check_rights(context: &RunContext, op: &Operation, args: &CallArgs) -> Result<(), NativeError> {
    let need = op.required_permission(args);
    match &context.rights {
        Some(rights) if !rights.iter().any(|right| right.covers(&need)) => {
            Err(context.stopper.stop_run(StopReason::Refused {
                message: format!("`{}` needs `{need}`, and the runbook's `needs` do not have it", op.path()),
                hint: format!("add \"{need}\" to `needs` in the header, if the runbook is meant to do this"),
            }))
        }
        _ => Ok(()),
    }
}

/// Returns the protected targets among `targets`, if these rights can change anything.
pub(super) fn protected_targets_at_risk(
    fleet: &Fleet,
    targets: &[String],
    needs: &[Permission],
) -> Vec<String> {
    if !needs.iter().any(|need| need.effect >= Effect::Change) {
        return Vec::new();
    }
    let protected = |name: &&String| fleet.target_config(name).is_ok_and(|t| t.protect);
    targets.iter().filter(protected).cloned().collect()
}

/// Returns the message and the hint of a refusal to change a protected target.
pub fn unconfirmed_message_and_hint(name: &str) -> (String, String) {
    (
        format!("the target `{name}` is protected, and this may change it"),
        format!("name it: `--confirm {}`", shell::quote_shell_word(name)),
    )
}

/// Why the identity of a target could not be verified.
pub(super) enum IdentityError {
    /// It does not answer; nothing is known.
    Unreachable(Error),
    /// The run was stopped.
    Stopped(NativeError),
}

/// Verifies that a target is the one the run first used, that it is confirmed if protected,
/// and that the run has leased it. At the prompt all rights are granted, and each call takes its own lease.
pub(super) fn verify_and_lease_target(
    context: &RunContext,
    target: &str,
    need: &Permission,
) -> Result<(), IdentityError> {
    context.clock.align_world_times().map_err(IdentityError::Unreachable)?;
    let known = Arc::clone(lock_unpoisoned(&context.verified).entry(target.to_owned()).or_default());
    let mut known = lock_unpoisoned(&known);
    let rights = context.rights.as_deref().unwrap_or(std::slice::from_ref(need));
    if !protected_targets_at_risk(&context.fleet, &[target.to_owned()], rights).is_empty()
        && !context.confirmed.contains(target)
    {
        let target = target.to_owned();
        return Err(IdentityError::Stopped(context.stopper.stop_run(StopReason::Unconfirmed { target })));
    }
    if known.is_none() {
        let identity = context
            .wait_until_ready_or_stopped(async { context.fleet.open_target(target)?.identity().await })
            .map_err(IdentityError::Stopped)?;
        let identity = identity.map_err(IdentityError::Unreachable)?;
        match_or_record_identity(context, target, &identity).map_err(IdentityError::Stopped)?;
        *known = Some(VerifiedTarget { identity, mode: None });
    }
    match known.as_mut() {
        Some(known) => lease_target_if_needed(context, target, known, rights).map_err(IdentityError::Stopped),
        None => Ok(()),
    }
}

/// Leases a target, unless the run already holds a sufficient lease.
fn lease_target_if_needed(
    context: &RunContext,
    target: &str,
    known: &mut VerifiedTarget,
    rights: &[Permission],
) -> Result<(), NativeError> {
    let Some(wanted) = find_lease_needed_on_target(target, &known.identity, rights) else { return Ok(()) };
    if known.mode.is_some_and(|has| has == LeaseMode::Exclusive || has == wanted.mode) {
        return Ok(());
    }
    let mode = wanted.mode;
    let leased = context.journal.acquire_leases(&[wanted], context.run.id(), &Holder::this_process());
    leased.map_err(|e| context.stopper.stop_run(StopReason::Leased(e)))?;
    known.mode = Some(mode);
    Ok(())
}

/// Compares a target's identity with the recorded one, or records it at first use.
fn match_or_record_identity(
    context: &RunContext,
    target: &str,
    identity: &Identity,
) -> Result<(), NativeError> {
    let recorded = context.stop_on_unreadable(context.run.target_identity::<Identity>(target))?;
    let Some(recorded) = recorded else {
        let identity = serde_json::json!(identity);
        let record = Record::Target { name: target.to_owned(), identity };
        return context.stop_on_journal_error(context.run.append_record(record, Durability::Buffered));
    };
    if recorded.id == identity.id {
        return Ok(());
    }
    Err(context
        .stopper
        .stop_run(StopReason::Mismatch { message: describe_replaced_target(target, &recorded, identity) }))
}

/// Says of a target that another one has its name.
pub(super) fn describe_replaced_target(target: &str, recorded: &Identity, now: &Identity) -> String {
    format!(
        "the target `{target}` is not the one that the run began with\n  recorded  {}\n  now       {}",
        recorded.describe_beside(now),
        now.describe_beside(recorded)
    )
}

/// Returns the leases that a run needs on the targets it has used.
///
/// # Errors
/// What is recorded of a target does not read: without its lease another run could change it meanwhile.
pub(super) fn list_leases_needed_by_run(
    run: &Run,
    rights: &[Permission],
) -> Result<Vec<Lease>, UnreadableRecord> {
    let known = run.target_identities::<Identity>()?;
    Ok(known.iter().filter_map(|(name, who)| find_lease_needed_on_target(name, who, rights)).collect())
}

/// Returns the leases that a run with these rights needs on targets; asks each target for its identity.
///
/// # Errors
/// A target does not answer.
pub(super) async fn list_leases_needed_on_targets(
    fleet: &Fleet,
    targets: &[String],
    rights: &[Permission],
) -> provider::Result<Vec<Lease>> {
    let mut leases = Vec::new();
    for target in targets {
        let identity = fleet.open_target(target)?.identity().await?;
        leases.extend(find_lease_needed_on_target(target, &identity, rights));
    }
    Ok(leases)
}

/// Returns the lease that a run with these rights needs on a target.
fn find_lease_needed_on_target(name: &str, target: &Identity, rights: &[Permission]) -> Option<Lease> {
    lease_mode(rights).map(|mode| Lease { target: target.id.clone(), name: name.to_owned(), mode })
}

/// Returns the lease mode for these rights: shared when a run only creates, exclusive when it changes them,
/// and none when it only reads.
fn lease_mode(rights: &[Permission]) -> Option<LeaseMode> {
    let changes_source = |need: &&Permission| need.effect >= Effect::Change && need.area != "branch";
    let adds = |need: &&Permission| need.effect != Effect::Read;
    match (rights.iter().find(changes_source), rights.iter().find(adds)) {
        (Some(_), _) => Some(LeaseMode::Exclusive),
        (None, Some(_)) => Some(LeaseMode::Shared),
        (None, None) => None,
    }
}
