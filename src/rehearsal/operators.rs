//! What an operator does with a run that stands still, and what becomes of the machine's clock meanwhile.

use super::{
    edited_runbook::EditedRunbook,
    points::{Fault, LANDING_LATE, Point, PointKind},
    text_edits::EditKind,
};
use crate::{
    base::{clock::VirtualClock, moment::Span},
    journal::Decision,
    provider::sim::faults::{RequestKind, RequestOutcome},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// How far the clock is set back: further than the usual job of a run takes.
const STEP_BACK: Span = Span::from_secs(-1800);
/// How far the clock is set forward: past most limits of a run.
pub(super) const STEP_FORWARD: Span = Span::from_secs(3 * 3600);
/// How long an operator waits before a decision: by then whatever was begun is over, and can be seen.
const TIME_TO_DECIDE: Span = Span::from_secs(4 * 3600);

/// How long a gate stands before somebody decides about it: an approval has no time limit.
const TIME_TO_APPROVE: Span = Span::from_secs(3 * 24 * 3600);

/// What happens between two processes of a run, beside the time that passes.
#[derive(Debug, Clone)]
pub(super) enum OperatorAct {
    /// `runs abandon`, again and again until the run has ended.
    Abandon,
    /// `runs abandon --leave`.
    Leave,
    /// `runs decide`, if the run is undecided or a call is held, then `resume`.
    Decide(TrueDecision),
    /// The clock is set back, then `resume`.
    ClockBack,
    /// The clock is set forward, then `resume`.
    ClockForward,
    /// The machine is booted anew, then `resume`.
    Reboot,
    /// `approve`, after a long time, then `resume`.
    ApproveLate,
    /// `reject`, after a long time, then `resume`.
    RejectLate,
    /// The text is edited, then `resume --edited`.
    Edit(EditAct),
}

/// What an operator does who edits the text of a run that stands still.
#[derive(Debug, Clone)]
pub(super) struct EditAct {
    pub(super) edited: Arc<EditedRunbook>,
    /// Whether what the run waits for is approved before: an approval of another text than the one that goes on.
    pub(super) approves: bool,
    /// Whether the run is given up where the text does not match, instead of going on with the recorded one.
    pub(super) gives_up: bool,
    /// What goes wrong where the edited text itself is asked about.
    pub(super) at_gate: Option<Fault>,
}

/// A decision by somebody who has looked, and says what is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TrueDecision {
    /// It did not take effect, and is made again.
    Redo,
    /// It did not take effect, and has failed.
    Fail,
    /// It took effect, and gave this back.
    Done(Value),
}

/// What an operator does after a death of the process, as scenarios name it.
pub(super) const ACTS_AFTER_DEATH: &[(&str, OperatorAct)] = &[
    ("abandon", OperatorAct::Abandon),
    ("leave", OperatorAct::Leave),
    ("clock-back", OperatorAct::ClockBack),
    ("clock-forward", OperatorAct::ClockForward),
    ("reboot", OperatorAct::Reboot),
];

/// What an operator does with a run that waits at a gate, as scenarios name it.
pub(super) const ACTS_AT_GATE: &[(&str, OperatorAct)] = &[
    ("approve-late", OperatorAct::ApproveLate),
    ("reject-late", OperatorAct::RejectLate),
    ("abandon", OperatorAct::Abandon),
    ("leave", OperatorAct::Leave),
];

/// What an operator does with a run of which a failed call is held, as scenarios name it.
pub(super) const ACTS_AT_HELD_CALL: &[(&str, OperatorAct)] = &[
    ("decide-redo", OperatorAct::Decide(TrueDecision::Redo)),
    ("decide-fail", OperatorAct::Decide(TrueDecision::Fail)),
    ("abandon", OperatorAct::Abandon),
    ("leave", OperatorAct::Leave),
];

/// What goes wrong where a person is asked about an edited text: the word for it in the names of scenarios, the fault,
/// and the fault in words.
pub(super) const FAULTS_AT_EDIT_GATE: &[(&str, Fault, &str)] = &[
    ("reject", Fault::Rejection, "it is rejected"),
    ("leave", Fault::Absence, "nobody is there, and it is approved later"),
    ("kill", Fault::Crash, "the process is killed"),
];

/// What operators do otherwise, as scenarios name it.
pub(super) const OTHER_ACTS: &[&str] = &[
    "take-over",
    "clock-jump",
    "decide-done",
    "decide-fail",
    "decide-redo",
    "reject",
    "approve-late",
    "reject-late",
    EditKind::Remove.word(),
    EditKind::Add.word(),
    EditKind::Move.word(),
];

impl OperatorAct {
    /// Returns what is done, in words.
    pub(super) fn describe(&self) -> String {
        let words = match self {
            Self::Edit(act) => return act.describe(),
            Self::ApproveLate => "after three days, `approve`",
            Self::RejectLate => "after three days, `reject`",
            Self::Abandon => "it is given up: `runs abandon`",
            Self::Leave => "it is given up as it is: `runs abandon --leave`",
            Self::Decide(TrueDecision::Redo) => "where it is undecided or held, `runs decide … redo`",
            Self::Decide(TrueDecision::Fail) => "where it is undecided or held, `runs decide … fail`",
            Self::Decide(TrueDecision::Done(_)) => "where it is undecided or held, `runs decide … done`",
            Self::ClockBack => "the clock is set 30 minutes back",
            Self::ClockForward => "the clock is set 3 hours forward",
            Self::Reboot => "the machine is booted anew",
        };
        words.to_owned()
    }

    /// Returns whether a run may end otherwise because of it: it is given up, rejected, decided to have failed, or its
    /// script reads another time. One whose text is edited ends as the text that counts then.
    pub(super) fn may_change_end(&self) -> bool {
        match self {
            Self::Reboot | Self::Decide(TrueDecision::Redo | TrueDecision::Done(_)) => false,
            Self::Edit(act) => act.gives_up,
            _ => true,
        }
    }

    /// Lets the clock do what it does.
    pub(super) fn move_clock(&self, clock: &VirtualClock) {
        match self {
            Self::ClockBack => clock.shift_wall_clock(STEP_BACK),
            Self::ClockForward => clock.shift_wall_clock(STEP_FORWARD),
            Self::Reboot => clock.reboot(),
            Self::Decide(_) => clock.advance_by(TIME_TO_DECIDE),
            Self::ApproveLate | Self::RejectLate => clock.advance_by(TIME_TO_APPROVE),
            Self::Abandon | Self::Leave | Self::Edit(_) => {}
        }
    }

    /// Draws what happens after a process, which follows from the seed and the number of the process alone; `edited` is the
    /// text that its schedule may have, after one of the first processes.
    pub(super) fn draw(seed: u64, process: u32, edited: Option<&Arc<EditedRunbook>>) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(process.to_be_bytes());
        hash.update("operator");
        let dice = hash.finalize();
        if let Some(edited) = edited.filter(|_| u64::from(process) == 1 + seed % 2) {
            let (approves, gives_up) = (dice[1].is_multiple_of(2), dice[2].is_multiple_of(4));
            return Some(Self::Edit(EditAct {
                edited: Arc::clone(edited),
                approves,
                gives_up,
                at_gate: None,
            }));
        }
        // In half of the restarts nobody does anything but resume.
        let (_, act) = ACTS_AFTER_DEATH.get(usize::from(dice[0]) % (2 * ACTS_AFTER_DEATH.len()))?;
        Some(act.clone())
    }
}

impl EditAct {
    fn describe(&self) -> String {
        let first = if self.approves { "what it waits for is approved, then " } else { "" };
        let then = if self.gives_up { "; where that does not match, `runs abandon`" } else { "" };
        let asked = self.at_gate.map_or_else(String::new, |fault| {
            let known = FAULTS_AT_EDIT_GATE.iter().find(|(_, known, _)| *known == fault);
            known.map_or_else(String::new, |(_, _, words)| format!("; where it is asked about, {words}"))
        });
        format!("{first}{}; `resume --edited`{asked}{then}", self.edited.edit.words)
    }
}

impl TrueDecision {
    /// Returns the decision as it is recorded.
    pub(super) fn to_decision(&self) -> Decision {
        match self {
            Self::Redo => Decision::Redo { error: None },
            Self::Fail => Decision::Fail { error: None },
            Self::Done(result) => Decision::Done { result: result.clone() },
        }
    }
}

/// Returns the fault of a process that is asked to stop while a request of this point is on its way; nothing where a
/// request cannot land after its sender is gone.
pub(super) fn take_over_fault_at(at: PointKind) -> Option<Fault> {
    late_landing_outcome_at(at).map(Fault::TakeOver)
}

/// Returns the fault of a clock that is set forward while a lost request of this point is looked for; nothing where a
/// request cannot land late.
pub(super) fn clock_jump_fault_at(at: PointKind) -> Option<Fault> {
    late_landing_outcome_at(at).map(Fault::ClockJump)
}

fn late_landing_outcome_at(at: PointKind) -> Option<RequestOutcome> {
    let outcome = RequestOutcome::LandsLate(LANDING_LATE);
    match at {
        PointKind::Acts(name) if outcome.fits_request(name, RequestKind::Change) => Some(outcome),
        _ => None,
    }
}

/// Returns, for a request that acts, what can become of it when nothing is answered any more, with what is then so: the
/// word for it, the outcome, and the decision. `result` is what its call gives back.
pub(super) fn outage_outcomes_at(
    point: &Point,
    result: Option<&Value>,
) -> Vec<(&'static str, RequestOutcome, TrueDecision)> {
    if !matches!(point.at, PointKind::Acts(_)) || point.nth > 0 {
        return Vec::new();
    }
    let done =
        result.map(|result| ("decide-done", RequestOutcome::Unanswered, TrueDecision::Done(result.clone())));
    let lost = [("decide-fail", TrueDecision::Fail), ("decide-redo", TrueDecision::Redo)];
    let lost = lost.map(|(word, decision)| (word, RequestOutcome::Lost, decision));
    done.into_iter().chain(lost).collect()
}
