//! `parallel` and `each`: forks of a run, each with a thread and a path of its own.
//!
//! Whatever the timing of the threads, a replay comes to the same place:
//! - a fork counts its own calls, under `…/parallel#0/2`, and what it defers is kept in the order of forks;
//! - each fork has its own copy of every value that it captures;
//! - when a fork fails, it is recorded which forks had begun. Those and no others begin again at a resume,
//!   and the error that is raised is the first in the order of the list, not of time. Where errors are results like others,
//!   a failure keeps no fork from beginning, also one that was recorded before an edit said so;
//! - what must stop the run stops every fork; a run that is being abandoned resolves what each had begun.

use super::{
    frontier::end_script_branch,
    limits::STACK_BYTES,
    native_call::{replay_or_record_native, replay_or_record_typed},
    native_options::NativeOptions,
    observer::ForkOrder,
    rejections::find_rejection,
    run_context::{DeferredCleanup, StoredCallContext},
    scope::{CallScope, format_position, store_context},
    script_error::{RhaiResult, codes, from_rhai_error, raise_at_call},
    stop::{NativeError, take_fork_abandoned},
    values::{copy_captures, deep_copy, to_dynamic},
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{CallState, Outcome},
};
use rhai::{Array, Dynamic, Engine, FnPtr, Map, NativeCallContext as NativeContext};
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
/// How many forks that have records an edited script replays at once beyond the limit.
const REPLAY_LIMIT: usize = 64;

/// Calls every closure of a list at once, and returns what they return, in order.
pub(super) fn run_parallel(cx: &NativeContext<'_>, closures: Array) -> RhaiResult<Array> {
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
pub(super) fn run_each(
    cx: &NativeContext<'_>,
    list: Array,
    options: &Map,
    closure: &FnPtr,
) -> RhaiResult<Array> {
    let options = NativeOptions::from_map(cx, "each", options, &["limit", "on_error"])?;
    let limit =
        usize::try_from(options.read_count_option("limit", DEFAULT_EACH_LIMIT)?).unwrap_or(usize::MAX);
    let collect = options.read_word_option("on_error", &["fail", "collect"])? == "collect";
    let work = list.into_iter().map(|item| (closure.clone(), Some(item))).collect();
    FanOut::new(cx, "each", work, limit, collect)?.run_forks(cx)
}

/// The forks of one use of `parallel` or `each`.
struct FanOut<'a> {
    scope: CallScope,
    engine: &'a Engine,
    made_in: StoredCallContext,
    /// What each fork calls, and with what.
    work: Vec<(FnPtr, Option<Dynamic>)>,
    limit: usize,
    /// How many run at once at most, whatever the script says.
    fork_limit: usize,
    /// In which order they begin, if not in that of the list.
    order: Option<ForkOrder>,
    /// Whether errors are results like others.
    collect: bool,
    at: String,
    state: Mutex<FanOutState>,
}

/// The progress of all forks.
#[derive(Default)]
struct FanOutState {
    /// Forks that may begin and have not, the next one first.
    waiting: BTreeSet<usize>,
    /// Those of them that an edited script replays first: they have records and nothing in them is under way. What no longer
    /// matches in them is found before anything takes effect.
    recorded: BTreeSet<usize>,
    /// Those of them that an edited script takes up next: something is under way in them, which has to be asked for before
    /// anything new happens in the others.
    open: BTreeSet<usize>,
    /// Whether it is recorded which forks have begun.
    closed: bool,
    begun: BTreeSet<usize>,
    done: BTreeMap<usize, RhaiResult<Dynamic>>,
    deferred: BTreeMap<usize, Vec<DeferredCleanup>>,
    /// Where in the records the newest effect, gate or wait stands that a fork has passed.
    passed: u64,
    abandoned: bool,
    /// How many threads are at work.
    workers: usize,
    panic: Option<Box<dyn Any + Send>>,
}

impl FanOutState {
    /// Records the panic of a fork, if there was one: no other fork begins.
    fn record_panic(&mut self, panicked: Option<Box<dyn Any + Send>>) {
        if let Some(payload) = panicked {
            self.waiting.clear();
            self.recorded.clear();
            self.open.clear();
            self.panic.get_or_insert(payload);
        }
    }

    fn has_failed(&self) -> bool {
        self.done.values().any(Result::is_err)
    }

    /// Sorts out which forks an edited script takes up before others.
    fn sort_out_recorded(&mut self, known: &BTreeSet<usize>, open: &BTreeSet<usize>) {
        self.open = open.intersection(&self.waiting).copied().collect();
        let recorded = known.intersection(&self.waiting).filter(|index| !open.contains(index));
        self.recorded = recorded.copied().collect();
    }

    /// Returns how many threads take forks up. In an edited script those that have records are replayed at once, though an
    /// edit has lowered the limit: one that waits at its frontier must not keep what is under way in another from being asked
    /// for. The barrier sees to it that no more than the limit go on from there.
    fn count_threads(&self, limit: usize) -> usize {
        let replaying = self.open.len() + self.recorded.len().min(REPLAY_LIMIT);
        let count =
            if self.recorded.is_empty() { limit.max(replaying) } else { limit.saturating_add(replaying) };
        count.min(self.waiting.len())
    }

    /// Returns the forks that so many threads take up first.
    fn list_first(&self, count: usize) -> Vec<usize> {
        let recorded = self.recorded.iter().take(count.saturating_sub(self.open.len()));
        let rest = self.waiting.iter().filter(|i| !self.recorded.contains(i) && !self.open.contains(i));
        recorded.chain(&self.open).chain(rest).copied().take(count).collect()
    }

    /// Takes the fork that a thread runs next. A thread beyond the limit only takes one that has records.
    fn take_next(&mut self, is_beyond_limit: bool, order: Option<ForkOrder>) -> Option<usize> {
        let index = if is_beyond_limit {
            self.open.pop_first().or_else(|| self.recorded.pop_first())?
        } else {
            let first = || self.waiting.first().copied();
            let next = order.map_or_else(first, |order| order.choose_next(&self.waiting));
            self.recorded.pop_first().or_else(|| self.open.pop_first()).or(next)?
        };
        self.waiting.remove(&index);
        self.begun.insert(index);
        Some(index)
    }
}

impl<'a> FanOut<'a> {
    fn new(
        cx: &'a NativeContext<'_>,
        native: &str,
        work: Vec<(FnPtr, Option<Dynamic>)>,
        limit: usize,
        collect: bool,
    ) -> RhaiResult<Self> {
        let scope = CallScope::from_native_context(cx)?.scope_of_next_step(native);
        let work =
            work.into_iter().map(|(f, item)| (copy_captures(f), item.map(|item| deep_copy(&item)))).collect();
        let (engine, made_in, at) = (cx.engine(), store_context(cx), format_position(cx));
        let fork_limit = scope.run_context().fork_limit;
        let choose = || scope.run_context().observer.choose_fork_order(scope.path());
        let order = (limit > 1).then(choose).flatten();
        let (limit, state) = (limit.min(fork_limit), Mutex::default());
        Ok(Self { scope, engine, made_in, work, limit, fork_limit, order, collect, at, state })
    }

    /// Runs all forks. A failure that a person has overruled since no longer keeps the others from beginning.
    fn run_forks(self, cx: &NativeContext<'_>) -> RhaiResult<Array> {
        let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
        loop {
            self.admit_forks().map_err(stop)?;
            self.run_admitted_forks(cx)?;
            let state = lock_unpoisoned(&self.state);
            let all = state.begun.len() == self.work.len();
            let fails = !self.collect && state.has_failed();
            if all || fails || state.abandoned || state.panic.is_some() || self.scope.is_halted() {
                break;
            }
        }
        let mut state = std::mem::take(&mut *lock_unpoisoned(&self.state));
        for deferred in std::mem::take(&mut state.deferred).into_values() {
            self.scope.lock_deferred().extend(deferred);
        }
        self.scope.note_passed_record_number(state.passed);
        if let Some(payload) = state.panic {
            panic::resume_unwind(payload);
        }
        if self.scope.is_halted() {
            return Err(stop(NativeError::Stopped));
        }
        if state.abandoned {
            return Err(stop(self.scope.abandon_fork()));
        }
        let called = state.done.into_values();
        let results =
            called.map(|called| if self.collect { Ok(to_result_map(called)) } else { called }).collect();
        self.scope.run_context().rejections.note_fan_out_over(self.scope.path(), &results);
        results
    }

    /// Admits forks: after a recorded failure that still counts only those that had begun, otherwise all.
    fn admit_forks(&self) -> Result<(), NativeError> {
        let mut state = lock_unpoisoned(&self.state);
        let recorded = self.scope.peek_call_name("failed");
        state.closed = !self.collect
            && matches!(
                self.scope.run_context().call_state(&recorded)?,
                CallState::Finished { outcome: Outcome::Ok(_), .. }
            );
        let may_begin: BTreeSet<usize> = if state.closed {
            replay_or_record_typed(&self.scope, "failed", &Value::Null, &self.at, BTreeSet::new)?
        } else {
            (0..self.work.len()).collect()
        };
        state.waiting =
            may_begin.difference(&state.begun).copied().filter(|i| *i < self.work.len()).collect();
        if let Some(edits) = &self.scope.run_context().edits {
            let run = &self.scope.run_context().run;
            let known = self.find_forks(&run.call_names_below(&format!("{}/", self.scope.path())));
            state.sort_out_recorded(&known, &self.find_forks(&run.open_calls()));
            edits.note_waiting_forks(self.scope.path(), &state.waiting, self.limit);
        }
        Ok(())
    }

    /// Returns the forks in which calls were made.
    fn find_forks(&self, calls: &[String]) -> BTreeSet<usize> {
        let below = format!("{}/", self.scope.path());
        let indexes =
            calls.iter().filter_map(|call| call.strip_prefix(&below)?.split('/').next()?.parse().ok());
        indexes.collect()
    }

    /// Runs the admitted forks to their end, on threads with a large stack.
    fn run_admitted_forks(&self, cx: &NativeContext<'_>) -> RhaiResult<()> {
        let (count, first) = {
            let state = lock_unpoisoned(&self.state);
            let count = state.count_threads(self.limit).min(self.fork_limit);
            (count, state.list_first(count))
        };
        // All of them are at work before the first of them asks what is recorded of the others.
        for index in &first {
            self.note_fork_begun(*index);
        }
        self.split_script_branch(count);
        let started = thread::scope(|threads| {
            let start = |worker| {
                let named = thread::Builder::new().name("branch".into()).stack_size(STACK_BYTES);
                named.spawn_scoped(threads, move || self.run_worker_then_end_branch(worker)).is_ok()
            };
            // With fewer threads than asked for it only takes longer.
            let started = (0..count).map(start).take_while(|started| *started).count();
            // Nobody waits for one that has no thread.
            first.iter().skip(started).for_each(|index| self.forget_fork(*index));
            started
        });
        // They take no part, and the last of all threads is not known before.
        (started..count).for_each(|_| self.end_script_branch());
        if started == 0 && count > 0 {
            return raise_at_call(cx, codes::FAILED, "the machine gives no thread to run a branch on");
        }
        Ok(())
    }

    /// Tells an edited script's barrier that this branch goes on as several.
    fn split_script_branch(&self, count: usize) {
        lock_unpoisoned(&self.state).workers = count;
        if let Some(edits) = self.scope.run_context().edits.as_ref().filter(|_| count > 0) {
            edits.split_script_branch(count);
        }
    }

    /// Tells an edited script's barrier that one of several branches is over; in place of the last, the branch from which
    /// they came goes on.
    fn end_script_branch(&self) {
        let is_last = {
            let mut state = lock_unpoisoned(&self.state);
            state.workers -= 1;
            state.workers == 0
        };
        if !is_last {
            end_script_branch(self.scope.run_context());
        }
    }

    fn run_worker_then_end_branch(&self, worker: usize) {
        self.run_forks_on_this_thread(worker);
        self.end_script_branch();
    }

    /// Runs one fork after the other, on the thread of this number.
    fn run_forks_on_this_thread(&self, worker: usize) {
        while let Some(index) = self.next_fork(worker) {
            let scope = self.scope.scope_of_fork(index);
            let called = panic::catch_unwind(AssertUnwindSafe(|| self.invoke_fork(&scope, index)));
            let abandoned = take_fork_abandoned();
            self.note_fork_over(&scope, &called);
            if let Some(edits) = &self.scope.run_context().edits {
                edits.note_fork_over(self.scope.path(), index);
            }
            let mut state = lock_unpoisoned(&self.state);
            state.deferred.insert(index, std::mem::take(&mut *scope.lock_deferred()));
            state.passed = state.passed.max(scope.last_passed_record_number());
            state.abandoned |= abandoned;
            match called {
                Ok(called) => {
                    let failed = called.is_err() && !abandoned && !self.scope.is_halted();
                    state.done.insert(index, called);
                    if failed && !self.collect {
                        let closed =
                            panic::catch_unwind(AssertUnwindSafe(|| self.admit_no_more_forks(&mut state)));
                        state.record_panic(closed.err());
                    }
                }
                Err(payload) => state.record_panic(Some(payload)),
            }
            if state.panic.is_some() {
                // What is still to begin never does, and nobody waits for it.
                self.scope.run_context().rejections.restart();
            }
        }
    }

    fn note_fork_begun(&self, index: usize) {
        self.scope.run_context().rejections.begin_fork(&self.path_of_fork(index));
    }

    fn forget_fork(&self, index: usize) {
        self.scope.run_context().rejections.end_fork(self.scope.path(), &self.path_of_fork(index), None);
    }

    fn path_of_fork(&self, index: usize) -> String {
        format!("{}/{index}", self.scope.path())
    }

    /// Notes that a fork is over, and with which rejection, where that fails all forks.
    fn note_fork_over(&self, fork: &CallScope, called: &thread::Result<RhaiResult<Dynamic>>) {
        let error = called.as_ref().ok().and_then(|called| called.as_ref().err()).filter(|_| !self.collect);
        let rejection = error.and_then(|error| find_rejection(error));
        self.scope.run_context().rejections.end_fork(self.scope.path(), fork.path(), rejection);
    }

    fn next_fork(&self, worker: usize) -> Option<usize> {
        if self.scope.run_context().stopper.is_stopped() {
            return None;
        }
        let mut state = lock_unpoisoned(&self.state);
        let index = state.take_next(worker >= self.limit, self.order)?;
        self.note_fork_begun(index);
        if let Some(edits) = &self.scope.run_context().edits {
            edits.note_started(self.scope.path(), index);
        }
        Some(index)
    }

    fn invoke_fork(&self, scope: &CallScope, index: usize) -> RhaiResult<Dynamic> {
        let (closure, item) = &self.work[index];
        match item {
            Some(item) => scope.invoke_stored_closure(self.engine, &self.made_in, closure, (item.clone(),)),
            None => scope.invoke_stored_closure(self.engine, &self.made_in, closure, ()),
        }
    }

    /// Records which forks have begun, in this process or an earlier one, and admits no others.
    fn admit_no_more_forks(&self, state: &mut FanOutState) {
        // A run that is being abandoned resolves what every fork began, and none begins anything.
        if state.closed || self.scope.run_context().is_settling() {
            return;
        }
        let below = format!("{}/", self.scope.path());
        let known = self.find_forks(&self.scope.run_context().run.call_names_below(&below));
        state.waiting.retain(|index| known.contains(index));
        state.closed = true;
        let begun: BTreeSet<usize> = state.begun.union(&state.waiting).copied().collect();
        // What keeps it from being written stops the run, and with it every fork.
        drop(replay_or_record_native(&self.scope, "failed", &Value::Null, &self.at, || json!(begun)));
    }
}

/// Returns `#{ok, value, error}`.
pub(super) fn to_result_map(called: RhaiResult<Dynamic>) -> Dynamic {
    let (ok, value, error) = match called {
        Ok(value) => (true, value, Dynamic::UNIT),
        Err(e) => (false, Dynamic::UNIT, to_dynamic(&from_rhai_error(&e).to_json())),
    };
    Map::from_iter([("ok".into(), ok.into()), ("value".into(), value), ("error".into(), error)]).into()
}
