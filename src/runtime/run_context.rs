//! The context of a run in progress: the state that its natives share.

use super::{
    edit_barrier::EditBarrier,
    events::Event,
    observer::RunObserver,
    rejections::Rejections,
    run_clock::RunClock,
    stop::{NativeError, StopReason, StopSwitch},
    thing_line::ThingLine,
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{self, CallState, Durability, Record, ScriptError, Source, UnreadableRecord},
    ops::spec::Permission,
    provider::{Fleet, model::Identity},
};
use rhai::FnPtr;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The context of a native's call, kept after the native returned.
#[expect(deprecated, reason = "keeping the context of a call is volatile in Rhai, and there is no other way")]
pub(super) type StoredCallContext = rhai::NativeCallContextStore;

/// Something to do when the run ends.
pub(super) struct DeferredCleanup {
    /// Its name within the run: the path where it was deferred, with its number there.
    pub(super) name: String,
    pub(super) due: Cleanup,
}

impl DeferredCleanup {
    /// Returns whether it is done at an end of this kind.
    pub(super) fn is_due(&self, failed: bool) -> bool {
        failed || !matches!(self.due, Cleanup::Closure { only_on_failure: true, .. })
    }
}

/// What is to be done when the run ends.
pub(super) enum Cleanup {
    /// A closure of the script, and whether only after a failure.
    Closure { closure: FnPtr, made_in: Box<StoredCallContext>, only_on_failure: bool },
    /// A temporary branch that the run owns.
    Branch(Value),
}

/// What a run is made of, and what it may do.
pub(super) struct RunSetup {
    pub(super) fleet: Arc<Fleet>,
    /// The time that the script sees.
    pub(super) clock: RunClock,
    /// The executor that its waits block on.
    pub(super) tokio: tokio::runtime::Handle,
    /// The most forks that run at once.
    pub(super) fork_limit: usize,
    pub(super) journal: Arc<journal::Journal>,
    pub(super) run: journal::Run,
    /// The rights of the run; `None` grants all, for a person at the prompt.
    pub(super) rights: Option<Vec<Permission>>,
    pub(super) observer: Arc<dyn RunObserver>,
    /// The targets that its text and its parameters name.
    pub(super) targets: Vec<String>,
    /// Those of them that its parameters name.
    pub(super) targets_in_params: Vec<String>,
    /// Protected targets whose name was typed.
    pub(super) confirmed: BTreeSet<String>,
    /// Whether the run is abandoned: begun calls are resolved, and nothing new begins.
    pub(super) is_abandoning: bool,
}

/// The state that all natives of one run share.
pub(super) struct RunContext {
    pub(super) fleet: Arc<Fleet>,
    /// The time that the script sees.
    pub(super) clock: RunClock,
    pub(super) tokio: tokio::runtime::Handle,
    pub(super) journal: Arc<journal::Journal>,
    pub(super) run: journal::Run,
    /// The rights of the run; `None` grants all, for a person at the prompt.
    pub(super) rights: Option<Vec<Permission>>,
    pub(super) observer: Arc<dyn RunObserver>,
    pub(super) stopper: StopSwitch,
    /// Whether the run is being abandoned.
    pub(super) is_abandoning: bool,
    /// Whether begun calls are only resolved and nothing new begins: the run is being abandoned, or was ending.
    settling: AtomicBool,
    /// The targets that its text and its parameters name.
    pub(super) targets: Vec<String>,
    /// Those of them that its parameters name.
    pub(super) targets_in_params: Vec<String>,
    /// Protected targets whose name was typed.
    pub(super) confirmed: BTreeSet<String>,
    /// The most forks that run at once.
    pub(super) fork_limit: usize,
    /// What is to be done at the end, in the order of the script.
    pub(super) deferred: Arc<Mutex<Vec<DeferredCleanup>>>,
    /// The targets that this process has verified; each is locked meanwhile, so that it is asked once.
    pub(super) verified: Mutex<BTreeMap<String, Arc<Mutex<Option<VerifiedTarget>>>>>,
    /// What was made and could not be removed.
    pub(super) left_behind: Mutex<Vec<String>>,
    /// The calls of this process that are at things, or wait for them.
    pub(super) thing_line: Arc<ThingLine>,
    /// Held while a person is asked a question.
    pub(super) asking: Mutex<()>,
    /// Held while a gate is asked about, until it is noted what came of it.
    pub(super) gate_turn: Mutex<()>,
    pub(super) rejections: Rejections,
    /// Held while an edited text waits for its own approval.
    pub(super) edit_gate: Mutex<()>,
    /// What keeps an edited script from doing anything new too early; `None` if the script was never edited.
    pub(super) edits: Option<EditBarrier>,
    /// The texts of the runbook and of its modules; a session has none.
    pub(super) sources: OnceLock<Vec<Source>>,
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
    /// Returns whether there is anything to clean up at an end of this kind.
    pub(super) fn has_due_clean_up(&self, failed: bool) -> bool {
        lock_unpoisoned(&self.deferred).iter().any(|deferred| deferred.is_due(failed))
    }

    pub(super) fn new(setup: RunSetup) -> Arc<Self> {
        let RunSetup {
            fleet,
            clock,
            tokio,
            fork_limit,
            journal,
            run,
            rights,
            observer,
            targets,
            targets_in_params,
            confirmed,
            is_abandoning,
        } = setup;
        let edits = EditBarrier::for_run(&run);
        Arc::new(Self {
            fleet,
            clock,
            tokio,
            fork_limit,
            journal,
            run,
            rights,
            observer,
            stopper: StopSwitch::new(),
            is_abandoning,
            settling: is_abandoning.into(),
            targets,
            targets_in_params,
            confirmed,
            deferred: Arc::default(),
            verified: Mutex::default(),
            left_behind: Mutex::default(),
            thing_line: Arc::default(),
            asking: Mutex::default(),
            gate_turn: Mutex::default(),
            rejections: Rejections::default(),
            edit_gate: Mutex::default(),
            edits,
            sources: OnceLock::new(),
            effects: Mutex::default(),
        })
    }

    /// Returns whether begun calls are only resolved.
    pub(super) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst)
    }

    /// Sets whether begun calls are only resolved. Clean-up turns it off: it must begin new calls.
    pub(super) fn set_settling(&self, settling: bool) {
        self.settling.store(settling, Ordering::SeqCst);
    }

    /// Notes that the script has asked for a call, a gate or a clean-up, and records it where somebody had allowed that
    /// to be missing.
    pub(super) fn note_asked_by_script(&self, name: &str) {
        let was_allowed_missing = self.edits.as_ref().is_some_and(|edits| edits.note_asked_by_script(name));
        if was_allowed_missing && !self.is_settling() {
            let reached = Record::EditReached { name: name.to_owned() };
            // A journal that cannot be written stops the run before it does anything more.
            drop(self.stop_on_journal_error(self.run.append_record(reached, Durability::Synced)));
        }
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
    pub(super) fn wait_until_ready_or_stopped<T>(
        &self,
        what: impl Future<Output = T>,
    ) -> Result<T, NativeError> {
        let stopped = self.stopper.wait_until_stopped();
        self.tokio.block_on(async {
            tokio::select! {
                biased;
                () = stopped => Err(NativeError::Stopped),
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

    /// Stops the run when something recorded does not read: what it says is not known, and nothing takes its place.
    pub(super) fn stop_on_unreadable<T>(
        &self,
        result: Result<T, UnreadableRecord>,
    ) -> Result<T, NativeError> {
        result.map_err(|record| self.stopper.stop_run(StopReason::Unreadable(record)))
    }

    /// Stops the run because what is recorded of a call does not read as what it must be.
    pub(super) fn stop_as_unreadable(&self, call: &str, what: impl Into<String>) -> NativeError {
        let record = self.run.unreadable_call_error(call, what.into());
        self.stopper.stop_run(StopReason::Unreadable(record))
    }

    /// Returns what is known of a call.
    pub(super) fn call_state(&self, call: &str) -> Result<CallState, NativeError> {
        self.stop_on_unreadable(self.run.call_state(call))
    }

    /// Tells the observer of an event.
    pub(super) fn emit_event(&self, event: &Event<'_>) {
        self.observer.on_event(event);
    }

    /// Forgets something that was left behind and has been removed since.
    pub(super) fn forget_left_behind(&self, name: &str) {
        lock_unpoisoned(&self.left_behind).retain(|known| known != name);
    }

    /// Remembers what an error says was left behind.
    pub(super) fn remember_left_behind(&self, error: &ScriptError) {
        let mut left = lock_unpoisoned(&self.left_behind);
        for name in &error.left_behind {
            if !left.contains(name) {
                left.push(name.clone());
            }
        }
    }
}
