//! Why a run stands still, where somebody has decided since it stopped: the run was told what to do, and nobody has gone on
//! with it.

use crate::{
    journal::{Decision, EDIT_GATE, FoldedCall, Journal, RunFold, RunStatus, RunSummary},
    runtime::{OpenApproval, is_gate, list_awaited_gates},
};

/// Returns why a run stands still: what was decided that it has not gone on from, what is held, or what it has recorded.
pub fn find_standing_reason(journal: &Journal, run: &RunSummary) -> Option<String> {
    describe_decisions_not_gone_on_from(journal, run).or_else(|| run.reason.clone())
}

fn describe_decisions_not_gone_on_from(journal: &Journal, run: &RunSummary) -> Option<String> {
    if run.status.is_final() || run.status == RunStatus::Running {
        return None;
    }
    // What does not read is said where the run is shown, and its recorded reason stays.
    let (fold, _) = RunFold::fold_until_illegal(&journal.read_intact_records(&run.id).ok()?.0);
    let gates = list_decided_gates(&fold);
    let calls: Vec<_> = fold.open_calls().filter(|(_, call)| !is_gate(&call.op)).collect();
    let decided = calls.iter().filter_map(|(name, call)| describe_decision(name, call));
    let decided_gates = gates.iter().filter_map(|gate| describe_decision(&gate.name, fold.call(&gate.name)?));
    let said: Vec<String> = decided.chain(decided_gates).collect();
    // Where the run stopped at the held call, its reason says so.
    let is_told = |name: &str| said.is_empty() && fold.stopped_at() == Some(name);
    let held = calls.iter().filter(|(name, call)| call.is_held() && !is_told(name));
    let held: Vec<String> = held.map(|(name, _)| format!("{name} is held, and not decided about")).collect();
    // A process that has the run goes on with it.
    if said.is_empty() && held.is_empty() || journal.is_run_held(&run.id) {
        return None;
    }
    // By a no the run ends, whatever else it was asked about.
    let is_rejected = gates.iter().any(|gate| gate.find_rejecter().is_some());
    let awaited = list_awaited_gates(&fold).into_iter().next().filter(|_| !is_rejected);
    let waits = awaited.map(|gate| format!("an approval is waited for at {gate}"));
    let not_gone_on = format!("{}, and the run has not gone on yet", said.join(", "));
    let parts = Some(not_gone_on).filter(|_| !said.is_empty()).into_iter().chain(held).chain(waits);
    // What it stopped at before somebody decided about that is over.
    let since = run.reason.clone().filter(|_| gates.is_empty() && fold.stopped_at().is_none());
    Some(parts.chain(since).collect::<Vec<_>>().join("; "))
}

/// Returns the gates about which somebody has decided, and with which the run has not gone on. What does not read is said
/// where the run is shown.
pub(super) fn list_decided_gates(fold: &RunFold) -> Vec<OpenApproval> {
    let mut gates = OpenApproval::list_asked_approvals(fold).unwrap_or_default();
    // The gate of an edition that stays stays open where the run has met its rejection.
    let is_met = |name: &str| {
        fold.is_stopped_at_mismatch() && fold.call(name).is_some_and(|call| call.op == EDIT_GATE)
    };
    gates.retain(|gate| gate.is_in_force && gate.decision.is_some() && !is_met(&gate.name));
    gates
}

/// Says what was decided about an open call; nothing of one that a person keeps open.
fn describe_decision(name: &str, call: &FoldedCall) -> Option<String> {
    let decided = Decision::decode(call.decision.as_ref()?).ok()?;
    let asked =
        call.args["message"].as_str().map_or_else(|| name.to_owned(), |asked| format!("{name} ({asked})"));
    Some(match decided {
        Decision::Hold { .. } => return None,
        Decision::Approve { by, .. } => format!("{by} approved {asked}"),
        Decision::Reject { by, .. } => format!("{by} rejected {asked}"),
        Decision::Redo { .. } => format!("it is decided that {name} is made again"),
        Decision::Fail { .. } => format!("it is decided that {name} failed"),
        Decision::Done { .. } => format!("it is decided that {name} was done"),
    })
}
