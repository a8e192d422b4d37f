//! Settles the recorded calls of a run that its text no longer comes to: an edited one, or a run that is given up.

use super::{
    call::{self, CallRequest},
    call_path::CLEAN_UP_PATH,
    open_approval::is_gate,
    run_context::{Cleanup, DeferredCleanup},
    scope::CallScope,
    stop::StopReason,
};
use crate::{
    base::value,
    journal::{JournalEntry, Outcome, Record},
    ops::{self, args::CallArgs},
};
use serde_json::{Value, json};

/// Defers the clean-up of calls that somebody allowed to be missing in an edited script: their temporary branches are
/// the run's all the same.
pub(super) fn defer_cleanup_of_missing_calls(scope: &CallScope) -> Result<(), StopReason> {
    let context = scope.run_context();
    if context.run.names_allowed_missing().is_empty() || context.run.is_ending() {
        return Ok(());
    }
    let entries = context.run.sync_records().and_then(|()| context.journal.read_records(context.run.id()));
    resolve_open_calls(scope, &entries.map_err(StopReason::Journal)?)
}

/// Resolves every open call of a run, and defers the removal of its temporary branches, where its text has not.
pub(super) fn resolve_open_calls(scope: &CallScope, entries: &[JournalEntry]) -> Result<(), StopReason> {
    let context = scope.run_context();
    if let Some(edits) = &context.edits {
        edits.open();
    }
    for JournalEntry { record, .. } in entries {
        match record {
            Record::End { call, args, outcome: Outcome::Ok(value), .. }
                if args["temporary"] == json!(true)
                    && value::untag_as(value, value::BRANCH_TAG).is_some() =>
            {
                let mut deferred = scope.lock_deferred();
                if !deferred.iter().any(|known| known.name == *call) {
                    let due = Cleanup::Branch(value.clone());
                    deferred.push(DeferredCleanup { name: call.clone(), due });
                }
            }
            // Clean-up resolves its own calls.
            Record::Begin { call, op, args, .. } if !call.starts_with(CLEAN_UP_PATH) => {
                resolve_open_call(scope, call, op, args);
            }
            _ => {}
        }
        match context.stopper.take_stop_reason() {
            None | Some(StopReason::Abandoned) => {}
            Some(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Resolves a call if it is open; the outcome is recorded. Nothing is under way in an approval.
fn resolve_open_call(scope: &CallScope, call: &str, op: &str, args: &Value) {
    let context = scope.run_context();
    if is_gate(op) || !context.run.open_calls().iter().any(|open| open == call) {
        return;
    }
    let decoded = ops::find_operation(op)
        .ok_or_else(|| format!("there is no operation `{op}`"))
        .and_then(|op| Ok((op, CallArgs::from_recorded(op, args).map_err(|e| e.to_string())?)));
    match decoded {
        Ok((op, args)) => drop(call::resolve_recorded_call(
            scope,
            call,
            CallRequest { op, args, at: "the settling of the run", implied: false },
        )),
        Err(what) => drop(context.stop_as_unreadable(call, what)),
    }
}
