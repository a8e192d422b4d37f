//! Calls that failed, and that a person keeps open until it is decided about them.
//!
//! An edited text may handle the error of such a call, and go on. What it does then rests on the error, so the call ends with it.

use super::{
    call_path::{CLEAN_UP_PATH, are_in_different_forks},
    edit_barrier::DEFER,
    run_context::RunContext,
    stop::StopReason,
};
use crate::journal::{CallState, Decision, Durability, EDIT_GATE, FoldedCall, Outcome, Record, RunFold};

/// Returns whether the text of a run went on behind a call that is held, because it handles its error: the run did not stop at
/// the call, and something is recorded behind it. A resume goes on from there.
pub fn is_gone_past(fold: &RunFold, held: &str) -> bool {
    let Some(ended) = fold.call(held).map(|call| call.last) else { return false };
    let has_happened =
        |call: &FoldedCall| call.op != EDIT_GATE && (call.op == DEFER || call.may_have_effect());
    let is_behind = |(name, call): (&str, &FoldedCall)| {
        let is_elsewhere = name.starts_with(CLEAN_UP_PATH) || are_in_different_forks(name, held);
        !is_elsewhere && call.last > ended && has_happened(call)
    };
    fold.stopped_at() != Some(held) && fold.calls().any(is_behind)
}

/// Ends the held calls whose errors the script has handled on its way to `place`: they stay errors.
///
/// # Errors
/// Why the run stops instead.
pub(super) fn end_handled_calls(context: &RunContext, place: &str) -> Result<(), StopReason> {
    let Some(edits) = &context.edits else { return Ok(()) };
    end_held_calls(context, place, |call| edits.has_asked(call) && !are_in_different_forks(call, place))
}

/// Ends the held calls of a run that ends: the script has handled the errors of all of them.
///
/// # Errors
/// Why the run stops instead.
pub(super) fn end_held_calls_of_ending_run(context: &RunContext) -> Result<(), StopReason> {
    end_held_calls(context, "the end of the run", |_| true)
}

fn end_held_calls(
    context: &RunContext,
    at: &str,
    is_handled: impl Fn(&str) -> bool,
) -> Result<(), StopReason> {
    for call in context.run.open_calls().into_iter().filter(|call| is_handled(call)) {
        let past = context.run.call_state(&call).map_err(StopReason::Unreadable)?;
        let CallState::Started { op, args, decision: Some(Decision::Hold { error }), .. } = past else {
            continue;
        };
        let (at, outcome) = (at.to_owned(), Outcome::Err(error.to_json()));
        let end = Record::End { call, op, args, at, outcome };
        context.run.append_record(end, Durability::Buffered).map_err(StopReason::Journal)?;
    }
    Ok(())
}
