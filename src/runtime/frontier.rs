//! The frontiers of an edited script: where a branch waits until nothing that had begun is missing.

use super::{
    decision::ask_observer,
    edit_barrier::{EditBarrier, Frontier, IsGateWithdrawn, MissingCalls},
    observer::{Answer, Choice, Question},
    run_context::RunContext,
    stop::{NativeError, StopReason},
};
use crate::journal::{Durability, Record};
use std::sync::Arc;

/// Waits at a frontier until no branch of the script replays and everything that had begun has been asked for. A script
/// that was not edited has none; clean-up begins after the script has asked for everything.
///
/// # Errors
/// The run stops: something is missing and nobody allowed it.
pub(super) fn wait_at_frontier(
    context: &Arc<RunContext>,
    frontier: impl FnOnce() -> Frontier,
) -> Result<(), NativeError> {
    wait_at_frontier_unless_withdrawn(context, frontier, None)
}

/// Waits at the frontier of a gate, as [`wait_at_frontier`] does, or until the gate is withdrawn.
///
/// # Errors
/// As [`wait_at_frontier`].
pub(super) fn wait_at_frontier_unless_withdrawn(
    context: &Arc<RunContext>,
    frontier: impl FnOnce() -> Frontier,
    withdrawal: Option<IsGateWithdrawn>,
) -> Result<(), NativeError> {
    #[cfg(test)]
    if super::mutant::passes_frontier() {
        return Ok(());
    }
    let Some(edits) = context.edits.as_ref().filter(|_| !context.run.is_ending()) else { return Ok(()) };
    let Some((mut branch, missing)) = edits.count_as_waiting(frontier(), withdrawal) else { return Ok(()) };
    if let Some(missing) = missing {
        ask_about_missing(context, missing)?;
    }
    context.wait_until_ready_or_stopped(async {
        while !edits.is_released(&branch) {
            // The sender lives as long as the run.
            drop(branch.rounds.changed().await);
        }
    })
}

/// Ends a branch of an edited script. In place of the last one of a fork, the branch from which they came goes on.
pub(super) fn end_script_branch(context: &Arc<RunContext>) {
    let missing = context.edits.as_ref().and_then(EditBarrier::end_script_branch);
    if let Some(missing) = missing {
        // What stops the run here, stops every branch.
        drop(ask_about_missing(context, missing));
    }
}

/// Asks a person whether the branches may go on although something is missing; where nobody is, the run stops.
fn ask_about_missing(context: &Arc<RunContext>, missing: MissingCalls) -> Result<(), NativeError> {
    let MissingCalls { names, difference, refusal } = missing;
    let stop = |why: &str| {
        let message = format!("{difference}\n  {why}");
        Err(context.stopper.stop_run(StopReason::Mismatch { message }))
    };
    if let Some(why) = refusal {
        return stop(why);
    }
    let by = match ask_observer(context, Question::Edit { difference: difference.clone() })? {
        Some(Answer { choice: Choice::Approve, by }) => by,
        Some(_) => return stop("it was not allowed"),
        None => {
            return stop(
                "only a person at a terminal can allow it: put it after what was done, or resume there",
            );
        }
    };
    let allowed = Record::EditAllowed { missing: names.clone(), by };
    context.stop_on_journal_error(context.run.append_record(allowed, Durability::Synced))?;
    if let Some(edits) = &context.edits {
        edits.release_despite_missing(names);
    }
    Ok(())
}
