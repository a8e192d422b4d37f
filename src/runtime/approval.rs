//! Where a run waits for a person's approval.
//!
//! - A person who is there is asked. If nobody is, the run stops as waiting; no process waits.
//! - An approval covers the call, its message, the run's parameters, the identity of its targets and the text of the
//!   runbook. When one of them has changed at the resume, it is void, and asked for anew. A rejection holds whatever has changed.
//! - A gate that was passed covers nothing that an edit puts behind it: an edited text has a gate of its own, before the
//!   first new effect behind such a gate.
//! - Every decision is recorded, whoever made it.

use super::{
    decision::{ask_observer, waiting_since},
    edit_barrier::Frontier,
    frontier::{wait_at_frontier, wait_at_frontier_unless_withdrawn},
    held_calls::end_handled_calls,
    observer::{Answer, Choice, Question},
    open_approval::ApprovalCover,
    permit::{self, IdentityError},
    rejections::GateOutlook,
    run_context::RunContext,
    scope::{CallScope, format_position},
    script_error::{RhaiResult, codes, from_operation_error},
    stop::{NativeError, StopReason},
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{APPROVE, CallState, Decision, Durability, EDIT_GATE, Outcome, Record, ScriptError},
    ops::spec::{Effect, Permission},
    provider::model::Identity,
};
use rhai::NativeCallContext as NativeContext;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// Waits for a person's approval; a rejection is an error that the script can catch.
pub(super) fn wait_for_approval(cx: &NativeContext<'_>, message: &str) -> RhaiResult<()> {
    let scope = CallScope::from_native_context(cx)?;
    let name = scope.next_call_name(APPROVE);
    let approval = Approval {
        scope: &scope,
        context: scope.run_context(),
        op: APPROVE,
        name: &name,
        message,
        at: &format_position(cx),
    };
    approval.await_approval().map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// A gate at which a run waits for a person's approval.
pub(super) struct Approval<'a> {
    pub(super) scope: &'a CallScope,
    pub(super) context: &'a Arc<RunContext>,
    /// [`APPROVE`] or [`EDIT_GATE`].
    pub(super) op: &'static str,
    pub(super) name: &'a str,
    pub(super) message: &'a str,
    pub(super) at: &'a str,
}

impl Approval<'_> {
    /// Waits until a person has approved.
    ///
    /// # Errors
    /// The run stops there, or the gate was rejected.
    pub(super) fn await_approval(&self) -> Result<(), NativeError> {
        if self.scope.is_halted() {
            return Err(NativeError::Stopped);
        }
        self.context.note_asked_by_script(self.name);
        match self.context.call_state(self.name)? {
            CallState::Finished { op, args, outcome } => {
                self.stop_unless_matches_record(&op, &args)?;
                if self.may_be_withdrawn_no_more() && !self.wait_until_withdrawn()? {
                    return self.ask_first();
                }
                self.deliver_outcome(outcome)
            }
            CallState::Started { .. } | CallState::NotStarted if self.context.is_settling() => {
                Err(self.scope.abandon_fork())
            }
            CallState::Started { op, args, accepted, decision, .. } => {
                self.stop_unless_matches_record(&op, &args)?;
                self.wait_at_frontier()?;
                self.take_up(accepted.as_ref(), decision.as_ref())
            }
            CallState::NotStarted => {
                self.wait_at_frontier()?;
                self.ask_first()
            }
        }
    }

    /// Returns whether the gate was withdrawn under another text than this one, which may handle what it was withdrawn for.
    fn may_be_withdrawn_no_more(&self) -> bool {
        !self.context.is_settling() && self.context.run.is_gate_withdrawn_under_other_text(self.name)
    }

    /// Waits until the rejection beside the gate has ended what both are in; returns false where the script has handled that.
    fn wait_until_withdrawn(&self) -> Result<bool, NativeError> {
        // The barrier is part of the run that it would keep.
        let (context, name) = (Arc::downgrade(self.context), self.name.to_owned());
        let is_withdrawn = move || {
            let outlook =
                context.upgrade().map(|run| run.rejections.gate_outlook(&name, &run.run.copy_fold()));
            matches!(outlook, Some(GateOutlook::Withdrawn(_)))
        };
        if !is_withdrawn() {
            let check = Box::new(is_withdrawn.clone());
            wait_at_frontier_unless_withdrawn(self.context, || self.frontier(), Some(check))?;
        }
        Ok(is_withdrawn())
    }

    /// Goes by what was decided about exactly this, or asks.
    fn take_up(&self, accepted: Option<&Value>, decision: Option<&Decision>) -> Result<(), NativeError> {
        let cover = accepted.map(ApprovalCover::decode).transpose();
        let cover = cover.map_err(|what| self.context.stop_as_unreadable(self.name, what))?;
        let targets = match &cover {
            Some(cover) => cover.targets.clone(),
            // Killed between the two records with which it is asked for: nobody has seen it yet.
            None => self.targets_to_cover()?,
        };
        self.verify_targets(&targets).map_err(|e| self.stop_as_unverified(e))?;
        let hash = self.hash_approval_cover(&targets)?;
        match (decision, cover) {
            (Some(decision), _) if approved_hash(decision).is_none_or(|approved| approved == hash) => {
                self.apply_decision(decision)
            }
            (None, Some(cover)) if cover.hash == hash => self.ask_approval(&cover),
            (decision, cover) => {
                let is_anew = decision.is_some() || cover.is_some_and(|cover| cover.is_anew);
                let cover = ApprovalCover { hash, targets, is_anew };
                self.record_approval_cover(&cover)?;
                self.ask_approval(&cover)
            }
        }
    }

    /// Asks for the first time.
    fn ask_first(&self) -> Result<(), NativeError> {
        let targets = self.targets_to_cover()?;
        match self.verify_targets(&targets) {
            Ok(()) => {}
            Err(IdentityError::Stopped(halt)) => return Err(halt),
            // Recorded, so that a script which handles the missing target does the same at a resume.
            Err(IdentityError::Unreachable(e)) if self.op == APPROVE => {
                return self.record_outcome(Outcome::Err(from_operation_error(&e, APPROVE, None)));
            }
            Err(unreachable) => return Err(self.stop_as_unverified(unreachable)),
        }
        let cover = ApprovalCover { hash: self.hash_approval_cover(&targets)?, targets, is_anew: false };
        self.record_approval_begin(&cover.hash)?;
        self.record_approval_cover(&cover)?;
        self.ask_approval(&cover)
    }

    /// Waits, in an edited script, until nothing that had begun is missing. The gate of its edition comes after that.
    fn wait_at_frontier(&self) -> Result<(), NativeError> {
        if self.op == EDIT_GATE {
            return Ok(());
        }
        wait_at_frontier(self.context, || self.frontier())
    }

    fn frontier(&self) -> Frontier {
        Frontier {
            call: self.name.to_owned(),
            op: APPROVE.to_owned(),
            args: self.recorded_args(),
            at: self.at.to_owned(),
        }
    }

    /// Returns the targets that an approval asked for now covers: those that the run has used, and those that its
    /// parameters name.
    fn targets_to_cover(&self) -> Result<BTreeSet<String>, NativeError> {
        let used = self.context.stop_on_unreadable(self.context.run.target_identities::<Identity>())?;
        Ok(used.into_keys().chain(self.context.targets_in_params.iter().cloned()).collect())
    }

    fn recorded_args(&self) -> Value {
        json!({ "message": self.message })
    }

    fn record_approval_begin(&self, hash: &str) -> Result<(), NativeError> {
        let (call, op, args) = (self.name.to_owned(), self.op.to_owned(), self.recorded_args());
        let key = hash.chars().take(10).collect();
        let begin = Record::Begin { call, op, args, key, at: self.at.to_owned() };
        self.context.stop_on_journal_error(self.context.run.append_record(begin, Durability::Buffered))
    }

    fn record_approval_cover(&self, cover: &ApprovalCover) -> Result<(), NativeError> {
        let accepted = Record::Accepted { call: self.name.to_owned(), what: json!(cover) };
        self.context.stop_on_journal_error(self.context.run.append_record(accepted, Durability::Synced))
    }

    /// Verifies that every target is the recorded one.
    fn verify_targets(&self, targets: &BTreeSet<String>) -> Result<(), IdentityError> {
        let need = Permission::new("db", Effect::Read);
        targets.iter().try_for_each(|target| permit::verify_and_lease_target(self.context, target, &need))
    }

    /// Returns the hash of what an approval covers.
    fn hash_approval_cover(&self, targets: &BTreeSet<String>) -> Result<String, NativeError> {
        let known = self.context.stop_on_unreadable(self.context.run.target_identities::<Identity>())?;
        let known: Vec<_> = targets.iter().map(|name| (name, known.get(name).map(|who| &who.id))).collect();
        let summary =
            self.context.stop_on_journal_error(self.context.journal.summarize_run(self.context.run.id()))?;
        let params = self.context.run.complete_params(&summary.params);
        let mut covered = json!([self.context.run.id(), self.name, self.message, params, known]);
        // What an edited text does behind the gate is not what was approved before.
        let edition = self.context.run.source_edition();
        if let Some(parts) = covered.as_array_mut().filter(|_| edition > 0) {
            parts.push(edition.into());
        }
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(covered.to_string())))
    }

    /// Asks a person, unless the gate is withdrawn.
    fn ask_approval(&self, cover: &ApprovalCover) -> Result<(), NativeError> {
        if self.op == EDIT_GATE {
            return self.put_question(cover);
        }
        let rejections = &self.context.rejections;
        let mut changes = rejections.subscribe();
        loop {
            let turn = lock_unpoisoned(&self.context.gate_turn);
            changes.mark_unchanged();
            match rejections.gate_outlook(self.name, &self.context.run.copy_fold()) {
                GateOutlook::Withdrawn(rejection) => return self.withdraw(&rejection),
                // The branches of an edited script wait for each other at its barrier, and none may wait in between.
                GateOutlook::Unsettled if self.context.edits.is_none() => {}
                GateOutlook::Stands | GateOutlook::Unsettled => return self.put_question(cover),
            }
            drop(turn);
            self.context.wait_until_ready_or_stopped(async { drop(changes.changed().await) })?;
        }
    }

    /// Withdraws the gate: what it stands in has failed, and nothing that somebody says about it would count.
    fn withdraw(&self, rejection: &str) -> Result<(), NativeError> {
        let message = format!("`{}` was withdrawn, because {rejection}", self.message);
        self.record_outcome(Outcome::Err(ScriptError::new(codes::REJECTED, &message).of_withdrawn_gate()))
    }

    fn put_question(&self, cover: &ApprovalCover) -> Result<(), NativeError> {
        let anew = if cover.is_anew {
            " (what was decided before is void: what it covers has changed since)"
        } else {
            ""
        };
        let message = format!("{}{anew}", self.message);
        let question = Question::Approval { message: message.clone() };
        let Some(Answer { choice, by }) = ask_observer(self.context, question)? else {
            return Err(self.stop_as_waiting(&message));
        };
        let (hash, name) = (cover.hash.clone(), by.clone());
        let decision = match choice {
            Choice::Approve => Decision::Approve { hash, by: name },
            _ => Decision::Reject { hash, by: name },
        };
        let record = Record::Decided { call: self.name.to_owned(), decision: decision.to_json(), by };
        self.context.stop_on_journal_error(self.context.run.append_record(record, Durability::Synced))?;
        self.apply_decision(&decision)
    }

    /// Applies a decision about what is asked.
    fn apply_decision(&self, decision: &Decision) -> Result<(), NativeError> {
        match decision {
            Decision::Approve { .. } => {
                if self.op == APPROVE {
                    let ended = end_handled_calls(self.context, self.name);
                    ended.map_err(|stop| self.context.stopper.stop_run(stop))?;
                }
                self.record_outcome(Outcome::Ok(Value::Null))
            }
            // Nothing is recorded but the decision: the edition is dropped, or the run stays where it is.
            Decision::Reject { by, .. } if self.op == EDIT_GATE => {
                Err(self.context.stopper.stop_run(StopReason::EditRejected {
                    message: format!("{by} rejected the edited text\n  asked     {}", self.message),
                    is_dropped: self.context.run.edition_to_give_up() != self.context.run.source_edition(),
                }))
            }
            Decision::Reject { by, .. } => {
                let message = format!("{by} rejected: {}", self.message);
                self.record_outcome(Outcome::Err(ScriptError::new(codes::REJECTED, &message)))
            }
            other => {
                let what = format!("`{}` is no decision about an approval", other.as_str());
                Err(self.context.stop_as_unreadable(self.name, what))
            }
        }
    }

    fn record_outcome(&self, outcome: Outcome) -> Result<(), NativeError> {
        let (call, op, args) = (self.name.to_owned(), self.op.to_owned(), self.recorded_args());
        let end = Record::End { call, op, args, at: self.at.to_owned(), outcome: outcome.to_recorded() };
        self.context.stop_on_journal_error(self.context.run.append_record(end, Durability::Synced))?;
        self.deliver_outcome(outcome)
    }

    fn deliver_outcome(&self, outcome: Outcome) -> Result<(), NativeError> {
        self.scope.note_call_passed(self.name);
        let is_rejected = matches!(&outcome, Outcome::Err(fault) if fault.code == codes::REJECTED);
        self.context.rejections.note_gate_passed(self.name, is_rejected);
        match outcome {
            Outcome::Ok(_) => Ok(()),
            Outcome::Err(fault) => Err(fault.into()),
        }
    }

    /// Stops at an approval that cannot be checked because a target does not answer.
    fn stop_as_unverified(&self, why: IdentityError) -> NativeError {
        match why {
            IdentityError::Stopped(halt) => halt,
            IdentityError::Unreachable(e) => self.context.stopper.stop_run(StopReason::Refused {
                message: format!("nobody can say whether {} is still about the same target: {e}", self.name),
                hint: "go on when the target answers".into(),
            }),
        }
    }

    fn stop_as_waiting(&self, message: &str) -> NativeError {
        let since = waiting_since(self.context, self.name);
        let reason = format!(
            "waits since {since} for an approval, which whoever can write the state folder may give: {message}"
        );
        self.context.stopper.stop_run(StopReason::Waiting { call: self.name.to_owned(), reason })
    }

    /// Stops the run when the record of this name is not of this approval.
    fn stop_unless_matches_record(
        &self,
        recorded_op: &str,
        recorded_args: &Value,
    ) -> Result<(), NativeError> {
        if recorded_op == self.op && *recorded_args == self.recorded_args() {
            return Ok(());
        }
        Err(self.context.stopper.stop_run(StopReason::Mismatch {
            message: format!(
                "{} is not what was recorded\n  recorded  {recorded_op}({})\n  asked     {}({})\n  at        {}",
                self.name,
                value::strip_tags(recorded_args),
                self.op,
                self.recorded_args(),
                self.at
            ),
        }))
    }
}

/// Returns the hash of what somebody approved. A rejection holds whatever has changed since: nobody who has said no is asked
/// for a yes.
fn approved_hash(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Approve { hash, .. } => Some(hash),
        _ => None,
    }
}
