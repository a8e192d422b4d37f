//! The recovery of a copy, as it is decided before it begins.

use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The recovery of a copy: from which backup, to where, on which timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct RecoveryPlan {
    /// The id of the backup that it starts from.
    pub backup: String,
    /// What it stops at.
    pub stop: RecoveryStop,
    /// Whether what was committed exactly there is kept.
    pub inclusive: bool,
    /// The timeline it follows.
    pub timeline: u32,
    /// The folder of archived WAL.
    pub archive: PathBuf,
    /// What could not be searched for the target, as a sentence; `None` when everything was.
    #[serde(default)]
    pub unseen: Option<String>,
}

/// What recovery stops at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum RecoveryStop {
    /// The end of the backup.
    BackupEnd,
    /// A moment.
    Time(Moment),
    /// A transaction.
    Xid(String),
    /// A place in the WAL.
    Lsn(String),
    /// A restore point, by its name; written by earlier versions only: a restore point's place is exact.
    Name(String),
}
