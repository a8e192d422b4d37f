//! A run from its first line to its end: evaluate, clean up, record how it ended. The whole policy of an end is here.
//!
//! A run *ends* (succeeded, failed, abandoned) or it *stops* (interrupted, undecided, mismatch). Clean-up belongs to
//! an end and to nothing else; that the run is ending is on disk before the first of it.

use super::{
    Ended, Event, Failure, Runbook,
    call::{self, Asked, take},
    engine, fault,
    gate::{self, Verdict},
    live::{Deferred, Due, Frame, Halt, Live, Stop, lock},
    modules::{Modules, Texts},
    values::{to_dynamic, to_value},
};
use crate::{
    base::value,
    journal::{self, Durability, Entry, Outcome, Past, Record, Status},
    ops::{self, args::Args, spec::place_of},
};
use rhai::{Engine, EvalAltResult, Scope};
use serde_json::{Map, Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How often a run looks whether somebody asks it to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a script on a thread of its own until it ends or stops.
pub(super) fn drive(
    tokio: &tokio::runtime::Runtime,
    live: &Arc<Live>,
    runbook: Runbook,
    params: Value,
) -> io::Result<Ended> {
    on_its_thread(tokio, live, move |live| evaluate(live, &runbook, &params))
}

/// Settles a run of which there is no text, on a thread of its own.
pub(super) fn settle_run(
    tokio: &tokio::runtime::Runtime,
    live: &Arc<Live>,
    entries: Vec<Entry>,
) -> io::Result<Ended> {
    on_its_thread(tokio, live, move |live| settle(live, &entries))
}

/// Moves a run on a thread of its own. Ctrl-C and a request to terminate interrupt it.
fn on_its_thread(
    tokio: &tokio::runtime::Runtime,
    live: &Arc<Live>,
    body: impl FnOnce(&Arc<Live>) -> Ended + Send + 'static,
) -> io::Result<Ended> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let running = Arc::clone(live);
    let thread = std::thread::Builder::new().name("runbook".into()).stack_size(engine::STACK_BYTES);
    let script = thread.spawn(move || {
        // The receiver is gone only when the whole process is going.
        drop(done.send(body(&running)));
    })?;
    let result = tokio.block_on(async {
        tokio::pin!(ended);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                result = &mut ended => break result,
                _ = look.tick() => {
                    // A journal that cannot be read says so at the next record.
                    if let Ok(Some(by)) = live.journal.asked_to_stop(live.run.id()) {
                        drop(live.stopper.stop(Stop::TakenOver { by }));
                    }
                }
                () = interrupted() => drop(live.stopper.stop(Stop::Interrupted)),
            }
        }
    });
    drop(script.join());
    // What is still deferred knows the run, and the run it: apart, both are freed, and with them the run's lock.
    lock(&live.deferred).clear();
    // A panic in the script's thread has left the run as a kill would: it can be resumed.
    result.map_err(|_| io::Error::other("a bug in redrill ended the run's thread; the run can be resumed"))
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
    evaluate_with(&mut engine::build(), live, runbook, params)
}

/// Evaluates a runbook with an engine that is turned to this run, whatever it was turned to before.
pub(super) fn evaluate_with(
    engine: &mut Engine,
    live: &Arc<Live>,
    runbook: &Runbook,
    params: &Value,
) -> Ended {
    let ending = live.run.ending();
    if ending.is_some() {
        live.set_settling(true);
    }
    loop {
        let frame = Frame::root(Arc::clone(live));
        let modules = Modules::new(runbook.modules.clone());
        engine::turn_to(engine, &frame, modules, live.stopper.flag());
        let mut scope = Scope::new();
        scope.push_constant_dynamic("params", to_dynamic(params));
        let evaluated = engine.eval_ast_with_scope::<rhai::Dynamic>(&mut scope, &runbook.ast);
        let conclusion = match (live.stopper.take(), ending.clone()) {
            (None | Some(Stop::Abandoned), Some(recorded)) => Conclusion::recorded(recorded),
            (Some(Stop::Abandoned), None) => Conclusion::Abandoned,
            (Some(stop), _) => return stopped(live, stop),
            (None, None) => match evaluated {
                Ok(value) => Conclusion::Done(to_value(&value).unwrap_or_default()),
                Err(e) => match concluded(live, failure(runbook, &e)) {
                    Ok(Some(conclusion)) => conclusion,
                    Ok(None) => continue,
                    Err(stop) => return stopped(live, stop),
                },
            },
        };
        return match forgotten(live, &conclusion) {
            Some(stop) => stopped(live, stop),
            None => end(live, engine, conclusion),
        };
    }
}

/// Returns what a script that raised an error ends with; nothing when it is evaluated again, from the top as at a
/// resume, over what a person decided.
fn concluded(live: &Arc<Live>, failure: Failure) -> Result<Option<Conclusion>, Stop> {
    match gate::failed(live, &failure) {
        Ok(Verdict::Ends) => Ok(Some(Conclusion::Failed(failure))),
        Ok(Verdict::GoesOn) => {
            lock(&live.deferred).clear();
            lock(&live.left_behind).clear();
            Ok(None)
        }
        Ok(Verdict::Stops) | Err(_) => Err(live.stopper.take().unwrap_or(Stop::Interrupted)),
    }
}

/// Returns the mismatch of an edited script that no longer asks for what was done: what follows from it, its clean-up
/// above all, would be lost.
fn forgotten(live: &Live, conclusion: &Conclusion) -> Option<Stop> {
    if live.run.ending().is_some() || matches!(conclusion, Conclusion::Abandoned) {
        return None;
    }
    let asked = lock(live.asked.as_ref()?);
    let mut forgotten = live.run.begun_calls();
    forgotten.retain(|call| !asked.contains(call) && !call.starts_with(CLEAN_UP));
    forgotten.sort();
    (!forgotten.is_empty()).then(|| Stop::Mismatch {
        message: format!(
            "the script no longer asks for what was done\n  recorded  {}\n  asked     nothing",
            forgotten.join(", ")
        ),
    })
}

/// Settles a run of which there is no text, a session that was killed: its calls are taken from its records.
fn settle(live: &Arc<Live>, entries: &[Entry]) -> Ended {
    let frame = Frame::root(Arc::clone(live));
    let engine = engine::for_run(&frame, Modules::new(Texts::new()), live.stopper.flag());
    for Entry { record, .. } in entries {
        match record {
            Record::End { call, args, outcome: Outcome::Ok(value), .. }
                if args["temporary"] == json!(true) && value::inside(value, value::BRANCH).is_some() =>
            {
                frame.deferred().push(Deferred { name: call.clone(), due: Due::Branch(value.clone()) });
            }
            Record::Begin { call, op, args, .. } => settle_call(&frame, call, op, args),
            _ => {}
        }
        match live.stopper.take() {
            None | Some(Stop::Abandoned) => {}
            Some(stop) => return stopped(live, stop),
        }
    }
    end(live, &engine, Conclusion::Abandoned)
}

/// Settles a call, if it is open. What came of it is in its record.
fn settle_call(frame: &Frame, call: &str, op: &str, args: &Value) {
    let Some(op) = ops::find(op) else { return };
    if let Ok(args) = Args::from_recorded(op, args) {
        drop(call::settle(frame, call, Asked { op, args, at: "the settling of a session", implied: false }));
    }
}

pub(super) fn failure(runbook: &Runbook, error: &EvalAltResult) -> Failure {
    fault::of_script(error, &runbook.path, &|file| runbook.text_of(file))
}

/// Where the calls of the clean-up are: a path that no step can have.
pub const CLEAN_UP: &str = "//end";

/// What a run ends with.
pub(super) enum Conclusion {
    /// The value of its last expression.
    Done(Value),
    /// An error.
    Failed(Failure),
    /// That somebody gave it up.
    Abandoned,
}

impl Conclusion {
    /// Returns what was recorded when the run began to end, which no later process changes.
    fn recorded(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok(value) => Self::Done(value),
            Outcome::Err(error) => serde_json::from_value(error).map_or(Self::Abandoned, Self::Failed),
        }
    }

    fn record(&self) -> Outcome {
        match self {
            Self::Done(value) => Outcome::Ok(value.clone()),
            Self::Failed(failure) => Outcome::Err(json!(failure)),
            Self::Abandoned => Outcome::Err(json!("abandoned")),
        }
    }
}

/// Ends a run: cleans up, in reverse order, and records how it came out. A run with a call of which nobody knows does
/// not end; it stops, and can go on.
pub(super) fn end(live: &Arc<Live>, engine: &Engine, conclusion: Conclusion) -> Ended {
    // The clean-up's own calls are settled by the clean-up; an abandoned run has asked the world about every other.
    let unsettled = |call: &String| !call.starts_with(CLEAN_UP);
    if !matches!(conclusion, Conclusion::Abandoned)
        && let Err(e) = let_stand(live)
    {
        return stopped(live, Stop::Journal(e));
    }
    if !matches!(conclusion, Conclusion::Abandoned) && live.run.open_calls().iter().any(unsettled) {
        return stopped(live, Stop::Interrupted);
    }
    // Without clean-up, the end is the next record, and this one rides with it.
    #[cfg(test)]
    if super::mutant::has_cleaned_up(live.run.ending().is_some()) {
        lock(&live.deferred).clear();
    }
    let durability = if lock(&live.deferred).is_empty() { Durability::Rides } else { Durability::Now };
    if live.run.ending().is_none()
        && let Err(e) = live.run.append(Record::Ending { outcome: conclusion.record() }, durability)
    {
        return stopped(live, Stop::Journal(e));
    }
    let (value, failure, abandoned) = match conclusion {
        Conclusion::Done(value) => (value, None, false),
        Conclusion::Failed(failure) => (Value::Null, Some(failure), false),
        Conclusion::Abandoned => (Value::Null, None, true),
    };
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
    let mut error = failure.as_ref().map(|f| json!(f));
    if !cleanup.is_empty() {
        error.get_or_insert_with(|| json!({}))["cleanup"] = json!(cleanup);
    }
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

/// Ends the calls that were held and whose errors the script handles by now, as an edited one may: they stay errors.
fn let_stand(live: &Live) -> Result<(), journal::Error> {
    for call in live.run.open_calls() {
        let Past::Begun { op, args, decision: Some(held), .. } = live.run.past(&call) else { continue };
        if held["kind"] == "hold" {
            let (at, outcome) = ("the end of the run".to_owned(), Outcome::Err(held["error"].clone()));
            live.run.append(Record::End { call, op, args, at, outcome }, Durability::Rides)?;
        }
    }
    Ok(())
}

/// Does what was deferred, last first, and what that defers in turn, each under a path that no step can have; returns
/// what went wrong.
fn clean_up(live: &Arc<Live>, engine: &Engine, failed: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let due = |d: &Deferred| failed || !matches!(d.due, Due::Closure { only_on_failure: true, .. });
    let count = lock(&live.deferred).iter().filter(|d| due(d)).count();
    if count > 0 {
        live.tell(&Event::Ending { deferred: count });
    }
    live.set_settling(false);
    let next = || lock(&live.deferred).pop();
    while let Some(deferred) = next() {
        if !due(&deferred) {
            continue;
        }
        let frame = Frame::at(Arc::clone(live), format!("{CLEAN_UP}{}", deferred.name));
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
    let mismatch = matches!(stop, Stop::Mismatch { .. });
    let (status, reason) = match &stop {
        Stop::Waiting { reason, .. } => (Status::Waiting, reason.clone()),
        Stop::TakenOver { by } => (Status::Interrupted, format!("taken over by {by}")),
        Stop::Undecided { reason, .. } => (Status::Undecided, reason.clone()),
        Stop::Interrupted => (Status::Interrupted, "interrupted".to_owned()),
        Stop::Mismatch { message } | Stop::Refused { message, .. } => (Status::Interrupted, message.clone()),
        Stop::Leased(e) | Stop::Journal(e) => (Status::Interrupted, e.to_string()),
        Stop::Abandoned => (Status::Interrupted, "the run was being abandoned".to_owned()),
    };
    if !matches!(stop, Stop::Journal(_)) {
        // Without the record the run still reads as interrupted; only the reason is lost.
        let at_call = match &stop {
            Stop::Undecided { call, .. } | Stop::Waiting { call, .. } => Some(call.clone()),
            _ => None,
        };
        drop(live.run.append(Record::Stopped { status, reason, mismatch, at_call }, Durability::Now));
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
