//! Where a run waits for a person: at an approval, or at a failed call that is held.
//!
//! - A person who is there is asked. If nobody is, the run stops as waiting; no process waits.
//! - An approval covers the call, its message, the run's parameters and the identity of its targets. When one
//!   of them has changed at the resume, the approval is void.
//! - Every decision is recorded, whoever made it.

use super::{
    Answer, Choice, Failure, Question,
    fault::{self, codes},
    flow::RhaiResult,
    live::{CallScope, NativeError, RunContext, StopReason, format_position, lock_unpoisoned},
    permit::{self, IdentityError},
};
use crate::{
    base::value,
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
    let frame = CallScope::from_native_context(cx)?;
    let name = frame.next_call_name(APPROVE);
    let gate =
        Approval { frame: &frame, live: frame.run_context(), name: &name, message, at: &format_position(cx) };
    gate.await_approval().map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

struct Approval<'a> {
    frame: &'a CallScope,
    live: &'a Arc<RunContext>,
    name: &'a str,
    message: &'a str,
    at: &'a str,
}

impl Approval<'_> {
    fn await_approval(&self) -> Result<(), NativeError> {
        if self.frame.is_halted() {
            return Err(NativeError::Stopped);
        }
        if let Some(asked_for) = &self.live.asked {
            lock_unpoisoned(asked_for).insert(self.name.to_owned());
        }
        match self.live.run.call_state(self.name) {
            CallState::Finished { op, args, outcome } => {
                self.check_matches_record(&op, &args)?;
                match outcome {
                    Outcome::Ok(_) => Ok(()),
                    Outcome::Err(fault) => Err(NativeError::Raised(fault)),
                }
            }
            CallState::Started { .. } | CallState::NotStarted if self.live.is_settling() => {
                Err(self.frame.abandon_fork())
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
                let targets = self.live.run.target_identities().into_keys();
                let targets = targets.chain(self.targets_in_params()?).collect();
                match self.verify_targets(&targets) {
                    Ok(()) => {}
                    Err(IdentityError::Stopped(halt)) => return Err(halt),
                    // Recorded, so that a script which handles the missing target does the same at a resume.
                    Err(IdentityError::Unreachable(e)) => {
                        return self
                            .record_outcome(Outcome::Err(fault::from_operation_error(&e, APPROVE, None)));
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
        let summary = self.live.stop_on_journal_error(self.live.journal.summarize_run(self.live.run.id()))?;
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
        self.live.stop_on_journal_error(self.live.run.append_record(begin, Durability::Buffered))?;
        let accepted = Record::Accepted { call, what: json!({"hash": hash, "targets": targets}) };
        self.live.stop_on_journal_error(self.live.run.append_record(accepted, Durability::Synced))
    }

    /// Verifies that every target is the recorded one.
    fn verify_targets(&self, targets: &BTreeSet<String>) -> Result<(), IdentityError> {
        let need = Permission::new("db", Effect::Read);
        targets.iter().try_for_each(|target| permit::verify_identity(self.live, target, &need))
    }

    /// Returns the hash of what an approval covers.
    fn hash_covered(&self, targets: &BTreeSet<String>) -> Result<String, NativeError> {
        let known = self.live.run.target_identities();
        let known: Vec<_> =
            targets.iter().map(|name| (name, known.get(name).map(|who| &who["id"]))).collect();
        let summary = self.live.stop_on_journal_error(self.live.journal.summarize_run(self.live.run.id()))?;
        let covered = json!([self.live.run.id(), self.name, self.message, summary.params, known]);
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(covered.to_string())))
    }

    fn ask_approval(&self, hash: &str) -> Result<(), NativeError> {
        let question = Question::Approval { message: self.message.to_owned() };
        let Some(Answer { choice, by }) = ask_observer(self.live, question)? else {
            return Err(self.stop_waiting());
        };
        let kind = if choice == Choice::Approve { "approve" } else { "reject" };
        let decision = json!({"kind": kind, "hash": hash, "by": by});
        let record = Record::Decided { call: self.name.to_owned(), decision: decision.clone(), by };
        self.live.stop_on_journal_error(self.live.run.append_record(record, Durability::Synced))?;
        self.apply_decision(&decision, hash)
    }

    /// Applies a decision, if what it covers has not changed.
    fn apply_decision(&self, decision: &Value, hash: &str) -> Result<(), NativeError> {
        if decision["hash"] != hash {
            return Err(self.live.stopper.stop_run(StopReason::Mismatch {
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
            Outcome::Err(fault::runtime_error(codes::REJECTED, &message, None, None))
        };
        self.record_outcome(outcome)
    }

    fn record_outcome(&self, outcome: Outcome) -> Result<(), NativeError> {
        let (call, op, args) = (self.name.to_owned(), APPROVE.to_owned(), self.recorded_args());
        let end = Record::End { call, op, args, at: self.at.to_owned(), outcome: outcome.clone() };
        self.live.stop_on_journal_error(self.live.run.append_record(end, Durability::Synced))?;
        match outcome {
            Outcome::Ok(_) => Ok(()),
            Outcome::Err(fault) => Err(NativeError::Raised(fault)),
        }
    }

    /// Stops at an approval that cannot be checked because a target does not answer.
    fn stop_unverified(&self, why: IdentityError) -> NativeError {
        match why {
            IdentityError::Stopped(halt) => halt,
            IdentityError::Unreachable(e) => self.live.stopper.stop_run(StopReason::Refused {
                message: format!("nobody can say whether {} is still about the same target: {e}", self.name),
                hint: "go on when the target answers".into(),
            }),
        }
    }

    fn stop_waiting(&self) -> NativeError {
        let (run, since) = (self.live.run.id(), waiting_since(self.live, self.name));
        // In a fork there may be several approvals, so the command names this one.
        let gate = if self.frame.is_in_fork() { format!(" '{}'", self.name) } else { String::new() };
        let next = format!("redrill approve {run}{gate} --resume");
        let reason = format!(
            "waits since {since} for an approval: {} (whoever can write the state folder unblocks it: `{next}`, or `redrill reject {run}{gate}`)",
            self.message
        );
        self.live.stopper.stop_run(StopReason::Waiting { call: self.name.to_owned(), reason, next })
    }

    fn check_matches_record(&self, op: &str, args: &Value) -> Result<(), NativeError> {
        if op == APPROVE && *args == self.recorded_args() {
            return Ok(());
        }
        Err(self.live.stopper.stop_run(StopReason::Mismatch {
            message: format!(
                "{} is not what was recorded\n  recorded  {op}({})\n  asked     {APPROVE}({})\n  at        {}",
                self.name,
                value::strip_tags(args),
                self.recorded_args(),
                self.at
            ),
        }))
    }
}

/// Asks the observer, one question at a time. A stopped run does not wait for the answer.
fn ask_observer(live: &Arc<RunContext>, question: Question) -> Result<Option<Answer>, NativeError> {
    let turn = lock_unpoisoned(&live.asking);
    let (tell, told) = tokio::sync::oneshot::channel();
    let watch = Arc::clone(&live.watch);
    // A person who reads takes time, and a thread that reads a terminal cannot be interrupted.
    let asking = std::thread::Builder::new().name("question".into()).spawn(move || {
        drop(tell.send(watch.ask_person(&question)));
    });
    let answer = live.wait_or_stop(told)?;
    drop((asking, turn));
    Ok(answer.ok().flatten())
}

/// Returns the time since when a call waits, as text.
fn waiting_since(live: &RunContext, call: &str) -> String {
    let at = live.run.call_changed_at(call).unwrap_or_else(|| live.fleet.clock().now());
    at.0.round(jiff::Unit::Second).unwrap_or(at.0).to_string()
}

/// What to do with a run after a failed call.
pub(super) enum FailureDecision {
    /// It ends as failed.
    EndRun,
    /// It is evaluated again, with the decision recorded.
    EvaluateAgain,
    /// It stops.
    StopRun,
}

/// Asks a person about the call that failed a run. An error that the script raised itself is not asked about.
pub(super) fn decide_failure(
    live: &Arc<RunContext>,
    failure: &Failure,
) -> Result<FailureDecision, NativeError> {
    let fault = &failure.fault;
    let call = match fault[fault::CALL_FIELD].as_str() {
        Some(call)
            if fault[fault::DECIDED].is_null()
                && live.run.ending_outcome().is_none()
                && !live.is_settling() =>
        {
            call
        }
        _ => return Ok(FailureDecision::EndRun),
    };
    let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    let (op, message) = (text("operation"), text("message"));
    let held = matches!(live.run.call_state(call), CallState::Started { decision: Some(d), .. } if d["kind"] == "hold");
    let question = Question::FailedCall { call: call.to_owned(), op: op.clone(), message: message.clone() };
    let answer = ask_observer(live, question)?;
    let (kind, by) = match answer {
        None if !held => return Ok(FailureDecision::EndRun),
        None => ("hold", String::new()),
        Some(Answer { choice: Choice::Redo, by }) => ("redo", by),
        Some(Answer { choice: Choice::Hold, by }) => ("hold", by),
        Some(Answer { by, .. }) => ("fail", by),
    };
    if kind != "hold" || !held {
        let decision = json!({"kind": kind, "error": fault});
        let record = Record::Decided { call: call.to_owned(), decision, by };
        live.stop_on_journal_error(live.run.append_record(record, Durability::Synced))?;
    }
    if kind != "hold" {
        return Ok(FailureDecision::EvaluateAgain);
    }
    let (run, since) = (live.run.id(), waiting_since(live, call));
    let next = format!("redrill runs decide {run} '{call}' redo");
    let reason = format!(
        "is held since {since} at {call}: `{op}` failed: {message} (whoever can write the state folder unblocks it: `{next}`, or with `fail`, `done --id ID` or `done --result JSON`, and then `redrill resume {run}`)"
    );
    drop(live.stopper.stop_run(StopReason::Waiting { call: call.to_owned(), reason, next }));
    Ok(FailureDecision::StopRun)
}
