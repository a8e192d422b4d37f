//! `abandon --leave`: a run ends, and none of its targets is touched. What it may have left there is told from its records
//! and its texts alone.

use super::{
    deferred_cleanup::{
        list_deferral_texts, name_all_missed_clean_up, name_missed_clean_up, name_unrecorded_clean_up,
    },
    edit_barrier::DEFER,
    lost_history::describe_lost_history,
    open_approval::is_gate,
};
use crate::{
    base::{moment::Moment, shell::quote_shell_word, value},
    journal::{
        self, Durability, FoldedCall, Journal, JournalEntry, Outcome, Record, RecordedOutcome, RunFold,
        RunStatus, SideEffects, Source, describe_landing_end,
    },
    ops::{
        self,
        args::CallArgs,
        branch::DELETE_PATH,
        spec::{Effect, Evidence, Permission, parse_target_ref},
    },
};
use serde_json::Value;

/// Ends a run as abandoned without touching its targets, and returns what it leaves behind.
///
/// # Errors
/// [`journal::Error`]; the run is then what it was.
pub fn end_as_abandoned(journal: &Journal, id: &str) -> Result<Vec<String>, journal::Error> {
    let run = match journal.acquire_run(id) {
        Err(journal::Error::Broken { is_linked: true, .. }) => {
            return end_unfit_run_as_abandoned(journal, id);
        }
        run => run?,
    };
    let entries = journal.read_records(id)?;
    let left_behind = list_left_behind(journal, id, &entries)?;
    let finished =
        Record::Finished { status: RunStatus::Abandoned, error: None, left_behind: left_behind.clone() };
    run.append_record(finished, Durability::Synced)?;
    journal.release_leases(id)?;
    Ok(left_behind)
}

/// Ends a run of which a record does not read or does not fit. What that record says is not known, and is named.
fn end_unfit_run_as_abandoned(journal: &Journal, id: &str) -> Result<Vec<String>, journal::Error> {
    let run = journal.acquire_unfit_run(id)?;
    let mut left_behind = list_left_behind(journal, id, run.entries())?;
    let unread = run.unreadable_record_numbers();
    left_behind.extend(unread.iter().map(|seq| format!("what record {seq} says, which does not read")));
    run.end_as_abandoned(left_behind.clone())?;
    Ok(left_behind)
}

/// Returns what a run may have left, by name: the branches that it made, what its failed calls could not remove, what its
/// open calls began, what of its calls may still land, and its clean-up.
fn list_left_behind(
    journal: &Journal,
    id: &str,
    entries: &[JournalEntry],
) -> Result<Vec<String>, journal::Error> {
    let mut fold = fold_what_fits(entries);
    fold.drop_trial_edition();
    let (sources, landings) =
        (journal.read_sources(id, fold.source_edition())?, journal.list_landing_ends(id)?);
    let mut left: Vec<String> = Vec::new();
    for entry in entries {
        let Record::End { call, op, args, outcome, .. } = &entry.record else { continue };
        match removed_branch(op, outcome) {
            Some(gone) => left.retain(|name| *name != gone),
            None => left.extend(list_left_by_call(call, op, args, outcome)),
        }
    }
    let landed = fold.open_calls().filter(|(call, _)| !landings.contains_key(*call));
    left.extend(landed.flat_map(|(name, call)| list_left_by_open_call(name, Some(call))));
    left.extend(landings.iter().map(|(call, until)| name_pending_request(id, call, fold.call(call), *until)));
    if fold.is_rolled_back() {
        left.push(describe_lost_history());
    }
    left.extend(list_deferred_clean_up(&fold));
    left.extend(list_unrecorded_clean_up(&fold, entries, &sources));
    left.sort();
    left.dedup();
    Ok(left)
}

/// Folds the records that fit those before them.
fn fold_what_fits(entries: &[JournalEntry]) -> RunFold {
    let mut fold = RunFold::default();
    for entry in entries {
        // One that does not fit changes nothing.
        drop(fold.apply_entry(entry));
    }
    fold
}

/// Returns the clean-up that a run has deferred. Of a run that was cleaning up it is not known how far it came.
fn list_deferred_clean_up(fold: &RunFold) -> Vec<String> {
    let deferred = fold.calls().filter(|(_, call)| call.op == DEFER);
    deferred.map(|(name, call)| name_missed_clean_up(name, Some(&call.args))).collect()
}

/// Returns the clean-up that a run may have come to since its last record: what its texts hold and no record has, where
/// something was begun since clean-up was last recorded.
fn list_unrecorded_clean_up(fold: &RunFold, entries: &[JournalEntry], sources: &[Source]) -> Vec<String> {
    let texts = sources.iter().flat_map(|source| list_deferral_texts(&source.text));
    let recorded: Vec<_> =
        fold.calls().filter(|(_, call)| call.op == DEFER).map(|(_, call)| &call.args["text"]).collect();
    if recorded.is_empty() {
        return texts.take(1).map(|_| name_all_missed_clean_up()).collect();
    }
    let newest = entries.iter().rev().find(|entry| match &entry.record {
        Record::Begin { op, .. } => !is_gate(op),
        Record::End { op, .. } => op == DEFER,
        _ => false,
    });
    if !newest.is_some_and(|entry| matches!(entry.record, Record::Begin { .. })) {
        return Vec::new();
    }
    let is_recorded = |text: &String| recorded.iter().any(|known| known.as_str() == Some(text));
    texts.filter(|text| !is_recorded(text)).map(|text| name_unrecorded_clean_up(&text)).collect()
}

/// Returns what a call asked for and nobody waits for any more, with the branch that it was to make. A restore in place that goes
/// on, or whose undo is not finished, keeps every later one away: how it is ended is said with it.
fn name_pending_request(run: &str, name: &str, call: Option<&FoldedCall>, until: Option<Moment>) -> String {
    if call.is_some_and(has_accepted_restore) {
        let end = format!("redrill runs decide {run} {} fail --anyway", quote_shell_word(name));
        return format!(
            "what {name} began, a restore in place that is neither done nor undone as far as is known (where this machine \
             does it, `{end}` undoes it)"
        );
    }
    let branch = call.and_then(find_branch_to_make);
    let named = branch.map_or_else(String::new, |branch| format!(" ({branch})"));
    format!("what {name} asked for, which may still appear, {}{named}", describe_landing_end(until))
}

/// Returns what an open call may have left: what its error names where it is known how it failed; else, or where somebody says
/// that it was done, what it began, with the branch that it was to make: it may be there by now. A gate began nothing.
pub(super) fn list_left_by_open_call(name: &str, call: Option<&FoldedCall>) -> Vec<String> {
    if call.is_some_and(|call| is_gate(&call.op)) {
        return Vec::new();
    }
    match call.filter(|call| !call.is_decided_done()).map(FoldedCall::find_last_failure) {
        Some(Ok(Some(error))) if error.side_effects != SideEffects::Unknown => error.left_behind,
        _ => vec![match call.and_then(find_branch_to_make) {
            Some(branch) => format!("what {name} began ({branch})"),
            None => format!("what {name} began"),
        }],
    }
}

/// Returns whether a restore in place was accepted in the last attempt of a call.
fn has_accepted_restore(call: &FoldedCall) -> bool {
    let is_accepted =
        matches!(call.last_accepted().map(Evidence::decode), Some(Ok(Evidence::Accepted { .. })));
    is_accepted && ops::find_operation(&call.op).is_some_and(|op| ops::restores_in_place(op, &call.args))
}

/// Returns the branch that an open call is to make, if it makes one.
fn find_branch_to_make(call: &FoldedCall) -> Option<String> {
    name_of_branch_to_make(&call.op, &call.args).filter(|_| call.is_open())
}

/// Returns the name of the branch that a call of an operation makes, if it makes one.
fn name_of_branch_to_make(op: &str, args: &Value) -> Option<String> {
    let place = parse_target_ref(&args["target"]).ok()?;
    let name = args["into"].as_str()?;
    makes_branch(op, args)?.then(|| format!("branch {place}/{name}"))
}

/// Returns what a call that has ended may have left.
fn list_left_by_call(call: &str, op: &str, args: &Value, outcome: &RecordedOutcome) -> Vec<String> {
    match (outcome.decode(), makes_branch(op, args)) {
        (Ok(Outcome::Ok(made)), Some(true)) => name_branch(&made).into_iter().collect(),
        (Ok(Outcome::Err(error)), _) => error.left_behind,
        (Ok(Outcome::Ok(_)), Some(false)) => Vec::new(),
        (Err(_), _) | (_, None) => vec![format!("what {call} left, whose record does not read")],
    }
}

/// Returns whether a call makes a branch, by the right that it takes; nothing where its arguments do not read.
fn makes_branch(op: &str, args: &Value) -> Option<bool> {
    let Some(op) = ops::find_operation(op) else { return Some(false) };
    let args = CallArgs::from_recorded(op, args).ok()?;
    Some(op.required_permission(&args) == Permission::new("branch", Effect::Create))
}

/// Returns a branch under the name by which one is told to be left behind.
fn name_branch(branch: &Value) -> Option<String> {
    value::untag_as(branch, value::BRANCH_TAG)?;
    parse_target_ref(branch).ok().map(|place| format!("branch {place}"))
}

/// Returns the branch that a call has removed.
fn removed_branch(op: &str, outcome: &RecordedOutcome) -> Option<String> {
    match outcome {
        Outcome::Ok(gone) if op == DELETE_PATH => {
            let (target, name) = (gone["target"].as_str()?, gone["name"].as_str()?);
            Some(format!("branch {target}/{name}"))
        }
        _ => None,
    }
}
