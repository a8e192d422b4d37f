//! Which record may follow which.

use super::{FoldedCall, Outcome, Record, RunStatus};
use serde_json::Value;

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

/// Returns where a run stands after `record`, given where it stood and what was known of the record's call.
///
/// # Errors
/// Why the record does not fit. Nothing may be written then.
pub(super) fn next_status(
    status: Option<RunStatus>,
    call: Option<&FoldedCall>,
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
        Record::Adopted { .. } => return Ok(status),
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
fn check_decidable(name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted("decided", name.into())),
        Some(call) if matches!(call.outcome(), Some(Outcome::Ok(_))) => {
            Err(IllegalRecord::CallFinished("decided", name.into()))
        }
        Some(_) => Ok(()),
    }
}

/// Checks that a call may be begun: it is new, or somebody decided that it is done again, or it is a gate about which nobody was
/// asked, and an edited text asks.
fn check_startable(name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        Some(call) if call.is_withdrawn() => Ok(()),
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished("begin", name.into())),
        Some(FoldedCall { decision: None, .. }) => Err(IllegalRecord::CallStartedTwice(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Checks that a call is begun and not over.
fn check_open(kind: &'static str, name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted(kind, name.into())),
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished(kind, name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may end: it is not over, and if it was begun then as this very call.
fn check_endable(name: &str, op: &str, args: &Value, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished("end", name.into())),
        Some(begun) if begun.op != op || begun.args != *args => Err(IllegalRecord::CallMismatch(name.into())),
        None | Some(_) => Ok(()),
    }
}
