//! The editions of a run's sources: which text is in force, and what is dropped with one that does not match.

use super::{FoldedCall, Record};
use std::collections::BTreeSet;

/// The gate of an edition of the sources: a person approves what an edited text does behind gates that were passed before.
/// It belongs to its edition, and is forgotten when another one takes its place.
pub const EDIT_GATE: &str = "approve_edit";

/// The editions of a run's sources, as its records leave them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Editions {
    /// The one in force: 0 is the original, higher ones are edits.
    pub(super) in_force: u32,
    /// The newest text there is.
    pub(super) newest: u32,
    /// Whether the run stopped at a mismatch, and no edition was dropped by it: the same text meets it again.
    pub(super) is_stuck: bool,
    /// What the edition in force need not ask for before it does something new, because somebody allowed it.
    pub(super) allowed: BTreeSet<String>,
    /// What the edition in force has added, while nothing has taken effect under it and it may still be dropped.
    trial: Option<EditionTrial>,
}

/// An edition of the sources that may still be dropped.
#[derive(Debug, Clone, Default, PartialEq)]
struct EditionTrial {
    /// The edition to fall back to.
    before: u32,
    /// What somebody had allowed to be missing under that one.
    allowed_before: BTreeSet<String>,
    added: AddedRecords,
}

/// What was first recorded under an edition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AddedRecords {
    /// The names of calls: they only read.
    pub(super) calls: BTreeSet<String>,
    /// The names of targets.
    pub(super) targets: BTreeSet<String>,
}

impl Editions {
    /// Follows a record. `call` is the call that the record is about, as it was; `is_first` says that its call or its target
    /// was not recorded before. Returns what is dropped when another edition takes the place of the one in force: one under
    /// which nothing has taken effect is dropped with what was recorded under it, which a later text would have to ask for.
    pub(super) fn follow_record(
        &mut self,
        record: &Record,
        call: Option<&FoldedCall>,
        is_first: bool,
    ) -> Option<AddedRecords> {
        match record {
            Record::Resumed { digest: Some(_), .. } => return self.begin_edition(),
            Record::Stopped { mismatch: true, .. } => {
                self.is_stuck = self.trial.is_none();
                return self.drop_trial();
            }
            Record::Resumed { .. } => self.is_stuck = false,
            Record::EditAllowed { missing, .. } => self.allowed.extend(missing.iter().cloned()),
            // Nothing has happened under an edition that waits for its own gate.
            Record::Begin { op, .. } | Record::End { op, .. } if op == EDIT_GATE => {}
            Record::Accepted { .. } if call.is_some_and(|call| call.op == EDIT_GATE) => {}
            Record::Begin { .. } | Record::Accepted { .. } | Record::Ending { .. } => self.trial = None,
            Record::End { .. } if call.is_some_and(FoldedCall::may_have_effect) => self.trial = None,
            Record::End { call, .. } if is_first => self.add_to_trial(|added| {
                added.calls.insert(call.clone());
            }),
            Record::Target { name, .. } if is_first => {
                self.add_to_trial(|added| {
                    added.targets.insert(name.clone());
                });
            }
            _ => {}
        }
        None
    }

    /// Puts the next edition in force; returns what is dropped with the one before.
    fn begin_edition(&mut self) -> Option<AddedRecords> {
        self.is_stuck = false;
        let dropped = self.drop_trial();
        self.newest += 1;
        let allowed_before = std::mem::take(&mut self.allowed);
        let added = AddedRecords::default();
        self.trial = Some(EditionTrial { before: self.in_force, allowed_before, added });
        self.in_force = self.newest;
        dropped
    }

    /// Drops the edition in force, if it may still be dropped; returns what was recorded under it.
    fn drop_trial(&mut self) -> Option<AddedRecords> {
        let EditionTrial { before, allowed_before, added } = self.trial.take()?;
        self.in_force = before;
        self.allowed = allowed_before;
        Some(added)
    }

    fn add_to_trial(&mut self, add: impl FnOnce(&mut AddedRecords)) {
        if let Some(trial) = &mut self.trial {
            add(&mut trial.added);
        }
    }
}
