//! How a run is stopped, and what a native returns when it is.

use super::script_error::to_rhai_error;
use crate::{
    base::lock::lock_unpoisoned,
    journal::{self, ScriptError, UnreadableRecord},
};
use rhai::{Dynamic, EvalAltResult, Position};
use std::{
    cell::Cell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// Why a run stopped without having ended. A script can catch none of these.
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
        /// What was recorded and what the script does now, side by side.
        message: String,
    },
    /// A person rejected the edited text.
    EditRejected {
        /// Who, and what was asked.
        message: String,
        /// Whether the edited text is dropped with that: it has done nothing, and the run goes on with the text before.
        is_dropped: bool,
    },
    /// What is recorded does not read: another version of the program wrote it.
    Unreadable(UnreadableRecord),
    /// The run may not do what it is about to do.
    Refused {
        message: String,
        /// What would allow it.
        hint: String,
    },
    /// A protected target that it is about to use was not named.
    Unconfirmed { target: String },
    /// Another run holds a lease on a target.
    Leased(journal::Error),
    /// The journal cannot be written.
    Journal(journal::Error),
    /// It waits for a person.
    Waiting {
        /// The call it waits at.
        call: String,
        /// What it waits for, since when, and who can unblock it.
        reason: String,
    },
    /// Another process asked to take over the run.
    TakenOver { by: String },
    /// It is being abandoned, and came to the first call that was never begun.
    Abandoned,
}

/// The switch that stops a run: every native checks it first, and it ends every wait.
pub(super) struct StopSwitch {
    is_set: Arc<AtomicBool>,
    why: Mutex<Option<StopReason>>,
    signal: watch::Sender<bool>,
}

impl StopSwitch {
    pub(super) fn new() -> Self {
        Self { is_set: Arc::default(), why: Mutex::default(), signal: watch::Sender::new(false) }
    }

    /// Stops the run; the first reason is kept.
    pub(super) fn stop_run(&self, why: StopReason) -> NativeError {
        lock_unpoisoned(&self.why).get_or_insert(why);
        self.is_set.store(true, Ordering::SeqCst);
        self.signal.send_replace(true);
        NativeError::Stopped
    }

    /// Returns a future that is ready when the run is stopped.
    pub(super) fn wait_until_stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.signal.subscribe();
        async move { drop(stopped.wait_for(|stopped| *stopped).await) }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Returns whether the run is stopped because its journal cannot be read or written.
    pub(super) fn has_lost_journal(&self) -> bool {
        matches!(&*lock_unpoisoned(&self.why), Some(StopReason::Journal(_)))
    }

    /// Returns the flag itself, for the engine's progress callback.
    pub(super) fn shared_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_set)
    }

    /// Takes the reason why the run is stopped, if it is; after that it is stopped no more.
    pub(super) fn take_stop_reason(&self) -> Option<StopReason> {
        let why = lock_unpoisoned(&self.why).take()?;
        self.is_set.store(false, Ordering::SeqCst);
        self.signal.send_replace(false);
        Some(why)
    }
}

/// Why a native returns no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NativeError {
    /// An error that the script may catch.
    Raised(Box<ScriptError>),
    /// The run stops; the [`StopSwitch`] knows why.
    Stopped,
}

impl From<ScriptError> for NativeError {
    fn from(error: ScriptError) -> Self {
        NativeError::Raised(Box::new(error))
    }
}

impl NativeError {
    /// Returns the error for the engine.
    pub(super) fn into_rhai_error(self, at: Position) -> Box<EvalAltResult> {
        match self {
            NativeError::Raised(error) => to_rhai_error(&error, at),
            NativeError::Stopped => EvalAltResult::ErrorTerminated(Dynamic::UNIT, at).into(),
        }
    }
}

thread_local! {
    /// Whether the fork on this thread reached something new while the run is being abandoned.
    static FORK_ABANDONED: Cell<bool> = const { Cell::new(false) };
}

/// Abandons the fork on this thread.
pub(super) fn abandon_fork() -> NativeError {
    FORK_ABANDONED.set(true);
    NativeError::Stopped
}

/// Returns whether the fork on this thread was abandoned, and resets the flag for the next fork.
pub(super) fn take_fork_abandoned() -> bool {
    FORK_ABANDONED.replace(false)
}

/// Returns whether the fork on this thread was abandoned: it evaluates nothing more.
pub(super) fn is_fork_abandoned() -> bool {
    FORK_ABANDONED.get()
}
