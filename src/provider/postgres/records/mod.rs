//! Records of a target in the state folder: its branches and its restores in place.
//!
//! - A record is written before the things it names are created, so nothing exists without a record.
//! - A record is replaced as a whole, and removed last.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::{process::TrackedProcess, record_file},
        model::CallKey,
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where the records of one target are.
#[derive(Debug, Clone)]
pub(super) struct TargetRecords {
    home: PathBuf,
}

/// The recovery of a copy, as decided before it began: from which backup, to where, on which timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecoveryPlan {
    /// The backup that it starts from.
    pub backup: String,
    /// What it stops at.
    pub stop: RecoveryStop,
    /// Whether what happened exactly there is still in.
    pub inclusive: bool,
    /// The timeline it follows.
    pub timeline: u32,
    /// The folder of archived WAL.
    pub archive: PathBuf,
}

/// What recovery stops at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecoveryStop {
    /// The end of the backup.
    BackupEnd,
    /// A moment.
    Time(Moment),
    /// A transaction.
    Xid(String),
    /// A place in the WAL.
    Lsn(String),
    /// A restore point.
    Name(String),
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BranchPhase {
    /// The backup is being copied.
    Copying,
    /// The server replays WAL.
    Replaying,
    /// Recovery is over, and well.
    Ready,
    /// It is being removed.
    Removing,
}

/// A branch, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BranchRecord {
    /// Its id, which no other branch ever has.
    pub id: String,
    pub name: String,
    /// The target it is of.
    pub target: String,
    /// The key of the call that made it.
    pub key: CallKey,
    /// The run that made it.
    pub run: Option<String>,
    /// Whether that run removes it.
    pub temporary: bool,
    /// When it was asked for.
    pub created_at: Moment,
    /// The cluster that it is a copy of.
    pub system_identifier: String,
    /// Where it starts and stops.
    pub recovery: RecoveryPlan,
    /// Everything of it is in this folder, which it does not share.
    pub folder: PathBuf,
    /// The folder of its socket.
    pub socket: PathBuf,
    /// The port, which only names the socket.
    pub port: u16,
    pub phase: BranchPhase,
    /// The child that works on it.
    pub child: Option<TrackedProcess>,
    /// How often the copy, and then the server, was started.
    pub starts: u32,
    /// The last transaction that is in.
    pub reached: Option<Moment>,
    /// The timeline it is on.
    pub timeline: Option<u32>,
}

impl BranchRecord {
    /// Returns the data folder.
    pub(super) fn data_folder(&self) -> PathBuf {
        self.folder.join("files/data")
    }

    /// Returns the log of the server's latest start for recovery.
    pub(super) fn recovery_log_path(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.starts))
    }
}

impl TargetRecords {
    /// Returns the records of a target.
    pub(super) fn for_target(state: &Path, target: &str) -> Self {
        Self { home: state.join("postgres").join(target) }
    }

    /// Returns the folder of everything of this target in the state folder.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns a name for `id` that is unique across state folders.
    pub(super) fn unique_name(&self, id: &str) -> String {
        let hash = Sha256::digest(self.home.as_os_str().as_encoded_bytes());
        format!("{id}-{}", data_encoding::HEXLOWER.encode(&hash[..4]))
    }

    /// Returns the record of a branch.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be read.
    pub(super) fn read_branch(&self, name: &str) -> Result<Option<BranchRecord>> {
        record_file::read_record(&self.branch_path(name))
    }

    /// Returns every branch, oldest first.
    ///
    /// # Errors
    /// [`Code::Internal`] when one cannot be read.
    pub(super) fn list_branches(&self) -> Result<Vec<BranchRecord>> {
        let mut branches: Vec<BranchRecord> = record_file::read_all_records(&self.home.join("branches"))?;
        branches.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(branches)
    }

    /// Writes down a branch that is about to be made.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the name is taken, also by somebody who was a moment faster.
    pub(super) fn claim_branch(&self, record: &BranchRecord) -> Result<()> {
        let path = self.branch_path(&record.name);
        record_file::write_new_record(&path, record).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(Code::Conflict, format!("there is already a branch `{}`", record.name))
                    .with_hint("delete it first, or choose another name")
            }
            _ => record_file::unwritable_error(&path, &e),
        })
    }

    /// Replaces the record of a branch.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn save_branch(&self, record: &BranchRecord) -> Result<()> {
        record_file::write_record(&self.branch_path(&record.name), record)
    }

    /// Removes the record of a branch; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn forget_branch(&self, name: &str) -> Result<()> {
        record_file::remove_file(&self.branch_path(name))
    }

    fn branch_path(&self, name: &str) -> PathBuf {
        self.home.join("branches").join(format!("{name}.json"))
    }
}
