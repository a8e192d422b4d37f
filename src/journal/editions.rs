//! The editions of a run's sources: which text is in force, and what is dropped with one that does not match.

use super::{Decision, FoldedCall, Record, RunStatus};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The gates of a text: a person approves what stands behind one.
pub const APPROVE: &str = "approve";

/// The gate of an edition of the sources: a person approves what an edited text does after gates that were passed before.
/// It belongs to its edition, and covers no other one.
pub const EDIT_GATE: &str = "approve_edit";

/// The editions of a run's sources, as its records leave them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Editions {
    /// The one in force: 0 is the original, higher ones are edits.
    pub(super) in_force: u32,
    /// The newest text there is.
    pub(super) newest: u32,
    /// Whether the run stopped at a mismatch, and no edition was dropped by it: the same text meets it again.
    pub(super) is_stopped_at_mismatch: bool,
    /// What somebody allowed to be missing.
    pub(super) allowance: Allowance,
    /// The parameters that the edition in force has and the run was not given, with their values.
    pub(super) params: Map<String, Value>,
    /// The names of the parameters that each edition there was had added.
    pub(super) param_names: Vec<BTreeSet<String>>,
    /// What the edition in force has added, while nothing has taken effect under it and it may still be dropped.
    trial: Option<EditionTrial>,
}

/// An edition of the sources that may still be dropped.
#[derive(Debug, Clone, Default, PartialEq)]
struct EditionTrial {
    /// The edition to fall back to.
    before: u32,
    /// What somebody had allowed to be missing under that one.
    allowance_before: Allowance,
    /// The parameters that were added up to that one.
    params_before: Map<String, Value>,
    added: AddedRecords,
    /// Whether a gate that only this edition has was asked about. The next edition has to ask for it, too: whoever edits
    /// again takes no gate out that somebody may have rejected.
    has_asked: bool,
    /// The gates at which somebody has approved the edition, and that are not over. While there are any, it counts as one that
    /// has taken effect; whoever takes the approval back has it on trial again.
    approved: BTreeSet<String>,
    /// The trial of the edition before, where that was approved: it goes on when this edition is dropped.
    outer: Option<Box<EditionTrial>>,
}

impl EditionTrial {
    fn is_approved(&self) -> bool {
        !self.approved.is_empty()
    }
}

/// What an edited text need not ask for before it does something new, because somebody allowed it. It stays allowed for the
/// texts that come after, until one of them asks for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Allowance {
    /// The names of calls and clean-up.
    pub(super) names: BTreeSet<String>,
    /// Those that a text has asked for since.
    reached: BTreeSet<String>,
}

impl Allowance {
    /// Returns what is allowed to be missing, and was not asked for since.
    pub(super) fn missing(&self) -> BTreeSet<String> {
        self.names.difference(&self.reached).cloned().collect()
    }

    fn add(&mut self, missing: &[String]) {
        self.names.extend(missing.iter().cloned());
        self.reached.retain(|name| !missing.contains(name));
    }
}

/// What was first recorded under an edition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AddedRecords {
    /// The names of calls: they only read, or wait for a person.
    pub(super) calls: BTreeSet<String>,
    /// The names of targets.
    pub(super) targets: BTreeSet<String>,
    /// The gates that were withdrawn under a text before, and are asked about under this one, as they were.
    pub(super) asked_anew: BTreeMap<String, FoldedCall>,
}

impl Editions {
    /// Applies a record. `call` is the call that the record is about, as it was before; `is_first` says that its call
    /// or its target was not recorded yet. Returns what is dropped when another edition takes the place of the one in
    /// force: one under which nothing has taken effect is dropped with what was recorded under it, so that no later
    /// text has to ask for that.
    pub(super) fn apply_and_take_dropped(
        &mut self,
        record: &Record,
        call: Option<&FoldedCall>,
        is_first: bool,
    ) -> Option<AddedRecords> {
        match record {
            Record::Resumed { digest: Some(_), params, .. } => {
                return self.begin_edition_and_take_dropped(params.clone());
            }
            Record::Stopped { mismatch: true, .. } => {
                self.is_stopped_at_mismatch = self.droppable_trial().is_none();
                return self.drop_trial_edition();
            }
            // `--leave` ends a run that nobody has taken up.
            Record::Resumed { gives_up: true, .. }
            | Record::Finished { status: RunStatus::Abandoned, .. } => {
                self.is_stopped_at_mismatch = false;
                return self.drop_trial_edition();
            }
            Record::Resumed { .. } => self.is_stopped_at_mismatch = false,
            Record::EditAllowed { missing, .. } => self.allowance.add(missing),
            Record::EditReached { name } => drop(self.allowance.reached.insert(name.clone())),
            Record::Begin { call: name, op, .. } => self.follow_begin(name, op, call, is_first),
            Record::End { call: name, op, .. } => self.follow_end(name, op, call, is_first),
            Record::Ending { .. } => self.trial = None,
            Record::Decided { call: name, decision, .. } => self.follow_decision(name, decision, call),
            // What was decided about it before is void.
            Record::Accepted { call, .. } => self.take_approval_back(call),
            Record::Target { name, .. } if is_first => {
                self.add_to_trial_edition(|added| {
                    added.targets.insert(name.clone());
                });
            }
            _ => {}
        }
        None
    }

    /// Follows the begin of a call: the edition in force counts from its first new effect. What had begun before, and is
    /// made again, is no effect of it; nothing has happened while it waits for a person.
    fn follow_begin(&mut self, name: &str, op: &str, call: Option<&FoldedCall>, is_first: bool) {
        let Some(trial) = &mut self.trial else { return };
        let is_new = is_first || trial.added.calls.contains(name);
        match (op, call) {
            (EDIT_GATE, _) => {}
            (APPROVE, _) if is_new => {
                trial.has_asked = true;
                trial.added.calls.insert(name.to_owned());
            }
            (APPROVE, Some(withdrawn)) if withdrawn.is_withdrawn() => {
                trial.has_asked = true;
                trial.added.asked_anew.insert(name.to_owned(), withdrawn.clone());
            }
            _ if is_new => self.trial = None,
            _ => {}
        }
    }

    /// Follows the end of a call: what is taken up, and had begun before the edition, is no effect of it. A gate that was
    /// decided about under an edition was decided for it.
    fn follow_end(&mut self, name: &str, op: &str, call: Option<&FoldedCall>, is_first: bool) {
        match op {
            EDIT_GATE | APPROVE if call.is_some_and(FoldedCall::may_have_effect) => self.trial = None,
            EDIT_GATE => {}
            _ if is_first => self.add_to_trial_edition(|added| {
                added.calls.insert(name.to_owned());
            }),
            _ => {}
        }
    }

    /// Follows a decision: the edition in force counts while somebody approves it at its own gate, or at one that only it
    /// has. Of a gate that was asked about before, nobody can tell here for which text it is approved.
    fn follow_decision(&mut self, name: &str, decision: &Value, call: Option<&FoldedCall>) {
        let Some(trial) = &mut self.trial else { return };
        let is_own = trial.added.calls.contains(name)
            || trial.added.asked_anew.contains_key(name)
            || call.is_some_and(|call| call.op == EDIT_GATE && call.edition == self.in_force);
        if !matches!(Decision::decode(decision), Ok(Decision::Approve { .. })) {
            self.take_approval_back(name);
        } else if is_own {
            trial.approved.insert(name.to_owned());
        }
    }

    fn take_approval_back(&mut self, gate: &str) {
        if let Some(trial) = &mut self.trial {
            trial.approved.remove(gate);
        }
    }

    /// Puts the next edition in force, with the parameters that it adds; returns what is dropped with the one before.
    fn begin_edition_and_take_dropped(&mut self, params: Map<String, Value>) -> Option<AddedRecords> {
        self.is_stopped_at_mismatch = false;
        if self.droppable_trial().is_some_and(|trial| trial.has_asked) {
            self.trial = None;
        }
        let dropped = self.drop_trial_edition();
        let outer = self.trial.take().map(Box::new);
        self.newest += 1;
        self.param_names.push(params.keys().cloned().collect());
        self.trial = Some(EditionTrial {
            before: self.in_force,
            allowance_before: self.allowance.clone(),
            params_before: std::mem::replace(&mut self.params, params),
            added: AddedRecords::default(),
            has_asked: false,
            approved: BTreeSet::new(),
            outer,
        });
        self.in_force = self.newest;
        dropped
    }

    /// Returns the trial of the edition in force, while that may be dropped.
    fn droppable_trial(&self) -> Option<&EditionTrial> {
        self.trial.as_ref().filter(|trial| !trial.is_approved())
    }

    /// Returns the edition that is in force when the one on trial, if there is one, is dropped.
    pub(super) fn without_trial(&self) -> u32 {
        self.droppable_trial().map_or(self.in_force, |trial| trial.before)
    }

    /// Returns the parameters that were added without the edition on trial, if there is one.
    pub(super) fn params_without_trial(&self) -> &Map<String, Value> {
        self.droppable_trial().map_or(&self.params, |trial| &trial.params_before)
    }

    /// Drops the edition in force, if it may still be dropped; returns what was recorded under it.
    pub(super) fn drop_trial_edition(&mut self) -> Option<AddedRecords> {
        let trial = self.trial.take_if(|trial| !trial.is_approved())?;
        let EditionTrial { before, allowance_before, params_before, added, outer, .. } = trial;
        self.trial = outer.map(|outer| *outer);
        self.in_force = before;
        self.allowance = allowance_before;
        self.params = params_before;
        Some(added)
    }

    fn add_to_trial_edition(&mut self, add: impl FnOnce(&mut AddedRecords)) {
        if let Some(trial) = &mut self.trial {
            add(&mut trial.added);
        }
    }
}
