//! Evaluates the text of a run until it ends or stops.
//!
//! A run *ends* (succeeded, failed, abandoned) or it *stops* (interrupted, undecided, mismatch, unreadable). Clean-up
//! belongs to an end and to nothing else; that the run is ending is on disk before the first of it.

use super::{
    decision::{self, FailureDecision},
    edit_gate,
    end_run::{RunResult, clean_up_and_end_run, record_stop},
    engine,
    limits::STACK_BYTES,
    modules::{ModuleSources, PreloadedModules},
    run_context::RunContext,
    runbook::Runbook,
    scope::CallScope,
    script_error,
    settle::{defer_cleanup_of_missing_calls, resolve_open_calls},
    signals::Signals,
    stop::StopReason,
    values::{to_dynamic, to_json},
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{Conclusion, Failure},
};
use rhai::{Engine, EvalAltResult, Scope};
use serde_json::Value;
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
                () = interrupts.wait_for_signal() => drop(context.stopper.stop_run(StopReason::Interrupted)),
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
    if let Ok(Some(by)) = context.journal.find_stop_requester(context.run.id()) {
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
        context.rejections.restart();
        let scope = CallScope::at_root(Arc::clone(context));
        let modules = PreloadedModules::new(runbook.modules.clone());
        engine::attach_run(engine, &scope, modules, context.stopper.shared_flag());
        let mut variables = Scope::new();
        variables.push_constant_dynamic("params", to_dynamic(params));
        let evaluated = engine.eval_ast_with_scope::<rhai::Dynamic>(&mut variables, &runbook.ast);
        let conclusion = match (context.stopper.take_stop_reason(), ending.clone()) {
            // An edited text that asks for something else says no more about what is to be given up.
            (Some(StopReason::Mismatch { .. } | StopReason::EditRejected { .. }), _)
                if context.is_abandoning =>
            {
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
        let checked = match find_forgotten_calls(context, &conclusion) {
            Some(stop) => Err(stop),
            None => defer_cleanup_of_missing_calls(&scope)
                .and_then(|()| edit_gate::await_approval_of_end(&scope, &conclusion)),
        };
        return match checked {
            Err(stop) => record_stop(context, stop),
            Ok(()) => clean_up_and_end_run(context, engine, conclusion),
        };
    }
}

/// Returns the conclusion of a script that failed, or `None` to evaluate it again, from the top as at a
/// resume, over what a person decided.
fn conclude_or_reevaluate(
    context: &Arc<RunContext>,
    failure: Failure,
) -> Result<Option<Conclusion>, StopReason> {
    // Where a call is held, nothing that an edited script has not asked for by then is looked at any more.
    let is_open =
        failure.fault.call_name.as_ref().is_some_and(|call| context.run.open_calls().contains(call));
    if let Some(stop) = find_calls_not_asked_for(context).filter(|_| is_open) {
        return Err(stop);
    }
    match decision::ask_about_failure(context, &failure) {
        Ok(FailureDecision::EndRun) => Ok(Some(Conclusion::Failed(Box::new(failure)))),
        Ok(FailureDecision::EvaluateAgain) => {
            lock_unpoisoned(&context.deferred).clear();
            lock_unpoisoned(&context.left_behind).clear();
            Ok(None)
        }
        Ok(FailureDecision::StopRun) | Err(_) => {
            Err(context.stopper.take_stop_reason().unwrap_or(StopReason::Interrupted))
        }
    }
}

/// Returns a mismatch if an edited script no longer makes a recorded call: what follows from it, its clean-up
/// above all, would be lost.
fn find_forgotten_calls(context: &RunContext, conclusion: &Conclusion) -> Option<StopReason> {
    if context.run.is_ending() || matches!(conclusion, Conclusion::Abandoned) {
        return None;
    }
    find_calls_not_asked_for(context)
}

fn find_calls_not_asked_for(context: &RunContext) -> Option<StopReason> {
    let message = context.edits.as_ref()?.describe_calls_not_asked_for()?;
    Some(StopReason::Mismatch { message })
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
        .and_then(|entries| resolve_open_calls(scope, &entries))
        .and_then(|()| context.run.conclusion().map_err(StopReason::Unreadable));
    match settled {
        Ok(ending) => clean_up_and_end_run(context, engine, ending.unwrap_or(Conclusion::Abandoned)),
        Err(stop) => record_stop(context, stop),
    }
}

pub(super) fn to_failure(runbook: &Runbook, error: &EvalAltResult) -> Failure {
    script_error::to_failure(error, &runbook.path, &|file| runbook.source_text(file))
}
