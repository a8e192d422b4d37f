//! A call as its records leave it.

use super::{Decision, Outcome, RecordedOutcome, ScriptError, script_error::WITHDRAWN};
use crate::base::moment::Moment;
use serde_json::Value;
use std::sync::Arc;

/// The state of a call, folded from its records and decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum CallState {
    /// The journal has no record of it.
    NotStarted,
    /// It was begun, or reopened by a decision, and has not finished.
    Started {
        op: String,
        args: Value,
        /// The key of the last attempt; nothing for a call without effect that a decision opened again.
        key: Option<String>,
        /// What the last attempt was given to wait on.
        accepted: Option<Value>,
        /// What somebody decided since.
        decision: Option<Decision>,
    },
    /// It is over.
    Finished {
        op: String,
        args: Value,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A call as its records leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedCall {
    pub op: String,
    pub args: Value,
    /// Every attempt, in order. There is one at least.
    pub attempts: Vec<Attempt>,
    /// What somebody decided since the last attempt began, was accepted or ended, as it was recorded.
    pub decision: Option<Value>,
    /// The version of the program that wrote its last record.
    pub(super) version: Arc<str>,
    /// The number of the record at which it last began, or at which it ended if it never did.
    pub(super) order: u64,
    /// The number of the record at which it last began or ended.
    pub last: u64,
    /// The edition of the sources in force when that record was written, or when it ended, if it has.
    pub edition: u32,
}

/// One attempt at a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempt {
    /// The key by which what it makes can be found again; nothing for a call without effect, which only ends.
    pub key: Option<String>,
    pub began_at: Option<Moment>,
    /// What it was given to wait on.
    pub accepted: Option<Value>,
    /// When that was last recorded.
    pub accepted_at: Option<Moment>,
    /// The edition of the sources that was in force then.
    pub accepted_under: u32,
    pub outcome: Option<RecordedOutcome>,
    pub ended_at: Option<Moment>,
}

impl FoldedCall {
    /// Returns whether the call was about to take effect, or to wait for somebody, at least once.
    pub fn may_have_effect(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.key.is_some())
    }

    /// Returns whether the call is not over: its attempt goes on, or a decision has opened it again.
    pub fn is_open(&self) -> bool {
        self.outcome().is_none()
    }

    /// Returns whether something was accepted in the last attempt: a job that goes on or, for a gate, that it was asked
    /// for.
    pub fn is_accepted(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.accepted.is_some())
    }

    /// Returns whether what the last attempt was given to wait on was given under this edition of the sources: what a gate
    /// asked for under another text, nobody can approve any more.
    pub fn is_accepted_under(&self, edition: u32) -> bool {
        self.is_accepted() && self.attempts.last().is_some_and(|attempt| attempt.accepted_under == edition)
    }

    /// Returns what came of the call, once it is over, as it was recorded.
    pub fn outcome(&self) -> Option<&RecordedOutcome> {
        if self.decision.is_some() {
            return None;
        }
        self.attempts.last()?.outcome.as_ref()
    }

    /// Returns whether it ended, as a gate, because what it stood in had failed: nobody was asked about it.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Err(error)) if error[WITHDRAWN] == true)
    }

    /// Returns whether a person has decided to keep it open.
    pub fn is_held(&self) -> bool {
        matches!(self.decision.as_ref().map(Decision::decode), Some(Ok(Decision::Hold { .. })))
    }

    /// Returns whether a person has decided that it was done.
    pub fn is_decided_done(&self) -> bool {
        matches!(self.decision.as_ref().map(Decision::decode), Some(Ok(Decision::Done { .. })))
    }

    /// Returns the error with which the last attempt failed, where that is known: as it was recorded, or as a decision has it.
    ///
    /// # Errors
    /// What is recorded does not read.
    pub fn find_last_failure(&self) -> Result<Option<ScriptError>, String> {
        let outcome = self.attempts.last().and_then(|attempt| attempt.outcome.as_ref());
        if let Some(Outcome::Err(error)) = outcome.map(RecordedOutcome::decode).transpose()? {
            return Ok(Some(error));
        }
        let decision = self.decision.as_ref().map(Decision::decode).transpose()?;
        Ok(decision.and_then(Decision::into_known_error))
    }

    /// Returns what the last attempt was given to wait on, as it was recorded.
    pub fn last_accepted(&self) -> Option<&Value> {
        self.attempts.last().and_then(|attempt| attempt.accepted.as_ref())
    }

    /// Returns when the last attempt began, while it has not ended.
    pub fn running_since(&self) -> Option<Moment> {
        self.attempts.last().filter(|attempt| attempt.ended_at.is_none())?.began_at
    }

    /// Returns when the call last began, was accepted or ended.
    pub(super) fn last_changed_at(&self) -> Option<Moment> {
        let last = self.attempts.last()?;
        last.ended_at.or(last.accepted_at).or(last.began_at)
    }

    /// Returns how often the call was begun: an attempt without a key only ended.
    pub(super) fn count_begins(&self) -> u32 {
        let begins = self.attempts.iter().filter(|attempt| attempt.key.is_some()).count();
        u32::try_from(begins).unwrap_or(u32::MAX)
    }

    /// Adds what the call was given to wait on. A gate is asked anew: what was decided about it before was about something else.
    pub(super) fn accept(&mut self, what: Value, at: Moment, edition: u32) {
        self.decision = None;
        self.update_last_attempt(|attempt| {
            attempt.accepted = Some(what);
            attempt.accepted_at = Some(at);
            attempt.accepted_under = edition;
        });
    }

    pub(super) fn update_last_attempt(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.attempts.last_mut() {
            change(attempt);
        }
    }
}
