//! Ends a run, or records that it stopped.

use super::{
    call_path::CLEAN_UP_PATH, clean_up::run_cleanups, deferred_cleanup, edit_barrier::DEFER,
    held_calls::end_held_calls_of_ending_run, leave::list_left_by_open_call,
    lost_history::remember_lost_history, permit::unconfirmed_message_and_hint, run_context::RunContext,
    stop::StopReason,
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{Conclusion, Durability, Failure, Record, RunError, RunStatus},
};
use rhai::Engine;
use serde_json::Value;
use std::sync::Arc;

/// The result of a run that ended or stopped.
#[derive(Debug)]
pub struct RunResult {
    pub run: String,
    pub status: RunStatus,
    /// The hash of its last record.
    pub head: String,
    /// The value of its last expression, if it succeeded.
    pub value: Value,
    /// The error that ended it.
    pub failure: Option<Failure>,
    pub stop: Option<StopReason>,
    /// The errors of clean-up that failed.
    pub cleanup: Vec<Failure>,
    /// What was made and is still there.
    pub left_behind: Vec<String>,
    /// Whether it was taken up to be given up: what goes on with that is not a resume.
    pub is_given_up: bool,
}

impl RunResult {
    /// Returns the result of a run with a status, and nothing more.
    fn with_status(context: &RunContext, status: RunStatus) -> Self {
        Self {
            run: context.run.id().into(),
            status,
            head: context.run.head_hash(),
            value: Value::Null,
            failure: None,
            stop: None,
            cleanup: vec![],
            left_behind: vec![],
            is_given_up: false,
        }
    }
}

/// Ends a run: cleans up in reverse order and records the status. A run with an undecided call does
/// not end; it stops, and can go on.
pub(super) fn clean_up_and_end_run(
    context: &Arc<RunContext>,
    engine: &Engine,
    conclusion: Conclusion,
) -> RunResult {
    if let Err(stop) = begin_ending(context, &conclusion) {
        return record_stop(context, stop);
    }
    let (value, failure, abandoned) = match conclusion {
        Conclusion::Done(value) => (value, None, false),
        Conclusion::Failed(failure) => (Value::Null, Some(*failure), false),
        Conclusion::Abandoned => (Value::Null, None, true),
    };
    let cleanup = run_cleanups(context, engine, failure.is_some() || abandoned);
    // A run that is stopped meanwhile says so below.
    drop(remember_lost_history(context));
    if let Some(stop) = context.stopper.take_stop_reason() {
        return record_stop(context, stop);
    }
    let status = match (abandoned, failure.is_some() || !cleanup.is_empty()) {
        (true, _) => RunStatus::Abandoned,
        (false, true) => RunStatus::Failed,
        (false, false) => RunStatus::Succeeded,
    };
    match record_finish(context, status, failure.as_ref(), &cleanup) {
        Err(stop) => record_stop(context, stop),
        Ok(left_behind) => {
            let ended = RunResult::with_status(context, status);
            RunResult { value, failure, cleanup, left_behind, ..ended }
        }
    }
}

/// Records that a run is ending, before its clean-up.
///
/// # Errors
/// Why it does not end yet.
fn begin_ending(context: &RunContext, conclusion: &Conclusion) -> Result<(), StopReason> {
    // Clean-up resolves its own calls; an abandoned run has resolved every other.
    let unresolved = |call: &String| !call.starts_with(CLEAN_UP_PATH);
    if !matches!(conclusion, Conclusion::Abandoned) {
        end_held_calls_of_ending_run(context)?;
        if context.run.open_calls().iter().any(unresolved) {
            return Err(StopReason::Interrupted);
        }
    }
    check_lost_cleanup(context)?;
    #[cfg(test)]
    if super::mutant::skips_clean_up(context.run.is_ending()) {
        lock_unpoisoned(&context.deferred).clear();
    }
    if context.run.is_ending() {
        return Ok(());
    }
    // Without clean-up, the end is the next record, and both are written together.
    let durability =
        if lock_unpoisoned(&context.deferred).is_empty() { Durability::Buffered } else { Durability::Synced };
    let ending = Record::Ending { outcome: conclusion.to_recorded() };
    context.run.append_record(ending, durability).map_err(StopReason::Journal)
}

/// Records how a run ended, and returns what it leaves behind.
fn record_finish(
    context: &RunContext,
    status: RunStatus,
    failure: Option<&Failure>,
    cleanup: &[Failure],
) -> Result<Vec<String>, StopReason> {
    // Clean-up whose text is lost resolves none of its calls.
    let open = context.run.open_calls();
    lock_unpoisoned(&context.left_behind).extend(
        open.iter().flat_map(|call| list_left_by_open_call(call, context.run.recorded_call(call).as_ref())),
    );
    let left_behind = lock_unpoisoned(&context.left_behind).clone();
    let error = RunError::from_parts(failure, cleanup).map(|error| error.to_json());
    let finished = Record::Finished { status, error, left_behind: left_behind.clone() };
    context.run.append_record(finished, Durability::Synced).map_err(StopReason::Journal)?;
    // A lease that cannot be released expires by itself: its run is no longer held.
    drop(context.journal.release_leases(context.run.id()));
    Ok(left_behind)
}

/// Checks that everything that was deferred is due now: a run does not end without it. A run that is given up names
/// what is lost among what it leaves behind, and any run what a person allowed to be missing.
fn check_lost_cleanup(context: &RunContext) -> Result<(), StopReason> {
    let allowed = context.run.names_allowed_missing();
    let mut lost = context.run.call_names_of_operation(DEFER);
    lost.retain(|name| !name.starts_with(CLEAN_UP_PATH));
    let due = lock_unpoisoned(&context.deferred);
    lost.retain(|name| !due.iter().any(|deferred| deferred.name == *name));
    drop(due);
    lost.sort();
    let name_it = |name: &String| {
        let recorded = context.run.recorded_call(name)?;
        Some(deferred_cleanup::name_missed_clean_up(name, Some(&recorded.args)))
    };
    // Whoever allows clean-up to be missing allows that it is not done, and not that nobody is told.
    let is_told = |name: &&String| context.is_abandoning || allowed.contains(*name);
    lock_unpoisoned(&context.left_behind).extend(lost.iter().filter(is_told).filter_map(name_it));
    let named: Vec<_> = lost.iter().filter(|name| !is_told(name)).filter_map(name_it).collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(StopReason::Mismatch {
        message: format!(
            "the script does not come to clean-up that was deferred\n  recorded  {}\n  asked     nothing",
            named.join("\n  recorded  ")
        ),
    })
}

/// Records that a run stopped. If the journal cannot be written, the run reads as interrupted.
pub(super) fn record_stop(context: &Arc<RunContext>, stop: StopReason) -> RunResult {
    let (status, reason) = describe_stop(&stop);
    if !matches!(stop, StopReason::Journal(_)) {
        // Without the record the run still reads as interrupted; only the reason is lost.
        let (mismatch, at_call, unconfirmed) = match &stop {
            StopReason::Mismatch { .. } | StopReason::EditRejected { .. } => (true, None, None),
            StopReason::Undecided { call, .. } | StopReason::Waiting { call, .. } => {
                (false, Some(call.clone()), None)
            }
            StopReason::Unconfirmed { target } => (false, None, Some(target.clone())),
            _ => (false, None, None),
        };
        let stopped = Record::Stopped { status, reason, mismatch, at_call, unconfirmed };
        drop(context.run.append_record(stopped, Durability::Synced));
        drop(context.journal.release_leases(context.run.id()));
    }
    if matches!(stop, StopReason::Undecided { .. }) {
        // Whoever decides looks at the targets, and should know what else to look for.
        drop(remember_lost_history(context));
    }
    let left_behind = lock_unpoisoned(&context.left_behind).clone();
    RunResult { stop: Some(stop), left_behind, ..RunResult::with_status(context, status) }
}

/// Returns the status of a run that stopped, and why it did.
fn describe_stop(stop: &StopReason) -> (RunStatus, String) {
    match stop {
        StopReason::Waiting { reason, .. } => (RunStatus::Waiting, reason.clone()),
        StopReason::TakenOver { by } => (RunStatus::Interrupted, format!("taken over by {by}")),
        StopReason::Undecided { reason, .. } => (RunStatus::Undecided, reason.clone()),
        StopReason::Interrupted => (RunStatus::Interrupted, "interrupted".to_owned()),
        StopReason::Mismatch { message }
        | StopReason::EditRejected { message, .. }
        | StopReason::Refused { message, .. } => (RunStatus::Interrupted, message.clone()),
        StopReason::Unconfirmed { target } => {
            (RunStatus::Interrupted, unconfirmed_message_and_hint(target).0)
        }
        StopReason::Unreadable(record) => (RunStatus::Interrupted, record.to_string()),
        StopReason::Leased(e) | StopReason::Journal(e) => (RunStatus::Interrupted, e.to_string()),
        StopReason::Abandoned => (RunStatus::Interrupted, "the run was being abandoned".to_owned()),
    }
}
