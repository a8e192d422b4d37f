//! Plain data between operations and providers.
//!
//! Field names here are the field names that scripts and `-o json` see; the catalogue lists them again as result
//! fields, and a test compares the two.

mod audit;
mod backup;
mod branch;
mod database;
mod environment;
mod job;
mod landing;
mod recovery;
mod target;

pub use audit::{AuditCheck, AuditReport, CheckStatus, Finding, FindingLevel, Policy};
pub use backup::{Backup, BackupDeletion, BackupRequest, Restorable, Verification};
pub use branch::{Branch, PromotionOutcome};
pub use database::{CommitState, Health, Rows, SqlOutcome};
pub use environment::{
    Addon, AllowedRange, Ban, Frequency, NetworkRestrictions, Replica, ReplicaRequest, Schedule,
    ScheduleRequest, Setting, SslEnforcement,
};
pub use job::{CallKey, GivenUpJob, Job, JobStatus, Progress, RecordedJob, UndoneJob, UnfinishedRestore};
pub use landing::{EffectKind, LandingLimit};
pub use recovery::{
    BackupUsability, RecoveryPoint, RecoveryTarget, RecoveryWindow, RestoreOutcome, RestorePoint,
    RestoreRequest, TableEvent, TableEventQuery,
};
pub use target::{Identity, Project};
