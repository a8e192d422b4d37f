//! One call: replay or check rights, record, perform, record. The whole policy of a call is here.
//!
//! What holds after a kill at any point:
//! - before `begin`: nothing happened, and the call is started;
//! - after `begin`: the operation's recovery rule asks the target, and the call goes on from there;
//! - after `accepted`: the call waits for the job that was accepted;
//! - after `end`: the recorded outcome is returned, and nothing is done.

use super::{
    deferred_cleanup,
    edit_barrier::Frontier,
    edit_gate::await_edit_approval,
    events::Event,
    frontier::wait_at_frontier,
    held_calls::end_handled_calls,
    hosted_call::HostedCall,
    permit::{self, IdentityError},
    run_context::{Cleanup, DeferredCleanup, RunContext},
    scope::CallScope,
    script_error::{codes, from_operation_error},
    stop::{NativeError, StopReason},
};
use crate::{
    base::{call_time::with_call_time, value},
    journal::{CallState, Decision, Durability, Outcome, Record, ScriptError, SideEffects},
    ops::{
        args::CallArgs,
        branch,
        spec::{
            CallContext, Effect, EffectFailure, EffectFn, Evidence, Operation, ParamKind, Permission,
            Protocol, ReadFn, parse_target_ref,
        },
    },
    provider::{Code, Error, model::CallKey},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Instant};

/// A call as the script requests it.
pub(super) struct CallRequest<'a> {
    pub(super) op: &'static Operation,
    pub(super) args: CallArgs,
    /// Where it stands in the script.
    pub(super) at: &'a str,
    /// Whether the right of an earlier call covers this one: a run may remove the branch that it made.
    pub(super) implied: bool,
}

/// Runs a call, or returns its recorded outcome.
pub(super) fn replay_or_run_call(scope: &CallScope, request: CallRequest<'_>) -> Result<Value, NativeError> {
    let context = scope.run_context();
    if scope.is_halted() {
        return Err(NativeError::Stopped);
    }
    let name = match request.op.protocol {
        Protocol::Read(_) | Protocol::Wait(_) => {
            scope.claim_read_name(&request.op.path(), &request.args.to_value())
        }
        Protocol::Effect(_) => scope.next_call_name(&request.op.path()),
    };
    context.note_asked_by_script(&name);
    let call = Call { context, scope, name: &name, target: target_name(request.op, &request.args), request };
    match context.call_state(&name)? {
        CallState::Finished { op, args, outcome } => {
            call.stop_unless_matches_record(&op, &args)?;
            call.emit_replayed();
            call.deliver_outcome(outcome)
        }
        CallState::Started { op, args, key, accepted, decision } => {
            call.stop_unless_matches_record(&op, &args)?;
            call.resume_call(key.map(CallKey).as_ref(), accepted.as_ref(), decision)
        }
        CallState::NotStarted if context.is_settling() => Err(scope.abandon_fork()),
        CallState::NotStarted => call.start_call(),
    }
}

/// Resolves a begun call of a run without a text, or one that its text does not come to: `name` and `request` are the
/// recorded ones.
pub(super) fn resolve_recorded_call(
    scope: &CallScope,
    name: &str,
    request: CallRequest<'_>,
) -> Result<Value, NativeError> {
    let context = scope.run_context();
    let call = Call { context, scope, name, target: target_name(request.op, &request.args), request };
    match context.call_state(name)? {
        CallState::Started { key, accepted, decision, .. } => {
            call.resume_call(key.map(CallKey).as_ref(), accepted.as_ref(), decision)
        }
        CallState::NotStarted | CallState::Finished { .. } => Ok(Value::Null),
    }
}

struct Call<'a> {
    context: &'a Arc<RunContext>,
    scope: &'a CallScope,
    name: &'a str,
    target: Option<String>,
    request: CallRequest<'a>,
}

impl Call<'_> {
    /// Starts a call that was never begun. A target that does not answer is an outcome, recorded like any other:
    /// a script that went on without it goes the same way at a resume.
    fn start_call(&self) -> Result<Value, NativeError> {
        if !matches!(self.request.op.protocol, Protocol::Read(_)) {
            self.wait_at_frontier()?;
        }
        if matches!(self.request.op.protocol, Protocol::Effect(_)) {
            await_edit_approval(self.scope, self.name, self.request.at)?;
        }
        if !self.request.implied {
            permit::check_rights(self.context, self.request.op, &self.request.args)?;
        }
        match self.verify_and_lease_targets() {
            Ok(()) => {}
            Err(IdentityError::Stopped(halt)) => return Err(halt),
            Err(IdentityError::Unreachable(e)) => {
                return self.record_and_deliver_outcome(Err(self.name_unreached_branch(e)), Instant::now());
            }
        }
        match self.request.op.protocol {
            Protocol::Read(perform) | Protocol::Wait(perform) => self.perform_read(perform),
            Protocol::Effect(perform) => self.begin_effect(perform),
        }
    }

    /// Resumes a call that was begun. While its target does not answer, the call is undecided. What is held has its error until
    /// somebody decides about it: the script goes by that, and by what was decided, as by a call that has ended.
    fn resume_call(
        &self,
        key: Option<&CallKey>,
        accepted: Option<&Value>,
        decision: Option<Decision>,
    ) -> Result<Value, NativeError> {
        match decision {
            // It is not made again; what stands behind its error, in a text that handles that, is settled all the same.
            Some(Decision::Redo { error: Some(error) }) if self.context.is_settling() => {
                return self.deliver_outcome(Outcome::Err(error));
            }
            Some(Decision::Redo { .. }) if self.context.is_settling() => {
                return Err(self.scope.abandon_fork());
            }
            // Nothing new happens: an edited text goes by it before it has asked for what is recorded behind.
            Some(over) if !matches!(over, Decision::Redo { .. }) => return self.apply_decision(over),
            _ => {}
        }
        self.wait_at_frontier()?;
        match self.verify_and_lease_targets() {
            Ok(()) => self.recover_begun_call(key, accepted, decision),
            Err(IdentityError::Stopped(halt)) => Err(halt),
            Err(IdentityError::Unreachable(e)) => Err(self.stop_as_undecided(&e.message)),
        }
    }

    /// Waits, in an edited script, until nothing that had begun is missing.
    fn wait_at_frontier(&self) -> Result<(), NativeError> {
        wait_at_frontier(self.context, || Frontier {
            call: self.name.to_owned(),
            op: self.request.op.path(),
            args: self.request.args.to_value(),
            at: self.request.at.to_owned(),
        })
    }

    /// Performs a read-only call.
    fn perform_read(&self, perform: ReadFn) -> Result<Value, NativeError> {
        self.context.stop_on_journal_error(self.context.run.write_records_unsynced())?;
        let started = Instant::now();
        self.emit_started();
        let timeout = self.request.args.timeout();
        let key = self.derive_call_key(0);
        let host = self.host();
        let cx = self.build_context(&host, &key, CallProgress::default());
        let performed = self.context.wait_until_ready_or_stopped(async {
            let slow = || {
                Error::new(Code::Timeout, format!("no answer within {timeout}"))
                    .with_hint("give it more with `timeout:`")
            };
            tokio::select! {
                biased;
                performed = with_call_time(timeout, perform(&cx, &self.request.args)) => performed,
                () = self.context.fleet.clock().sleep(timeout) => Err(slow()),
            }
        })?;
        self.record_and_deliver_outcome(performed, started)
    }

    /// Records that the call is about to take effect, and performs it.
    fn begin_effect(&self, perform: EffectFn) -> Result<Value, NativeError> {
        let key = self.derive_call_key(self.context.run.count_attempts(self.name));
        let (call, op, args) = (self.name.to_owned(), self.request.op.path(), self.request.args.to_value());
        let begin = Record::Begin { call, op, args, key: key.0.clone(), at: self.request.at.to_owned() };
        #[cfg(not(test))]
        let durability = Durability::Synced;
        #[cfg(test)]
        let durability = super::mutant::durability_of_begin();
        end_handled_calls(self.context, self.name).map_err(|stop| self.context.stopper.stop_run(stop))?;
        self.context.stop_on_journal_error(self.context.run.append_record(begin, durability))?;
        tracing::info!(call = self.name, key = key.0, "effect begins");
        self.perform_effect(perform, &key, CallProgress::default())
    }

    /// Performs a call that is begun, or takes it up with what was recorded of it.
    fn perform_effect(
        &self,
        perform: EffectFn,
        key: &CallKey,
        progress: CallProgress,
    ) -> Result<Value, NativeError> {
        let _span = tracing::info_span!("call", name = self.name).entered();
        let started = Instant::now();
        self.emit_started();
        let host = self.host();
        let cx = self.build_context(&host, key, progress);
        let performed = with_call_time(self.request.args.timeout(), perform(&cx, &self.request.args));
        match self.context.wait_until_ready_or_stopped(performed)? {
            Ok(value) => self.record_and_deliver_outcome(Ok(value), started),
            // It failed because of the journal, and whoever resumes the run finds it as it was recorded last.
            Err(EffectFailure::Failed(_)) if self.context.stopper.has_lost_journal() => {
                Err(NativeError::Stopped)
            }
            Err(EffectFailure::Failed(e)) => self.record_and_deliver_outcome(Err(e), started),
            Err(EffectFailure::NeverAsked) => {
                self.record_and_deliver_outcome(Err(call_not_asked_again_error()), started)
            }
            Err(EffectFailure::Undecided(why)) => Err(self.stop_as_undecided(&why)),
            Err(EffectFailure::Unreadable(why)) => Err(self.context.stop_as_unreadable(self.name, &why)),
        }
    }

    /// Recovers a call that was begun and has no end: by a person's decision, else by its protocol.
    fn recover_begun_call(
        &self,
        key: Option<&CallKey>,
        accepted: Option<&Value>,
        decision: Option<Decision>,
    ) -> Result<Value, NativeError> {
        if let Some(decision) = decision {
            return self.apply_decision(decision);
        }
        let Protocol::Effect(perform) = self.request.op.protocol else {
            return Err(self
                .context
                .stop_as_unreadable(self.name, "it only looks, and is recorded as begun"));
        };
        let Some(key) = key else {
            return Err(self.context.stop_as_unreadable(self.name, "it is open, and was never begun"));
        };
        #[cfg(test)]
        if super::mutant::ignores_evidence() {
            return self.perform_effect(perform, key, CallProgress::default());
        }
        #[cfg(test)]
        if super::mutant::takes_new_key() {
            let key = self.derive_call_key(self.context.run.count_attempts(self.name));
            return self.perform_effect(perform, &key, CallProgress::default());
        }
        let recorded = accepted.map(Evidence::decode).transpose();
        let recorded = recorded.map_err(|why| self.context.stop_as_unreadable(self.name, &why))?;
        self.perform_effect(perform, key, CallProgress { recorded, is_taken_up: true })
    }

    /// Applies a person's decision about a call.
    fn apply_decision(&self, decision: Decision) -> Result<Value, NativeError> {
        match decision {
            Decision::Redo { .. } => match self.request.op.protocol {
                Protocol::Effect(perform) => self.begin_effect(perform),
                Protocol::Read(perform) | Protocol::Wait(perform) => self.perform_read(perform),
            },
            Decision::Done { result } => self.record_decided_outcome(Outcome::Ok(result)),
            Decision::Fail { error } => {
                let op = self.request.op.path();
                let message = format!("`{op}` was decided to have failed");
                let left_behind = self.describe_left_by_failure().into_iter().collect();
                let unknown = || ScriptError {
                    operation: Some(op),
                    // Whoever decides that it failed does not say that it has changed nothing.
                    side_effects: SideEffects::Unknown,
                    left_behind,
                    ..ScriptError::new(codes::DECIDED, &message)
                };
                let mut fault = error.unwrap_or_else(unknown);
                fault.mark_decided();
                self.record_decided_outcome(Outcome::Err(fault))
            }
            // The call stays open: a run that fails with the error asks a person again.
            Decision::Hold { error } => self.deliver_outcome(Outcome::Err(error)),
            Decision::Approve { .. } | Decision::Reject { .. } => {
                Err(self.context.stop_as_unreadable(self.name, "its decision is about an approval"))
            }
        }
    }

    /// Records an outcome that a person decided. What nobody knows the end of is over with that.
    fn record_decided_outcome(&self, outcome: Outcome) -> Result<Value, NativeError> {
        let lifted = self.context.journal.lift_endless_quarantines(self.context.run.id(), self.name);
        self.context.stop_on_journal_error(lifted)?;
        self.record_outcome(outcome)
    }

    /// Records the outcome, and only then reports it.
    fn record_and_deliver_outcome(
        &self,
        performed: Result<Value, Error>,
        started: Instant,
    ) -> Result<Value, NativeError> {
        let outcome = match performed {
            Ok(value) => Outcome::Ok(value),
            Err(e) => Outcome::Err(self.to_script_error(&e)),
        };
        let error = match &outcome {
            Outcome::Err(fault) => Some(fault.message.clone()),
            Outcome::Ok(_) => None,
        };
        let concluded = self.record_outcome(outcome);
        if concluded != Err(NativeError::Stopped) {
            self.context.emit_event(&Event::CallFinished {
                call: self.name,
                op: &self.request.op.path(),
                ok: error.is_none(),
                seconds: started.elapsed().as_secs_f64(),
                error: error.as_deref(),
            });
        }
        concluded
    }

    fn record_outcome(&self, outcome: Outcome) -> Result<Value, NativeError> {
        let (call, op, args) = (self.name.to_owned(), self.request.op.path(), self.request.args.to_value());
        let end =
            Record::End { call, op, args, at: self.request.at.to_owned(), outcome: outcome.to_recorded() };
        let is_read = matches!(self.request.op.protocol, Protocol::Read(_));
        let durability = if is_read { Durability::Written } else { Durability::Synced };
        self.context.stop_on_journal_error(self.context.run.append_record(end, durability))?;
        self.deliver_outcome(outcome)
    }

    /// Delivers an outcome to the script, whether new or replayed.
    fn deliver_outcome(&self, outcome: Outcome) -> Result<Value, NativeError> {
        match outcome {
            Outcome::Ok(value) => {
                let made = value::untag_as(&value, value::BRANCH_TAG);
                if self.request.args.get_flag("temporary") && made.is_some() {
                    deferred_cleanup::check_order(self.scope, self.name)?;
                    let (name, due) = (self.name.to_owned(), Cleanup::Branch(value.clone()));
                    self.scope.lock_deferred().push(DeferredCleanup { name, due });
                }
                if self.request.op.effect == Effect::Destroy {
                    self.drop_branch_cleanup(&value);
                }
                if self.request.op.effect != Effect::Read {
                    self.context.note_effect(self.name);
                }
                self.note_call_passed();
                Ok(value)
            }
            Outcome::Err(mut fault) => {
                fault.set_raising_call(self.name);
                if fault.side_effects != SideEffects::None {
                    self.context.note_effect(self.name);
                }
                self.note_call_passed();
                self.context.remember_left_behind(&fault);
                Err(fault.into())
            }
        }
    }

    /// Notes that the script goes on behind the call, unless it only looked.
    fn note_call_passed(&self) {
        if !matches!(self.request.op.protocol, Protocol::Read(_)) {
            self.scope.note_call_passed(self.name);
        }
    }

    /// Stops the run when the script's call differs from the recorded one.
    fn stop_unless_matches_record(
        &self,
        recorded_op: &str,
        recorded_args: &Value,
    ) -> Result<(), NativeError> {
        let (own_op, own_args) = (self.request.op.path(), self.request.args.to_value());
        if recorded_op == own_op && *recorded_args == own_args {
            return Ok(());
        }
        Err(self.context.stopper.stop_run(StopReason::Mismatch {
            message: format!(
                "the call {} is not the one that was recorded\n  recorded  {recorded_op}({})\n  asked     {own_op}({})\n  at        {}",
                self.name, value::strip_tags(recorded_args), value::strip_tags(&own_args), self.request.at
            ),
        }))
    }

    /// Drops the clean-up of a branch that the script has removed itself.
    fn drop_branch_cleanup(&self, removed: &Value) {
        let is_it = |due: &Cleanup| match due {
            Cleanup::Branch(branch) => {
                value::untag_as(branch, value::BRANCH_TAG).is_some_and(|b| b["id"] == removed["id"])
            }
            Cleanup::Closure { .. } => false,
        };
        self.scope.lock_deferred().retain(|deferred| !is_it(&deferred.due));
        if self.request.op.path() == branch::DELETE_PATH {
            self.context.forget_left_behind(&branch::branch_name_for_left_behind(&self.request.args));
        }
    }

    /// Verifies that every target of the call is the recorded one, and that the run may use it.
    fn verify_and_lease_targets(&self) -> Result<(), IdentityError> {
        let CallRequest { op, args, implied, .. } = &self.request;
        let need =
            if *implied { Permission::new("branch", Effect::Create) } else { op.required_permission(args) };
        let given = op.params.iter().filter(|p| p.kind == ParamKind::Target).map(|p| args.get(p.name));
        for place in given.filter_map(|g| parse_target_ref(g).ok()) {
            permit::verify_and_lease_target(self.context, &place.target, &need)?;
        }
        Ok(())
    }

    fn stop_as_undecided(&self, reason: &str) -> NativeError {
        let op = self.request.op.path();
        let reason = format!("nobody knows whether `{op}` ({}) took effect: {reason}", self.name);
        self.context.stopper.stop_run(StopReason::Undecided { call: self.name.to_owned(), reason })
    }

    fn to_script_error(&self, error: &Error) -> ScriptError {
        let mut fault = from_operation_error(error, &self.request.op.path(), self.target.as_deref());
        // What never existed is not left behind.
        if let Some(left) = self.describe_left_by_failure()
            && ![Code::NotFound, Code::Invalid].contains(&error.code)
        {
            fault.left_behind = vec![left];
        }
        fault
    }

    /// Adds to the error of a target that could not be reached the branch that was to be removed there. That there is no such
    /// target, under this name or for this token, does not say that a branch which was made is gone.
    fn name_unreached_branch(&self, error: Error) -> Error {
        let made = value::untag_as(self.request.args.get("branch"), value::BRANCH_TAG);
        match self.describe_left_by_failure().filter(|_| made.is_some()) {
            Some(left) => error.with_left_behind(left),
            None => error,
        }
    }

    /// Returns what is there when the call fails and should not be: a branch that could not be removed.
    fn describe_left_by_failure(&self) -> Option<String> {
        let removes_branch = self.request.op.path() == branch::DELETE_PATH;
        removes_branch.then(|| branch::branch_name_for_left_behind(&self.request.args))
    }

    /// Returns the key by which the target knows the call: the same at every resume, another for every attempt.
    fn derive_call_key(&self, attempt: u32) -> CallKey {
        let mut hash = Sha256::new();
        for part in [
            self.context.run.id(),
            self.name,
            &self.request.args.to_value().to_string(),
            &attempt.to_string(),
        ] {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()).to_lowercase();
        text.truncate(10);
        CallKey(text)
    }

    fn host(&self) -> HostedCall<'_> {
        HostedCall { context: self.context, name: self.name, op: self.request.op.path() }
    }

    fn build_context<'c>(
        &'c self,
        host: &'c HostedCall<'c>,
        key: &'c CallKey,
        progress: CallProgress,
    ) -> CallContext<'c> {
        CallContext {
            fleet: &self.context.fleet,
            key,
            run: Some(self.context.run.id()),
            recorded: progress.recorded,
            is_taken_up: progress.is_taken_up,
            attempts: self.context.run.count_attempts(self.name),
            is_doubtful: self.context.run.is_call_doubtful(self.name),
            settles_only: self.context.is_settling(),
            host,
        }
    }

    fn emit_started(&self) {
        let op = self.request.op.path();
        self.context.emit_event(&Event::CallStarted {
            call: self.name,
            op: &op,
            target: self.target.as_deref(),
            effect: self.request.op.effect != Effect::Read,
        });
    }

    fn emit_replayed(&self) {
        self.context.emit_event(&Event::CallReplayed { call: self.name, op: &self.request.op.path() });
    }
}

/// How far a call was when it is performed.
#[derive(Default)]
struct CallProgress {
    recorded: Option<Evidence>,
    is_taken_up: bool,
}

/// Returns the error of a call that was begun, and not asked for before the run was given up.
fn call_not_asked_again_error() -> Error {
    Error::new(Code::Unavailable, "it was never asked for, and the run is being given up")
}

fn target_name(op: &Operation, args: &CallArgs) -> Option<String> {
    let target = op.positional_params().find(|p| p.kind == ParamKind::Target)?;
    parse_target_ref(args.get(target.name)).ok().map(|place| place.to_string())
}
