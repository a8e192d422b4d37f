//! Every capability of a [`FaultySim`]: each request is sent through its faults.

use super::{
    arguments::Argument,
    faults::{FaultySim, RequestKind, WriteRequest},
    jobs::power_traces,
    target::Sim,
    world::jobs::{PAUSE, RESUME},
};
use crate::{
    base::moment::Span,
    provider::{
        Backups, Branches, Code, Error, Lifecycle, Network, OpenTransaction, PlannedJob, Provider, Raw,
        Replicas, Result, Schedules, Security, Settings, Sql,
        model::{
            Addon, AuditReport, Backup, BackupDeletion, BackupRequest, Ban, Branch, CallKey, CommitState,
            EffectKind, Health, Identity, Job, JobStatus, LandingLimit, NetworkRestrictions, Policy, Project,
            RecoveryWindow, Replica, ReplicaRequest, RestorePoint, RestoreRequest, Rows, Schedule,
            ScheduleRequest, Setting, SqlOutcome, SslEnforcement, TableEvent, TableEventQuery, Verification,
        },
    },
};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::{future::ready, net::IpAddr, ptr, sync::Arc};

/// Returns the future of a request in a world and at a time of its own, with copies of its arguments.
macro_rules! repeat {
    ($capability:ident::$name:ident($($arg:ident),*)) => {{
        let kept = ($(Argument::to_owned_argument($arg),)*);
        move |sim: Sim| {
            let ($($arg,)*) = kept.clone();
            let request = async move { $capability::$name(&sim, $(Argument::from_owned_argument(&$arg)),*).await };
            Box::pin(request) as BoxFuture<'static, _>
        }
    }};
}

/// Implements a capability: each of its requests is sent through [`FaultySim::send_read`] or [`FaultySim::send_write`].
/// `part` has the arguments of a request that does only a part of what it was asked.
macro_rules! forward {
    (@key) => { None };
    (@key $key:ident) => { Some($key) };
    (@send $self:ident Read $label:literal [] [] $capability:ident::$name:ident($($arg:ident),*)) => {
        $self.send_read($label, async |sim: &Sim| $capability::$name(sim, $($arg),*).await).await
    };
    (@send $self:ident $kind:ident $label:literal $key:tt [] $capability:ident::$name:ident($($arg:ident),*)) => {
        forward!(@send $self $kind $label $key [($($arg),*)] $capability::$name($($arg),*))
    };
    (@send $self:ident $kind:ident $label:literal [$($key:ident)?] [($($part:expr),*)]
        $capability:ident::$name:ident($($arg:ident),*)) => {{
        let write = WriteRequest {
            whole: $capability::$name(&$self.sim, $($arg),*),
            part: async { $capability::$name(&$self.sim, $($part),*).await },
            repeat: repeat!($capability::$name($($arg),*)),
        };
        $self.send_write(($label, RequestKind::$kind), forward!(@key $($key)?), write).await
    }};
    ($capability:ident { $(
        $kind:ident $label:literal $([$key:ident])? fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty
            $(, part $part:tt)?;
    )* } $(by hand { $($other:tt)* })?) => {
        #[async_trait]
        impl $capability for FaultySim {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                forward!(@send self $kind $label [$($key)?] [$($part)?] $capability::$name($($arg),*))
            })*
            $($($other)*)?
        }
    };
}

/// Returns each interface where the simulated target has it.
macro_rules! capabilities {
    ($($name:ident: $capability:ident),*) => {
        $(fn $name(&self) -> Result<&dyn $capability> {
            self.sim.$name().map(|_| self as &dyn $capability)
        })*
    };
}

forward!(Provider {
    Read   "identity" fn identity() -> Identity;
    Read   "project"  fn project() -> Project;
    Remove "cancel"   fn cancel(job: &Job) -> ();
} by hand {
    // An old world has no key of a pause or a resume: a look at it tells as much as at a platform that keeps none.
    async fn find_job(&self, key: &CallKey, intent: Option<&Value>) -> Result<Option<Job>> {
        let find = async |sim: &Sim| match sim.find_job(key, intent).await? {
            None if !ptr::eq(sim, &raw const self.sim) => sim.infer_power_job(key, intent),
            found => Ok(found),
        };
        self.send_read("find", find).await
    }

    async fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        let poll = async |sim: &Sim| match sim.poll_job(job).await {
            Err(e) if e.code == Code::NotFound && !ptr::eq(sim, &raw const self.sim) => {
                sim.infer_power_status(job).await
            }
            polled => polled,
        };
        self.send_read("observe", poll).await
    }

    fn landing_limit(&self, _: EffectKind) -> LandingLimit {
        LandingLimit::Bounded(self.landing_bound, "no request of a simulated platform lands later")
    }

    capabilities!(
        backups: Backups, branches: Branches, sql: Sql, security: Security, schedules: Schedules,
        replicas: Replicas, settings: Settings, network: Network, lifecycle: Lifecycle, raw: Raw
    );
});

forward!(Backups {
    Read   "list"          fn list() -> Vec<Backup>;
    Read   "get"           fn get(id: &str) -> Backup;
    Change "create"  [key] fn create(request: &BackupRequest, key: &CallKey) -> Job;
    Read   "plan"          fn plan_delete(id: &str) -> BackupDeletion;
    Remove "delete"  [key] fn delete(plan: &BackupDeletion, key: &CallKey) -> ();
    Read   "verify"        fn verify(id: &str) -> Verification;
    Change "restore" [key] fn restore(request: &RestoreRequest, key: &CallKey) -> Job;
    Read   "window"        fn recovery_window() -> RecoveryWindow;
    Read   "events"        fn table_events(query: &TableEventQuery) -> Vec<TableEvent>;
    Change "mark"    [key] fn create_restore_point(name: &str, key: &CallKey) -> RestorePoint;
    Read   "find"          fn find_restore_point(name: &str, key: &CallKey) -> Option<RestorePoint>;
});

forward!(Branches {
    Read   "list"          fn list() -> Vec<Branch>;
    Read   "get"           fn get(name: &str) -> Branch;
    Remove "delete"        fn delete(name: &str, id: &str) -> ();
    Change "reset"   [key] fn reset(branch: &Branch, key: &CallKey) -> Job;
    Change "promote" [key] fn promote(branch: &Branch, key: &CallKey) -> Job;
} by hand {
    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let branch = self.send_read("open", async |sim: &Sim| sim.open_branch(name).await).await?;
        // Where it was found in an old world, what is done to it is done in the real one.
        Ok(Arc::new(self.for_other_database(branch.same_target_in_world_of(&self.sim))))
    }
});

forward!(Schedules {
    Read   "list"         fn list() -> Vec<Schedule>;
    Change "create" [key] fn create(request: &ScheduleRequest, key: &CallKey) -> Schedule;
    Remove "delete"       fn delete(id: &str) -> ();
});

forward!(Replicas {
    Read   "list"         fn list() -> Vec<Replica>;
    Change "create" [key] fn create(request: &ReplicaRequest, key: &CallKey) -> Job;
    Remove "delete"       fn delete(id: &str) -> ();
});

forward!(Settings {
    Read   "get"     fn get(names: &[String]) -> Vec<Setting>;
    Change "set"     fn set(values: &Map<String, Value>) -> Vec<String>,
        part (&values.clone().into_iter().take(1).collect());
    Read   "start"   fn server_start() -> Value;
    Change "restart" fn restart() -> ();
});

forward!(Network {
    Read   "allowed" fn allowed_ranges() -> NetworkRestrictions;
    Change "allow"   fn change_ranges(add: &[IpNet], remove: &[IpNet]) -> NetworkRestrictions, part (add, &[]);
    Read   "bans"    fn bans() -> Vec<Ban>;
    Remove "unban"   fn unban(addresses: &[IpAddr]) -> (), part (&addresses[..addresses.len().min(1)]);
    Read   "ssl"     fn ssl() -> SslEnforcement;
    Change "enforce" fn set_ssl_enforcement(enforced: bool) -> SslEnforcement;
});

forward!(Lifecycle {
    Read   "ready"        fn check_ready() -> JobStatus;
    Change "pause"  [key] fn pause(key: &CallKey) -> Job;
    Change "resume" [key] fn resume(key: &CallKey) -> Job;
    Read   "addons"       fn addons() -> Vec<Addon>;
} by hand {
    async fn plan_pause<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::with_traces(power_traces(PAUSE), self.pause(key)))
    }

    async fn plan_resume<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        Ok(PlannedJob::with_traces(power_traces(RESUME), self.resume(key)))
    }
});

forward!(Sql {
    Read   "query"  fn query(sql: &str, timeout: Span) -> Rows;
    Change "alone"  fn execute_outside_transaction(sql: &str, timeout: Span) -> SqlOutcome;
    Read   "settle" fn find_commit_state(key: &CallKey, token: &Value) -> CommitState;
    Read   "health" fn health() -> Health;
} by hand {
    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        let run = async |sim: &Sim| sim.execute_uncommitted(sql, timeout, key).await;
        let open = self.send_read("run", run).await?;
        let (sql, key) = (sql.to_owned(), key.clone());
        Ok(Box::new(FaultyTransaction { faulty: self.clone(), open, sql, timeout, key }))
    }
});

/// A transaction on a simulated target whose commit can fail.
struct FaultyTransaction {
    faulty: FaultySim,
    open: Box<dyn OpenTransaction>,
    sql: String,
    timeout: Span,
    key: CallKey,
}

#[async_trait]
impl OpenTransaction for FaultyTransaction {
    fn token(&self) -> Value {
        self.open.token()
    }

    async fn commit(self: Box<Self>) -> Result<SqlOutcome> {
        let Self { faulty, open, sql, timeout, key } = *self;
        let repeat = {
            let key = key.clone();
            move |sim: Sim| {
                let (sql, key) = (sql.clone(), key.clone());
                Box::pin(async move { sim.execute(&sql, timeout, &key).await }) as BoxFuture<'static, _>
            }
        };
        // A commit is done whole or not at all.
        let part = ready(Err(Error::new(Code::Internal, "a commit was to be done in part")));
        let write = WriteRequest { whole: open.commit(), part, repeat };
        faulty.send_write(("execute", RequestKind::Change), Some(&key), write).await
    }
}

forward!(Security {
    Read "policies" fn policies() -> Vec<Policy>;
    Read "audit"    fn audit() -> AuditReport;
});

#[async_trait]
impl Raw for FaultySim {
    async fn send_request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        if method == "GET" {
            return self.send_read("ask", async |sim: &Sim| sim.send_request(method, path, body).await).await;
        }
        forward!(@send self Change "ask" [] [] Raw::send_request(method, path, body))
    }
}
