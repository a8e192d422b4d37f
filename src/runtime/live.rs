//! A run in progress: the state its natives share, how it is stopped, and the scopes that name its calls.

#![expect(
    deprecated,
    reason = "keeping the context of a call is volatile in Rhai, and there is no other way"
)]

use super::{Event, RunObserver, Runtime};
use crate::{
    journal,
    ops::spec::Permission,
    provider::{Fleet, model::Identity},
};
use rhai::{
    Array, Dynamic, EvalAltResult, FnPtr, FuncArgs, Map, NativeCallContext, NativeCallContextStore, Position,
};
use serde_json::Value;
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// Why a run stopped without having ended. None of these can be caught by a script.
#[derive(Debug)]
pub enum StopReason {
    /// A person or the system interrupted it.
    Interrupted,
    /// It is unknown whether a call took effect.
    Undecided {
        call: String,
        /// What is known, and why no more is.
        reason: String,
    },
    /// The script or a target differs from what was recorded.
    Mismatch {
        /// Recorded against asked, side by side.
        message: String,
    },
    /// The run is not allowed to.
    Refused {
        message: String,
        /// What would allow it.
        hint: String,
    },
    /// Another run holds a lease on a target.
    Leased(journal::Error),
    /// The journal cannot be written.
    Journal(journal::Error),
    /// It waits for a person.
    Waiting {
        /// The call it waits at.
        call: String,
        /// What it waits for, since when, and how it can be unblocked.
        reason: String,
        /// The command that does.
        next: String,
    },
    /// Another process asked to take over the run.
    TakenOver { by: String },
    /// It is being abandoned, and reached the first call that was never begun.
    Abandoned,
}

/// The switch that stops a run: every native checks it first, and it ends every wait.
pub(super) struct StopSwitch {
    thrown: Arc<AtomicBool>,
    why: Mutex<Option<StopReason>>,
    signal: watch::Sender<bool>,
}

impl StopSwitch {
    pub(super) fn new() -> Self {
        Self { thrown: Arc::default(), why: Mutex::default(), signal: watch::Sender::new(false) }
    }

    /// Stops the run; the first reason is kept.
    pub(super) fn stop_run(&self, why: StopReason) -> NativeError {
        lock_unpoisoned(&self.why).get_or_insert(why);
        self.thrown.store(true, Ordering::SeqCst);
        self.signal.send_replace(true);
        NativeError::Stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.thrown.load(Ordering::SeqCst)
    }

    /// Returns the flag itself, for the engine's progress callback.
    pub(super) fn shared_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.thrown)
    }

    pub(super) fn take_reason(&self) -> Option<StopReason> {
        let why = lock_unpoisoned(&self.why).take()?;
        self.thrown.store(false, Ordering::SeqCst);
        self.signal.send_replace(false);
        Some(why)
    }
}

/// Why a native returns no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NativeError {
    /// An error that the script may catch.
    Raised(Value),
    /// The run stops; the [`StopSwitch`] knows why.
    Stopped,
}

impl NativeError {
    /// Returns the error for the engine.
    pub(super) fn into_rhai_error(self, at: Position) -> Box<EvalAltResult> {
        match self {
            NativeError::Raised(fault) => super::fault::to_rhai_error(&fault, at),
            NativeError::Stopped => EvalAltResult::ErrorTerminated(Dynamic::UNIT, at).into(),
        }
    }
}

thread_local! {
    /// Whether the fork on this thread reached something new while the run is being abandoned.
    static FORK_ABANDONED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the fork on this thread was abandoned, and resets the flag for the next fork.
pub(super) fn take_fork_abandoned() -> bool {
    FORK_ABANDONED.replace(false)
}

/// Returns whether the fork on this thread was abandoned: it evaluates nothing more.
pub(super) fn is_fork_abandoned() -> bool {
    FORK_ABANDONED.get()
}

/// A native's call context, kept after the native returned.
pub(super) type StoredCallContext = NativeCallContextStore;

/// Something to do when the run ends.
pub(super) struct DeferredCleanup {
    /// Its name within the run: the path where it was deferred, with its number there.
    pub(super) name: String,
    pub(super) due: Cleanup,
}

/// What is to be done when the run ends.
pub(super) enum Cleanup {
    /// A closure of the script, and whether only after a failure.
    Closure { closure: FnPtr, made_in: Box<NativeCallContextStore>, only_on_failure: bool },
    /// A temporary branch that the run owns.
    Branch(Value),
}

/// The state that all natives of one run share.
pub(super) struct RunContext {
    pub(super) fleet: Arc<Fleet>,
    pub(super) tokio: tokio::runtime::Handle,
    pub(super) journal: Arc<journal::Journal>,
    pub(super) run: journal::Run,
    /// The rights of the run; `None` grants all, for a person at the prompt.
    pub(super) rights: Option<Vec<Permission>>,
    pub(super) watch: Arc<dyn RunObserver>,
    pub(super) stopper: StopSwitch,
    /// Whether begun calls are only resolved and nothing new begins: the run is being abandoned, or was ending.
    settling: AtomicBool,
    /// Protected targets whose name was typed.
    pub(super) confirmed: BTreeSet<String>,
    /// The most forks that run at once.
    pub(super) width: usize,
    /// What is to be done at the end, in the order of the script.
    pub(super) deferred: Arc<Mutex<Vec<DeferredCleanup>>>,
    /// The targets that this process has verified; each is locked while it is asked, so that it is asked once.
    pub(super) recognised: Mutex<BTreeMap<String, Arc<Mutex<Option<VerifiedTarget>>>>>,
    pub(super) left_behind: Mutex<Vec<String>>,
    /// Held while a person is asked a question.
    pub(super) asking: Mutex<()>,
    /// The calls that an edited script has made so far; `None` if the script was never edited.
    pub(super) asked: Option<Mutex<BTreeSet<String>>>,
    /// The calls that have changed something.
    effects: Mutex<BTreeSet<String>>,
}

/// A target whose identity this process has verified.
pub(super) struct VerifiedTarget {
    pub(super) identity: Identity,
    /// The mode of the run's lease on it.
    pub(super) mode: Option<journal::LeaseMode>,
}

impl RunContext {
    pub(super) fn new(
        world: &Runtime,
        journal: Arc<journal::Journal>,
        run: journal::Run,
        rights: Option<Vec<Permission>>,
        watch: Arc<dyn RunObserver>,
        confirmed: BTreeSet<String>,
        abandoning: bool,
    ) -> Arc<Self> {
        let (fleet, tokio) = (Arc::clone(&world.fleet), world.tokio.handle().clone());
        Self::with_fleet((fleet, tokio, usize::MAX), journal, run, rights, watch, confirmed, abandoning)
    }

    /// Creates the context over any fleet, with the executor to block on and the number of forks that may run at
    /// once.
    pub(super) fn with_fleet(
        (fleet, tokio, width): (Arc<Fleet>, tokio::runtime::Handle, usize),
        journal: Arc<journal::Journal>,
        run: journal::Run,
        rights: Option<Vec<Permission>>,
        watch: Arc<dyn RunObserver>,
        confirmed: BTreeSet<String>,
        abandoning: bool,
    ) -> Arc<Self> {
        let asked = (run.source_edition() > 0).then(Mutex::default);
        Arc::new(Self {
            fleet,
            tokio,
            width,
            journal,
            run,
            rights,
            watch,
            stopper: StopSwitch::new(),
            settling: abandoning.into(),
            confirmed,
            deferred: Arc::default(),
            recognised: Mutex::default(),
            left_behind: Mutex::default(),
            asking: Mutex::default(),
            asked,
            effects: Mutex::default(),
        })
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst)
    }

    /// Sets whether begun calls are only resolved. Clean-up turns it off: it must begin new calls.
    pub(super) fn set_settling(&self, settling: bool) {
        self.settling.store(settling, Ordering::SeqCst);
    }

    /// Remembers that a call has changed something.
    pub(super) fn note_effect(&self, call: &str) {
        lock_unpoisoned(&self.effects).insert(call.to_owned());
    }

    /// Returns whether a call below `path` has changed something.
    pub(super) fn has_effect_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        lock_unpoisoned(&self.effects)
            .range(below.clone()..)
            .next()
            .is_some_and(|call| call.starts_with(&below))
    }

    /// Blocks on a future until it is ready or the run is stopped.
    pub(super) fn wait_or_stop<T>(&self, what: impl Future<Output = T>) -> Result<T, NativeError> {
        let mut stopped = self.stopper.signal.subscribe();
        self.tokio.block_on(async {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => Err(NativeError::Stopped),
                value = what => Ok(value),
            }
        })
    }

    /// Stops the run when the journal failed.
    pub(super) fn stop_on_journal_error<T>(
        &self,
        result: Result<T, journal::Error>,
    ) -> Result<T, NativeError> {
        result.map_err(|e| self.stopper.stop_run(StopReason::Journal(e)))
    }

    pub(super) fn emit_event(&self, event: &Event<'_>) {
        self.watch.on_event(event);
    }

    /// Forgets something that was left behind and has been removed since.
    pub(super) fn forget_left_behind(&self, name: &str) {
        lock_unpoisoned(&self.left_behind).retain(|known| known != name);
    }

    /// Remembers what an error says was left behind.
    pub(super) fn remember_left_behind(&self, fault: &Value) {
        let named = fault["left_behind"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut left = lock_unpoisoned(&self.left_behind);
        for name in named {
            if !left.iter().any(|known| known == name) {
                left.push(name.to_owned());
            }
        }
    }
}

/// The place of a native in the run: the path of steps, and how often each name was used there.
///
/// It travels in the engine's call state, so that closures, functions and modules find it.
#[derive(Clone)]
pub(super) struct CallScope(Arc<CallScopeState>);

struct CallScopeState {
    live: Arc<RunContext>,
    path: String,
    counts: Mutex<HashMap<String, u64>>,
    /// The clean-up deferred by this fork, or by the run outside any fork.
    deferred: Arc<Mutex<Vec<DeferredCleanup>>>,
    is_branch: bool,
}

impl CallScope {
    pub(super) fn at_root(live: Arc<RunContext>) -> Self {
        Self::at_path(live, String::new())
    }

    /// Creates a scope at a path of its own; its counters start at zero.
    pub(super) fn at_path(live: Arc<RunContext>, path: String) -> Self {
        let deferred = Arc::clone(&live.deferred);
        Self(Arc::new(CallScopeState { live, path, counts: Mutex::default(), deferred, is_branch: false }))
    }

    fn scope_below(&self, path: String, deferred: Arc<Mutex<Vec<DeferredCleanup>>>, is_branch: bool) -> Self {
        let live = Arc::clone(&self.0.live);
        Self(Arc::new(CallScopeState { live, path, counts: Mutex::default(), deferred, is_branch }))
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
        if self.0.is_branch {
            FORK_ABANDONED.set(true);
            return NativeError::Stopped;
        }
        self.0.live.stopper.stop_run(StopReason::Abandoned)
    }

    /// Returns whether nothing more may be done here: the run is stopped, or this fork was abandoned.
    pub(super) fn is_halted(&self) -> bool {
        self.0.live.stopper.is_stopped() || is_fork_abandoned()
    }

    /// Returns the frame that a native was called in.
    pub(super) fn from_native_context(cx: &NativeCallContext<'_>) -> Result<Self, Box<EvalAltResult>> {
        let frame = cx.tag().and_then(|tag| tag.clone().try_cast::<Self>());
        frame.ok_or_else(|| "this function works only inside a run".into())
    }

    pub(super) fn run_context(&self) -> &Arc<RunContext> {
        &self.0.live
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

    /// Returns the frame of the next use of a step called `name`.
    pub(super) fn enter_child(&self, name: &str) -> Self {
        self.scope_below(self.next_call_name(name), Arc::clone(&self.0.deferred), self.0.is_branch)
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// Returns whether this is inside a branch of `parallel` or `each`.
    pub(super) fn is_in_fork(&self) -> bool {
        self.0.is_branch
    }

    /// Calls a closure of the script in this frame.
    pub(super) fn invoke_closure(
        &self,
        cx: &NativeCallContext<'_>,
        closure: &FnPtr,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        self.invoke_stored_closure(cx.engine(), &store_context(cx), closure, ())
    }

    /// Calls a closure in this frame, in the context of the place that made it.
    pub(super) fn invoke_stored_closure(
        &self,
        engine: &rhai::Engine,
        made_in: &NativeCallContextStore,
        closure: &FnPtr,
        args: impl FuncArgs,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        let mut made_in = made_in.clone();
        made_in.global.tag = Dynamic::from(self.clone());
        #[expect(
            deprecated,
            reason = "the way back from a stored context is volatile in Rhai, and there is no other"
        )]
        let cx = made_in.create_context(engine);
        closure.call_within_context(&cx, args)
    }
}

/// Stores a native's call context: a closure from a library finds the library's functions through it.
pub(super) fn store_context(cx: &NativeCallContext<'_>) -> NativeCallContextStore {
    cx.store_data()
}

/// Copies a value so that it shares nothing with the script: Rhai shares what closures capture.
pub(super) fn deep_copy(value: &Dynamic) -> Dynamic {
    let flat = value.flatten_clone();
    if let Some(closure) = flat.clone().try_cast::<FnPtr>() {
        let mut closure = closure;
        let captured: Vec<Dynamic> = closure.iter_curry().map(deep_copy).collect();
        closure.set_curry(captured);
        return closure.into();
    }
    if let Ok(items) = flat.as_array_ref() {
        return items.iter().map(deep_copy).collect::<Array>().into();
    }
    if let Ok(fields) = flat.as_map_ref() {
        return fields.iter().map(|(name, field)| (name.clone(), deep_copy(field))).collect::<Map>().into();
    }
    flat
}

/// Returns where a native was called, as `file:line:column`.
pub(super) fn format_position(cx: &NativeCallContext<'_>) -> String {
    let at = cx.call_position();
    let file = cx.call_source().unwrap_or("?");
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(line), None) => format!("{file}:{line}"),
        _ => file.to_owned(),
    }
}

/// Locks a mutex whose holder may have panicked: what it guards is whole after every statement.
pub(super) fn lock_unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
