//! A run while it moves: what its natives share, how it is stopped, and where in the script a call is.

#![expect(
    deprecated,
    reason = "keeping the context of a call is volatile in Rhai, and there is no other way"
)]

use super::{Event, Watch, World};
use crate::{
    journal,
    ops::spec::Need,
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
pub enum Stop {
    /// A person, or the system, asked.
    Interrupted,
    /// Nobody knows whether a call took effect.
    Undecided {
        /// The call.
        call: String,
        /// What is known, and why no more is.
        reason: String,
    },
    /// The script asks for something else than was recorded, or a target is another one now.
    Mismatch {
        /// Recorded against asked, side by side.
        message: String,
    },
    /// The run is not allowed to.
    Refused {
        /// What it wanted.
        message: String,
        /// What would allow it.
        hint: String,
    },
    /// Somebody else has the target.
    Leased(journal::Error),
    /// The journal cannot be written.
    Journal(journal::Error),
    /// It waits for a person.
    Waiting {
        /// The call it waits at.
        call: String,
        /// For what, since when, and who can unblock it how.
        reason: String,
        /// The command that does.
        next: String,
    },
    /// Somebody wants to go on in its stead.
    TakenOver {
        /// Who.
        by: String,
    },
    /// It is being abandoned, and has come to the first call that was never begun.
    Abandoned,
}

/// The switch that stops a run: every native looks at it first, and waiting ends when it is thrown.
pub(super) struct Stopper {
    thrown: Arc<AtomicBool>,
    why: Mutex<Option<Stop>>,
    signal: watch::Sender<bool>,
}

impl Stopper {
    pub(super) fn new() -> Self {
        Self { thrown: Arc::default(), why: Mutex::default(), signal: watch::Sender::new(false) }
    }

    /// Stops the run; the first reason is kept.
    pub(super) fn stop(&self, why: Stop) -> Halt {
        lock(&self.why).get_or_insert(why);
        self.thrown.store(true, Ordering::SeqCst);
        self.signal.send_replace(true);
        Halt::Stop
    }

    pub(super) fn is_thrown(&self) -> bool {
        self.thrown.load(Ordering::SeqCst)
    }

    /// Returns the flag itself, for the engine's progress callback.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.thrown)
    }

    pub(super) fn take(&self) -> Option<Stop> {
        let why = lock(&self.why).take()?;
        self.thrown.store(false, Ordering::SeqCst);
        self.signal.send_replace(false);
        Some(why)
    }
}

/// Why a native does not give back a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Halt {
    /// An error that the script may catch.
    Raise(Value),
    /// The run stops; the [`Stopper`] knows why.
    Stop,
}

impl Halt {
    /// Returns the error for the engine.
    pub(super) fn at(self, at: Position) -> Box<EvalAltResult> {
        match self {
            Halt::Raise(fault) => super::fault::raise(&fault, at),
            Halt::Stop => EvalAltResult::ErrorTerminated(Dynamic::UNIT, at).into(),
        }
    }
}

thread_local! {
    /// Whether the branch on this thread has come to something new while the run is being abandoned.
    static GAVE_UP: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the branch on this thread gave up, and forgets it: the next branch begins.
pub(super) fn gave_up() -> bool {
    GAVE_UP.replace(false)
}

/// Returns whether the branch on this thread gave up: it evaluates nothing more.
pub(super) fn is_giving_up() -> bool {
    GAVE_UP.get()
}

/// The context of a call, kept beyond the call.
pub(super) type Origin = NativeCallContextStore;

/// Something to do when the run ends.
pub(super) struct Deferred {
    /// What it is called in the run: where it was deferred, and which one it was there.
    pub(super) name: String,
    pub(super) due: Due,
}

/// What is to be done when the run ends.
pub(super) enum Due {
    /// A closure of the script, and whether only after a failure.
    Closure { closure: FnPtr, made_in: Box<NativeCallContextStore>, only_on_failure: bool },
    /// A branch that the run owns.
    Branch(Value),
}

/// What the natives of one run share.
pub(super) struct Live {
    pub(super) fleet: Arc<Fleet>,
    pub(super) tokio: tokio::runtime::Handle,
    pub(super) journal: Arc<journal::Journal>,
    pub(super) run: journal::Run,
    /// What the run may do; `None` is everything, for a person at the prompt.
    pub(super) rights: Option<Vec<Need>>,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) stopper: Stopper,
    /// Whether what was begun is settled and nothing new is begun: the run is being abandoned, or was ending already.
    settling: AtomicBool,
    /// Protected targets whose name was typed.
    pub(super) confirmed: BTreeSet<String>,
    /// How many branches go on at once at most.
    pub(super) width: usize,
    /// What is to be done at the end, in the order of the script.
    pub(super) deferred: Arc<Mutex<Vec<Deferred>>>,
    /// Who each target was when this process first looked; held while it looks, so that it looks once.
    pub(super) recognised: Mutex<BTreeMap<String, Arc<Mutex<Option<Known>>>>>,
    pub(super) left_behind: Mutex<Vec<String>>,
    /// Held while somebody is asked something.
    pub(super) asking: Mutex<()>,
    /// The calls that an edited script has asked for; nothing where the script is the first one.
    pub(super) asked: Option<Mutex<BTreeSet<String>>>,
    /// The calls that have changed something.
    effects: Mutex<BTreeSet<String>>,
}

/// A target that the run has recognised.
pub(super) struct Known {
    /// Who it is.
    pub(super) identity: Identity,
    /// How the run has leased it.
    pub(super) mode: Option<journal::Mode>,
}

impl Live {
    pub(super) fn new(
        world: &World,
        journal: Arc<journal::Journal>,
        run: journal::Run,
        rights: Option<Vec<Need>>,
        watch: Arc<dyn Watch>,
        confirmed: BTreeSet<String>,
        abandoning: bool,
    ) -> Arc<Self> {
        let (fleet, tokio) = (Arc::clone(&world.fleet), world.tokio.handle().clone());
        Self::over((fleet, tokio, usize::MAX), journal, run, rights, watch, confirmed, abandoning)
    }

    /// The same over a fleet that need not be a world's own, with whoever waits for it and how many branches go on at
    /// once.
    pub(super) fn over(
        (fleet, tokio, width): (Arc<Fleet>, tokio::runtime::Handle, usize),
        journal: Arc<journal::Journal>,
        run: journal::Run,
        rights: Option<Vec<Need>>,
        watch: Arc<dyn Watch>,
        confirmed: BTreeSet<String>,
        abandoning: bool,
    ) -> Arc<Self> {
        let asked = (run.edition() > 0).then(Mutex::default);
        Arc::new(Self {
            fleet,
            tokio,
            width,
            journal,
            run,
            rights,
            watch,
            stopper: Stopper::new(),
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

    pub(super) fn settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst)
    }

    /// Says whether anything new may be begun: clean-up must, whatever came before.
    pub(super) fn set_settling(&self, settling: bool) {
        self.settling.store(settling, Ordering::SeqCst);
    }

    /// Remembers that a call has changed something.
    pub(super) fn note_effect(&self, call: &str) {
        lock(&self.effects).insert(call.to_owned());
    }

    /// Returns whether a call below `path` has changed something.
    pub(super) fn has_effect_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        lock(&self.effects).range(below.clone()..).next().is_some_and(|call| call.starts_with(&below))
    }

    /// Waits for the world, or for the run to be stopped.
    pub(super) fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Halt> {
        let mut stopped = self.stopper.signal.subscribe();
        self.tokio.block_on(async {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => Err(Halt::Stop),
                value = what => Ok(value),
            }
        })
    }

    /// Stops the run when the journal says no.
    pub(super) fn journaled<T>(&self, result: Result<T, journal::Error>) -> Result<T, Halt> {
        result.map_err(|e| self.stopper.stop(Stop::Journal(e)))
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        self.watch.event(event);
    }

    /// Forgets what was left behind at first and has been removed since.
    pub(super) fn forget_left_behind(&self, name: &str) {
        lock(&self.left_behind).retain(|known| known != name);
    }

    /// Remembers what an error says was left behind.
    pub(super) fn remember_left_behind(&self, fault: &Value) {
        let named = fault["left_behind"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut left = lock(&self.left_behind);
        for name in named {
            if !left.iter().any(|known| known == name) {
                left.push(name.to_owned());
            }
        }
    }
}

/// Where in the run a native is called: the path of steps, and how often each name was used there.
///
/// It travels in the engine's own call state, so that closures, functions and modules have it without asking.
#[derive(Clone)]
pub(super) struct Frame(Arc<FrameState>);

struct FrameState {
    live: Arc<Live>,
    path: String,
    counts: Mutex<HashMap<String, u64>>,
    /// What this branch defers, or the run where there is no branch.
    deferred: Arc<Mutex<Vec<Deferred>>>,
    is_branch: bool,
}

impl Frame {
    pub(super) fn root(live: Arc<Live>) -> Self {
        Self::at(live, String::new())
    }

    /// Returns a frame at a path of its own; its counters start anew.
    pub(super) fn at(live: Arc<Live>, path: String) -> Self {
        let deferred = Arc::clone(&live.deferred);
        Self(Arc::new(FrameState { live, path, counts: Mutex::default(), deferred, is_branch: false }))
    }

    fn below(&self, path: String, deferred: Arc<Mutex<Vec<Deferred>>>, is_branch: bool) -> Self {
        let live = Arc::clone(&self.0.live);
        Self(Arc::new(FrameState { live, path, counts: Mutex::default(), deferred, is_branch }))
    }

    /// Returns the frame of a branch that runs on a thread of its own and defers apart from the others.
    pub(super) fn branch(&self, index: usize) -> Self {
        self.below(format!("{}/{index}", self.0.path), Arc::default(), true)
    }

    /// Returns what is deferred here.
    pub(super) fn deferred(&self) -> MutexGuard<'_, Vec<Deferred>> {
        lock(&self.0.deferred)
    }

    /// Comes to something new while the run is being abandoned: a branch is over, and the run stops when all are.
    pub(super) fn give_up(&self) -> Halt {
        if self.0.is_branch {
            GAVE_UP.set(true);
            return Halt::Stop;
        }
        self.0.live.stopper.stop(Stop::Abandoned)
    }

    /// Returns whether nothing more is done here: the run is stopped, or this branch gave up.
    pub(super) fn is_halted(&self) -> bool {
        self.0.live.stopper.is_thrown() || is_giving_up()
    }

    /// Returns the frame that a native was called in.
    pub(super) fn of(cx: &NativeCallContext<'_>) -> Result<Self, Box<EvalAltResult>> {
        let frame = cx.tag().and_then(|tag| tag.clone().try_cast::<Self>());
        frame.ok_or_else(|| "this function works only inside a run".into())
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.0.live
    }

    /// Returns the identity of the next use of `name` here.
    pub(super) fn next(&self, name: &str) -> String {
        let id = self.peek(name);
        *lock(&self.0.counts).entry(name.to_owned()).or_default() += 1;
        id
    }

    /// Returns the identity that the next use of `name` here will have.
    pub(super) fn peek(&self, name: &str) -> String {
        let count = lock(&self.0.counts).get(name).copied().unwrap_or_default();
        format!("{}/{name}#{count}", self.0.path)
    }

    /// Returns the frame of the next use of a step called `name`.
    pub(super) fn child(&self, name: &str) -> Self {
        self.below(self.next(name), Arc::clone(&self.0.deferred), self.0.is_branch)
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// Returns whether this is inside a branch of `parallel` or `each`.
    pub(super) fn is_in_branch(&self) -> bool {
        self.0.is_branch
    }

    /// Calls a closure of the script in this frame.
    pub(super) fn call(
        &self,
        cx: &NativeCallContext<'_>,
        closure: &FnPtr,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        self.call_stored(cx.engine(), &keep(cx), closure, ())
    }

    /// Calls a closure in this frame, in the context of the place that made it.
    pub(super) fn call_stored(
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

/// Keeps the context of a call beyond the call: a closure from a library finds its library's functions through it.
pub(super) fn keep(cx: &NativeCallContext<'_>) -> NativeCallContextStore {
    cx.store_data()
}

/// Returns a value that shares nothing with the script: Rhai shares what closures capture, closures in it included.
pub(super) fn snapshot(value: &Dynamic) -> Dynamic {
    let flat = value.flatten_clone();
    if let Some(closure) = flat.clone().try_cast::<FnPtr>() {
        let mut closure = closure;
        let captured: Vec<Dynamic> = closure.iter_curry().map(snapshot).collect();
        closure.set_curry(captured);
        return closure.into();
    }
    if let Ok(items) = flat.as_array_ref() {
        return items.iter().map(snapshot).collect::<Array>().into();
    }
    if let Ok(fields) = flat.as_map_ref() {
        return fields.iter().map(|(name, field)| (name.clone(), snapshot(field))).collect::<Map>().into();
    }
    flat
}

/// Returns where a native was called, as `file:line:column`.
pub(super) fn position(cx: &NativeCallContext<'_>) -> String {
    let at = cx.call_position();
    let file = cx.call_source().unwrap_or("?");
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(line), None) => format!("{file}:{line}"),
        _ => file.to_owned(),
    }
}

/// Locks a mutex whose holder may have panicked: what it guards is whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
