//! A run from its first line to its end: evaluate, clean up, record how it ended. The whole policy of an end is here.
//!
//! A run *ends* (succeeded, failed, abandoned) or it *stops* (interrupted, undecided, mismatch). Clean-up belongs to
//! an end and to nothing else; that the run is ending is on disk before the first of it.

use super::{
    Ended, Event, Failure, Runbook,
    call::{Asked, take},
    engine, fault,
    live::{Deferred, Due, Frame, Halt, Live, Stop, lock},
    modules::Modules,
    values::{to_dynamic, to_value},
};
use crate::{
    base::value,
    journal::{Durability, Outcome, Record, Status},
    ops::{self, args::Args, spec::place_of},
};
use rhai::{Engine, EvalAltResult, Scope};
use serde_json::{Map, Value, json};
use std::{io, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// Returns the targets that parameters name.
pub(super) fn targets_of(params: &Value) -> Vec<String> {
    let values = params.as_object().into_iter().flat_map(Map::values);
    values
        .filter_map(|v| value::inside(v, value::TARGET))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Runs a script on a thread of its own until it ends or stops. Ctrl-C and a request to terminate interrupt it.
pub(super) fn drive(
    tokio: &tokio::runtime::Runtime,
    live: &Arc<Live>,
    runbook: Runbook,
    params: Value,
) -> io::Result<Ended> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let running = Arc::clone(live);
    let script = std::thread::Builder::new().name("runbook".into()).stack_size(engine::STACK_BYTES).spawn(
        move || {
            // The receiver is gone only when the whole process is going.
            drop(done.send(evaluate(&running, &runbook, &params)));
        },
    )?;
    let result = tokio.block_on(async {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                result = &mut ended => break result,
                () = interrupted() => drop(live.stopper.stop(Stop::Interrupted)),
            }
        }
    });
    drop(script.join());
    // What is still deferred knows the run, and the run it: apart, both are freed, and with them the run's lock.
    lock(&live.deferred).clear();
    // A panic in the script's thread has left the run as a kill would: it can be resumed.
    result.map_err(|_| io::Error::other("a bug in firedrill ended the run's thread; the run can be resumed"))
}

/// Returns when a person or the system asks the process to stop.
async fn interrupted() {
    tokio::select! {
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::terminate()) => {}
    }
}

/// Returns when the process gets a signal; never, where it cannot be listened for.
pub(super) async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

fn evaluate(live: &Arc<Live>, runbook: &Runbook, params: &Value) -> Ended {
    let frame = Frame::root(Arc::clone(live));
    let engine = engine::for_run(&frame, Modules::new(runbook.modules.clone()), live.stopper.flag());
    evaluate_with(&engine, live, runbook, params)
}

/// Evaluates a runbook with an engine that finds this run.
pub(super) fn evaluate_with(engine: &Engine, live: &Arc<Live>, runbook: &Runbook, params: &Value) -> Ended {
    let mut scope = Scope::new();
    scope.push_constant_dynamic("params", to_dynamic(params));
    let evaluated = engine.eval_ast_with_scope::<rhai::Dynamic>(&mut scope, &runbook.ast);
    let outcome = match live.stopper.take() {
        Some(Stop::Abandoned) => Err(None),
        Some(stop) => return stopped(live, stop),
        None => evaluated.map_err(|e| Some(failure(runbook, &e))),
    };
    end(live, engine, outcome)
}

pub(super) fn failure(runbook: &Runbook, error: &EvalAltResult) -> Failure {
    fault::of_script(error, &runbook.path, &|file| runbook.text_of(file))
}

/// Ends a run: cleans up, in reverse order, and records how it came out. `Err(None)` is an abandoned run.
pub(super) fn end(
    live: &Arc<Live>,
    engine: &Engine,
    outcome: Result<rhai::Dynamic, Option<Failure>>,
) -> Ended {
    let abandoned = matches!(outcome, Err(None));
    let value = outcome.as_ref().ok().map_or(Value::Null, |v| to_value(v).unwrap_or_default());
    let failure = outcome.err().flatten();
    let recorded = match &failure {
        Some(failure) => Outcome::Err(json!(failure)),
        None if abandoned => Outcome::Err(json!("abandoned")),
        None => Outcome::Ok(value.clone()),
    };
    // Without clean-up, the end is the next record, and this one rides with it.
    let durability = if lock(&live.deferred).is_empty() { Durability::Rides } else { Durability::Now };
    if live.run.ending().is_none()
        && let Err(e) = live.run.append(Record::Ending { outcome: recorded }, durability)
    {
        return stopped(live, Stop::Journal(e));
    }
    let cleanup = clean_up(live, engine, failure.is_some() || abandoned);
    if let Some(stop) = live.stopper.take() {
        return stopped(live, stop);
    }
    let status = match (abandoned, failure.is_some() || !cleanup.is_empty()) {
        (true, _) => Status::Abandoned,
        (false, true) => Status::Failed,
        (false, false) => Status::Succeeded,
    };
    let left_behind = lock(&live.left_behind).clone();
    let error = failure
        .as_ref()
        .map(|f| json!(f))
        .or_else(|| (!cleanup.is_empty()).then(|| json!({"cleanup": cleanup})));
    let finished = Record::Finished { status, error, left_behind: left_behind.clone() };
    if let Err(e) = live.run.append(finished, Durability::Now) {
        return stopped(live, Stop::Journal(e));
    }
    // A lease that cannot be given back gives way by itself: its run is no longer held.
    drop(live.journal.release(live.run.id()));
    Ended {
        run: live.run.id().into(),
        status,
        head: live.run.head(),
        value,
        failure,
        stop: None,
        cleanup,
        left_behind,
    }
}

/// Does what was deferred, last first, each under a path of its own; returns what went wrong.
fn clean_up(live: &Arc<Live>, engine: &Engine, failed: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let deferred = std::mem::take(&mut *lock(&live.deferred));
    let due = |d: &Deferred| failed || !matches!(d.due, Due::Closure { only_on_failure: true, .. });
    let count = deferred.iter().filter(|d| due(d)).count();
    if count > 0 {
        live.tell(&Event::Ending { deferred: count });
    }
    let was_abandoning = live.abandoning();
    live.set_abandoning(false);
    for deferred in deferred.into_iter().rev().filter(due) {
        let frame = Frame::at(Arc::clone(live), format!("/end#0{}", deferred.name));
        let result = match deferred.due {
            Due::Closure { closure, made_in, .. } => {
                frame.call_stored(engine, &made_in, &closure, ()).map(drop).map_err(|e| fault::of_error(&e))
            }
            Due::Branch(branch) => remove(&frame, &branch),
        };
        if live.stopper.is_thrown() {
            break;
        }
        if let Err(fault) = result {
            live.remember_left_behind(&fault);
            wrong.push(fault["message"].as_str().unwrap_or_default().to_owned());
        }
    }
    live.set_abandoning(was_abandoning);
    wrong
}

/// Removes a branch that the run owns. One that is gone already is gone.
fn remove(frame: &Frame, branch: &Value) -> Result<(), Value> {
    let Some(op) = ops::find("branch::delete") else { return Ok(()) };
    let inside = value::inside(branch, value::BRANCH).cloned().unwrap_or_default();
    let target = value::tagged(value::TARGET, inside["target"].clone());
    let internal =
        |e: &crate::provider::Error| fault::of_operation(e, "branch::delete", inside["target"].as_str());
    let args = Args::decode(op, vec![target, branch.clone()], Map::new()).map_err(|e| internal(&e))?;
    let name = place_of(branch).map(|p| p.to_string()).unwrap_or_default();
    match take(frame, Asked { op, args, at: "the end of the run", implied: true }) {
        Ok(_) | Err(Halt::Stop) => Ok(()),
        Err(Halt::Raise(fault)) if fault["code"] == "NOT_FOUND" => Ok(()),
        Err(Halt::Raise(mut fault)) => {
            fault["left_behind"] = json!([format!("branch {name}")]);
            Err(fault)
        }
    }
}

/// Records that a run stopped. A journal that cannot be written says so by its silence: the run reads as interrupted.
fn stopped(live: &Arc<Live>, stop: Stop) -> Ended {
    let (status, reason) = match &stop {
        Stop::Undecided { reason, .. } => (Status::Undecided, reason.clone()),
        Stop::Interrupted => (Status::Interrupted, "interrupted".to_owned()),
        Stop::Mismatch { message } | Stop::Refused { message, .. } => (Status::Interrupted, message.clone()),
        Stop::Leased(e) | Stop::Journal(e) => (Status::Interrupted, e.to_string()),
        Stop::Abandoned => (Status::Interrupted, "the run was being abandoned".to_owned()),
    };
    if !matches!(stop, Stop::Journal(_)) {
        // Without the record the run still reads as interrupted; only the reason is lost.
        drop(live.run.append(Record::Stopped { status, reason }, Durability::Now));
        drop(live.journal.release(live.run.id()));
    }
    Ended {
        run: live.run.id().into(),
        status,
        head: live.run.head(),
        value: Value::Null,
        failure: None,
        stop: Some(stop),
        cleanup: vec![],
        left_behind: lock(&live.left_behind).clone(),
    }
}
