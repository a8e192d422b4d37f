//! Backups, their deletion and their verification.

use super::job::CallKey;
use crate::base::{moment::Moment, value};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a backup can be restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restorable {
    /// A new, isolated copy.
    Branch,
    /// The target itself.
    InPlace,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// What names it in every call.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// The label that its maker gave it.
    pub label: Option<String>,
    /// How it was made: `base_backup`, `simulated`.
    pub method: String,
    /// `completed`, `running`, `failed`.
    pub status: String,
    /// When it was begun.
    pub started_at: Moment,
    /// When it was complete, which is the earliest moment it can be restored to.
    pub finished_at: Option<Moment>,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it can be restored to.
    pub restorable: Vec<Restorable>,
    /// The key of the call that made it.
    pub key: Option<CallKey>,
}

impl Backup {
    /// Returns the backup as a handle.
    pub fn to_handle(&self) -> Value {
        value::tag_value(value::BACKUP_TAG, serde_json::to_value(self).unwrap_or_default())
    }
}

/// The options of a new backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupRequest {
    /// What to call it.
    pub label: Option<String>,
}

/// What the deletion of a backup takes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDeletion {
    pub id: String,
    /// Other backups that need it and go too.
    pub also: Vec<String>,
    /// How many bytes become free, archived WAL that nothing needs any more included.
    pub bytes: u64,
    /// The earliest restorable moment before.
    pub earliest_before: Option<Moment>,
    /// The earliest restorable moment after; `None` when nothing will be restorable.
    pub earliest_after: Option<Moment>,
}

/// The result of verifying a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub id: String,
    /// Whether it can be trusted: no problem was found and everything was looked at.
    pub ok: bool,
    /// What was looked at: `checksums`, `wal`.
    pub checked: Vec<String>,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}
