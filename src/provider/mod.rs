//! The world, behind one narrow waist: providers, what they can do, and how they say that something went wrong.
//!
//! Three rules hold for every provider.
//! - **Plan before act.** Every refusal comes before the first side effect.
//! - **Accept, then observe.** What takes time is accepted at once and named by a [`Job`]; [`Provider::observe`] takes
//!   it one look (and, where it is made of several parts, one part) further. Everything a job needs to go on is in the
//!   job and in the world, so that a killed process can be followed by another.
//! - **The key is the identity.** What a call makes carries the call's [`Key`] in the world, and
//!   [`Provider::find`] finds it again. Asking twice with one key makes one thing.

pub mod error;
pub mod fleet;
pub mod model;
pub mod postgres;
pub mod sim;

pub use error::{Code, Error, Result, SideEffects};
pub use fleet::Fleet;

use crate::base::{clock::Clock, moment::Span};
use async_trait::async_trait;
use model::{
    AuditReport, Backup, BackupRequest, Branch, Deleted, Event, EventQuery, Health, Identity, Job, Key, Mark,
    Observed, Policy, Project, RestoreRequest, Rows, SqlOutcome, Verification, Window,
};
use std::sync::Arc;

/// One target, or one branch of a target: both answer the same questions.
///
/// A capability that a provider does not have is `Err` with [`Code::Unsupported`], the reason and the nearest thing
/// that works.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Returns who this really is, so that a name which now points elsewhere is noticed.
    async fn identity(&self) -> Result<Identity>;

    /// Returns the thing as an item of `project list`.
    async fn project(&self) -> Result<Project>;

    /// Returns what `key` has made or is making, or `None` when no request with that key ever took effect.
    async fn find(&self, key: &Key) -> Result<Option<Job>>;

    /// Looks at an accepted job and takes it one part further; never waits for the job itself.
    ///
    /// Safe to call again after a crash at any point. When a job has failed, what it made has been removed by the
    /// time this answers `Err`, or is named in the error's `left_behind`.
    async fn observe(&self, job: &Job) -> Result<Observed>;

    /// Gives a job up and removes what it has made so far.
    async fn cancel(&self, job: &Job) -> Result<()>;

    /// Returns when `span` has passed for this target: in the real world by waiting.
    async fn pause(&self, clock: &dyn Clock, span: Span) {
        clock.sleep(span).await;
    }

    /// Returns backups, restores and what can be restored.
    fn backups(&self) -> Result<&dyn Backups>;
    /// Returns branches.
    fn branches(&self) -> Result<&dyn Branches>;
    /// Returns SQL.
    fn sql(&self) -> Result<&dyn Sql>;
    /// Returns policies and the audit.
    fn security(&self) -> Result<&dyn Security>;
}

/// Backups, and time as far as it can be gone back to.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Returns every backup, oldest first.
    async fn list(&self) -> Result<Vec<Backup>>;
    /// Returns one backup by its id; [`Code::NotFound`] otherwise.
    async fn get(&self, id: &str) -> Result<Backup>;
    /// Accepts a backup. The job's value is the [`Backup`].
    async fn create(&self, request: &BackupRequest, key: &Key) -> Result<Job>;
    /// Returns what deleting `id` would take with it, without doing it.
    async fn plan_delete(&self, id: &str) -> Result<Deleted>;
    /// Deletes a backup and what depends on it. Deleting what is gone is not an error: the plan says what existed.
    async fn delete(&self, plan: &Deleted, key: &Key) -> Result<()>;
    /// Reads a backup through and compares it with its checksums.
    async fn verify(&self, id: &str) -> Result<Verification>;
    /// Plans and accepts a restore, in place or into a branch. The job's value is a [`Branch`], or for a restore in
    /// place a [`model::Restored`]. Every refusal comes from here, before anything is made.
    async fn restore(&self, request: &RestoreRequest, key: &Key) -> Result<Job>;
    /// Returns the moments that can really be restored, with gaps taken out.
    async fn window(&self) -> Result<Window>;
    /// Returns the drops and truncates of a table that the archive shows, newest first.
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>>;
    /// Makes a named restore point.
    async fn mark(&self, name: &str, key: &Key) -> Result<Mark>;
    /// Returns the restore point that `mark` made under `key`, if it did.
    async fn find_mark(&self, name: &str, key: &Key) -> Result<Option<Mark>>;
}

/// Isolated copies of a target.
#[async_trait]
pub trait Branches: Send + Sync {
    /// Returns every branch, oldest first.
    async fn list(&self) -> Result<Vec<Branch>>;
    /// Returns one branch by its name; [`Code::NotFound`] otherwise.
    async fn get(&self, name: &str) -> Result<Branch>;
    /// Returns the branch as something that answers a target's questions.
    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>>;
    /// Stops a branch and removes everything of it. `id` is the branch's own id: a branch of the same name made later
    /// is left alone, and one that is already gone is not an error.
    async fn delete(&self, name: &str, id: &str) -> Result<()>;
}

/// SQL.
#[async_trait]
pub trait Sql: Send + Sync {
    /// Runs one statement in a read-only transaction and returns its rows.
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows>;
    /// Runs one statement in a transaction of its own. `accepted` is called, and must return, after the statement has
    /// run and before it is committed; its value lets [`Sql::settle`] say later whether the commit happened.
    async fn execute(&self, sql: &str, timeout: Span, key: &Key, accepted: &dyn Accept)
    -> Result<SqlOutcome>;
    /// Returns the outcome of an execute that was interrupted: `None` when it is certain that nothing was committed.
    /// [`Code::Unknown`] when nobody can know.
    async fn settle(&self, key: &Key, accepted: Option<&serde_json::Value>) -> Result<Option<SqlOutcome>>;
    /// Returns whether the database answers, and how it is.
    async fn health(&self) -> Result<Health>;
}

/// Row-level policies and the audit.
#[async_trait]
pub trait Security: Send + Sync {
    /// Returns every row-level security policy, by table.
    async fn policies(&self) -> Result<Vec<Policy>>;
    /// Runs every check there is, and says of each whether it ran.
    async fn audit(&self) -> Result<AuditReport>;
}

/// Writes down, durably, what the world accepted, before the provider goes on.
#[async_trait]
pub trait Accept: Send + Sync {
    /// Returns when `what` is on disk.
    async fn accepted(&self, what: serde_json::Value) -> Result<()>;
}

/// A kind of provider: its name in the configuration, and how to make one.
pub struct ProviderKind {
    /// The value of `provider` in `firedrill.toml`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Reads the settings and makes the provider; touches nothing in the world.
    pub open: fn(&fleet::Opening<'_>) -> Result<Arc<dyn Provider>>,
}

/// Every kind of provider.
pub const KINDS: &[ProviderKind] = &[
    ProviderKind { name: "sim", summary: "an embedded, simulated platform", open: sim::open },
    ProviderKind { name: "postgres", summary: "a PostgreSQL cluster on this machine", open: postgres::open },
];
