//! The fold: from a run's records to where it stands. The only place that knows which record may follow which.

use super::{Outcome, Record, Status, rows::Standing};
use serde_json::Value;
use std::collections::HashMap;

/// Why a record does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The first record is not `started`.
    #[error("`{0}` before the run was started")]
    BeforeStart(&'static str),
    /// The run was started already.
    #[error("`started` a second time")]
    StartedTwice,
    /// The run has ended.
    #[error("`{0}` after the run ended as {1}")]
    AfterEnd(&'static str, Status),
    /// The run has stopped, and nobody has taken it up again.
    #[error("`{0}` while the run is {1} and not resumed")]
    WhileStopped(&'static str, Status),
    /// A status that this record cannot bring.
    #[error("`{0}` cannot make a run {1}")]
    WrongStatus(&'static str, Status),
    /// The call was not begun, or is over.
    #[error("`{0}` for the call `{1}`, which is not begun")]
    NotBegun(&'static str, String),
    /// The call was begun, and nobody decided that it may be begun again.
    #[error("the call `{0}` was begun before")]
    BegunTwice(String),
    /// The call is over.
    #[error("`{0}` for the call `{1}`, which is over")]
    Over(&'static str, String),
    /// Written down, it would not read back as what it is: a value is nested too deep.
    #[error(
        "`{0}` holds a value that would not read back as it is (nested more than a hundred levels deep?)"
    )]
    Unreadable(&'static str),
    /// The call that ends is not the one that was begun.
    #[error("the call `{0}` was begun with another operation or other arguments")]
    Another(String),
}

/// What the journal knows of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Past {
    /// Nothing.
    Nothing,
    /// It was begun, or opened again by a decision, and is not over.
    Begun {
        /// What was done.
        op: String,
        /// With what.
        args: Value,
        /// The key of the last attempt; empty for a call without effect that was opened again.
        key: String,
        /// What the last attempt was given to wait on.
        accepted: Option<Value>,
        /// What somebody decided since.
        decision: Option<Value>,
    },
    /// It is over.
    Ended {
        /// What was done.
        op: String,
        /// With what.
        args: Value,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A call, folded.
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
pub(super) fn next(status: Option<Status>, call: Option<&Call>, record: &Record) -> Result<Status, Illegal> {
    let kind = record.kind();
    let status = match (status, record) {
        (None, Record::Started { .. }) => return Ok(Status::Running),
        (None, _) => return Err(Illegal::BeforeStart(kind)),
        (Some(_), Record::Started { .. }) => return Err(Illegal::StartedTwice),
        (Some(ended), _) if ended.is_final() => return Err(Illegal::AfterEnd(kind, ended)),
        (Some(status), _) => status,
    };
    match record {
        // Also from `Running`: the process that ran it may have died without a word.
        Record::Resumed { .. } => return Ok(Status::Running),
        Record::Finished { status: Status::Abandoned, .. } => return Ok(Status::Abandoned),
        Record::Decided { call: name, .. } => return decidable(name, call).map(|()| status),
        _ if status.is_stopped() => return Err(Illegal::WhileStopped(kind, status)),
        _ => {}
    }
    match record {
        Record::Finished { status: to, .. } if to.is_final() => Ok(*to),
        Record::Stopped { status: to, .. } if to.is_stopped() => Ok(*to),
        Record::Finished { status: to, .. } | Record::Stopped { status: to, .. } => {
            Err(Illegal::WrongStatus(kind, *to))
        }
        Record::Begin { call: name, .. } => beginnable(name, call).map(|()| status),
        Record::Accepted { call: name, .. } => open(kind, name, call).map(|()| status),
        Record::End { call: name, op, args, .. } => endable(name, op, args, call).map(|()| status),
        _ => Ok(status),
    }
}

/// Checks that somebody may decide about a call: it is begun, or it failed.
fn decidable(name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        None => Err(Illegal::NotBegun("decided", name.into())),
        Some(Call { outcome: Some(Outcome::Ok(_)), .. }) => Err(Illegal::Over("decided", name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may be begun: it is new, or somebody decided that it is done again.
fn beginnable(name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over("begin", name.into())),
        Some(Call { decision: None, .. }) => Err(Illegal::BegunTwice(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Checks that a call is begun and not over.
fn open(kind: &'static str, name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        None => Err(Illegal::NotBegun(kind, name.into())),
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over(kind, name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may end: it is not over, and if it was begun then as this very call.
fn endable(name: &str, op: &str, args: &Value, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over("end", name.into())),
        Some(begun) if begun.op != op || begun.args != *args => Err(Illegal::Another(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// A run, folded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fold {
    /// Where it stands; nothing before its first record.
    pub(super) status: Option<Status>,
    /// Why it stopped.
    pub(super) reason: Option<String>,
    /// What it ends with, once it is ending.
    pub(super) ending: Option<Outcome>,
    /// Who each name turned out to be.
    pub(super) targets: HashMap<String, Value>,
    calls: HashMap<String, Call>,
}

impl Fold {
    /// Adds a record.
    ///
    /// # Errors
    /// Why it does not fit; the fold is then what it was.
    pub(super) fn add(&mut self, record: Record) -> Result<(), Illegal> {
        let call = record.call().and_then(|name| self.calls.get(name));
        self.status = Some(next(self.status, call, &record)?);
        // A decision is made about a stopped run and leaves it stopped, for the same reason.
        if !matches!(record, Record::Decided { .. }) {
            self.reason = None;
        }
        match record {
            Record::Stopped { reason, .. } => self.reason = Some(reason),
            Record::Target { name, identity } => drop(self.targets.insert(name, identity)),
            Record::Ending { outcome } => self.ending = Some(outcome),
            Record::Begin { call, op, args, key, .. } => self.begin(call, op, args, key),
            Record::End { call, op, args, outcome, .. } => self.end(call, op, args, outcome),
            Record::Accepted { call, what } => self.change(&call, |c| c.accepted = Some(what)),
            Record::Decided { call, decision, .. } => self.change(&call, |c| {
                c.decision = Some(decision);
                c.outcome = None;
            }),
            Record::Started { .. } | Record::Resumed { .. } | Record::Finished { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, name: String, op: String, args: Value, key: String) {
        let attempts = self.attempts(&name) + 1;
        self.calls.insert(name, Call { key, attempts, ..Call::new(op, args) });
    }

    fn end(&mut self, name: String, op: String, args: Value, outcome: Outcome) {
        let call = self.calls.entry(name).or_insert_with(|| Call::new(op, args));
        call.decision = None;
        call.outcome = Some(outcome);
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(name) {
            change(call);
        }
    }

    /// Returns what is known of a call.
    pub(super) fn past(&self, name: &str) -> Past {
        let Some(Call { op, args, key, accepted, decision, outcome, .. }) = self.calls.get(name).cloned()
        else {
            return Past::Nothing;
        };
        match outcome {
            Some(outcome) => Past::Ended { op, args, outcome },
            None => Past::Begun { op, args, key, accepted, decision },
        }
    }

    /// Returns where the run stands and why it stopped.
    pub(super) fn standing(&self) -> Standing {
        (self.status, self.reason.clone())
    }

    /// Returns how often a call was begun.
    pub(super) fn attempts(&self, name: &str) -> u32 {
        self.calls.get(name).map_or(0, |call| call.attempts)
    }

    /// Returns how many calls there are.
    pub(super) fn calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

impl Call {
    fn new(op: String, args: Value) -> Call {
        Call { op, args, key: String::new(), attempts: 0, accepted: None, decision: None, outcome: None }
    }
}
