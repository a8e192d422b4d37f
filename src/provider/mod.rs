//! Providers: the traits that every platform implements, and the data and errors that cross them.
//!
//! Three rules hold for every provider.
//! - **Plan before act.** Every refusal comes before the first side effect.
//! - **Accept, then poll.** What takes time is accepted at once and named by a [`Job`]; [`Provider::poll_job`] looks at it
//!   and, where the job has several parts, does the next. Everything a job needs to go on is in the job and on the
//!   platform, so that another process can go on after one is killed.
//! - **The key is the identity.** What a call makes carries the call's [`CallKey`] on the platform, and
//!   [`Provider::find_job`] finds it again. Asking twice with one key makes one thing.

pub mod error;
pub mod fleet;
mod host;
pub mod model;
pub mod postgres;
mod restore_points;
pub mod sim;
mod sql;
pub mod supabase;

pub use error::{Code, Error, Result, SideEffects};
pub use fleet::{Fleet, TargetRef};
pub(crate) use sql::statement::add_lasting_effects_to_error;

use crate::{
    base::{clock::Clock, moment::Span},
    config::TargetConfig,
};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use model::{
    Addon, AuditReport, Backup, BackupDeletion, BackupRequest, Ban, Branch, CallKey, CommitState, EffectKind,
    GivenUpJob, Health, Identity, Job, JobStatus, LandingLimit, NetworkRestrictions, Policy, Project,
    RecordedJob, RecoveryWindow, Replica, ReplicaRequest, RestorePoint, RestoreRequest, Rows, Schedule,
    ScheduleRequest, Setting, SqlOutcome, SslEnforcement, TableEvent, TableEventQuery, UnfinishedRestore,
    Verification,
};
use serde_json::{Map, Value};
use std::{net::IpAddr, path::Path, sync::Arc};

/// What a provider needs to open a target.
pub struct OpenContext<'a> {
    /// The target's entry in the configuration.
    pub target: &'a TargetConfig,
    /// The folder that relative paths in the configuration are relative to.
    pub base: &'a Path,
    /// The configuration file, if there is one.
    pub file: Option<&'a Path>,
    /// The folder in which a provider keeps what it must not forget.
    pub state: &'a Path,
    /// The clock of the run.
    pub clock: &'a Arc<dyn Clock>,
}

/// One target, or one branch of a target; both have the same operations.
///
/// A capability that a provider does not have is `Err` with [`Code::Unsupported`], the reason and the nearest thing
/// that works.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Returns the identity behind the name, so that a name which now points elsewhere is noticed.
    async fn identity(&self) -> Result<Identity>;

    /// Returns the target as an item of `project list`.
    async fn project(&self) -> Result<Project>;

    /// Returns what `key` has made or is making, or `None` when no request with that key ever took effect.
    ///
    /// `traces` are those of its [`PlannedJob`], where it was asked for with some: a platform that keeps no key is compared
    /// with how it was. [`Code::Unknown`] when nobody can know.
    async fn find_job(&self, key: &CallKey, traces: Option<&Value>) -> Result<Option<Job>>;

    /// Reads what was recorded of a job, and asks for nothing. [`Code::Internal`] for what cannot be read, which nothing is done
    /// by then.
    fn check_recorded_job(&self, _recorded: RecordedJob<'_>) -> Result<()> {
        Ok(())
    }

    /// Looks at an accepted job and takes it one part further; never waits for the job itself.
    ///
    /// Safe to call again after a crash at any point. A look at a platform removes nothing there: what it shows may be
    /// somebody else's. Where the job is this machine's own work and has failed, what it made has been removed by the time
    /// this answers, or is named in the error's `left_behind`.
    async fn poll_job(&self, job: &Job) -> Result<JobStatus>;

    /// Removes what a job made that is believed to have failed, where that is certain to be the job's own. Returns the
    /// job's error, which names what is left behind.
    async fn remove_what_failed_job_made(&self, _job: &Job, error: Error) -> Error {
        error
    }

    /// Cancels a job and removes what it has made so far.
    async fn cancel(&self, job: &Job) -> Result<()>;

    /// Brings a job of this machine to an end for which nobody waits any more: what it has made so far is removed, what it has
    /// changed is undone. A platform's own job is not touched.
    ///
    /// # Errors
    /// What is left of it, and why; it goes on with that the next time.
    async fn give_job_up(&self, _job: &Job) -> Result<GivenUpJob> {
        Ok(GivenUpJob::OfPlatform)
    }

    /// Writes down that a job of this machine is done, because a person says so: nobody undoes it afterwards.
    ///
    /// # Errors
    /// Why it cannot be over; nothing was written down.
    async fn settle_job_as_done(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    /// Returns whether a job is still shown, or what it is making; takes it no further. Of one that was cancelled, the answer
    /// to that is no proof.
    async fn is_job_shown(&self, job: &Job) -> Result<bool> {
        match self.poll_job(job).await {
            Ok(JobStatus::Failed(_)) => Ok(false),
            Ok(_) => Ok(true),
            Err(e) if e.code == Code::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns until when a request of a kind may still take effect once nobody waits for its answer.
    fn landing_limit(&self, kind: EffectKind) -> LandingLimit;

    /// Returns how much later the target's own clock is than the machine's, where it has one: a simulated world's.
    ///
    /// # Errors
    /// Whatever the world's file says.
    fn simulated_clock_lead(&self) -> Result<Option<Span>> {
        Ok(None)
    }

    /// Sets the target's own clock forward, so that it is at least `lead` later than the machine's. One that has none
    /// stays as it is.
    ///
    /// # Errors
    /// Whatever the world's file says.
    fn raise_clock_lead(&self, _lead: Span) -> Result<()> {
        Ok(())
    }

    /// Lets `span` pass for this target: a real one sleeps, a simulated one sets its clock forward.
    async fn let_time_pass(&self, clock: &dyn Clock, span: Span) {
        clock.sleep(span).await;
    }

    /// Returns the interface to backups, restores and the recovery window.
    fn backups(&self) -> Result<&dyn Backups>;
    /// Returns the interface to branches.
    fn branches(&self) -> Result<&dyn Branches>;
    /// Returns the interface to SQL.
    fn sql(&self) -> Result<&dyn Sql>;
    /// Returns the interface to policies and the audit.
    fn security(&self) -> Result<&dyn Security>;
    /// Returns the interface to backup schedules.
    fn schedules(&self) -> Result<&dyn Schedules> {
        Err(Error::unsupported(
            "this provider has no schedule for backups",
            "put a runbook that calls `backup::create` on the schedule of your CI",
        ))
    }
    /// Returns the interface to read replicas.
    fn replicas(&self) -> Result<&dyn Replicas> {
        Err(Error::unsupported("this provider has no read replicas", "make a branch to read from"))
    }
    /// Returns the interface to the server's settings.
    fn settings(&self) -> Result<&dyn Settings> {
        Err(Error::unsupported("this provider has no settings of the server", "see `db::query` and `show`"))
    }
    /// Returns the interface to network restrictions, bans and TLS.
    fn network(&self) -> Result<&dyn Network> {
        Err(Error::unsupported(
            "this provider does not decide who may connect",
            "see the firewall in front of the server",
        ))
    }
    /// Returns the interface that pauses and resumes the target.
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

/// Backups, restores and the recovery window.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Returns every backup, oldest first.
    async fn list(&self) -> Result<Vec<Backup>>;
    /// Returns one backup by its id; [`Code::NotFound`] otherwise.
    async fn get(&self, id: &str) -> Result<Backup>;
    /// Accepts a backup. The job's value is the [`Backup`].
    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job>;
    /// Returns what deleting `id` would take with it, without doing it.
    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion>;
    /// Deletes a backup and what depends on it. Deleting what is gone is not an error: the plan says what existed.
    async fn delete(&self, plan: &BackupDeletion, key: &CallKey) -> Result<()>;
    /// Reads a backup through and compares it with its checksums.
    async fn verify(&self, id: &str) -> Result<Verification>;
    /// Plans and accepts a restore, in place or into a branch. The job's value is a [`Branch`], or for a restore in
    /// place a [`model::RestoreOutcome`]. Every refusal comes before anything is made.
    async fn restore(&self, request: &RestoreRequest, key: &CallKey) -> Result<Job>;
    /// Plans a restore, and returns it with its traces: what it is found by where the platform keeps no key.
    async fn plan_restore<'a>(
        &'a self,
        request: &'a RestoreRequest,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.restore(request, key)))
    }
    /// Returns a restore in place that this machine has begun and neither ended nor undone: no other can begin before.
    fn find_unfinished_restore(&self) -> Result<Option<UnfinishedRestore>> {
        Ok(None)
    }
    /// Returns which moments can be restored, and the gaps between them.
    async fn recovery_window(&self) -> Result<RecoveryWindow>;
    /// Returns the drops and truncates of a table that the archive shows, newest first.
    async fn table_events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>>;
    /// Returns what tells a restore point from earlier ones of its name, where the platform keeps no key; null where it
    /// keeps one.
    async fn plan_restore_point(&self, name: &str) -> Result<Value> {
        let _ = name;
        Ok(Value::Null)
    }
    /// Makes a restore point. Its name must be no other one's: a name that is taken is [`Code::Conflict`].
    async fn create_restore_point(&self, name: &str, key: &CallKey) -> Result<RestorePoint>;
    /// Returns the restore point that `mark` made under `key`, if it did.
    async fn find_restore_point(&self, name: &str, key: &CallKey) -> Result<Option<RestorePoint>>;
    /// Returns the restore point that was made after `plan_restore_point` had returned `plan`; it is asked only where
    /// that was not null.
    async fn find_restore_point_made_since_plan(
        &self,
        name: &str,
        plan: &Value,
    ) -> Result<Option<RestorePoint>> {
        let _ = plan;
        Err(Error::new(Code::Internal, format!("the restore point `{name}` has a key, and is found by it")))
    }
}

/// Isolated copies of a target.
#[async_trait]
pub trait Branches: Send + Sync {
    /// Returns every branch, oldest first.
    async fn list(&self) -> Result<Vec<Branch>>;
    /// Returns one branch by its name; [`Code::NotFound`] otherwise.
    async fn get(&self, name: &str) -> Result<Branch>;
    /// Opens the branch as a provider of its own.
    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>>;
    /// Stops a branch and removes everything of it. `id` is the branch's own id: a branch of the same name made later
    /// is left alone, and one that is already gone is not an error.
    async fn delete(&self, name: &str, id: &str) -> Result<()>;
    /// Accepts that a branch becomes again what it was when it was made. The job's value is the [`Branch`].
    async fn reset(&self, branch: &Branch, key: &CallKey) -> Result<Job> {
        let _ = (branch, key);
        Err(Error::unsupported("branches of this provider cannot be reset", "delete it and make another"))
    }
    /// Accepts that the target becomes what a branch is, as far as the platform carries it over. The job's value is a
    /// [`model::PromotionOutcome`].
    async fn promote(&self, branch: &Branch, key: &CallKey) -> Result<Job> {
        let _ = (branch, key);
        Err(Error::unsupported(
            "branches of this provider cannot be promoted",
            "restore the target in place from the same backup or moment",
        ))
    }
    /// Plans a reset, and returns it with its traces.
    async fn plan_reset<'a>(&'a self, branch: &'a Branch, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.reset(branch, key)))
    }
    /// Plans a promotion, and returns it with its traces.
    async fn plan_promotion<'a>(&'a self, branch: &'a Branch, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.promote(branch, key)))
    }
}

/// Backups that the platform takes on a schedule.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Returns every schedule.
    async fn list(&self) -> Result<Vec<Schedule>>;
    /// Returns whether the platform has exactly one schedule, which can only be set, and keeps no key of the call that
    /// set it.
    fn has_exactly_one(&self) -> bool {
        false
    }
    /// Makes a schedule, or where the platform has exactly one, sets it.
    async fn create(&self, request: &ScheduleRequest, key: &CallKey) -> Result<Schedule>;
    /// Removes a schedule; one that is already gone is not an error.
    async fn delete(&self, id: &str) -> Result<()>;
}

/// Read replicas.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// Returns every replica, oldest first.
    async fn list(&self) -> Result<Vec<Replica>>;
    /// Accepts a replica. The job's value is the [`Replica`].
    async fn create(&self, request: &ReplicaRequest, key: &CallKey) -> Result<Job>;
    /// Plans a replica, and returns it with its traces.
    async fn plan_create<'a>(
        &'a self,
        request: &'a ReplicaRequest,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.create(request, key)))
    }
    /// Removes a replica; one that is already gone is not an error. Done when the list shows it no more.
    async fn delete(&self, id: &str) -> Result<()>;
}

/// The server's settings.
#[async_trait]
pub trait Settings: Send + Sync {
    /// Returns the settings of these names, or without names every one that was overridden. [`Code::NotFound`] names
    /// one that does not exist.
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>>;
    /// Overrides settings; `null` takes an override away. Returns those that wait for a restart, which this does not ask for.
    async fn set(&self, values: &Map<String, Value>) -> Result<Vec<String>>;
    /// Returns values as the platform stores them, by which a look tells whether they are set. Every refusal of a value that
    /// can be known comes from here.
    async fn normalize(&self, values: &Map<String, Value>) -> Result<Map<String, Value>> {
        Ok(values.clone())
    }
    /// Makes certain that no earlier request for these settings can take effect any more, on targets where a request
    /// can be ended ([`Provider::landing_limit`] is fenced there). [`Code::Unknown`] where it cannot be made certain
    /// for this target.
    async fn end_lost_requests(&self, _names: &[String]) -> Result<()> {
        Ok(())
    }
    /// Returns why stored settings may not hold yet, where a request that was not answered may have stored them and not
    /// loaded them.
    async fn find_unloaded(&self) -> Result<Option<String>> {
        Ok(None)
    }
    /// Returns whether the platform takes an override away only by replacing them all.
    fn replaces_all_overrides(&self) -> bool {
        false
    }
    /// Returns every override there is, where they are replaced all at once.
    async fn overrides(&self) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
    /// Sets as [`Settings::set`] does; where that replaces all overrides, the others are replaced with `carried`.
    /// [`Code::Conflict`] when the others are not these any more, and then nothing was sent.
    async fn set_if_others_unchanged(
        &self,
        values: &Map<String, Value>,
        _carried: &Map<String, Value>,
    ) -> Result<Vec<String>> {
        self.set(values).await
    }
    /// Returns whether a new value of a setting holds only after a restart, also where no look shows yet that it waits
    /// for one.
    fn needs_restart(&self, _name: &str) -> bool {
        false
    }
    /// Returns what tells one start of the server from the next. [`Code::Unsupported`] where it is not restarted.
    async fn server_start(&self) -> Result<Value> {
        Err(unsupported_restart_error())
    }
    /// Restarts the server. That breaks every connection, so asking twice does more harm than asking once.
    async fn restart(&self) -> Result<()> {
        Err(unsupported_restart_error())
    }
}

fn unsupported_restart_error() -> Error {
    Error::unsupported(
        "redrill does not restart a server that others use",
        "set without `restart`, and restart it with the service manager of its host; `db config get` shows what waits",
    )
}

/// Network access: address ranges, bans, TLS.
#[async_trait]
pub trait Network: Send + Sync {
    /// Returns the address ranges that may connect. Where nothing restricts that is `0.0.0.0/0` and `::/0`, also when
    /// the platform itself says nothing then: an empty list that is applied means nobody.
    async fn allowed_ranges(&self) -> Result<NetworkRestrictions>;
    /// Adds and takes away ranges in one change, and returns what holds then.
    async fn change_ranges(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions>;
    /// Returns the addresses that are shut out after failed attempts.
    async fn bans(&self) -> Result<Vec<Ban>>;
    /// Lets addresses in again.
    async fn unban(&self, addresses: &[IpAddr]) -> Result<()>;
    /// Returns whether connections without TLS are refused.
    async fn ssl(&self) -> Result<SslEnforcement>;
    /// Sets whether connections without TLS are refused. [`Network::ssl`] tells when it is applied.
    async fn set_ssl_enforcement(&self, enforced: bool) -> Result<SslEnforcement>;
}

/// Pausing and resuming a whole target.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Looks once whether it is ready: `Done` with the [`Project`] when it says so and answers a query.
    async fn check_ready(&self) -> Result<JobStatus>;
    /// Accepts a pause. The job's value is the [`Project`].
    async fn pause(&self, key: &CallKey) -> Result<Job>;
    /// Accepts a resume. The job's value is the [`Project`].
    async fn resume(&self, key: &CallKey) -> Result<Job>;
    /// Plans a pause, and returns it with its traces.
    async fn plan_pause<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.pause(key)))
    }
    /// Plans a resume, and returns it with its traces.
    async fn plan_resume<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::without_traces(self.resume(key)))
    }
    /// Returns the paid add-ons of the plan.
    async fn addons(&self) -> Result<Vec<Addon>>;
}

/// A platform's own interface.
#[async_trait]
pub trait Raw: Send + Sync {
    /// Asks with a method and a path below the platform's address, and returns the answer, parsed where it is JSON.
    /// [`Code::Unknown`] when something other than a `GET` was sent and not answered.
    async fn send_request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value>;
}

/// Queries and statements.
#[async_trait]
pub trait Sql: Send + Sync {
    /// Runs one statement in a read-only transaction and returns its rows.
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows>;
    /// Runs one statement in a transaction of its own, and does not commit it yet.
    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>>;
    /// Runs one statement in a transaction of its own and commits it, for callers that keep no record of it.
    async fn execute(&self, sql: &str, timeout: Span, key: &CallKey) -> Result<SqlOutcome> {
        self.execute_uncommitted(sql, timeout, key).await?.commit().await
    }
    /// Runs one statement outside a transaction, as some have to be. [`Code::Unknown`] when no answer came; any other
    /// error says whether a part of it was done.
    async fn execute_outside_transaction(&self, sql: &str, timeout: Span) -> Result<SqlOutcome>;
    /// Returns what became of a transaction, by its token. A session that may still be at work on it is ended.
    /// [`Code::Unknown`] when nobody can know, [`Code::Internal`] for a token that cannot be read.
    async fn find_commit_state(&self, key: &CallKey, token: &Value) -> Result<CommitState>;
    /// Removes from the target what a transaction left there so that it can be settled; only after its outcome is on disk.
    async fn remove_commit_mark(&self, _token: &Value) -> Result<()> {
        Ok(())
    }
    /// Returns whether [`Sql::execute_uncommitted`] runs the statement, so that there is something to end before there is a token:
    /// [`Sql::find_commit_state`] with null as the token does that.
    fn runs_statement_before_commit(&self) -> bool {
        false
    }
    /// Returns whether a transaction leaves a mark in the target, which [`Sql::remove_commit_mark`] removes.
    fn leaves_commit_mark(&self) -> bool {
        false
    }
    /// Returns whether the database answers, and how it is.
    async fn health(&self) -> Result<Health>;
}

/// A transaction that has run its statement and is not committed. Dropped, it never is.
#[async_trait]
pub trait OpenTransaction: Send {
    /// Returns what [`Sql::find_commit_state`] tells its outcome by.
    fn token(&self) -> Value;
    /// Commits it. [`Code::Unknown`] when no answer came.
    async fn commit(self: Box<Self>) -> Result<SqlOutcome>;
}

/// Row-level policies and the audit.
#[async_trait]
pub trait Security: Send + Sync {
    /// Returns every row-level security policy, by table.
    async fn policies(&self) -> Result<Vec<Policy>>;
    /// Runs every check there is, and says of each whether it ran.
    async fn audit(&self) -> Result<AuditReport>;
}

/// A job that is planned and not asked for yet. Every refusal that can be known came before.
pub struct PlannedJob<'a> {
    /// What [`Provider::find_job`] finds it by, where the platform keeps no key; else null.
    pub traces: Value,
    /// Asks for it.
    pub request: BoxFuture<'a, Result<Job>>,
    /// How long its end must be shown alike before it counts: no call that has less time ever knows it.
    pub believed_after: Span,
}

impl<'a> PlannedJob<'a> {
    /// Returns a job that its key finds.
    pub fn without_traces(request: BoxFuture<'a, Result<Job>>) -> Self {
        Self::with_traces(Value::Null, request)
    }

    /// Returns a planned job that is found again by its traces.
    pub fn with_traces(traces: Value, request: BoxFuture<'a, Result<Job>>) -> Self {
        Self { traces, request, believed_after: Span::ZERO }
    }
}
