//! One call: replay or check rights, record, perform, record. The whole policy of a call is here.
//!
//! What holds after a kill at any point:
//! - before `begin`: nothing happened, and the call is started;
//! - after `begin`: the operation's recovery rule asks the target, and the call goes on from there;
//! - after `accepted`: the call waits for the job that was accepted;
//! - after `end`: the recorded outcome is returned, and nothing is done.

use super::{
    events::Event,
    permit::{self, IdentityError},
    run_context::{Cleanup, DeferredCleanup, RunContext},
    scope::CallScope,
    script_error::{codes, from_operation_error},
    stop::{NativeError, StopReason},
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{CallState, Decision, Durability, Outcome, Record, ScriptError, SideEffects},
    ops::{
        args::CallArgs,
        branch,
        spec::{
            CallContext, CallHost, Effect, Operation, ParamKind, Permission, ProbeResult, Recovery,
            is_intent, parse_target_ref,
        },
    },
    provider::{
        Accept, Code, Error,
        model::{CallKey, Progress},
    },
};
use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Instant;

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
pub(super) fn run_call(scope: &CallScope, request: CallRequest<'_>) -> Result<Value, NativeError> {
    let context = scope.run_context();
    if scope.is_halted() {
        return Err(NativeError::Stopped);
    }
    let name = scope.next_call_name(&request.op.path());
    if let Some(calls_made) = &context.calls_made {
        lock_unpoisoned(calls_made).insert(name.clone());
    }
    let call = Call { context, scope, name: &name, target: target_name(request.op, &request.args), request };
    match context.call_state(&name)? {
        CallState::Finished { op, args, outcome } => {
            call.check_matches_record(&op, &args)?;
            call.emit_replayed();
            call.deliver_outcome(outcome)
        }
        CallState::Started { op, args, key, accepted, decision } => {
            call.check_matches_record(&op, &args)?;
            call.resume_call(&CallKey(key), accepted, decision)
        }
        CallState::NotStarted if context.is_settling() => Err(scope.abandon_fork()),
        CallState::NotStarted => call.start_call(),
    }
}

/// Resolves a begun call of a run without a text: `name` and `request` are the recorded ones.
pub(super) fn resolve_recorded_call(
    scope: &CallScope,
    name: &str,
    request: CallRequest<'_>,
) -> Result<Value, NativeError> {
    let context = scope.run_context();
    let call = Call { context, scope, name, target: target_name(request.op, &request.args), request };
    match context.call_state(name)? {
        CallState::Started { key, accepted, decision, .. } => {
            call.resume_call(&CallKey(key), accepted, decision)
        }
        CallState::NotStarted | CallState::Finished { .. } => Ok(Value::Null),
    }
}

struct Call<'a> {
    context: &'a RunContext,
    scope: &'a CallScope,
    name: &'a str,
    target: Option<String>,
    request: CallRequest<'a>,
}

impl Call<'_> {
    /// Starts a call that was never begun. A target that does not answer is an outcome, recorded like any other:
    /// a script that went on without it goes the same way at a resume.
    fn start_call(&self) -> Result<Value, NativeError> {
        if !self.request.implied {
            permit::check_rights(self.context, self.request.op, &self.request.args)?;
        }
        self.check_not_repeated()?;
        match self.verify_targets() {
            Ok(()) => {}
            Err(IdentityError::Stopped(halt)) => return Err(halt),
            Err(IdentityError::Unreachable(e)) => return self.finish_call(Err(e), Instant::now()),
        }
        match self.request.op.recovery {
            Recovery::Read | Recovery::Wait => self.perform_read(),
            Recovery::Probe(_) => self.begin_effect(),
        }
    }

    /// Resumes a call that was begun. While its target does not answer, the call is undecided.
    fn resume_call(
        &self,
        key: &CallKey,
        accepted: Option<Value>,
        decision: Option<Decision>,
    ) -> Result<Value, NativeError> {
        match self.verify_targets() {
            Ok(()) => self.recover_begun_call(key, accepted, decision),
            Err(IdentityError::Stopped(halt)) => Err(halt),
            Err(IdentityError::Unreachable(e)) => Err(self.stop_undecided(&e.message)),
        }
    }

    /// Performs a read-only call.
    fn perform_read(&self) -> Result<Value, NativeError> {
        self.context.stop_on_journal_error(self.context.run.flush())?;
        let started = Instant::now();
        self.emit_started();
        let timeout = self.request.args.timeout();
        let key = self.derive_key(0);
        let cx = self.build_context(&key, None);
        let performed = self.context.wait_or_stop(async {
            let slow = || {
                Error::new(Code::Timeout, format!("no answer within {timeout}"))
                    .with_hint("give it more with `timeout:`")
            };
            tokio::select! {
                biased;
                performed = (self.request.op.perform)(&cx, &self.request.args) => performed,
                () = self.context.fleet.clock().sleep(timeout) => Err(slow()),
            }
        })?;
        self.finish_call(performed, started)
    }

    /// Records that the call is about to take effect, and performs it.
    fn begin_effect(&self) -> Result<Value, NativeError> {
        let key = self.derive_key(self.context.run.count_attempts(self.name));
        let (call, op, args) = (self.name.to_owned(), self.request.op.path(), self.request.args.to_value());
        let begin = Record::Begin { call, op, args, key: key.0.clone(), at: self.request.at.to_owned() };
        #[cfg(not(test))]
        let durability = Durability::Synced;
        #[cfg(test)]
        let durability = super::mutant::begin_durability();
        self.context.stop_on_journal_error(self.context.run.append_record(begin, durability))?;
        tracing::info!(call = self.name, key = key.0, "effect begins");
        self.perform_effect(&key, None)
    }

    /// Performs a begun call, from its accepted job if there is one.
    fn perform_effect(&self, key: &CallKey, accepted: Option<Value>) -> Result<Value, NativeError> {
        let _span = tracing::info_span!("call", name = self.name).entered();
        let started = Instant::now();
        self.emit_started();
        let cx = self.build_context(key, accepted);
        match self.context.wait_or_stop((self.request.op.perform)(&cx, &self.request.args))? {
            Err(e) if e.code == Code::Unknown => self.resolve_unknown(key, &e, started),
            performed => self.finish_call(performed, started),
        }
    }

    /// Resolves an unknown outcome by the call's key. If it stays unknown, the run stops.
    fn resolve_unknown(
        &self,
        key: &CallKey,
        unknown: &Error,
        started: Instant,
    ) -> Result<Value, NativeError> {
        match self.probe_target(key) {
            Ok(ProbeResult::Done(value)) => self.finish_call(Ok(value), started),
            Ok(ProbeResult::Accepted(job)) => self.adopt_job(key, job),
            Ok(ProbeResult::NotDone) => {
                let mut certain = unknown.clone();
                (certain.code, certain.retryable) = (Code::Unavailable, true);
                self.finish_call(Err(certain), started)
            }
            Err(NativeError::Raised(why)) => {
                Err(self.stop_undecided(&format!("{unknown}; asked again: {}", json!(why.message))))
            }
            Err(stop @ NativeError::Stopped) => Err(stop),
        }
    }

    /// Recovers a call that was begun and has no end: by a person's decision, else by a probe.
    fn recover_begun_call(
        &self,
        key: &CallKey,
        accepted: Option<Value>,
        decision: Option<Decision>,
    ) -> Result<Value, NativeError> {
        if let Some(decision) = decision {
            return match decision {
                Decision::Redo { .. } | Decision::Hold { .. } if self.context.is_settling() => {
                    Err(self.scope.abandon_fork())
                }
                decision => self.apply_decision(decision),
            };
        }
        // Probe even when the accepted job is known: an error on the way to it does not end the call.
        let probed = self.probe_target(key);
        // The probe has already compared a recorded intent with the target.
        let accepted = accepted.filter(|recorded| !is_intent(recorded));
        match probed {
            Ok(ProbeResult::Done(value)) => self.finish_call(Ok(value), Instant::now()),
            Ok(ProbeResult::Accepted(job)) if accepted.is_none() => self.adopt_job(key, job),
            Ok(ProbeResult::NotDone) if accepted.is_none() && self.context.is_settling() => {
                Err(self.scope.abandon_fork())
            }
            Ok(ProbeResult::Accepted(_) | ProbeResult::NotDone) => self.perform_effect(key, accepted),
            Err(NativeError::Raised(why)) => Err(self.stop_undecided(&why.message)),
            Err(stop @ NativeError::Stopped) => Err(stop),
        }
    }

    /// Records the job that a probe found, and waits for it.
    fn adopt_job(&self, key: &CallKey, job: Value) -> Result<Value, NativeError> {
        let accepted = Record::Accepted { call: self.name.to_owned(), what: job.clone() };
        self.context.stop_on_journal_error(self.context.run.append_record(accepted, Durability::Synced))?;
        self.perform_effect(key, Some(job))
    }

    fn probe_target(&self, key: &CallKey) -> Result<ProbeResult, NativeError> {
        let Recovery::Probe(probe) = self.request.op.recovery else { return Ok(ProbeResult::NotDone) };
        #[cfg(test)]
        if super::mutant::is_probe_blind() {
            return Ok(ProbeResult::NotDone);
        }
        let accepted = match self.context.call_state(self.name)? {
            CallState::Started { accepted, .. } => accepted,
            CallState::NotStarted | CallState::Finished { .. } => None,
        };
        let _span = tracing::info_span!("call", name = self.name).entered();
        let cx = self.build_context(key, accepted);
        let found = self.context.wait_or_stop(probe(&cx, &self.request.args))?;
        tracing::info!(key = key.0, found = found.as_ref().map_or("no answer", ProbeResult::as_str), "probe");
        found.map_err(|e| self.to_script_error(&e).into())
    }

    /// Applies a person's decision about a call.
    fn apply_decision(&self, decision: Decision) -> Result<Value, NativeError> {
        match decision {
            Decision::Redo { .. } => self.begin_effect(),
            // The call stays open: the run fails with the same error, and a person is asked again.
            Decision::Hold { error } => self.deliver_outcome(Outcome::Err(error)),
            Decision::Done { result } => self.record_outcome(Outcome::Ok(result)),
            Decision::Fail { error } => {
                let op = self.request.op.path();
                let message = format!("`{op}` was decided to have failed");
                let unknown =
                    || ScriptError { operation: Some(op), ..ScriptError::new(codes::DECIDED, &message) };
                let mut fault = error.unwrap_or_else(unknown);
                fault.mark_decided();
                self.record_outcome(Outcome::Err(fault))
            }
            Decision::Approve { .. } | Decision::Reject { .. } => {
                Err(self.context.stop_unreadable(self.name, "its decision is about an approval"))
            }
        }
    }

    /// Records the outcome, and only then reports it.
    fn finish_call(&self, performed: Result<Value, Error>, started: Instant) -> Result<Value, NativeError> {
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
        self.context.stop_on_journal_error(self.context.run.append_record(end, Durability::Synced))?;
        self.deliver_outcome(outcome)
    }

    /// Delivers an outcome to the script, whether new or replayed.
    fn deliver_outcome(&self, outcome: Outcome) -> Result<Value, NativeError> {
        match outcome {
            Outcome::Ok(value) => {
                let made = value::untag_as(&value, value::BRANCH_TAG);
                if self.request.args.get_flag("temporary") && made.is_some() {
                    let (name, due) = (self.name.to_owned(), Cleanup::Branch(value.clone()));
                    self.scope.lock_deferred().push(DeferredCleanup { name, due });
                }
                if self.request.op.effect == Effect::Destroy {
                    self.forget_branch(&value);
                }
                if self.request.op.effect != Effect::Read {
                    self.context.note_effect(self.name);
                }
                Ok(value)
            }
            Outcome::Err(mut fault) => {
                fault.name_call(self.name);
                if fault.side_effects == SideEffects::Some {
                    self.context.note_effect(self.name);
                }
                self.context.remember_left_behind(&fault);
                Err(fault.into())
            }
        }
    }

    /// Stops the run when the script's call differs from the recorded one.
    fn check_matches_record(&self, recorded_op: &str, recorded_args: &Value) -> Result<(), NativeError> {
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

    /// Stops an edited script that would repeat a call under another name: a step was renamed or moved.
    fn check_not_repeated(&self) -> Result<(), NativeError> {
        let Some(calls_made) =
            self.context.calls_made.as_ref().filter(|_| self.request.op.effect != Effect::Read)
        else {
            return Ok(());
        };
        let (op, args) = (self.request.op.path(), self.request.args.to_value());
        let calls_made = lock_unpoisoned(calls_made).clone();
        let done = self.context.run.started_calls();
        let is_it = |name: &str| self.context.run.matches_call(name, &op, &args);
        let twin = done.iter().find(|name| !calls_made.contains(*name) && is_it(name));
        let Some(twin) = twin else { return Ok(()) };
        Err(self.context.stopper.stop_run(StopReason::Mismatch {
            message: format!(
                "the call {} was done before as {twin}\n  recorded  {op}({})\n  asked     the same, in another place\n  at        {}",
                self.name, value::strip_tags(&args), self.request.at
            ),
        }))
    }

    /// Drops the clean-up of a branch that the script has removed itself.
    fn forget_branch(&self, removed: &Value) {
        let is_it = |due: &Cleanup| match due {
            Cleanup::Branch(branch) => {
                value::untag_as(branch, value::BRANCH_TAG).is_some_and(|b| b["id"] == removed["id"])
            }
            Cleanup::Closure { .. } => false,
        };
        self.scope.lock_deferred().retain(|deferred| !is_it(&deferred.due));
        if self.request.op.path() == branch::DELETE_PATH {
            self.context.forget_left_behind(&branch::left_behind_name(&self.request.args));
        }
    }

    /// Verifies that every target of the call is the recorded one, and that the run may use it.
    fn verify_targets(&self) -> Result<(), IdentityError> {
        let CallRequest { op, args, implied, .. } = &self.request;
        let need =
            if *implied { Permission::new("branch", Effect::Create) } else { op.required_permission(args) };
        let given = op.params.iter().filter(|p| p.kind == ParamKind::Target).map(|p| args.get(p.name));
        for place in given.filter_map(|g| parse_target_ref(g).ok()) {
            permit::verify_identity(self.context, &place.target, &need)?;
        }
        Ok(())
    }

    fn stop_undecided(&self, reason: &str) -> NativeError {
        let op = self.request.op.path();
        let reason = format!("nobody knows whether `{op}` ({}) took effect: {reason}", self.name);
        self.context.stopper.stop_run(StopReason::Undecided { call: self.name.to_owned(), reason })
    }

    fn to_script_error(&self, error: &Error) -> ScriptError {
        let mut fault = from_operation_error(error, &self.request.op.path(), self.target.as_deref());
        // A branch that could not be removed is left behind, unless it never existed.
        if self.request.op.path() == branch::DELETE_PATH
            && ![Code::NotFound, Code::Invalid].contains(&error.code)
        {
            fault.left_behind = vec![branch::left_behind_name(&self.request.args)];
        }
        fault
    }

    /// Returns the key by which the target knows the call: the same at every resume, another for every attempt.
    fn derive_key(&self, attempt: u32) -> CallKey {
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

    fn build_context<'c>(&'c self, key: &'c CallKey, accepted: Option<Value>) -> CallContext<'c> {
        CallContext {
            fleet: &self.context.fleet,
            key,
            run: Some(self.context.run.id()),
            accepted,
            host: self,
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

#[async_trait]
impl Accept for Call<'_> {
    async fn accepted(&self, what: Value) -> Result<(), Error> {
        let record = Record::Accepted { call: self.name.to_owned(), what };
        self.context.run.append_record(record, Durability::Synced).map_err(|e| {
            let message = format!("what was accepted could not be written down: {e}");
            drop(self.context.stopper.stop_run(StopReason::Journal(e)));
            Error::new(Code::Internal, message)
        })
    }
}

impl CallHost for Call<'_> {
    fn report_progress(&self, progress: &Progress) {
        self.context.emit_event(&Event::Progress { call: self.name, op: &self.request.op.path(), progress });
    }

    fn report_columns(&self, columns: &[String]) {
        self.context.emit_event(&Event::Columns { columns });
    }
}

fn target_name(op: &Operation, args: &CallArgs) -> Option<String> {
    let target = op.positional_params().find(|p| p.kind == ParamKind::Target)?;
    parse_target_ref(args.get(target.name)).ok().map(|place| place.to_string())
}

/// Records a native without an operation (the time, a note, a metric) like a call, so that a replay returns the same
/// value. The record is written together with the next durable one.
pub(super) fn record_native_call(
    scope: &CallScope,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> Value,
) -> Result<Value, NativeError> {
    let context = scope.run_context();
    if scope.is_halted() {
        return Err(NativeError::Stopped);
    }
    let name = scope.next_call_name(native);
    match context.call_state(&name)? {
        CallState::Finished { op, args: recorded, outcome } if op == native && recorded == *args => match outcome {
            Outcome::Ok(value) => Ok(value),
            Outcome::Err(fault) => Err(fault.into()),
        },
        CallState::Finished { op, args: recorded, .. } | CallState::Started { op, args: recorded, .. } => {
            Err(context.stopper.stop_run(StopReason::Mismatch {
                message: format!(
                    "{name} is not what was recorded\n  recorded  {op}({})\n  asked     {native}({})\n  at        {at}",
                    value::strip_tags(&recorded), value::strip_tags(args)
                ),
            }))
        }
        CallState::NotStarted if context.is_settling() => Err(scope.abandon_fork()),
        CallState::NotStarted => {
            let value = make();
            let end = Record::End { call: name, op: native.into(), args: args.clone(), at: at.into(), outcome: Outcome::Ok(value.clone()) };
            context.stop_on_journal_error(context.run.append_record(end, Durability::Buffered))?;
            Ok(value)
        }
    }
}

/// Records a native as [`record_native_call`] does, and returns its value as what it is. What is recorded and does not
/// read stops the run: a value made now would be another one.
pub(super) fn record_typed_call<T: Serialize + DeserializeOwned>(
    scope: &CallScope,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> T,
) -> Result<T, NativeError> {
    let name = scope.peek_call_name(native);
    let recorded = record_native_call(scope, native, args, at, || json!(make()))?;
    T::deserialize(&recorded).map_err(|e| scope.run_context().stop_unreadable(&name, e.to_string()))
}
