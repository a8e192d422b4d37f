//! Does the clean-up of a run that ends: what was deferred, last first, and the removal of temporary branches.

use super::{
    call::{CallRequest, replay_or_run_call},
    call_path::CLEAN_UP_PATH,
    deferred_cleanup,
    events::Event,
    run_context::{Cleanup, RunContext, StoredCallContext},
    scope::CallScope,
    script_error,
    stop::NativeError,
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{Failure, ScriptError},
    ops::{self, args::CallArgs, spec::parse_target_ref},
    provider::Code,
};
use rhai::{Engine, EvalAltResult, FnPtr};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Runs deferred clean-up, last first, and what that defers, under a path that no step can have; returns
/// what went wrong.
pub(super) fn run_cleanups(context: &Arc<RunContext>, engine: &Engine, failed: bool) -> Vec<Failure> {
    let mut wrong = Vec::new();
    let count = lock_unpoisoned(&context.deferred).iter().filter(|d| d.is_due(failed)).count();
    if count > 0 {
        context.emit_event(&Event::Ending { deferred: count });
    }
    context.set_settling(false);
    let next = || lock_unpoisoned(&context.deferred).pop();
    while let Some(deferred) = next() {
        if !deferred.is_due(failed) {
            continue;
        }
        let scope = CallScope::at_path(Arc::clone(context), format!("{CLEAN_UP_PATH}{}", deferred.name));
        let result = match deferred.due {
            Cleanup::Closure { closure, made_in, .. } => {
                run_deferred_closure(&scope, engine, &deferred.name, &made_in, &closure)
            }
            Cleanup::Branch(branch) => remove_branch(&scope, &deferred.name, &branch)
                .map_err(|fault| Box::new(Failure { fault: *fault, place: None })),
        };
        if context.stopper.is_stopped() {
            break;
        }
        if let Err(failure) = result {
            context.remember_left_behind(&failure.fault);
            wrong.push(*failure);
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
) -> Result<(), Box<Failure>> {
    scope.invoke_stored_closure(engine, made_in, closure, ()).map(drop).map_err(|e| {
        let context = scope.run_context();
        let recorded = context.run.recorded_call(name);
        let mut failure = find_failure(context, &e);
        if !context.stopper.is_stopped() {
            context.observer.on_failed_clean_up(name, &failure);
        }
        let undone =
            deferred_cleanup::name_missed_clean_up(name, recorded.as_ref().map(|recorded| &recorded.args));
        failure.fault.left_behind.push(undone);
        Box::new(failure)
    })
}

/// Returns what ended a piece of the script, and where in the run's texts.
fn find_failure(context: &RunContext, error: &EvalAltResult) -> Failure {
    let sources = context.sources.get().map_or(&[][..], Vec::as_slice);
    let text_of =
        |file: &str| sources.iter().find(|source| source.path == file).map(|source| source.text.clone());
    script_error::to_failure(error, sources.first().map_or("", |main| main.path.as_str()), &text_of)
}

/// Returns whether a removal failed because its target, which was reached, does not have the branch.
fn is_gone(fault: &ScriptError) -> bool {
    fault.code == Code::NotFound.as_str() && fault.left_behind.is_empty()
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
            drop(scope.run_context().stop_as_unreadable(made, e.message));
            return Ok(());
        }
    };
    match replay_or_run_call(scope, CallRequest { op, args, at: "the end of the run", implied: true }) {
        Ok(_) | Err(NativeError::Stopped) => Ok(()),
        Err(NativeError::Raised(fault)) if is_gone(&fault) => Ok(()),
        Err(NativeError::Raised(mut fault)) => {
            fault.set_left_behind(vec![format!("branch {name}")]);
            Err(fault)
        }
    }
}
