//! Why a run stands still, where somebody has decided since it stopped: the run was told what to do, and nobody has gone on
//! with it.

use crate::{
    journal::{Decision, FoldedCall, Journal, RunFold, RunStatus, RunSummary},
    runtime::list_awaited_gates,
};

/// Returns why a run stands still: what was decided about the call at which it stopped, or what it has recorded.
pub fn find_standing_reason(journal: &Journal, run: &RunSummary) -> Option<String> {
    describe_decision_not_gone_on_from(journal, run).or_else(|| run.reason.clone())
}

fn describe_decision_not_gone_on_from(journal: &Journal, run: &RunSummary) -> Option<String> {
    if ![RunStatus::Waiting, RunStatus::Undecided].contains(&run.status) {
        return None;
    }
    // What does not read is said where the run is shown, and its recorded reason stays.
    let (fold, _) = RunFold::fold_until_illegal(&journal.read_intact_records(&run.id).ok()?.0);
    let name = fold.stopped_at()?;
    let said = describe_decision(name, fold.call(name)?)?;
    let awaited = list_awaited_gates(&fold);
    let waits = awaited.first().map(|gate| format!("; an approval is waited for at {gate}"));
    Some(format!("{said}, and the run has not gone on yet{}", waits.unwrap_or_default()))
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
