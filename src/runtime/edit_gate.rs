//! The gate of an edited text: what was decided at a gate before covers nothing that an edit puts in.
//!
//! It comes before the first new effect in any fork, also in one that stands beside the gate of before, and before an end
//! that has something to clean up: what a rejection drops has done nothing. An edit can make a run fail, or end early, and
//! what `on_failure` and `defer` do then may destroy as much as any step.

use super::{
    approval::Approval,
    call_path::{CLEAN_UP_PATH, are_in_different_forks, name_edit_gate},
    run_context::RunContext,
    scope::CallScope,
    script_error::codes,
    stop::{NativeError, StopReason},
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{Conclusion, EDIT_GATE, GateEnd, Outcome},
};

/// Waits, before a new call of an edited text, for the approval of that text: when some gate was passed before the edit, and
/// the call stands behind none that was passed since.
pub(super) fn await_edit_approval(scope: &CallScope, call: &str, at: &str) -> Result<(), NativeError> {
    #[cfg(test)]
    if super::mutant::skips_edit_gate() {
        return Ok(());
    }
    if call.starts_with(CLEAN_UP_PATH) {
        return Ok(());
    }
    await_approval_behind(scope, call, at)
}

/// Waits, before a run ends to which an edited text has led, for the approval of that text, where something is due then.
/// Whether the text before would have come to this end, too, nobody can tell: it may have gone on, or handled the error.
///
/// # Errors
/// The run stops there, and is not ending.
pub(super) fn await_approval_of_end(scope: &CallScope, conclusion: &Conclusion) -> Result<(), StopReason> {
    #[cfg(test)]
    if super::mutant::skips_edit_gate() {
        return Ok(());
    }
    let context = scope.run_context();
    if !context.has_due_clean_up(!matches!(conclusion, Conclusion::Done(_))) {
        return Ok(());
    }
    await_approval_behind(scope, scope.path(), "the end of the run")
        .map_err(|_| context.stopper.take_stop_reason().unwrap_or(StopReason::Interrupted))
}

/// Waits for the approval of an edited text where a new call, or the end, stands behind gates that were passed before.
fn await_approval_behind(scope: &CallScope, place: &str, at: &str) -> Result<(), NativeError> {
    let context = scope.run_context();
    if context.edits.is_none() || context.run.is_ending() {
        return Ok(());
    }
    let gates = context.run.ended_gates();
    let is_covered =
        gates.iter().any(|(gate, end)| *end == GateEnd::Approved && !are_in_different_forks(gate, place));
    let is_earlier = |end: &GateEnd| *end == GateEnd::UnderEarlierText;
    let mut earlier =
        gates.iter().filter(|(_, end)| is_earlier(end)).map(|(gate, _)| gate.as_str()).peekable();
    if is_covered || earlier.peek().is_none() {
        return Ok(());
    }
    let approval = Approval {
        scope,
        context,
        op: EDIT_GATE,
        name: &name_edit_gate(context.run.source_edition()),
        message: &describe_edit_for_approval(context, earlier),
        at,
    };
    // Branches that come here at once ask one question.
    let turn = lock_unpoisoned(&context.edit_gate);
    let approved = approval.await_approval();
    drop(turn);
    approved
}

/// Says what an edited text asks to be approved, by the gates that were over before the edit.
fn describe_edit_for_approval<'g>(context: &RunContext, earlier: impl Iterator<Item = &'g str>) -> String {
    let (mut passed, mut rejected, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for gate in earlier.filter_map(|gate| context.run.recorded_call(gate)) {
        let Some(message) = gate.args["message"].as_str() else { continue };
        let message = format!("`{message}`");
        match gate.outcome() {
            Some(Outcome::Ok(_)) => passed.push(message),
            Some(Outcome::Err(error)) if error["code"] == codes::REJECTED => rejected.push(message),
            _ => failed.push(message),
        }
    }
    let mut ends = Vec::new();
    if !passed.is_empty() {
        ends.push(format!("it came past {}", passed.join(" and ")));
    }
    if !rejected.is_empty() {
        ends.push(format!("somebody rejected {}", rejected.join(" and ")));
    }
    if !failed.is_empty() {
        ends.push(format!("nobody approved {}", failed.join(" or ")));
    }
    format!(
        "the runbook was edited since {}: may it do all that the edited text does from here on?",
        ends.join(", and ")
    )
}
