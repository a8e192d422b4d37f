//! Where a run waits for a person's approval.
//!
//! - A person who is there is asked. If nobody is, the run stops as waiting; no process waits.
//! - An approval covers the call, its message, the run's parameters and the identity of its targets. When one
//!   of them has changed at the resume, the approval is void.
//! - Every decision is recorded, whoever made it.

use super::{
    decision::{ask_observer, waiting_since},
    observer::{Answer, Choice, Question},
    permit::{self, IdentityError},
    run_context::RunContext,
    scope::{CallScope, format_position},
    script_error::{self, RhaiResult, codes},
    stop::{NativeError, StopReason},
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{CallState, Durability, Outcome, Record},
    ops::spec::{Effect, Permission},
};
use rhai::NativeCallContext as Cx;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// The name of the approval native, in scripts and in the journal.
pub const APPROVE: &str = "approve";

/// Waits for a person's approval; a rejection is an error that the script can catch.
pub(super) fn run_approval(cx: &Cx<'_>, message: &str) -> RhaiResult<()> {
    let scope = CallScope::from_native_context(cx)?;
    let name = scope.next_call_name(APPROVE);
    let approval = Approval {
        scope: &scope,
        context: scope.run_context(),
        name: &name,
        message,
        at: &format_position(cx),
    };
    approval.await_approval().map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

struct Approval<'a> {
    scope: &'a CallScope,
    context: &'a Arc<RunContext>,
    name: &'a str,
    message: &'a str,
    at: &'a str,
}

impl Approval<'_> {
    fn await_approval(&self) -> Result<(), NativeError> {
        if self.scope.is_halted() {
            return Err(NativeError::Stopped);
        }
        if let Some(calls_made) = &self.context.calls_made {
            lock_unpoisoned(calls_made).insert(self.name.to_owned());
        }
        match self.context.run.call_state(self.name) {
            CallState::Finished { op, args, outcome } => {
                self.check_matches_record(&op, &args)?;
                match outcome {
                    Outcome::Ok(_) => Ok(()),
                    Outcome::Err(fault) => Err(NativeError::Raised(fault)),
                }
            }
            CallState::Started { .. } | CallState::NotStarted if self.context.is_settling() => {
                Err(self.scope.abandon_fork())
            }
            CallState::Started { op, args, accepted, decision, .. } => {
                self.check_matches_record(&op, &args)?;
                let covers = accepted.unwrap_or_default();
                let targets: BTreeSet<String> =
                    serde_json::from_value(covers["targets"].clone()).unwrap_or_default();
                self.verify_targets(&targets).map_err(|e| self.stop_unverified(e))?;
                let hash = self.hash_covered(&targets)?;
                match decision {
                    Some(decision) => self.apply_decision(&decision, &hash),
                    None => self.ask_approval(&hash),
                }
            }
            CallState::NotStarted => {
                let targets = self.context.run.target_identities().into_keys();
                let targets = targets.chain(self.targets_in_params()?).collect();
                match self.verify_targets(&targets) {
                    Ok(()) => {}
                    Err(IdentityError::Stopped(halt)) => return Err(halt),
                    // Recorded, so that a script which handles the missing target does the same at a resume.
                    Err(IdentityError::Unreachable(e)) => {
                        return self.record_outcome(Outcome::Err(script_error::from_operation_error(
                            &e, APPROVE, None,
                        )));
                    }
                }
                let hash = self.hash_covered(&targets)?;
                self.record_begin(&hash, &targets)?;
                self.ask_approval(&hash)
            }
        }
    }

    /// Returns the targets that the run's parameters name.
    fn targets_in_params(&self) -> Result<Vec<String>, NativeError> {
        let summary =
            self.context.stop_on_journal_error(self.context.journal.summarize_run(self.context.run.id()))?;
        let values = summary.params.as_object().into_iter().flatten().map(|(_, value)| value);
        let named = values.filter_map(|v| value::untag_as(v, value::TARGET_TAG)).filter_map(Value::as_str);
        Ok(named.map(str::to_owned).collect())
    }

    fn recorded_args(&self) -> Value {
        json!({ "message": self.message })
    }

    fn record_begin(&self, hash: &str, targets: &BTreeSet<String>) -> Result<(), NativeError> {
        let (call, op, args) = (self.name.to_owned(), APPROVE.to_owned(), self.recorded_args());
        let key = hash.chars().take(10).collect();
        let begin = Record::Begin { call: call.clone(), op, args, key, at: self.at.to_owned() };
        self.context.stop_on_journal_error(self.context.run.append_record(begin, Durability::Buffered))?;
        let accepted = Record::Accepted { call, what: json!({"hash": hash, "targets": targets}) };
        self.context.stop_on_journal_error(self.context.run.append_record(accepted, Durability::Synced))
    }

    /// Verifies that every target is the recorded one.
    fn verify_targets(&self, targets: &BTreeSet<String>) -> Result<(), IdentityError> {
        let need = Permission::new("db", Effect::Read);
        targets.iter().try_for_each(|target| permit::verify_identity(self.context, target, &need))
    }

    /// Returns the hash of what an approval covers.
    fn hash_covered(&self, targets: &BTreeSet<String>) -> Result<String, NativeError> {
        let known = self.context.run.target_identities();
        let known: Vec<_> =
            targets.iter().map(|name| (name, known.get(name).map(|who| &who["id"]))).collect();
        let summary =
            self.context.stop_on_journal_error(self.context.journal.summarize_run(self.context.run.id()))?;
        let covered = json!([self.context.run.id(), self.name, self.message, summary.params, known]);
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(covered.to_string())))
    }

    fn ask_approval(&self, hash: &str) -> Result<(), NativeError> {
        let question = Question::Approval { message: self.message.to_owned() };
        let Some(Answer { choice, by }) = ask_observer(self.context, question)? else {
            return Err(self.stop_waiting());
        };
        let kind = if choice == Choice::Approve { "approve" } else { "reject" };
        let decision = json!({"kind": kind, "hash": hash, "by": by});
        let record = Record::Decided { call: self.name.to_owned(), decision: decision.clone(), by };
        self.context.stop_on_journal_error(self.context.run.append_record(record, Durability::Synced))?;
        self.apply_decision(&decision, hash)
    }

    /// Applies a decision, if what it covers has not changed.
    fn apply_decision(&self, decision: &Value, hash: &str) -> Result<(), NativeError> {
        if decision["hash"] != hash {
            return Err(self.context.stopper.stop_run(StopReason::Mismatch {
                message: format!(
                    "what was approved at {} is not what is asked now\n  approved  {}\n  asked     {hash}",
                    self.name,
                    decision["hash"].as_str().unwrap_or("nothing"),
                ),
            }));
        }
        let outcome = if decision["kind"] == "approve" {
            Outcome::Ok(Value::Null)
        } else {
            let by = decision["by"].as_str().unwrap_or("somebody");
            let message = format!("{by} rejected: {}", self.message);
            Outcome::Err(script_error::runtime_error(codes::REJECTED, &message, None, None))
        };
        self.record_outcome(outcome)
    }

    fn record_outcome(&self, outcome: Outcome) -> Result<(), NativeError> {
        let (call, op, args) = (self.name.to_owned(), APPROVE.to_owned(), self.recorded_args());
        let end = Record::End { call, op, args, at: self.at.to_owned(), outcome: outcome.clone() };
        self.context.stop_on_journal_error(self.context.run.append_record(end, Durability::Synced))?;
        match outcome {
            Outcome::Ok(_) => Ok(()),
            Outcome::Err(fault) => Err(NativeError::Raised(fault)),
        }
    }

    /// Stops at an approval that cannot be checked because a target does not answer.
    fn stop_unverified(&self, why: IdentityError) -> NativeError {
        match why {
            IdentityError::Stopped(halt) => halt,
            IdentityError::Unreachable(e) => self.context.stopper.stop_run(StopReason::Refused {
                message: format!("nobody can say whether {} is still about the same target: {e}", self.name),
                hint: "go on when the target answers".into(),
            }),
        }
    }

    fn stop_waiting(&self) -> NativeError {
        let (run, since) = (self.context.run.id(), waiting_since(self.context, self.name));
        // In a fork there may be several approvals, so the command names this one.
        let which = if self.scope.is_in_fork() { format!(" '{}'", self.name) } else { String::new() };
        let next = format!("redrill approve {run}{which} --resume");
        let reason = format!(
            "waits since {since} for an approval: {} (whoever can write the state folder unblocks it: `{next}`, or `redrill reject {run}{which}`)",
            self.message
        );
        self.context.stopper.stop_run(StopReason::Waiting { call: self.name.to_owned(), reason, next })
    }

    /// Stops the run when the record of this name is not of this approval.
    fn check_matches_record(&self, recorded_op: &str, recorded_args: &Value) -> Result<(), NativeError> {
        if recorded_op == APPROVE && *recorded_args == self.recorded_args() {
            return Ok(());
        }
        Err(self.context.stopper.stop_run(StopReason::Mismatch {
            message: format!(
                "{} is not what was recorded\n  recorded  {recorded_op}({})\n  asked     {APPROVE}({})\n  at        {}",
                self.name,
                value::strip_tags(recorded_args),
                self.recorded_args(),
                self.at
            ),
        }))
    }
}
