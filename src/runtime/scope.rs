//! The scope of a call: the path that names it, and the clean-up that is deferred there.

use super::{
    run_context::{DeferredCleanup, RunContext, StoredCallContext},
    script_error::{OUTSIDE_RUN, RhaiResult},
    stop::{self, NativeError, StopReason},
};
use crate::base::lock::lock_unpoisoned;
use rhai::{Dynamic, Engine, FnPtr, FuncArgs, NativeCallContext as Cx};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// The path of clean-up calls, which no step can have.
pub const CLEAN_UP_PATH: &str = "//end";

/// The place of a call in the run: the path of steps, and how often each name was used there.
///
/// It travels in the engine's call state, so that closures, functions and modules find it.
#[derive(Clone)]
pub(super) struct CallScope(Arc<CallScopeState>);

struct CallScopeState {
    context: Arc<RunContext>,
    path: String,
    counts: Mutex<HashMap<String, u64>>,
    /// The clean-up deferred by this fork, or by the run outside any fork.
    deferred: Arc<Mutex<Vec<DeferredCleanup>>>,
    is_fork: bool,
}

impl CallScope {
    /// Creates the scope of the whole run.
    pub(super) fn at_root(context: Arc<RunContext>) -> Self {
        Self::at_path(context, String::new())
    }

    /// Creates a scope at a path of its own; its counters start at zero.
    pub(super) fn at_path(context: Arc<RunContext>, path: String) -> Self {
        let deferred = Arc::clone(&context.deferred);
        Self(Arc::new(CallScopeState { context, path, counts: Mutex::default(), deferred, is_fork: false }))
    }

    fn scope_below(&self, path: String, deferred: Arc<Mutex<Vec<DeferredCleanup>>>, is_fork: bool) -> Self {
        let context = Arc::clone(&self.0.context);
        Self(Arc::new(CallScopeState { context, path, counts: Mutex::default(), deferred, is_fork }))
    }

    /// Creates the scope of a fork, which has its own thread and its own deferred clean-up.
    pub(super) fn enter_fork(&self, index: usize) -> Self {
        self.scope_below(format!("{}/{index}", self.0.path), Arc::default(), true)
    }

    /// Returns what is deferred here.
    pub(super) fn lock_deferred(&self) -> MutexGuard<'_, Vec<DeferredCleanup>> {
        lock_unpoisoned(&self.0.deferred)
    }

    /// Ends this fork at something new while the run is being abandoned; outside any fork, stops the run.
    pub(super) fn abandon_fork(&self) -> NativeError {
        if self.0.is_fork {
            return stop::abandon_fork();
        }
        self.0.context.stopper.stop_run(StopReason::Abandoned)
    }

    /// Returns whether nothing more may be done here: the run is stopped, or this fork was abandoned.
    pub(super) fn is_halted(&self) -> bool {
        self.0.context.stopper.is_stopped() || stop::is_fork_abandoned()
    }

    /// Returns the scope that a native was called in.
    pub(super) fn from_native_context(cx: &Cx<'_>) -> RhaiResult<Self> {
        let scope = cx.tag().and_then(|tag| tag.clone().try_cast::<Self>());
        scope.ok_or_else(|| OUTSIDE_RUN.into())
    }

    pub(super) fn run_context(&self) -> &Arc<RunContext> {
        &self.0.context
    }

    /// Returns the name of the next call of `name` here, and counts it.
    pub(super) fn next_call_name(&self, name: &str) -> String {
        let id = self.peek_call_name(name);
        *lock_unpoisoned(&self.0.counts).entry(name.to_owned()).or_default() += 1;
        id
    }

    /// Returns the name that the next call of `name` here will have.
    pub(super) fn peek_call_name(&self, name: &str) -> String {
        let count = lock_unpoisoned(&self.0.counts).get(name).copied().unwrap_or_default();
        format!("{}/{name}#{count}", self.0.path)
    }

    /// Returns the scope of the next use of a step called `name`.
    pub(super) fn enter_child(&self, name: &str) -> Self {
        self.scope_below(self.next_call_name(name), Arc::clone(&self.0.deferred), self.0.is_fork)
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// Returns whether the run has passed a recorded call: something that comes after it in the script has begun, or the
    /// script has ended. What another fork did says nothing.
    pub(super) fn has_passed(&self, call: &str) -> bool {
        let run = &self.0.context.run;
        let is_over = run.is_ending() && !call.starts_with(CLEAN_UP_PATH);
        is_over || run.call_names_after(call).iter().any(|later| !are_in_other_forks(call, later))
    }

    /// Returns whether this is inside a fork of `parallel` or `each`.
    pub(super) fn is_in_fork(&self) -> bool {
        self.0.is_fork
    }

    /// Calls a closure of the script in this scope.
    pub(super) fn invoke_closure(&self, cx: &Cx<'_>, closure: &FnPtr) -> RhaiResult<Dynamic> {
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

/// Returns whether two calls are in different forks of one `parallel` or `each`: their paths part at a fork's number.
fn are_in_other_forks(call: &str, other: &str) -> bool {
    let is_fork = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let parts = call.split('/').zip(other.split('/')).find(|(own, other)| own != other);
    parts.is_some_and(|(own, other)| is_fork(own) && is_fork(other))
}

/// Stores a native's call context: a closure from a library finds the library's functions through it.
#[expect(deprecated, reason = "keeping the context of a call is volatile in Rhai, and there is no other way")]
pub(super) fn store_context(cx: &Cx<'_>) -> StoredCallContext {
    cx.store_data()
}

/// Returns where a native was called, as `file:line:column`.
pub(super) fn format_position(cx: &Cx<'_>) -> String {
    let at = cx.call_position();
    let file = cx.call_source().unwrap_or("?");
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(line), None) => format!("{file}:{line}"),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_other_forks_are_told_from_those_that_come_later() {
        for (call, other, are_apart) in [
            ("/parallel#0/0/sleep#0", "/parallel#0/1/backup::list#0", true),
            ("/parallel#0/0/sleep#0", "/parallel#0/0/backup::list#0", false),
            ("/parallel#0/0/sleep#0", "/parallel#0/forks#0", false),
            ("/each#0/0/step#0/sleep#0", "/each#0/10/sleep#0", true),
            ("/each#0/0/each#0/1/sleep#0", "/each#0/0/each#0/2/sleep#0", true),
            ("/sleep#0", "/backup::list#0", false),
            ("/each#0/1/sleep#0", "//end/defer#0/branch::delete#0", false),
        ] {
            assert_eq!(are_in_other_forks(call, other), are_apart, "{call} {other}");
        }
    }
}
