//! The end of a restore in place: what it has come to, and what of it could not be removed.

use super::lock;
use crate::provider::{
    Code, Error,
    host::disk,
    model::{JobStatus, RestoreOutcome},
    postgres::records::{RestoreFailure, RestorePhase, RestoreRecord},
};
use serde::Serialize;
use serde_json::Value;

/// What a restore in place has come to.
#[derive(Serialize)]
struct EndedRestore {
    #[serde(flatten)]
    outcome: RestoreOutcome,
    /// What was made for it and could not be removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_behind: Vec<String>,
}

/// Removes what a restore that is recorded as over needs no more, and returns what it has come to. What cannot be removed
/// changes nothing of that, and is named.
pub(super) fn end_restore(record: &RestoreRecord) -> JobStatus {
    let left = remove_remains(record);
    if record.phase == RestorePhase::Done {
        return JobStatus::Done(restored_to_json(record, left));
    }
    let error = match record.served.as_ref().filter(|served| served.is_dir()) {
        Some(served) => keep_served_data(restore_failed_error(record), &served.display().to_string()),
        None => restore_failed_error(record),
    };
    JobStatus::Failed(left.into_iter().fold(error, Error::with_left_behind))
}

/// Adds to the error where the restored data is that somebody may have committed to.
fn keep_served_data(error: Error, served: &str) -> Error {
    let hint =
        format!("a server ran on the restored data: what was committed there is in `{served}`, and stays");
    error.with_hint(hint).with_left_behind(served).with_side_effects()
}

fn remove_remains(record: &RestoreRecord) -> Vec<String> {
    let removed = [
        (record.copy.socket.clone(), disk::remove_folder(&record.copy.socket)),
        (record.copy.folder.clone(), disk::remove_folder(&record.copy.folder)),
        (lock::lock_path(&record.data), lock::release_lock(record)),
    ];
    removed
        .into_iter()
        .filter(|(_, removed)| removed.is_err())
        .map(|(path, _)| path.display().to_string())
        .collect()
}

fn restore_failed_error(record: &RestoreRecord) -> Error {
    let Some(RestoreFailure { code, message, stopped }) = record.failure.clone() else {
        return Error::new(Code::Internal, "the restore failed, and nobody wrote down why");
    };
    let code = Code::ALL.iter().copied().find(|known| known.as_str() == code).unwrap_or(Code::Tool);
    if stopped {
        let message = format!("{message}; the cluster was stopped, and is as it was before");
        return Error::new(code, message).with_side_effects();
    }
    Error::new(code, format!("{message}; the cluster was not touched"))
}

fn restored_to_json(record: &RestoreRecord, left_behind: Vec<String>) -> Value {
    let outcome = RestoreOutcome {
        target: record.target.clone(),
        backup: record.copy.recovery.backup.clone(),
        reached: record.copy.reached,
        timeline: record.copy.timeline,
        kept: Some(record.aside.display().to_string()),
        unseen: record.copy.recovery.unseen.clone(),
        running: record.running,
    };
    serde_json::to_value(EndedRestore { outcome, left_behind }).unwrap_or_default()
}
