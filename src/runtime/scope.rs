//! The scope of a call: the path that names it, and the clean-up that is deferred there.

use super::{
    call_path::{CLEAN_UP_PATH, are_in_different_forks, is_edit_gate_name, is_in_fork},
    run_context::{DeferredCleanup, RunContext, StoredCallContext},
    script_error::{OUTSIDE_RUN, RhaiResult},
    stop::{self, NativeError, StopReason},
};
use crate::base::lock::lock_unpoisoned;
use rhai::{Dynamic, Engine, FnPtr, FuncArgs, NativeCallContext as NativeContext};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// The place of a call in the run: the path of steps, and how often each name was used there.
///
/// It travels in the engine's call state, so that closures, functions and modules find it.
#[derive(Clone)]
pub(super) struct CallScope(Arc<CallScopeState>);

struct CallScopeState {
    context: Arc<RunContext>,
    path: String,
    /// The numbers of the calls that the script has made here, by operation.
    claimed: Mutex<HashMap<String, ClaimedNumbers>>,
    /// The clean-up deferred by this fork, or by the run outside any fork.
    deferred: Arc<Mutex<Vec<DeferredCleanup>>>,
    /// Where in the records the newest effect, gate or wait stands that this fork, or the run outside any fork, has passed.
    passed: Arc<AtomicU64>,
    /// The scope that this fork was entered from; none outside any fork.
    outer: Option<CallScope>,
}

/// The numbers that are claimed among the calls of one operation at one place.
#[derive(Default)]
struct ClaimedNumbers {
    /// The lowest that is free.
    next: u64,
    /// Those above it that are not.
    beyond: BTreeSet<u64>,
}

impl ClaimedNumbers {
    fn claim_next(&mut self) -> u64 {
        let number = self.next;
        self.claim(number);
        number
    }

    fn claim(&mut self, number: u64) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.next) {
            self.next += 1;
        }
    }
}

impl CallScope {
    /// Creates the scope of the whole run.
    pub(super) fn at_root(context: Arc<RunContext>) -> Self {
        Self::at_path(context, String::new())
    }

    /// Creates a scope at a path of its own; its counters start at zero.
    pub(super) fn at_path(context: Arc<RunContext>, path: String) -> Self {
        let deferred = Arc::clone(&context.deferred);
        Self(Arc::new(CallScopeState {
            context,
            path,
            claimed: Mutex::default(),
            deferred,
            passed: Arc::default(),
            outer: None,
        }))
    }

    /// Creates the scope of a fork, which has its own thread and its own deferred clean-up.
    pub(super) fn scope_of_fork(&self, index: usize) -> Self {
        Self(Arc::new(CallScopeState {
            context: Arc::clone(&self.0.context),
            path: format!("{}/{index}", self.0.path),
            claimed: Mutex::default(),
            deferred: Arc::default(),
            passed: Arc::new(self.last_passed_record_number().into()),
            outer: Some(self.clone()),
        }))
    }

    /// Returns what is deferred here.
    pub(super) fn lock_deferred(&self) -> MutexGuard<'_, Vec<DeferredCleanup>> {
        lock_unpoisoned(&self.0.deferred)
    }

    /// Returns the names of what is deferred so far: here, and before the forks that this is in.
    pub(super) fn list_deferred_clean_up(&self, is_wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
        let outer = self.0.outer.as_ref();
        let mut names = outer.map_or_else(Vec::new, |outer| outer.list_deferred_clean_up(is_wanted));
        let own = self.lock_deferred();
        let wanted = own.iter().filter(|deferred| is_wanted(&deferred.name));
        names.extend(wanted.map(|deferred| deferred.name.clone()));
        names
    }

    /// Ends this fork at something new while the run is being abandoned; outside any fork, stops the run.
    pub(super) fn abandon_fork(&self) -> NativeError {
        if self.0.outer.is_some() {
            return stop::abandon_fork();
        }
        self.0.context.stopper.stop_run(StopReason::Abandoned)
    }

    /// Returns whether nothing more may be done here: the run is stopped, or this fork was abandoned.
    pub(super) fn is_halted(&self) -> bool {
        self.0.context.stopper.is_stopped() || stop::is_fork_abandoned()
    }

    /// Returns the scope that a native was called in.
    pub(super) fn from_native_context(cx: &NativeContext<'_>) -> RhaiResult<Self> {
        let scope = cx.tag().and_then(|tag| tag.clone().try_cast::<Self>()).ok_or(OUTSIDE_RUN)?;
        scope.run_context().rejections.note_going_on(scope.path());
        Ok(scope)
    }

    pub(super) fn run_context(&self) -> &Arc<RunContext> {
        &self.0.context
    }

    /// Claims the name of the next call of `op` here.
    pub(super) fn next_call_name(&self, op: &str) -> String {
        let number = lock_unpoisoned(&self.0.claimed).entry(op.to_owned()).or_default().claim_next();
        self.numbered_call_name(op, number)
    }

    /// Returns the name that [`CallScope::next_call_name`] would claim.
    pub(super) fn peek_call_name(&self, op: &str) -> String {
        let next = lock_unpoisoned(&self.0.claimed).get(op).map_or(0, |numbers| numbers.next);
        self.numbered_call_name(op, next)
    }

    /// Claims the name of what is only written down: clean-up that is deferred, a note. In an edited script it is the first
    /// one here that was recorded with the same arguments and is not claimed, so that one may be put in or taken out;
    /// otherwise it is the next.
    pub(super) fn claim_note_name(&self, op: &str, args: &Value) -> String {
        self.claim_matching_recorded_name(op, args, |_| true)
    }

    /// Claims the name of a read of the world or of the clock, as [`CallScope::claim_note_name`] does. What was read before
    /// an effect, a gate or a wait says nothing about the time after it: where an edit puts such a thing before a read, it is
    /// made again.
    pub(super) fn claim_read_name(&self, op: &str, args: &Value) -> String {
        let passed = self.last_passed_record_number();
        self.claim_matching_recorded_name(op, args, |name| {
            !self.0.context.run.is_older_than_record(name, passed)
        })
    }

    /// Returns whether [`CallScope::claim_note_name`] would claim the name of something recorded.
    pub(super) fn has_recorded_note(&self, op: &str, args: &Value) -> bool {
        let mut claimed = lock_unpoisoned(&self.0.claimed);
        let number =
            self.find_matching_number(claimed.entry(op.to_owned()).or_default(), op, args, &|_| true);
        self.0.context.run.is_recorded(&self.numbered_call_name(op, number))
    }

    fn claim_matching_recorded_name(
        &self,
        op: &str,
        args: &Value,
        may_serve: impl Fn(&str) -> bool,
    ) -> String {
        if self.0.context.edits.is_none() {
            return self.next_call_name(op);
        }
        let mut claimed = lock_unpoisoned(&self.0.claimed);
        let numbers = claimed.entry(op.to_owned()).or_default();
        let number = self.find_matching_number(numbers, op, args, &may_serve);
        numbers.claim(number);
        self.numbered_call_name(op, number)
    }

    /// Returns the lowest free number here of which the record, if there is one, is of these arguments and may serve.
    fn find_matching_number(
        &self,
        numbers: &ClaimedNumbers,
        op: &str,
        args: &Value,
        may_serve: &dyn Fn(&str) -> bool,
    ) -> u64 {
        let run = &self.0.context.run;
        let serves =
            |name: &str| !run.is_recorded(name) || run.matches_call(name, op, args) && may_serve(name);
        let mut number = numbers.next;
        // The recorded numbers have no gap, so that the first without a record ends them.
        while numbers.beyond.contains(&number) || !serves(&self.numbered_call_name(op, number)) {
            number += 1;
        }
        number
    }

    fn numbered_call_name(&self, op: &str, number: u64) -> String {
        format!("{}/{op}#{number}", self.0.path)
    }

    /// Returns the scope of the next use of a step called `name`.
    pub(super) fn scope_of_next_step(&self, name: &str) -> Self {
        let CallScopeState { context, deferred, passed, outer, .. } = &*self.0;
        Self(Arc::new(CallScopeState {
            context: Arc::clone(context),
            path: self.next_call_name(name),
            claimed: Mutex::default(),
            deferred: Arc::clone(deferred),
            passed: Arc::clone(passed),
            outer: outer.clone(),
        }))
    }

    /// Notes that the script has passed an effect, a gate or a wait here.
    pub(super) fn note_call_passed(&self, call: &str) {
        if self.0.context.edits.is_some() {
            self.note_passed_record_number(self.0.context.run.record_number_of_call(call));
        }
    }

    /// Notes what a fork has passed, once the script goes on behind it.
    pub(super) fn note_passed_record_number(&self, order: u64) {
        self.0.passed.fetch_max(order, Ordering::SeqCst);
    }

    /// Returns where in the records the newest effect, gate or wait stands that the script has passed here; 0 for none.
    pub(super) fn last_passed_record_number(&self) -> u64 {
        self.0.passed.load(Ordering::SeqCst)
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// Returns whether the run has passed a recorded call: something that comes after it in the script has begun, or the
    /// script has ended. What another fork did says nothing.
    pub(super) fn has_passed(&self, call: &str) -> bool {
        let run = &self.0.context.run;
        let is_over = run.is_ending() && !call.starts_with(CLEAN_UP_PATH);
        // Which forks had begun is recorded while they go on.
        let is_of_fan_out =
            |later: &str| later.rsplit('/').next().is_some_and(|own| own.starts_with("failed#"));
        // The gate of an edition has one name for all forks: which of them came to it is not recorded.
        let is_from_any_fork = |later: &str| is_in_fork(call) && is_edit_gate_name(later);
        let is_behind = |later: &String| {
            !is_of_fan_out(later) && !is_from_any_fork(later) && !are_in_different_forks(call, later)
        };
        is_over || run.call_names_begun_after(call).iter().any(is_behind)
    }

    /// Calls a closure of the script in this scope.
    pub(super) fn invoke_closure(&self, cx: &NativeContext<'_>, closure: &FnPtr) -> RhaiResult<Dynamic> {
        self.invoke_stored_closure(cx.engine(), &store_context(cx), closure, ())
    }

    /// Calls a closure in this scope, in the context of the place that made it.
    #[expect(
        deprecated,
        reason = "the way back from a stored context is volatile in Rhai, and there is no other"
    )]
    pub(super) fn invoke_stored_closure(
        &self,
        engine: &Engine,
        made_in: &StoredCallContext,
        closure: &FnPtr,
        args: impl FuncArgs,
    ) -> RhaiResult<Dynamic> {
        let mut made_in = made_in.clone();
        made_in.global.tag = Dynamic::from(self.clone());
        let cx = made_in.create_context(engine);
        closure.call_within_context(&cx, args)
    }
}

/// Stores a native's call context: a closure from a library finds the library's functions through it.
#[expect(deprecated, reason = "keeping the context of a call is volatile in Rhai, and there is no other way")]
pub(super) fn store_context(cx: &NativeContext<'_>) -> StoredCallContext {
    cx.store_data()
}

/// Returns where a native was called, as `file:line:column`.
pub(super) fn format_position(cx: &NativeContext<'_>) -> String {
    let at = cx.call_position();
    let file = cx.call_source().unwrap_or("?");
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(line), None) => format!("{file}:{line}"),
        _ => file.to_owned(),
    }
}
