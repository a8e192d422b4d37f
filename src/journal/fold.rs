//! The fold: from a run's records to where it stands. The only place that knows which record may follow which.

use super::{Outcome, Record, RunStatus};
use serde_json::Value;
use std::collections::HashMap;

/// Why a record may not follow the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalRecord {
    /// The first record is not `started`.
    #[error("`{0}` before the run was started")]
    BeforeStart(&'static str),
    /// The run was started already.
    #[error("`started` a second time")]
    StartedTwice,
    /// The run has ended.
    #[error("`{0}` after the run ended as {1}")]
    AfterEnd(&'static str, RunStatus),
    /// The run has stopped and has not been resumed.
    #[error("`{0}` while the run is {1} and not resumed")]
    WhileStopped(&'static str, RunStatus),
    /// A status that this record cannot bring.
    #[error("`{0}` cannot make a run {1}")]
    WrongStatus(&'static str, RunStatus),
    /// The call was not begun, or is over.
    #[error("`{0}` for the call `{1}`, which is not begun")]
    CallNotStarted(&'static str, String),
    /// The call was begun before, and nobody decided to redo it.
    #[error("the call `{0}` was begun before")]
    CallStartedTwice(String),
    /// The call is over.
    #[error("`{0}` for the call `{1}`, which is over")]
    CallFinished(&'static str, String),
    /// The record would not read back as itself: a value is nested too deeply.
    #[error(
        "`{0}` holds a value that would not read back as it is (nested more than a hundred levels deep?)"
    )]
    Unreadable(&'static str),
    /// The call that ends is not the one that was begun.
    #[error("the call `{0}` was begun with another operation or other arguments")]
    CallMismatch(String),
}

/// The state of a call, folded from its records.
#[derive(Debug, Clone, PartialEq)]
pub enum CallState {
    /// The journal has no record of it.
    NotStarted,
    /// It was begun, or reopened by a decision, and has not finished.
    Started {
        op: String,
        args: Value,
        /// The key of the last attempt; empty for a call without effect that was opened again.
        key: String,
        /// What the last attempt was given to wait on.
        accepted: Option<Value>,
        /// What somebody decided since.
        decision: Option<Value>,
    },
    /// It is over.
    Finished {
        op: String,
        args: Value,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A call as its records leave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    op: String,
    args: Value,
    key: String,
    attempts: u32,
    accepted: Option<Value>,
    decision: Option<Value>,
    outcome: Option<Outcome>,
}

/// Returns where a run stands after `record`, given where it stood and what was known of the record's call.
///
/// # Errors
/// Why the record does not fit. Nothing may be written then.
pub(super) fn next_status(
    status: Option<RunStatus>,
    call: Option<&Call>,
    record: &Record,
) -> Result<RunStatus, IllegalRecord> {
    let kind = record.kind();
    let status = match (status, record) {
        (None, Record::Started { .. }) => return Ok(RunStatus::Running),
        (None, _) => return Err(IllegalRecord::BeforeStart(kind)),
        (Some(_), Record::Started { .. }) => return Err(IllegalRecord::StartedTwice),
        (Some(ended), _) if ended.is_final() => return Err(IllegalRecord::AfterEnd(kind, ended)),
        (Some(status), _) => status,
    };
    match record {
        // Also from `Running`: the process may have died without recording a stop.
        Record::Resumed { .. } => return Ok(RunStatus::Running),
        Record::Finished { status: RunStatus::Abandoned, .. } => return Ok(RunStatus::Abandoned),
        Record::Decided { call: name, .. } => return check_decidable(name, call).map(|()| status),
        _ if status.is_stopped() => return Err(IllegalRecord::WhileStopped(kind, status)),
        _ => {}
    }
    match record {
        Record::Finished { status: to, .. } if to.is_final() => Ok(*to),
        Record::Stopped { status: to, .. } if to.is_stopped() => Ok(*to),
        Record::Finished { status: to, .. } | Record::Stopped { status: to, .. } => {
            Err(IllegalRecord::WrongStatus(kind, *to))
        }
        Record::Begin { call: name, .. } => check_startable(name, call).map(|()| status),
        Record::Accepted { call: name, .. } => check_open(kind, name, call).map(|()| status),
        Record::End { call: name, op, args, .. } => check_endable(name, op, args, call).map(|()| status),
        _ => Ok(status),
    }
}

/// Checks that somebody may decide about a call: it is begun, or it failed.
fn check_decidable(name: &str, call: Option<&Call>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted("decided", name.into())),
        Some(Call { outcome: Some(Outcome::Ok(_)), .. }) => {
            Err(IllegalRecord::CallFinished("decided", name.into()))
        }
        Some(_) => Ok(()),
    }
}

/// Checks that a call may be begun: it is new, or somebody decided that it is done again.
fn check_startable(name: &str, call: Option<&Call>) -> Result<(), IllegalRecord> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(IllegalRecord::CallFinished("begin", name.into())),
        Some(Call { decision: None, .. }) => Err(IllegalRecord::CallStartedTwice(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Checks that a call is begun and not over.
fn check_open(kind: &'static str, name: &str, call: Option<&Call>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted(kind, name.into())),
        Some(Call { outcome: Some(_), .. }) => Err(IllegalRecord::CallFinished(kind, name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may end: it is not over, and if it was begun then as this very call.
fn check_endable(name: &str, op: &str, args: &Value, call: Option<&Call>) -> Result<(), IllegalRecord> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(IllegalRecord::CallFinished("end", name.into())),
        Some(begun) if begun.op != op || begun.args != *args => Err(IllegalRecord::CallMismatch(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Where a run stands, and why it stopped.
pub(super) type RunState = (Option<RunStatus>, Option<String>);

/// A run as its records leave it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RunFold {
    /// Where it stands; nothing before its first record.
    pub(super) status: Option<RunStatus>,
    pub(super) reason: Option<String>,
    /// What it ends with, once it is ending.
    pub(super) ending: Option<Outcome>,
    /// The identity that each target name resolved to.
    pub(super) targets: HashMap<String, Value>,
    calls: HashMap<String, Call>,
    /// The edition of the sources in force: 0 is the original, higher ones are edits.
    pub(super) edition: u32,
    /// The edition to fall back to if the edited one does not match; moves on once something takes effect.
    before: u32,
    /// The newest text there is.
    pub(super) newest: u32,
}

impl RunFold {
    /// Adds a record.
    ///
    /// # Errors
    /// Why it does not fit; the fold is then what it was.
    pub(super) fn apply_record(&mut self, record: Record) -> Result<(), IllegalRecord> {
        let call = record.call_name().and_then(|name| self.calls.get(name));
        self.status = Some(next_status(self.status, call, &record)?);
        // A decision is made about a stopped run and leaves it stopped, for the same reason.
        if !matches!(record, Record::Decided { .. }) {
            self.reason = None;
        }
        match &record {
            Record::Resumed { digest: Some(_), .. } => {
                self.newest += 1;
                self.before = self.edition;
                self.edition = self.newest;
            }
            Record::Begin { .. } | Record::Ending { .. } => self.before = self.edition,
            Record::Stopped { mismatch: true, .. } => self.edition = self.before,
            _ => {}
        }
        match record {
            Record::Stopped { reason, .. } => self.reason = Some(reason),
            Record::Target { name, identity } => drop(self.targets.insert(name, identity)),
            Record::Ending { outcome } => self.ending = Some(outcome),
            Record::Begin { call, op, args, key, .. } => self.start_call(call, op, args, key),
            Record::End { call, op, args, outcome, .. } => self.finish_call(call, op, args, outcome),
            Record::Accepted { call, what } => self.update_call(&call, |c| c.accepted = Some(what)),
            Record::Decided { call, decision, .. } => self.update_call(&call, |c| {
                c.decision = Some(decision);
                c.outcome = None;
            }),
            Record::Started { .. } | Record::Resumed { .. } | Record::Finished { .. } => {}
        }
        Ok(())
    }

    /// Returns the calls that were begun and are not over, by name.
    pub(super) fn open_calls(&self) -> Vec<String> {
        let open = self.calls.iter().filter(|(_, call)| call.outcome.is_none());
        let mut names: Vec<String> = open.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    fn start_call(&mut self, name: String, op: String, args: Value, key: String) {
        let attempts = self.count_attempts(&name) + 1;
        self.calls.insert(name, Call { key, attempts, ..Call::new(op, args) });
    }

    fn finish_call(&mut self, name: String, op: String, args: Value, outcome: Outcome) {
        let call = self.calls.entry(name).or_insert_with(|| Call::new(op, args));
        call.decision = None;
        call.outcome = Some(outcome);
    }

    fn update_call(&mut self, name: &str, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(name) {
            change(call);
        }
    }

    /// Returns what is known of a call.
    pub(super) fn call_state(&self, name: &str) -> CallState {
        let Some(Call { op, args, key, accepted, decision, outcome, .. }) = self.calls.get(name).cloned()
        else {
            return CallState::NotStarted;
        };
        match outcome {
            Some(outcome) => CallState::Finished { op, args, outcome },
            None => CallState::Started { op, args, key, accepted, decision },
        }
    }

    /// Returns where the run stands and why it stopped.
    pub(super) fn run_state(&self) -> RunState {
        (self.status, self.reason.clone())
    }

    /// Returns how often a call was begun.
    pub(super) fn count_attempts(&self, name: &str) -> u32 {
        self.calls.get(name).map_or(0, |call| call.attempts)
    }

    /// Returns the names of the calls that begin with `path`, in no order.
    pub(super) fn call_names_below(&self, path: &str) -> Vec<String> {
        self.calls.keys().filter(|name| name.starts_with(path)).cloned().collect()
    }

    /// Returns the names of the calls that were about to take effect, in no order.
    pub(super) fn started_calls(&self) -> Vec<String> {
        self.calls.iter().filter(|(_, call)| call.attempts > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Returns how many calls there are.
    pub(super) fn count_calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

impl Call {
    fn new(op: String, args: Value) -> Call {
        Call { op, args, key: String::new(), attempts: 0, accepted: None, decision: None, outcome: None }
    }
}
