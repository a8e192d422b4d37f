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
mod sqlstate;
mod statement;
pub mod supabase;
mod typed;

pub use error::{Code, Error, Result, SideEffects};
pub use fleet::Fleet;

use crate::base::{clock::Clock, moment::Span};
use async_trait::async_trait;
use ipnet::IpNet;
use model::{
    Addon, Allowed, AuditReport, Backup, BackupRequest, Ban, Branch, Deleted, Event, EventQuery, Health,
    Identity, Job, Key, Mark, Observed, Policy, Project, Replica, ReplicaRequest, RestoreRequest, Rows,
    Schedule, ScheduleRequest, Setting, SqlOutcome, Ssl, Verification, Window,
};
use serde_json::{Map, Value};
use std::{net::IpAddr, sync::Arc};

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
    ///
    /// `intent` is what the provider wrote down before it asked, where it did: a platform that keeps no key is
    /// compared with how it was. [`Code::Unknown`] when nobody can know.
    async fn find(&self, key: &Key, intent: Option<&Value>) -> Result<Option<Job>>;

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
    /// Returns backups that are taken by the clock.
    fn schedules(&self) -> Result<&dyn Schedules> {
        Err(Error::unsupported(
            "this provider has no schedule for backups",
            "put a runbook that calls `backup::create` on the schedule of your CI",
        ))
    }
    /// Returns read replicas.
    fn replicas(&self) -> Result<&dyn Replicas> {
        Err(Error::unsupported("this provider has no read replicas", "make a branch to read from"))
    }
    /// Returns the server's settings.
    fn settings(&self) -> Result<&dyn Settings> {
        Err(Error::unsupported("this provider has no settings of the server", "see `db::query` and `show`"))
    }
    /// Returns who may connect.
    fn network(&self) -> Result<&dyn Network> {
        Err(Error::unsupported(
            "this provider does not decide who may connect",
            "see the firewall in front of the server",
        ))
    }
    /// Returns how the whole thing is switched on and off.
    fn lifecycle(&self) -> Result<&dyn Lifecycle> {
        Err(Error::unsupported(
            "this provider does not switch its server on and off",
            "use the service manager of the server's host",
        ))
    }
    /// Returns the platform's own interface, for what no operation covers.
    fn raw(&self) -> Result<&dyn Raw> {
        Err(Error::unsupported(
            "this provider has no interface of its own",
            "use an operation, or `db::execute`",
        ))
    }
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
    /// place a [`model::Restored`]. Every refusal comes from here, before anything is made. A provider whose platform
    /// keeps no key writes down in `intent` how the world was, before it asks.
    async fn restore(&self, request: &RestoreRequest, key: &Key, intent: &dyn Accept) -> Result<Job>;
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
    /// Accepts that a branch becomes again what it was when it was made. The job's value is the [`Branch`].
    async fn reset(&self, branch: &Branch, key: &Key, intent: &dyn Accept) -> Result<Job> {
        let _ = (branch, key, intent);
        Err(Error::unsupported("branches of this provider cannot be reset", "delete it and make another"))
    }
    /// Accepts that the target becomes what a branch is, as far as the platform carries it over. The job's value is a
    /// [`model::Promoted`].
    async fn promote(&self, branch: &Branch, key: &Key, intent: &dyn Accept) -> Result<Job> {
        let _ = (branch, key, intent);
        Err(Error::unsupported(
            "branches of this provider cannot be promoted",
            "restore the target in place from the same backup or moment",
        ))
    }
}

/// Backups that are taken by the clock.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Returns every schedule.
    async fn list(&self) -> Result<Vec<Schedule>>;
    /// Makes a schedule, or where the platform has exactly one, sets it.
    async fn create(&self, request: &ScheduleRequest, key: &Key) -> Result<Schedule>;
    /// Removes a schedule; one that is already gone is not an error.
    async fn delete(&self, id: &str) -> Result<()>;
}

/// Read replicas.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// Returns every replica, oldest first.
    async fn list(&self) -> Result<Vec<Replica>>;
    /// Accepts a replica. The job's value is the [`Replica`].
    async fn create(&self, request: &ReplicaRequest, key: &Key, intent: &dyn Accept) -> Result<Job>;
    /// Removes a replica; one that is already gone is not an error. Done when the list shows it no more.
    async fn delete(&self, id: &str) -> Result<()>;
}

/// The server's settings.
#[async_trait]
pub trait Settings: Send + Sync {
    /// Returns the settings of these names, or without names every one that was overridden. [`Code::NotFound`] names
    /// one that does not exist.
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>>;
    /// Overrides settings; `null` takes an override away. Returns those that wait for a restart, which comes at once
    /// when `restart` says so.
    async fn set(&self, values: &Map<String, Value>, restart: bool) -> Result<Vec<String>>;
}

/// Who may connect.
#[async_trait]
pub trait Network: Send + Sync {
    /// Returns the address ranges that may connect. Where nothing restricts that is `0.0.0.0/0` and `::/0`, also when
    /// the platform itself says nothing then: an empty list that is applied means nobody.
    async fn allowed(&self) -> Result<Allowed>;
    /// Adds and takes away ranges in one change, and returns what holds then.
    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<Allowed>;
    /// Returns the addresses that are shut out after failed attempts.
    async fn bans(&self) -> Result<Vec<Ban>>;
    /// Lets addresses in again.
    async fn unban(&self, addresses: &[IpAddr]) -> Result<()>;
    /// Returns whether connections without TLS are refused.
    async fn ssl(&self) -> Result<Ssl>;
    /// Says whether connections without TLS are refused. [`Network::ssl`] tells when it is applied.
    async fn enforce_ssl(&self, enforced: bool) -> Result<Ssl>;
}

/// The whole thing, switched on and off.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Looks once whether it is ready: `Done` with the [`Project`] when it says so and answers a query.
    async fn ready(&self) -> Result<Observed>;
    /// Accepts that it is switched off. The job's value is the [`Project`].
    async fn pause(&self, key: &Key, intent: &dyn Accept) -> Result<Job>;
    /// Accepts that it is switched on again. The job's value is the [`Project`].
    async fn resume(&self, key: &Key, intent: &dyn Accept) -> Result<Job>;
    /// Returns what was booked besides the plan.
    async fn addons(&self) -> Result<Vec<Addon>>;
}

/// A platform's own interface.
#[async_trait]
pub trait Raw: Send + Sync {
    /// Asks with a method and a path below the platform's address, and returns the answer, parsed where it is JSON.
    /// [`Code::Unknown`] when something other than a `GET` was sent and not answered.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value>;
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
    async fn settle(&self, key: &Key, accepted: Option<&Value>) -> Result<Option<SqlOutcome>>;
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
    async fn accepted(&self, what: Value) -> Result<()>;
}

/// An [`Accept`] of tests that look at something else.
#[cfg(test)]
pub(crate) struct Unwritten;

#[cfg(test)]
#[async_trait]
impl Accept for Unwritten {
    async fn accepted(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

/// A kind of provider: its name in the configuration, and how to make one.
pub struct ProviderKind {
    /// The value of `provider` in `redrill.toml`.
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
    ProviderKind { name: "supabase", summary: "a Supabase project", open: supabase::open },
];
