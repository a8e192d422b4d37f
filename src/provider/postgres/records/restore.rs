//! The record of a restore in place.

use super::copy::CopyRecord;
use crate::{
    base::moment::Moment,
    provider::{Code, host::process::TrackedProcess, model::CallKey},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The phase of a restore in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum RestorePhase {
    /// The backup is being copied beside the data.
    Copying,
    /// The cluster is being stopped and its data exchanged.
    Exchanging,
    /// The new data replays WAL.
    Replaying,
    /// Recovery was proved; the cluster is being started as before.
    Starting,
    /// It succeeded.
    Done,
    /// It is being undone.
    Undoing,
    /// It failed, and everything is as before.
    Undone,
}

/// The stored state of a restore in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct RestoreRecord {
    pub key: CallKey,
    pub target: String,
    pub run: Option<String>,
    pub created_at: Moment,
    /// The copy that replaces the data, in a working folder beside it, and its private recovery.
    #[serde(flatten)]
    pub copy: CopyRecord,
    /// The data folder, links followed.
    pub data: PathBuf,
    /// Where the old data is moved to.
    pub aside: PathBuf,
    /// What the cluster's server is started with, besides its data folder.
    pub options: Vec<String>,
    /// The configuration files in the data folder that its server named, relative to that folder.
    #[serde(default)]
    pub configuration: Vec<PathBuf>,
    /// The file for the standard output and error of its server.
    pub log: PathBuf,
    /// The server that `options` and `log` are of, if one ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<TrackedProcess>,
    /// Whether the cluster was running or had crashed, and is to be started again.
    pub ran: bool,
    /// Whether the cluster runs after the restore.
    #[serde(default)]
    pub running: bool,
    pub phase: RestorePhase,
    pub failure: Option<RestoreFailure>,
    /// The server that was told to stop, recorded before it was: nothing takes that back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<TrackedProcess>,
    /// Where an undo keeps the new data, once a server that is not the private one has used that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<PathBuf>,
}

/// Why a restore in place failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct RestoreFailure {
    pub code: String,
    pub message: String,
    /// Whether the cluster had been stopped before it failed.
    pub stopped: bool,
}

impl RestoreFailure {
    /// Returns the failure of a restore in its current phase.
    pub(in super::super) fn new(record: &RestoreRecord, code: Code, message: String) -> Self {
        let stopped = match record.phase {
            RestorePhase::Copying => false,
            RestorePhase::Exchanging => record.stopping.is_some() || record.aside.exists(),
            _ => true,
        };
        Self { code: code.as_str().into(), message, stopped }
    }
}

impl RestoreRecord {
    /// Returns the path of what the restore with this key keeps beside `data`.
    pub(in super::super) fn folder_beside(data: &Path, what: &str, key: &CallKey) -> PathBuf {
        let mut name = data.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}-{}", key.0.to_lowercase()));
        data.with_file_name(name)
    }

    /// Returns whether nothing is left to do, which includes a failed undo that was finished by hand.
    pub(in super::super) fn is_over(&self) -> bool {
        let is_back = || self.data.is_dir() && !self.aside.exists() && !self.copy.folder.exists();
        matches!(self.phase, RestorePhase::Done | RestorePhase::Undone)
            || (self.phase == RestorePhase::Undoing && is_back())
    }
}
