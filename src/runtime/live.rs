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
use rhai::{Dynamic, EvalAltResult, FnPtr, NativeCallContext, NativeCallContextStore, Position};
use serde_json::Value;
use std::{
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

/// Something to do when the run ends.
pub(super) enum Deferred {
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
    /// Whether the run is being abandoned: what was begun is settled, and nothing new is begun.
    abandoning: AtomicBool,
    /// Protected targets whose name was typed.
    pub(super) confirmed: BTreeSet<String>,
    pub(super) deferred: Mutex<Vec<Deferred>>,
    /// Who each target was when this process first looked.
    pub(super) recognised: Mutex<BTreeMap<String, Identity>>,
    pub(super) left_behind: Mutex<Vec<String>>,
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
        Self::over((fleet, tokio), journal, run, rights, watch, confirmed, abandoning)
    }

    /// The same over a fleet that need not be a world's own, and whoever waits for it.
    pub(super) fn over(
        (fleet, tokio): (Arc<Fleet>, tokio::runtime::Handle),
        journal: Arc<journal::Journal>,
        run: journal::Run,
        rights: Option<Vec<Need>>,
        watch: Arc<dyn Watch>,
        confirmed: BTreeSet<String>,
        abandoning: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            fleet,
            tokio,
            journal,
            run,
            rights,
            watch,
            stopper: Stopper::new(),
            abandoning: abandoning.into(),
            confirmed,
            deferred: Mutex::default(),
            recognised: Mutex::default(),
            left_behind: Mutex::default(),
        })
    }

    pub(super) fn abandoning(&self) -> bool {
        self.abandoning.load(Ordering::SeqCst)
    }

    /// Switches abandoning off for the clean-up, which must begin things.
    pub(super) fn set_abandoning(&self, abandoning: bool) {
        self.abandoning.store(abandoning, Ordering::SeqCst);
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
}

impl Frame {
    pub(super) fn root(live: Arc<Live>) -> Self {
        Self::at(live, String::new())
    }

    /// Returns a frame at a path of its own; its counters start anew.
    pub(super) fn at(live: Arc<Live>, path: String) -> Self {
        Self(Arc::new(FrameState { live, path, counts: Mutex::default() }))
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
        let mut counts = lock(&self.0.counts);
        let count = counts.entry(name.to_owned()).or_default();
        let id = format!("{}/{name}#{count}", self.0.path);
        *count += 1;
        id
    }

    /// Returns the frame of the next use of a step called `name`.
    pub(super) fn child(&self, name: &str) -> Self {
        Self::at(Arc::clone(&self.0.live), self.next(name))
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// Calls a closure of the script in this frame.
    pub(super) fn call(
        &self,
        cx: &NativeCallContext<'_>,
        closure: &FnPtr,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        self.call_stored(cx.engine(), &keep(cx), closure)
    }

    /// Calls a closure in this frame, in the context of the place that made it.
    pub(super) fn call_stored(
        &self,
        engine: &rhai::Engine,
        made_in: &NativeCallContextStore,
        closure: &FnPtr,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        let mut made_in = made_in.clone();
        made_in.global.tag = Dynamic::from(self.clone());
        #[expect(
            deprecated,
            reason = "the way back from a stored context is volatile in Rhai, and there is no other"
        )]
        let cx = made_in.create_context(engine);
        closure.call_within_context(&cx, ())
    }
}

/// Keeps the context of a call beyond the call: a closure from a library finds its library's functions through it.
pub(super) fn keep(cx: &NativeCallContext<'_>) -> NativeCallContextStore {
    cx.store_data()
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
