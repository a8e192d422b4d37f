//! The approvals that a run waits for, as its records have them.

use super::call_path::CLEAN_UP_PATH;
use crate::journal::{
    self, APPROVE, CallState, Decision, Durability, EDIT_GATE, Record, Run, RunFold, UnreadableRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Returns whether a recorded call is one at which a run waits for a person's approval.
pub fn is_gate(op: &str) -> bool {
    [APPROVE, EDIT_GATE].contains(&op)
}

/// Returns whether a run can still come to a gate: one that is ending comes to the gates of its clean-up and to no others.
pub(super) fn comes_to_gate(is_ending: bool, name: &str) -> bool {
    !is_ending || name.starts_with(CLEAN_UP_PATH)
}

/// What an approval covers, recorded when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ApprovalCover {
    /// The hash of the call, its message, the run's parameters, the identity of the targets and, once it was edited, the text.
    pub(super) hash: String,
    /// The targets, by name.
    pub(super) targets: BTreeSet<String>,
    /// Whether somebody has decided before, about something else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_anew: bool,
}

impl ApprovalCover {
    /// Reads what was recorded when the approval was asked for.
    ///
    /// # Errors
    /// Why it is not what an approval covers.
    pub(super) fn decode(recorded: &Value) -> Result<Self, String> {
        Self::deserialize(recorded).map_err(|e| format!("{recorded} is not what an approval covers: {e}"))
    }
}

/// An approval that was asked for, and that the run has not come past.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenApproval {
    /// The name of its call.
    pub name: String,
    /// What somebody has decided about it. Nothing was done for that yet: whoever has the run may decide otherwise.
    pub decision: Option<Decision>,
    /// Whether it was asked for under the text in force. What another text asked for has to be asked anew before somebody can
    /// approve it.
    pub is_in_force: bool,
    hash: String,
}

impl OpenApproval {
    /// Returns those that a run still comes to, in the order of their names.
    ///
    /// # Errors
    /// What is recorded of one of them does not read.
    pub fn list_asked_approvals(fold: &RunFold) -> Result<Vec<Self>, UnreadableRecord> {
        let open = fold.open_calls().filter(|(name, _)| comes_to_gate(fold.is_ending(), name));
        let mut names: Vec<String> = open.map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names.into_iter().filter_map(|name| Self::find(fold, name).transpose()).collect()
    }

    /// Returns those that the run waits for: asked for under the text in force, and nobody has decided about them.
    ///
    /// # Errors
    /// What is recorded of one of them does not read.
    pub fn list_open_approvals(fold: &RunFold) -> Result<Vec<Self>, UnreadableRecord> {
        let mut asked = Self::list_asked_approvals(fold)?;
        asked.retain(Self::is_awaited);
        Ok(asked)
    }

    /// Returns whether the run waits for it.
    pub fn is_awaited(&self) -> bool {
        self.is_in_force && self.decision.is_none()
    }

    /// Returns who has approved it, where somebody has.
    pub fn find_approver(&self) -> Option<&str> {
        match &self.decision {
            Some(Decision::Approve { by, .. }) => Some(by),
            _ => None,
        }
    }

    /// Returns who has rejected it, where somebody has.
    pub fn find_rejecter(&self) -> Option<&str> {
        match &self.decision {
            Some(Decision::Reject { by, .. }) => Some(by),
            _ => None,
        }
    }

    fn find(fold: &RunFold, name: String) -> Result<Option<Self>, UnreadableRecord> {
        let is_in_force = fold.call(&name).is_some_and(|call| call.is_accepted_under(fold.source_edition()));
        match fold.call_state(&name)? {
            CallState::Started { op, accepted: Some(cover), decision, .. } if is_gate(&op) => {
                match ApprovalCover::decode(&cover) {
                    Ok(cover) => Ok(Some(Self { name, decision, is_in_force, hash: cover.hash })),
                    Err(what) => Err(fold.unreadable_call_error(&name, what)),
                }
            }
            _ => Ok(None),
        }
    }

    /// Records what somebody decided about it, in the place of what was decided before; the run goes by it when it is resumed.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn record_decision(&self, run: &Run, approves: bool, by: &str) -> Result<(), journal::Error> {
        let (hash, by) = (self.hash.clone(), by.to_owned());
        let decision = if approves {
            Decision::Approve { hash, by: by.clone() }
        } else {
            Decision::Reject { hash, by: by.clone() }
        };
        let record = Record::Decided { call: self.name.clone(), decision: decision.to_json(), by };
        run.append_record(record, Durability::Synced)
    }
}
