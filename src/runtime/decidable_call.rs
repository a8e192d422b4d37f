//! A call that a person decides about: which one it is, what is known of it, and the record of the decision.

use super::{
    awaited_gates::list_awaited_gates,
    call_path::CLEAN_UP_PATH,
    held_calls::is_gone_past,
    open_approval::is_gate,
    script_error::{codes, from_operation_error},
    session::SESSION_NAME,
};
use crate::{
    base::moment::Moment,
    journal::{self, Decision, Durability, FoldedCall, Journal, Record, Run, RunFold, ScriptError},
    provider::{self, model::UndoneJob},
};
use serde_json::Value;

/// A call of a run that stands still, of which only a person can say what came of it.
pub struct DecidableCall {
    run: Run,
    pub name: String,
    pub op: String,
    pub args: Value,
    /// The error with which it failed, where that is known.
    pub known_error: Option<ScriptError>,
    /// What its last attempt was given to wait on, as it was recorded.
    pub accepted: Option<Value>,
    /// Why nobody makes it again, if nobody does.
    never_made_again: Option<NeverMadeAgain>,
}

/// Why a call is not made again, whoever says that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeverMadeAgain {
    /// Its run is given up, or is a session.
    GivenUp,
    /// The text of its run handles its error, and something has happened behind it.
    GonePast,
}

impl NeverMadeAgain {
    /// Returns why a call of a run is not made again; nothing where it would be. Clean-up is done to its end.
    pub fn find(fold: &RunFold, runbook: &str, call: &str) -> Option<Self> {
        let is_settled = fold.is_given_up() || runbook == SESSION_NAME;
        if is_settled && !call.starts_with(CLEAN_UP_PATH) {
            Some(Self::GivenUp)
        } else {
            is_gone_past(fold, call).then_some(Self::GonePast)
        }
    }
}

/// Why nobody can decide about a call.
#[derive(Debug)]
pub enum DecisionRefusal {
    /// The run cannot be read or taken.
    Journal(journal::Error),
    /// It was cut short, and what came of it was not looked for yet, or not to the end.
    CutShort { call: String },
    /// It is a gate, which is approved or rejected.
    IsGate {
        call: String,
        /// Whether the run waits at it.
        is_awaited: bool,
    },
    /// It would not be made again.
    NeverMadeAgain { call: String, why: NeverMadeAgain },
    /// A request of it may still take effect: until a moment, or until nobody knows when.
    MayLand { call: String, until: Option<Moment> },
    /// Not exactly one open call has such a name.
    NotOne {
        /// Those that are open.
        open: Vec<String>,
        /// Whether none has.
        is_none: bool,
    },
}

impl From<journal::Error> for DecisionRefusal {
    fn from(error: journal::Error) -> Self {
        Self::Journal(error)
    }
}

impl DecidableCall {
    /// Takes a run, and finds the call in it that has this name, or alone has it in its name. One of which a request may still
    /// take effect is found only where somebody decides `anyway`.
    ///
    /// # Errors
    /// [`DecisionRefusal`].
    pub fn acquire(journal: &Journal, id: &str, given: &str, anyway: bool) -> Result<Self, DecisionRefusal> {
        let run = journal.acquire_run(id)?;
        let (fold, _) = RunFold::fold_until_illegal(&journal.read_records(id)?);
        let open: Vec<_> = fold.decidable_calls().filter(|(_, open)| !is_gate(&open.op)).collect();
        let named: Vec<_> = open.iter().copied().filter(|(name, _)| fold.is_named(given, name)).collect();
        let [(name, call)] = named[..] else {
            return Err(find_decision_refusal(&fold, &open, given, named.is_empty()));
        };
        let unreadable = |what| journal::Error::from(fold.unreadable_call_error(name, what));
        let known_error = call.find_last_failure().map_err(unreadable)?;
        let (name, op, args) = (name.to_owned(), call.op.clone(), call.args.clone());
        let accepted = call.last_accepted().cloned();
        if let Some(until) = journal.list_landing_ends(id)?.remove(&name).filter(|_| !anyway) {
            return Err(DecisionRefusal::MayLand { call: name, until });
        }
        let never_made_again = NeverMadeAgain::find(&fold, &journal.summarize_run(id)?.runbook, &name);
        Ok(Self { run, name, op, args, known_error, accepted, never_made_again })
    }

    /// Checks that the call is made again when somebody says so.
    ///
    /// # Errors
    /// [`DecisionRefusal::NeverMadeAgain`].
    pub fn check_is_made_again(&self) -> Result<(), DecisionRefusal> {
        match self.never_made_again {
            Some(why) => Err(DecisionRefusal::NeverMadeAgain { call: self.name.clone(), why }),
            None => Ok(()),
        }
    }

    /// Returns the id of its run.
    pub fn run_id(&self) -> &str {
        self.run.id()
    }

    /// Returns the error with which the call ends, of which this machine has undone what it had begun.
    pub fn error_of_undone_job(&self, undone: &UndoneJob) -> ScriptError {
        let message = format!("`{}` was decided to have failed, and what it had begun was undone", self.op);
        let end = provider::Error {
            side_effects: undone.side_effects,
            ..provider::Error::new(provider::Code::Unknown, message)
        };
        let left_behind = undone.left_behind.clone();
        let error = from_operation_error(&provider::Error { left_behind, ..end }, &self.op, None);
        ScriptError { code: codes::DECIDED.into(), ..error }
    }

    /// Ends the quarantines of the call's job, of which nothing is left that could take effect.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn note_job_given_up(&self, journal: &Journal) -> Result<(), journal::Error> {
        journal.lift_endless_quarantines(self.run.id(), &self.name)
    }

    /// Records what somebody decided about the call; the run goes by it when it is resumed. A quarantine whose end nobody knows
    /// is over at once where it is settled what came of the call: who waits for it may keep the run from being resumed.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn record_decision(
        &self,
        journal: &Journal,
        decision: &Decision,
        by: String,
    ) -> Result<(), journal::Error> {
        let record = Record::Decided { call: self.name.clone(), decision: decision.to_json(), by };
        self.run.append_record(record, Durability::Synced)?;
        match decision {
            Decision::Fail { .. } | Decision::Done { .. } => {
                journal.lift_endless_quarantines(self.run.id(), &self.name)
            }
            _ => Ok(()),
        }
    }
}

/// Returns why nobody can decide about a call: one that was cut short is looked up by a resume first, and a gate has commands
/// of its own.
fn find_decision_refusal(
    fold: &RunFold,
    open: &[(&str, &FoldedCall)],
    given: &str,
    is_none: bool,
) -> DecisionRefusal {
    let (gates, cut_short): (Vec<_>, Vec<_>) = fold
        .open_calls()
        .filter(|(name, _)| fold.is_named(given, name))
        .partition(|(_, open)| is_gate(&open.op));
    match (gates.first(), cut_short.first()) {
        (Some((gate, _)), None) if is_none => {
            let is_awaited = list_awaited_gates(fold).iter().any(|awaited| awaited == gate);
            return DecisionRefusal::IsGate { call: (*gate).to_owned(), is_awaited };
        }
        (_, Some((call, _))) if is_none => return DecisionRefusal::CutShort { call: (*call).to_owned() },
        _ => {}
    }
    let open = open.iter().map(|(name, _)| (*name).to_owned()).collect();
    DecisionRefusal::NotOne { open, is_none }
}
