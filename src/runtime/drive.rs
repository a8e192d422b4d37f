//! Evaluates a run, cleans up, and records how it ended. The whole policy of an end is here.
//!
//! A run *ends* (succeeded, failed, abandoned) or it *stops* (interrupted, undecided, mismatch, unreadable). Clean-up
//! belongs to an end and to nothing else; that the run is ending is on disk before the first of it.

use super::{
    call::{self, CallRequest, run_call},
    call_path::CLEAN_UP_PATH,
    decision::{self, FailureDecision},
    deferred_cleanup,
    edit_barrier::DEFER,
    engine,
    events::Event,
    leave::name_open_call,
    limits::STACK_BYTES,
    lost_history::remember_lost_history,
    modules::{ModuleSources, PreloadedModules},
    open_approval::is_gate,
    run_context::{Cleanup, DeferredCleanup, RunContext, StoredCallContext},
    runbook::Runbook,
    scope::CallScope,
    script_error,
    signals::Signals,
    stop::{NativeError, StopReason},
    values::{to_dynamic, to_json},
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{
        CallState, Conclusion, Decision, Durability, Failure, JournalEntry, Outcome, Record, RunError,
        RunStatus, ScriptError,
    },
    ops::{self, args::CallArgs, spec::parse_target_ref},
    provider::Code,
};
use rhai::{Engine, EvalAltResult, FnPtr, Scope};
use serde_json::{Map, Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::signal::unix::SignalKind;

/// The interval at which a run checks whether another process asks it to stop.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a script on a thread of its own until it ends or stops.
pub(super) fn run_on_thread(
    tokio: &tokio::runtime::Runtime,
    context: &Arc<RunContext>,
    runbook: Runbook,
    params: Value,
) -> io::Result<RunResult> {
    with_run_thread(tokio, context, move |context| evaluate_runbook(context, &runbook, &params))
}

/// Abandons a run without a text, on a thread of its own.
pub(super) fn abandon_on_thread(
    tokio: &tokio::runtime::Runtime,
    context: &Arc<RunContext>,
) -> io::Result<RunResult> {
    with_run_thread(tokio, context, abandon_recorded_run)
}

/// Executes a run on a thread of its own. SIGINT and SIGTERM interrupt it.
fn with_run_thread(
    tokio: &tokio::runtime::Runtime,
    context: &Arc<RunContext>,
    body: impl FnOnce(&Arc<RunContext>) -> RunResult + Send + 'static,
) -> io::Result<RunResult> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let mut interrupts = {
        let _runtime = tokio.enter();
        Signals::listen_for(&[SignalKind::interrupt(), SignalKind::terminate()])
    };
    let running = Arc::clone(context);
    let thread = std::thread::Builder::new().name("runbook".into()).stack_size(STACK_BYTES);
    let script = thread.spawn(move || {
        // The receiver is gone only when the whole process ends.
        drop(done.send(body(&running)));
    })?;
    let result = tokio.block_on(async {
        tokio::pin!(ended);
        let mut poll = tokio::time::interval(STOP_POLL_INTERVAL);
        loop {
            tokio::select! {
                result = &mut ended => break result,
                _ = poll.tick() => {
                    stop_if_requested(context);
                }
                () = interrupts.wait_for_one() => drop(context.stopper.stop_run(StopReason::Interrupted)),
            }
        }
    });
    drop(script.join());
    // Deferred clean-up and the run refer to each other; clearing it frees both, and the run's lock.
    lock_unpoisoned(&context.deferred).clear();
    // A panic of the thread leaves the run as a kill would: it can be resumed.
    result.map_err(|_| io::Error::other("a bug in redrill ended the run's thread; the run can be resumed"))
}

/// Stops a run that another process has asked to stop.
pub(super) fn stop_if_requested(context: &RunContext) {
    // A journal that cannot be read says so at the next record.
    if let Ok(Some(by)) = context.journal.stop_requested_by(context.run.id()) {
        drop(context.stopper.stop_run(StopReason::TakenOver { by }));
    }
}

fn evaluate_runbook(context: &Arc<RunContext>, runbook: &Runbook, params: &Value) -> RunResult {
    evaluate_with_engine(&mut engine::build_engine(), context, runbook, params)
}

/// Evaluates a runbook with an engine, which is attached to this run first.
pub(super) fn evaluate_with_engine(
    engine: &mut Engine,
    context: &Arc<RunContext>,
    runbook: &Runbook,
    params: &Value,
) -> RunResult {
    let ending = match context.run.conclusion() {
        Ok(ending) => ending,
        Err(record) => return record_stop(context, StopReason::Unreadable(record)),
    };
    if ending.is_some() {
        context.set_settling(true);
    }
    // Only set once: a context evaluates one runbook.
    context.sources.get_or_init(|| runbook.sources());
    loop {
        if let Some(edits) = &context.edits {
            edits.restart();
        }
        let scope = CallScope::at_root(Arc::clone(context));
        let modules = PreloadedModules::new(runbook.modules.clone());
        engine::attach_run(engine, &scope, modules, context.stopper.shared_flag());
        let mut variables = Scope::new();
        variables.push_constant_dynamic("params", to_dynamic(params));
        let evaluated = engine.eval_ast_with_scope::<rhai::Dynamic>(&mut variables, &runbook.ast);
        let conclusion = match (context.stopper.reset_stop(), ending.clone()) {
            // An edited text that asks for something else says no more about what is to be given up.
            (Some(StopReason::Mismatch { .. }), _) if context.is_abandoning => {
                return abandon_by_records(context, engine, &scope);
            }
            (None | Some(StopReason::Abandoned), Some(recorded)) => recorded,
            (Some(StopReason::Abandoned), None) => Conclusion::Abandoned,
            (Some(stop), _) => return record_stop(context, stop),
            (None, None) => match evaluated {
                Ok(value) => Conclusion::Done(to_json(&value).unwrap_or(Value::Null)),
                // A call that was settled now may have failed; the run was given up before.
                Err(_) if context.is_settling() => Conclusion::Abandoned,
                Err(e) => match conclude_or_reevaluate(context, to_failure(runbook, &e)) {
                    Ok(Some(conclusion)) => conclusion,
                    Ok(None) => continue,
                    Err(stop) => return record_stop(context, stop),
                },
            },
        };
        if context.is_abandoning {
            return abandon_by_records(context, engine, &scope);
        }
        let checked = match check_forgotten_calls(context, &conclusion) {
            Some(stop) => Err(stop),
            None => keep_cleanup_of_missing(&scope),
        };
        return match checked {
            Err(stop) => record_stop(context, stop),
            Ok(()) => end_run(context, engine, conclusion),
        };
    }
}

/// Returns the conclusion of a script that failed, or `None` to evaluate it again, from the top as at a
/// resume, over what a person decided.
fn conclude_or_reevaluate(
    context: &Arc<RunContext>,
    failure: Failure,
) -> Result<Option<Conclusion>, StopReason> {
    match decision::ask_about_failure(context, &failure) {
        Ok(FailureDecision::EndRun) => Ok(Some(Conclusion::Failed(Box::new(failure)))),
        Ok(FailureDecision::EvaluateAgain) => {
            lock_unpoisoned(&context.deferred).clear();
            lock_unpoisoned(&context.left_behind).clear();
            Ok(None)
        }
        Ok(FailureDecision::StopRun) | Err(_) => {
            Err(context.stopper.reset_stop().unwrap_or(StopReason::Interrupted))
        }
    }
}

/// Returns a mismatch if an edited script no longer makes a recorded call: what follows from it, its clean-up
/// above all, would be lost.
fn check_forgotten_calls(context: &RunContext, conclusion: &Conclusion) -> Option<StopReason> {
    if context.run.is_ending() || matches!(conclusion, Conclusion::Abandoned) {
        return None;
    }
    let message = context.edits.as_ref()?.describe_unasked()?;
    Some(StopReason::Mismatch { message })
}

/// Keeps the clean-up of calls that somebody allowed to be missing in an edited script: their temporary branches are the
/// run's all the same.
fn keep_cleanup_of_missing(scope: &CallScope) -> Result<(), StopReason> {
    let context = scope.run_context();
    if context.run.allowed_missing().is_empty() || context.run.is_ending() {
        return Ok(());
    }
    let entries = context.run.sync_records().and_then(|()| context.journal.read_records(context.run.id()));
    settle_recorded_calls(scope, &entries.map_err(StopReason::Journal)?)
}

/// Abandons a session that was killed, a run without a text.
fn abandon_recorded_run(context: &Arc<RunContext>) -> RunResult {
    let scope = CallScope::at_root(Arc::clone(context));
    let engine = engine::build_engine_for_run(
        &scope,
        PreloadedModules::new(ModuleSources::new()),
        context.stopper.shared_flag(),
    );
    abandon_by_records(context, &engine, &scope)
}

/// Abandons a run by its records: what its text has not resolved, or removed, is taken from them. A run that was ending
/// ends as was recorded.
fn abandon_by_records(context: &Arc<RunContext>, engine: &Engine, scope: &CallScope) -> RunResult {
    let settled = context
        .run
        .sync_records()
        .and_then(|()| context.journal.read_records(context.run.id()))
        .map_err(StopReason::Journal)
        .and_then(|entries| settle_recorded_calls(scope, &entries))
        .and_then(|()| context.run.conclusion().map_err(StopReason::Unreadable));
    match settled {
        Ok(ending) => end_run(context, engine, ending.unwrap_or(Conclusion::Abandoned)),
        Err(stop) => record_stop(context, stop),
    }
}

/// Resolves every open call of a run, and defers the removal of its temporary branches, where its text has not.
fn settle_recorded_calls(scope: &CallScope, entries: &[JournalEntry]) -> Result<(), StopReason> {
    let context = scope.run_context();
    for JournalEntry { record, .. } in entries {
        match record {
            Record::End { call, args, outcome: Outcome::Ok(value), .. }
                if args["temporary"] == json!(true)
                    && value::untag_as(value, value::BRANCH_TAG).is_some() =>
            {
                let mut deferred = scope.lock_deferred();
                if !deferred.iter().any(|known| known.name == *call) {
                    let due = Cleanup::Branch(value.clone());
                    deferred.push(DeferredCleanup { name: call.clone(), due });
                }
            }
            // Clean-up resolves its own calls.
            Record::Begin { call, op, args, .. } if !call.starts_with(CLEAN_UP_PATH) => {
                resolve_open_call(scope, call, op, args);
            }
            _ => {}
        }
        match context.stopper.reset_stop() {
            None | Some(StopReason::Abandoned) => {}
            Some(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Resolves a call if it is open; the outcome is recorded. Nothing is under way in an approval.
fn resolve_open_call(scope: &CallScope, call: &str, op: &str, args: &Value) {
    let context = scope.run_context();
    if is_gate(op) || !context.run.open_calls().iter().any(|open| open == call) {
        return;
    }
    let decoded = ops::find_operation(op)
        .ok_or_else(|| format!("there is no operation `{op}`"))
        .and_then(|op| Ok((op, CallArgs::from_recorded(op, args).map_err(|e| e.to_string())?)));
    match decoded {
        Ok((op, args)) => drop(call::resolve_recorded_call(
            scope,
            call,
            CallRequest { op, args, at: "the settling of the run", implied: false },
        )),
        Err(what) => drop(context.stop_unreadable(call, what)),
    }
}

pub(super) fn to_failure(runbook: &Runbook, error: &EvalAltResult) -> Failure {
    script_error::to_failure(error, &runbook.path, &|file| runbook.source_text(file))
}

/// The result of a run that ended or stopped.
#[derive(Debug)]
pub struct RunResult {
    pub run: String,
    pub status: RunStatus,
    /// The hash of its last record.
    pub head: String,
    /// The value of its last expression, if it succeeded.
    pub value: Value,
    /// The error that ended it.
    pub failure: Option<Failure>,
    pub stop: Option<StopReason>,
    /// Clean-up that failed, one message each.
    pub cleanup: Vec<String>,
    /// What was made and is still there.
    pub left_behind: Vec<String>,
    /// Whether it was taken up to be given up: what goes on with that is not a resume.
    pub is_given_up: bool,
}

/// Ends a run: cleans up in reverse order and records the status. A run with an undecided call does
/// not end; it stops, and can go on.
pub(super) fn end_run(context: &Arc<RunContext>, engine: &Engine, conclusion: Conclusion) -> RunResult {
    // Clean-up resolves its own calls; an abandoned run has resolved every other.
    let unresolved = |call: &String| !call.starts_with(CLEAN_UP_PATH);
    if !matches!(conclusion, Conclusion::Abandoned)
        && let Err(stop) = end_held_calls(context)
    {
        return record_stop(context, stop);
    }
    if !matches!(conclusion, Conclusion::Abandoned) && context.run.open_calls().iter().any(unresolved) {
        return record_stop(context, StopReason::Interrupted);
    }
    if let Err(stop) = check_lost_cleanup(context) {
        return record_stop(context, stop);
    }
    // Without clean-up, the end is the next record, and both are written together.
    #[cfg(test)]
    if super::mutant::skips_clean_up(context.run.is_ending()) {
        lock_unpoisoned(&context.deferred).clear();
    }
    let durability =
        if lock_unpoisoned(&context.deferred).is_empty() { Durability::Buffered } else { Durability::Synced };
    if !context.run.is_ending()
        && let Err(e) =
            context.run.append_record(Record::Ending { outcome: conclusion.to_recorded() }, durability)
    {
        return record_stop(context, StopReason::Journal(e));
    }
    let (value, failure, abandoned) = match conclusion {
        Conclusion::Done(value) => (value, None, false),
        Conclusion::Failed(failure) => (Value::Null, Some(*failure), false),
        Conclusion::Abandoned => (Value::Null, None, true),
    };
    let cleanup = run_cleanups(context, engine, failure.is_some() || abandoned);
    // A run that is stopped meanwhile says so below.
    drop(remember_lost_history(context));
    if let Some(stop) = context.stopper.reset_stop() {
        return record_stop(context, stop);
    }
    let status = match (abandoned, failure.is_some() || !cleanup.is_empty()) {
        (true, _) => RunStatus::Abandoned,
        (false, true) => RunStatus::Failed,
        (false, false) => RunStatus::Succeeded,
    };
    // Clean-up whose text is lost resolves none of its calls.
    let open = context.run.open_calls();
    lock_unpoisoned(&context.left_behind).extend(
        open.iter().filter_map(|call| name_open_call(call, context.run.recorded_call(call).as_ref())),
    );
    let left_behind = lock_unpoisoned(&context.left_behind).clone();
    let error = RunError::from_parts(failure.as_ref(), &cleanup).map(|error| error.to_json());
    let finished = Record::Finished { status, error, left_behind: left_behind.clone() };
    if let Err(e) = context.run.append_record(finished, Durability::Synced) {
        return record_stop(context, StopReason::Journal(e));
    }
    // A lease that cannot be released expires by itself: its run is no longer held.
    drop(context.journal.release_leases(context.run.id()));
    RunResult {
        run: context.run.id().into(),
        status,
        head: context.run.head_hash(),
        value,
        failure,
        stop: None,
        cleanup,
        left_behind,
        is_given_up: false,
    }
}

/// Checks that everything that was deferred is due now: a run does not end without it. One that is given up names it
/// among what it leaves behind.
fn check_lost_cleanup(context: &RunContext) -> Result<(), StopReason> {
    let allowed = context.run.allowed_missing();
    let mut lost = context.run.calls_of(DEFER);
    lost.retain(|name| !name.starts_with(CLEAN_UP_PATH) && !allowed.contains(name));
    let due = lock_unpoisoned(&context.deferred);
    lost.retain(|name| !due.iter().any(|deferred| deferred.name == *name));
    lost.sort();
    let texts = lost.iter().filter_map(|name| Some((name, context.run.recorded_call(name)?.args)));
    let named: Vec<_> =
        texts.map(|(name, args)| deferred_cleanup::name_missed_clean_up(name, Some(&args))).collect();
    if named.is_empty() {
        return Ok(());
    }
    if context.is_abandoning {
        lock_unpoisoned(&context.left_behind).extend(named);
        return Ok(());
    }
    Err(StopReason::Mismatch {
        message: format!(
            "the script does not come to clean-up that was deferred\n  recorded  {}\n  asked     nothing",
            named.join("\n  recorded  ")
        ),
    })
}

/// Ends held calls whose errors the script now handles, as an edited one may: they stay errors.
fn end_held_calls(context: &RunContext) -> Result<(), StopReason> {
    for call in context.run.open_calls() {
        let past = context.run.call_state(&call).map_err(StopReason::Unreadable)?;
        let CallState::Started { op, args, decision: Some(Decision::Hold { error }), .. } = past else {
            continue;
        };
        let (at, outcome) = ("the end of the run".to_owned(), Outcome::Err(error.to_json()));
        let end = Record::End { call, op, args, at, outcome };
        context.run.append_record(end, Durability::Buffered).map_err(StopReason::Journal)?;
    }
    Ok(())
}

/// Runs deferred clean-up, last first, and what that defers, under a path that no step can have; returns
/// what went wrong.
fn run_cleanups(context: &Arc<RunContext>, engine: &Engine, failed: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let due =
        |d: &DeferredCleanup| failed || !matches!(d.due, Cleanup::Closure { only_on_failure: true, .. });
    let count = lock_unpoisoned(&context.deferred).iter().filter(|d| due(d)).count();
    if count > 0 {
        context.emit_event(&Event::Ending { deferred: count });
    }
    context.set_settling(false);
    let next = || lock_unpoisoned(&context.deferred).pop();
    while let Some(deferred) = next() {
        if !due(&deferred) {
            continue;
        }
        let scope = CallScope::at_path(Arc::clone(context), format!("{CLEAN_UP_PATH}{}", deferred.name));
        let result = match deferred.due {
            Cleanup::Closure { closure, made_in, .. } => {
                run_deferred_closure(&scope, engine, &deferred.name, &made_in, &closure)
            }
            Cleanup::Branch(branch) => remove_branch(&scope, &deferred.name, &branch),
        };
        if context.stopper.is_stopped() {
            break;
        }
        if let Err(fault) = result {
            context.remember_left_behind(&fault);
            wrong.push(fault.message);
        }
    }
    wrong
}

/// Runs a closure that was deferred. One that fails is named among what is left behind: whatever it would have undone may
/// still be there.
fn run_deferred_closure(
    scope: &CallScope,
    engine: &Engine,
    name: &str,
    made_in: &StoredCallContext,
    closure: &FnPtr,
) -> Result<(), Box<ScriptError>> {
    scope.invoke_stored_closure(engine, made_in, closure, ()).map(drop).map_err(|e| {
        let context = scope.run_context();
        let recorded = context.run.recorded_call(name);
        let failure = find_failure(context, &e);
        if !context.stopper.is_stopped() {
            context.observer.on_failed_clean_up(name, &failure);
        }
        let mut fault = failure.fault;
        let undone =
            deferred_cleanup::name_missed_clean_up(name, recorded.as_ref().map(|recorded| &recorded.args));
        fault.left_behind.push(undone);
        Box::new(fault)
    })
}

/// Returns what ended a piece of the script, and where in the run's texts.
fn find_failure(context: &RunContext, error: &EvalAltResult) -> Failure {
    let sources = context.sources.get().map_or(&[][..], Vec::as_slice);
    let text_of =
        |file: &str| sources.iter().find(|source| source.path == file).map(|source| source.text.clone());
    script_error::to_failure(error, sources.first().map_or("", |main| main.path.as_str()), &text_of)
}

/// Removes a branch that the call `made` has given back. A branch that is already gone is no error.
fn remove_branch(scope: &CallScope, made: &str, branch: &Value) -> Result<(), Box<ScriptError>> {
    let Some(op) = ops::find_operation("branch::delete") else { return Ok(()) };
    let decoded = parse_target_ref(branch).and_then(|place| {
        let target = value::tag_value(value::TARGET_TAG, place.target.as_str());
        Ok((CallArgs::decode(op, vec![target, branch.clone()], Map::new())?, place.to_string()))
    });
    let (args, name) = match decoded {
        Ok(decoded) => decoded,
        Err(e) => {
            drop(scope.run_context().stop_unreadable(made, e.message));
            return Ok(());
        }
    };
    match run_call(scope, CallRequest { op, args, at: "the end of the run", implied: true }) {
        Ok(_) | Err(NativeError::Stopped) => Ok(()),
        Err(NativeError::Raised(fault)) if fault.code == Code::NotFound.as_str() => Ok(()),
        Err(NativeError::Raised(mut fault)) => {
            fault.set_left_behind(vec![format!("branch {name}")]);
            Err(fault)
        }
    }
}

/// Records that a run stopped. If the journal cannot be written, the run reads as interrupted.
fn record_stop(context: &Arc<RunContext>, stop: StopReason) -> RunResult {
    let mismatch = matches!(stop, StopReason::Mismatch { .. });
    let (status, reason) = match &stop {
        StopReason::Waiting { reason, .. } => (RunStatus::Waiting, reason.clone()),
        StopReason::TakenOver { by } => (RunStatus::Interrupted, format!("taken over by {by}")),
        StopReason::Undecided { reason, .. } => (RunStatus::Undecided, reason.clone()),
        StopReason::Interrupted => (RunStatus::Interrupted, "interrupted".to_owned()),
        StopReason::Mismatch { message } | StopReason::Refused { message, .. } => {
            (RunStatus::Interrupted, message.clone())
        }
        StopReason::Unreadable(record) => (RunStatus::Interrupted, record.to_string()),
        StopReason::Leased(e) | StopReason::Journal(e) => (RunStatus::Interrupted, e.to_string()),
        StopReason::Abandoned => (RunStatus::Interrupted, "the run was being abandoned".to_owned()),
    };
    if !matches!(stop, StopReason::Journal(_)) {
        // Without the record the run still reads as interrupted; only the reason is lost.
        let at_call = match &stop {
            StopReason::Undecided { call, .. } | StopReason::Waiting { call, .. } => Some(call.clone()),
            _ => None,
        };
        drop(
            context
                .run
                .append_record(Record::Stopped { status, reason, mismatch, at_call }, Durability::Synced),
        );
        drop(context.journal.release_leases(context.run.id()));
    }
    if matches!(stop, StopReason::Undecided { .. }) {
        // Whoever decides looks at the targets, and should know what else to look for.
        drop(remember_lost_history(context));
    }
    RunResult {
        run: context.run.id().into(),
        status,
        head: context.run.head_hash(),
        value: Value::Null,
        failure: None,
        stop: Some(stop),
        cleanup: vec![],
        left_behind: lock_unpoisoned(&context.left_behind).clone(),
        is_given_up: false,
    }
}
