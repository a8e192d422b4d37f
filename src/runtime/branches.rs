//! `parallel` and `each`: forks of a run, each with a thread and a path of its own.
//!
//! Whatever the timing of the threads, a replay comes to the same place:
//! - a fork counts its own calls, under `…/parallel#0/2`, and what it defers is kept in the order of forks;
//! - each fork has its own copy of every value that it captures;
//! - when a fork fails, it is recorded which forks had begun. Those and no others begin again at a resume,
//!   and the error that is raised is the first in the order of the list, not of time;
//! - what must stop the run stops every fork; a run that is being abandoned resolves what each had begun.

use super::{
    call::record_native_call,
    engine::STACK_BYTES,
    fault::{self, codes},
    flow::{NativeOptions, RhaiResult, raise_at_call},
    live::{
        CallScope, DeferredCleanup, NativeError, StoredCallContext, deep_copy, format_position,
        lock_unpoisoned, store_context, take_fork_abandoned,
    },
    values::to_dynamic,
};
use crate::journal::{CallState, Outcome};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext as Cx};
use serde_json::{Value, json};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
    thread,
};

/// How many forks of `each` run at once unless the script says otherwise.
const DEFAULT_EACH_LIMIT: u32 = 8;
/// How many forks of `parallel` run at once; a list of closures is written by hand and rarely longer.
const PARALLEL_LIMIT: usize = 64;

/// Calls every closure of a list at once, and returns what they return, in order.
pub(super) fn run_parallel(cx: &Cx<'_>, closures: Array) -> RhaiResult<Array> {
    let mut work = Vec::new();
    for closure in closures {
        let kind = closure.type_name();
        match closure.try_cast::<FnPtr>() {
            Some(closure) => work.push((closure, None)),
            None => {
                return raise_at_call(
                    cx,
                    codes::SCRIPT,
                    &format!("`parallel` takes a list of closures, found {kind}"),
                );
            }
        }
    }
    FanOut::new(cx, "parallel", work, PARALLEL_LIMIT, false)?.run_forks(cx)
}

/// Calls a closure with every item of a list, some at once, and returns what it returns, in order.
pub(super) fn run_each(cx: &Cx<'_>, list: Array, options: &Map, closure: &FnPtr) -> RhaiResult<Array> {
    let options = NativeOptions::from_map(cx, "each", options, &["limit", "on_error"])?;
    let limit =
        usize::try_from(options.read_count_option("limit", DEFAULT_EACH_LIMIT)?).unwrap_or(usize::MAX);
    let collect = options.read_word_option("on_error", &["fail", "collect"])? == "collect";
    let work = list.into_iter().map(|item| (closure.clone(), Some(item))).collect();
    FanOut::new(cx, "each", work, limit, collect)?.run_forks(cx)
}

type ClosureResult = Result<Dynamic, Box<EvalAltResult>>;

/// The forks of one use of `parallel` or `each`.
struct FanOut<'a> {
    frame: CallScope,
    engine: &'a Engine,
    made_in: StoredCallContext,
    /// What each branch calls, and with what.
    work: Vec<(FnPtr, Option<Dynamic>)>,
    limit: usize,
    /// Whether errors are results like others.
    collect: bool,
    at: String,
    turn: Mutex<FanOutState>,
}

/// The progress of all forks.
#[derive(Default)]
struct FanOutState {
    /// Forks that may begin and have not, the next one first.
    waiting: BTreeSet<usize>,
    /// Whether it is recorded which forks have begun.
    closed: bool,
    begun: BTreeSet<usize>,
    done: BTreeMap<usize, ClosureResult>,
    deferred: BTreeMap<usize, Vec<DeferredCleanup>>,
    gave_up: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl FanOutState {
    /// Records the panic of a fork, if there was one: no other fork begins.
    fn record_panic(&mut self, panicked: Option<Box<dyn Any + Send>>) {
        if let Some(payload) = panicked {
            self.waiting.clear();
            self.panic.get_or_insert(payload);
        }
    }

    fn has_failed(&self) -> bool {
        self.done.values().any(Result::is_err)
    }
}

impl<'a> FanOut<'a> {
    fn new(
        cx: &'a Cx<'_>,
        native: &str,
        work: Vec<(FnPtr, Option<Dynamic>)>,
        limit: usize,
        collect: bool,
    ) -> RhaiResult<Self> {
        let frame = CallScope::from_native_context(cx)?.enter_child(native);
        let work =
            work.into_iter().map(|(f, item)| (copy_captures(f), item.map(|item| deep_copy(&item)))).collect();
        let (engine, made_in, at) = (cx.engine(), store_context(cx), format_position(cx));
        let limit = limit.min(frame.run_context().width);
        Ok(Self { frame, engine, made_in, work, limit, collect, at, turn: Mutex::default() })
    }

    /// Runs all forks. A failure that a person has overruled since no longer keeps the others from beginning.
    fn run_forks(self, cx: &Cx<'_>) -> RhaiResult<Array> {
        let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
        loop {
            self.admit_forks().map_err(stop)?;
            self.run_admitted_forks(cx)?;
            let turn = lock_unpoisoned(&self.turn);
            let all = turn.begun.len() == self.work.len();
            if all || turn.gave_up || turn.panic.is_some() || turn.has_failed() || self.frame.is_halted() {
                break;
            }
        }
        let mut turn = self.turn.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for deferred in std::mem::take(&mut turn.deferred).into_values() {
            self.frame.lock_deferred().extend(deferred);
        }
        if let Some(payload) = turn.panic {
            panic::resume_unwind(payload);
        }
        if self.frame.is_halted() {
            return Err(stop(NativeError::Stopped));
        }
        if turn.gave_up {
            return Err(stop(self.frame.abandon_fork()));
        }
        turn.done
            .into_values()
            .map(|called| if self.collect { Ok(to_result_map(called)) } else { called })
            .collect()
    }

    /// Admits forks: after a recorded failure only those that had begun, otherwise all.
    fn admit_forks(&self) -> Result<(), NativeError> {
        let mut turn = lock_unpoisoned(&self.turn);
        let recorded = self.frame.peek_call_name("failed");
        turn.closed = matches!(
            self.frame.run_context().run.call_state(&recorded),
            CallState::Finished { outcome: Outcome::Ok(_), .. }
        );
        let may_begin: BTreeSet<usize> = if turn.closed {
            let begun = record_native_call(&self.frame, "failed", &Value::Null, &self.at, || Value::Null)?;
            serde_json::from_value(begun).unwrap_or_default()
        } else {
            (0..self.work.len()).collect()
        };
        turn.waiting = may_begin.difference(&turn.begun).copied().filter(|i| *i < self.work.len()).collect();
        Ok(())
    }

    /// Runs the admitted forks to their end, on threads with a large stack.
    fn run_admitted_forks(&self, cx: &Cx<'_>) -> RhaiResult<()> {
        let count = lock_unpoisoned(&self.turn).waiting.len().min(self.limit);
        let started = thread::scope(|threads| {
            let start = |_| {
                let named = thread::Builder::new().name("branch".into()).stack_size(STACK_BYTES);
                named.spawn_scoped(threads, || self.run_worker()).is_ok()
            };
            // With fewer threads than asked for it only takes longer.
            (0..count).map(start).take_while(|started| *started).count()
        });
        if started == 0 && count > 0 {
            return raise_at_call(cx, codes::FAILED, "the machine gives no thread to run a branch on");
        }
        Ok(())
    }

    /// Runs one fork after the other, on one thread.
    fn run_worker(&self) {
        while let Some(index) = self.next_fork() {
            let frame = self.frame.enter_fork(index);
            let called = panic::catch_unwind(AssertUnwindSafe(|| self.invoke_fork(&frame, index)));
            let gave_up = take_fork_abandoned();
            let mut turn = lock_unpoisoned(&self.turn);
            turn.deferred.insert(index, std::mem::take(&mut *frame.lock_deferred()));
            turn.gave_up |= gave_up;
            match called {
                Ok(called) => {
                    let failed = called.is_err() && !gave_up && !self.frame.is_halted();
                    turn.done.insert(index, called);
                    if failed && !self.collect {
                        let closed =
                            panic::catch_unwind(AssertUnwindSafe(|| self.close_admission(&mut turn)));
                        turn.record_panic(closed.err());
                    }
                }
                Err(payload) => turn.record_panic(Some(payload)),
            }
        }
    }

    fn next_fork(&self) -> Option<usize> {
        if self.frame.run_context().stopper.is_stopped() {
            return None;
        }
        let mut turn = lock_unpoisoned(&self.turn);
        let index = turn.waiting.pop_first()?;
        turn.begun.insert(index);
        Some(index)
    }

    fn invoke_fork(&self, frame: &CallScope, index: usize) -> ClosureResult {
        let (closure, item) = &self.work[index];
        match item {
            Some(item) => frame.invoke_stored_closure(self.engine, &self.made_in, closure, (item.clone(),)),
            None => frame.invoke_stored_closure(self.engine, &self.made_in, closure, ()),
        }
    }

    /// Records which forks have begun, in this process or an earlier one, and admits no others.
    fn close_admission(&self, turn: &mut FanOutState) {
        // A run that is being abandoned settles every branch, and none of them begins anything.
        if turn.closed || self.frame.run_context().is_settling() {
            return;
        }
        let below = format!("{}/", self.frame.path());
        let known = self.frame.run_context().run.call_names_below(&below);
        let known: BTreeSet<usize> =
            known.iter().filter_map(|call| call[below.len()..].split('/').next()?.parse().ok()).collect();
        turn.waiting.retain(|index| known.contains(index));
        turn.closed = true;
        let begun: BTreeSet<usize> = turn.begun.union(&turn.waiting).copied().collect();
        // What keeps it from being written stops the run, and with it every branch.
        drop(record_native_call(&self.frame, "failed", &Value::Null, &self.at, || json!(begun)));
    }
}

/// Returns a closure with copies of the values that it captures as they are now.
fn copy_captures(mut closure: FnPtr) -> FnPtr {
    let captured: Vec<Dynamic> = closure.iter_curry().map(deep_copy).collect();
    closure.set_curry(captured);
    closure
}

/// Returns `#{ok, value, error}`.
pub(super) fn to_result_map(called: ClosureResult) -> Dynamic {
    let (ok, value, error) = match called {
        Ok(value) => (true, value, Dynamic::UNIT),
        Err(e) => (false, Dynamic::UNIT, to_dynamic(&fault::from_rhai_error(&e))),
    };
    Map::from_iter([("ok".into(), ok.into()), ("value".into(), value), ("error".into(), error)]).into()
}
