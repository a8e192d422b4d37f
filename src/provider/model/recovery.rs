//! Recovery: where to stop, restores, the recovery window, drops and truncates, restore points.

use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};

/// Where to recover to. Without a timeline the provider takes the only one that holds the target, and refuses when
/// two do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// What to stop at.
    pub at: RecoveryTarget,
    /// Whether what happened exactly there is still in.
    pub inclusive: bool,
    /// The timeline, where the caller says which.
    pub timeline: Option<u32>,
}

/// What to stop recovery at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// The end of the backup itself.
    BackupEnd,
    /// The end of everything that was archived.
    Latest,
    /// A moment.
    Time(Moment),
    /// A transaction, by its id.
    Xid(String),
    /// A place in the WAL.
    Lsn(String),
    /// A restore point, by its name: it is looked for, and refused where there are several.
    Name(String),
    /// A restore point as making it returned it, by its place: its name alone decides nothing.
    Point(RestorePoint),
}

/// The arguments of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The backup to start from; without one the newest that is old enough.
    pub backup: Option<String>,
    pub to: RecoveryPoint,
    /// The branch to make; `None` is in place.
    pub into: Option<String>,
    /// Whether the run that asked owns the branch and removes it at its end.
    pub temporary: bool,
    /// The run that asked.
    pub run: Option<String>,
}

/// The result of a restore in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    pub target: String,
    /// The backup it started from.
    pub backup: String,
    /// The last transaction that is in, where the log says.
    pub reached: Option<Moment>,
    /// The timeline the target is on now.
    pub timeline: Option<u32>,
    /// Where the data from before is kept, if it is.
    pub kept: Option<String>,
    /// What of the target could not be searched for where to stop, as a sentence; `None` when all was.
    #[serde(default)]
    pub unseen: Option<String>,
    /// Whether its server runs; one that had been stopped stays so.
    #[serde(default)]
    pub running: bool,
}

/// The recovery window: which moments can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryWindow {
    /// The earliest restorable moment.
    pub earliest: Option<Moment>,
    /// The latest restorable moment: the last commit that is archived.
    pub latest: Option<Moment>,
    /// The place in the WAL of the latest.
    pub latest_lsn: Option<String>,
    /// Stretches in between that cannot be restored, one sentence each.
    pub gaps: Vec<String>,
    /// Every backup, and whether it can be used.
    pub backups: Vec<BackupUsability>,
    /// Timelines in the archive.
    pub timelines: Vec<u32>,
    /// What stands in the way of the window growing, one sentence each: an archiver that fails.
    pub warnings: Vec<String>,
}

/// Whether a backup can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupUsability {
    pub id: String,
    /// Whether it can be restored.
    pub usable: bool,
    pub why: Option<String>,
}

/// What `pitr find` looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEventQuery {
    /// The table, `name` or `schema.name`; `None` is every table.
    pub table: Option<String>,
    /// `drop`, `truncate`; `None` is both.
    pub event: Option<String>,
    pub since: Option<Moment>,
    pub until: Option<Moment>,
}

/// A drop or a truncate that the archive shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEvent {
    /// `drop` or `truncate`.
    pub event: String,
    /// The table, `schema.name` where the name is known.
    pub table: Option<String>,
    /// When the transaction committed.
    pub time: Moment,
    pub xid: String,
    /// The place of the commit in the WAL.
    pub lsn: String,
    /// The timeline it is on.
    pub timeline: Option<u32>,
    /// What could not be searched, as a sentence: there may be a newer event, or another. `None` when everything was.
    #[serde(default)]
    pub unseen: Option<String>,
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    pub name: String,
    /// Its place in the WAL, where the platform says it.
    pub lsn: Option<String>,
    /// The timeline it is on, where the platform says it.
    pub timeline: Option<u32>,
    /// When it was made.
    pub time: Moment,
}
