//! A simulated target whose requests can fail: a fault source decides the outcome of each.
//!
//! The world itself knows nothing of faults: a request that is turned away never reaches it, and one whose
//! answer is lost has taken effect in it.

use super::target::Sim;
use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Accept, Backups, Branches, Code, Error, Lifecycle, Network, Provider, Raw, Replicas, Result,
        Schedules, Security, Settings, Sql,
        model::{
            Addon, AuditReport, Backup, BackupDeletion, BackupRequest, Ban, Branch, CallKey, Health,
            Identity, Job, JobStatus, NetworkRestrictions, Policy, Project, RecoveryWindow, Replica,
            ReplicaRequest, RestorePoint, RestoreRequest, Rows, Schedule, ScheduleRequest, Setting,
            SqlOutcome, SslEnforcement, TableEvent, TableEventQuery, Verification,
        },
    },
};
use async_trait::async_trait;
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::{net::IpAddr, sync::Arc};

/// How long a read waits for an answer that never comes.
const READ_TIMEOUT: Span = Span::from_secs(30);

/// What a request does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// It reads.
    Read,
    /// It creates or changes something: sent twice, a platform without keys does it twice.
    Change,
    /// It removes something by its own id: sent twice, the effect is the same.
    Remove,
}

/// A request on its way to the world.
#[derive(Debug)]
pub struct SimRequest<'a> {
    /// Its name: `restore`, `observe`.
    pub name: &'static str,
    /// What it would do.
    pub kind: RequestKind,
    /// The key of the call, where it is sent.
    pub key: Option<&'a CallKey>,
    /// Whether the world has done already what this key asks for.
    pub is_done: bool,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It is served.
    Served,
    /// It is turned away: not allowed.
    Refused,
    /// It is turned away: too many.
    Throttled,
    /// It is answered with an error of the server, which did nothing.
    Failed,
    /// It is served, and the answer comes this much later.
    Late(Span),
    /// It never arrives, and no answer comes.
    Lost,
    /// It is served, and no answer comes.
    Unanswered,
}

/// A source of faults: decides the outcome of every request.
pub trait FaultSource: Send + Sync {
    /// Decides the outcome of a request.
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome;
    /// Learns that the world has served a request, before anybody else does.
    fn on_served(&self, request: &SimRequest<'_>);
}

/// A simulated target, or a branch of one, whose requests can fail.
#[derive(Clone)]
pub struct FaultySim {
    sim: Sim,
    faults: Arc<dyn FaultSource>,
    clock: Arc<dyn Clock>,
}

impl FaultySim {
    /// Wraps a target; late answers and timeouts sleep on `clock`.
    pub fn new(sim: Sim, faults: Arc<dyn FaultSource>, clock: Arc<dyn Clock>) -> Self {
        Self { sim, faults, clock }
    }

    /// Sends a request; the world is asked first whether it has done already what `key` asks for.
    async fn send<T>(
        &self,
        (name, kind): (&'static str, RequestKind),
        key: Option<&CallKey>,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let is_done = key.map(|key| self.sim.has_effect(key)).transpose()?.unwrap_or(false);
        self.send_request(&SimRequest { name, kind, key, is_done }, answer).await
    }

    async fn send_request<T>(
        &self,
        request: &SimRequest<'_>,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let name = request.name;
        let turned_away = |code, why: &str| Err(Error::new(code, format!("`{name}` was turned away: {why}")));
        let outcome = self.faults.choose_outcome(request);
        match outcome {
            RequestOutcome::Refused => return turned_away(Code::Denied, "not allowed"),
            RequestOutcome::Throttled => return turned_away(Code::Throttled, "too many requests"),
            RequestOutcome::Failed => {
                return turned_away(Code::Unavailable, "the server has an error of its own");
            }
            RequestOutcome::Lost => return self.withhold_answer(request).await,
            RequestOutcome::Served | RequestOutcome::Late(_) | RequestOutcome::Unanswered => {}
        }
        let answer = answer.await?;
        self.faults.on_served(request);
        match outcome {
            RequestOutcome::Unanswered => return self.withhold_answer(request).await,
            RequestOutcome::Late(span) => self.clock.sleep(span).await,
            _ => {}
        }
        Ok(answer)
    }

    /// Waits, then fails: a read times out and has changed nothing; the effect of anything else is unknown.
    async fn withhold_answer<T>(&self, request: &SimRequest<'_>) -> Result<T> {
        let message = format!("`{}` was sent, and no answer came", request.name);
        self.clock.sleep(READ_TIMEOUT).await;
        Err(match request.kind {
            RequestKind::Read => Error::new(Code::Timeout, message),
            RequestKind::Change | RequestKind::Remove => Error::new(Code::Unknown, message),
        })
    }
}

/// Implements a capability: each of its requests is sent through [`FaultySim::send`].
macro_rules! forward {
    (@key) => { None };
    (@key $key:ident) => { Some($key) };
    ($capability:ident { $(
        $kind:ident $label:literal $([$key:ident])? fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;
    )* } $(by hand { $($other:tt)* })?) => {
        #[async_trait]
        impl $capability for FaultySim {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                let answer = $capability::$name(&self.sim, $($arg),*);
                self.send(($label, RequestKind::$kind), forward!(@key $($key)?), answer).await
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
    Read   "find"     fn find(key: &CallKey, intent: Option<&Value>) -> Option<Job>;
    Read   "observe"  fn observe(job: &Job) -> JobStatus;
    Remove "cancel"   fn cancel(job: &Job) -> ();
} by hand {
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
    Change "restore" [key] fn restore(request: &RestoreRequest, key: &CallKey, intent: &dyn Accept) -> Job;
    Read   "window"        fn window() -> RecoveryWindow;
    Read   "events"        fn events(query: &TableEventQuery) -> Vec<TableEvent>;
    Change "mark"    [key] fn mark(name: &str, key: &CallKey) -> RestorePoint;
    Read   "find"          fn find_mark(name: &str, key: &CallKey) -> Option<RestorePoint>;
});

forward!(Branches {
    Read   "list"          fn list() -> Vec<Branch>;
    Read   "get"           fn get(name: &str) -> Branch;
    Remove "delete"        fn delete(name: &str, id: &str) -> ();
    Change "reset"   [key] fn reset(branch: &Branch, key: &CallKey, intent: &dyn Accept) -> Job;
    Change "promote" [key] fn promote(branch: &Branch, key: &CallKey, intent: &dyn Accept) -> Job;
} by hand {
    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let branch = self.send(("open", RequestKind::Read), None, self.sim.open_branch(name)).await?;
        Ok(Arc::new(Self { sim: branch, ..self.clone() }))
    }
});

forward!(Schedules {
    Read   "list"         fn list() -> Vec<Schedule>;
    Change "create" [key] fn create(request: &ScheduleRequest, key: &CallKey) -> Schedule;
    Remove "delete"       fn delete(id: &str) -> ();
});

forward!(Replicas {
    Read   "list"         fn list() -> Vec<Replica>;
    Change "create" [key] fn create(request: &ReplicaRequest, key: &CallKey, intent: &dyn Accept) -> Job;
    Remove "delete"       fn delete(id: &str) -> ();
});

forward!(Settings {
    Read   "get" fn get(names: &[String]) -> Vec<Setting>;
    Change "set" fn set(values: &Map<String, Value>, restart: bool) -> Vec<String>;
});

forward!(Network {
    Read   "allowed" fn allowed() -> NetworkRestrictions;
    Change "allow"   fn allow(add: &[IpNet], remove: &[IpNet]) -> NetworkRestrictions;
    Read   "bans"    fn bans() -> Vec<Ban>;
    Remove "unban"   fn unban(addresses: &[IpAddr]) -> ();
    Read   "ssl"     fn ssl() -> SslEnforcement;
    Change "enforce" fn enforce_ssl(enforced: bool) -> SslEnforcement;
});

forward!(Lifecycle {
    Read   "ready"        fn ready() -> JobStatus;
    Change "pause"  [key] fn pause(key: &CallKey, intent: &dyn Accept) -> Job;
    Change "resume" [key] fn resume(key: &CallKey, intent: &dyn Accept) -> Job;
    Read   "addons"       fn addons() -> Vec<Addon>;
});

forward!(Sql {
    Read   "query"         fn query(sql: &str, timeout: Span) -> Rows;
    Change "execute" [key] fn execute(sql: &str, timeout: Span, key: &CallKey, accepted: &dyn Accept) -> SqlOutcome;
    Read   "settle"        fn settle(key: &CallKey, accepted: Option<&Value>) -> Option<SqlOutcome>;
    Read   "health"        fn health() -> Health;
});

forward!(Security {
    Read "policies" fn policies() -> Vec<Policy>;
    Read "audit"    fn audit() -> AuditReport;
});

#[async_trait]
impl Raw for FaultySim {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let kind = if method == "GET" { RequestKind::Read } else { RequestKind::Change };
        self.send(("ask", kind), None, self.sim.ask(method, path, body)).await
    }
}
