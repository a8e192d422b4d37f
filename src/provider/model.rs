//! Plain data between operations and providers.
//!
//! Field names here are the field names that scripts and `-o json` see; the catalogue lists them again as result
//! fields, and a test compares the two.

mod surroundings;

pub use surroundings::{
    Addon, AllowedRange, Ban, Frequency, NetworkRestrictions, PromotionOutcome, Replica, ReplicaRequest,
    Schedule, ScheduleRequest, Setting, SslEnforcement,
};

use crate::base::{
    moment::{Moment, Span},
    value,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The identity of one call in the world: ten base32 characters, the same at every resume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallKey(pub String);

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a target. Two targets are the same exactly when their `id` is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique over all platforms: `postgres:<system identifier>:<data folder>`, `sim:<world id>`.
    pub id: String,
    /// The same for people.
    pub description: String,
}

/// Work that the platform has accepted and goes on with by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is, in the provider's words: `backup`, `branch`, `restore`.
    pub kind: String,
    /// How the provider finds it again.
    pub id: String,
    /// Whatever else the provider needs to go on with it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// The state of a job when it was polled.
#[derive(Debug, Clone, PartialEq)]
pub enum JobStatus {
    /// Still going on.
    Running(Progress),
    /// Finished without an error; with its value, handles tagged.
    Done(Value),
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// What it is doing now: `copying`, `replaying WAL`.
    pub phase: String,
    /// How much is done, in `unit`.
    pub done: Option<u64>,
    /// How much there is, in `unit`.
    pub total: Option<u64>,
    /// What is counted: `bytes`, `segments`.
    pub unit: &'static str,
    /// When another look is worth it, where the provider knows.
    #[serde(skip)]
    pub again_in: Option<Span>,
}

impl Progress {
    /// Returns a phase whose length is not known.
    pub fn with_phase(phase: impl Into<String>) -> Self {
        Self { phase: phase.into(), ..Self::default() }
    }

    /// Returns `done` of `total` bytes.
    pub fn with_bytes(phase: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { phase: phase.into(), done: Some(done), total, unit: "bytes", again_in: None }
    }
}

/// A target as an item of `project list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub name: String,
    /// The kind of provider.
    pub provider: String,
    /// `healthy`, or what is the matter in a word.
    pub status: String,
    /// The server's version, where it is known.
    pub version: Option<String>,
    /// Who it really is, for people.
    pub identity: String,
    /// Whether it asks for its name before a change.
    pub protect: bool,
}

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
    /// What the maker called it.
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

/// Where to recover to. Timelines are part of the target: without one, the provider takes the only one that holds it
/// and refuses when two do.
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
    /// A restore point, by its name.
    Name(String),
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
    /// Whether its server runs; one that had been stopped stays so.
    #[serde(default)]
    pub running: bool,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// What names it under its target.
    pub name: String,
    /// Unique for ever: a later branch of the same name has another.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// `ready`, `preparing`, `failed`, `stopped`.
    pub status: String,
    /// When it was asked for.
    pub created_at: Moment,
    /// The backup it was made from.
    pub backup: Option<String>,
    /// The last transaction that is in, where that is known.
    pub reached: Option<Moment>,
    pub timeline: Option<u32>,
    /// How to connect: a socket folder or an address.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// Whether the run that made it removes it.
    pub temporary: bool,
    /// The run that made it.
    pub run: Option<String>,
    /// The key of the call that made it.
    pub key: Option<CallKey>,
}

impl Branch {
    /// Returns the branch as a handle.
    pub fn to_handle(&self) -> Value {
        value::tag_value(value::BRANCH_TAG, serde_json::to_value(self).unwrap_or_default())
    }
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
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    pub name: String,
    /// Its place in the WAL.
    pub lsn: String,
    /// When it was made.
    pub time: Moment,
}

/// The rows of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The columns in their order.
    pub columns: Vec<String>,
    /// One object a row.
    pub rows: Vec<Map<String, Value>>,
}

/// The result of `db execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlOutcome {
    /// How many rows it touched.
    pub rows_affected: u64,
}

/// The health of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it answers and takes writes.
    pub ok: bool,
    /// `healthy`, or what is the matter in a word.
    pub status: String,
    pub version: Option<String>,
    /// Whether it is still in recovery.
    pub in_recovery: bool,
    /// How long the answer took.
    pub latency: Span,
    /// The size of the database in bytes.
    pub bytes: Option<u64>,
    /// How many connections are open.
    pub connections: Option<u64>,
}

/// A row-level security policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The schema of its table.
    pub schema: String,
    pub table: String,
    pub name: String,
    /// `ALL`, `SELECT`, `INSERT`, `UPDATE`, `DELETE`.
    pub command: String,
    /// Whether it grants (`permissive`) or narrows.
    pub permissive: bool,
    /// Whom it is for.
    pub roles: Vec<String>,
    /// Its `USING` expression.
    pub using_expression: Option<String>,
    /// Its `WITH CHECK` expression.
    pub check_expression: Option<String>,
    /// Whether row-level security is switched on for the table; without it the policy does nothing.
    pub enabled: bool,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingLevel {
    /// Fix it now.
    Error,
    /// Fix it soon.
    Warn,
    /// Good to know.
    Info,
}

/// Something the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check that found it.
    pub check: String,
    /// How bad it is.
    pub level: FindingLevel,
    /// What it is about: `NETWORK`, `ROLES`, `RECOVERY`.
    pub category: String,
    /// The thing it is about.
    pub object: String,
    /// What is the matter.
    pub detail: String,
    /// How to mend it.
    pub fix: String,
}

impl Finding {
    /// Returns what makes two findings the same finding.
    pub fn fingerprint(&self) -> (&str, &str) {
        (&self.check, &self.object)
    }
}

/// The status of an audit check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It ran and found nothing.
    Passed,
    /// It ran and found something.
    Failed,
    /// It could not run.
    Skipped,
    /// What it looks at is decided by where this is, not by the database.
    NotApplicable,
}

/// An audit check and its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheck {
    pub check: String,
    /// The worst level it can find.
    pub level: FindingLevel,
    /// What became of it.
    pub status: CheckStatus,
    /// Why it did not run, or does not apply.
    pub reason: Option<String>,
}

/// The result of an audit: its findings, and every check with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// What it found, worst first.
    pub findings: Vec<Finding>,
    /// Every check there is.
    pub checks: Vec<AuditCheck>,
}
