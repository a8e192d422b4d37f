//! A simulated target whose requests can fail: a fault source hears of each one and decides its outcome.
//!
//! The world itself knows nothing of faults: a request that is turned away never reaches it, and one whose
//! answer is lost has taken effect in it.

use super::Sim;
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
    /// What is asked: `restore`, `observe`.
    pub name: &'static str,
    /// What it would do.
    pub kind: RequestKind,
    /// The key of the call that asks, where it is sent.
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
    /// Hears that the world has served a request. Nobody else knows yet.
    fn on_served(&self, request: &SimRequest<'_>);
}

/// A simulated target, or a branch of one, whose requests can fail.
#[derive(Clone)]
pub struct FaultySim {
    sim: Sim,
    keeper: Arc<dyn FaultSource>,
    clock: Arc<dyn Clock>,
}

impl FaultySim {
    /// Wraps a target; late answers and timeouts sleep on `clock`.
    pub fn new(sim: Sim, keeper: Arc<dyn FaultSource>, clock: Arc<dyn Clock>) -> Self {
        Self { sim, keeper, clock }
    }

    async fn send_read<T>(&self, name: &'static str, ask: impl Future<Output = Result<T>>) -> Result<T> {
        self.send_request(&SimRequest { name, kind: RequestKind::Read, key: None, is_done: false }, ask).await
    }

    async fn send_change<T>(
        &self,
        (name, kind): (&'static str, RequestKind),
        key: Option<&CallKey>,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let is_done = key.map(|key| self.sim.has_effect(key)).transpose()?.unwrap_or(false);
        self.send_request(&SimRequest { name, kind, key, is_done }, ask).await
    }

    async fn send_request<T>(
        &self,
        request: &SimRequest<'_>,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let name = request.name;
        let turned_away = |code, why: &str| Err(Error::new(code, format!("`{name}` was turned away: {why}")));
        let fate = self.keeper.choose_outcome(request);
        match fate {
            RequestOutcome::Refused => return turned_away(Code::Denied, "not allowed"),
            RequestOutcome::Throttled => return turned_away(Code::Throttled, "too many requests"),
            RequestOutcome::Failed => {
                return turned_away(Code::Unavailable, "the server has an error of its own");
            }
            RequestOutcome::Lost => return self.withhold_answer(request).await,
            RequestOutcome::Served | RequestOutcome::Late(_) | RequestOutcome::Unanswered => {}
        }
        let answer = ask.await?;
        self.keeper.on_served(request);
        match fate {
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

#[async_trait]
impl Provider for FaultySim {
    async fn identity(&self) -> Result<Identity> {
        self.send_read("identity", self.sim.identity()).await
    }

    async fn project(&self) -> Result<Project> {
        self.send_read("project", self.sim.project()).await
    }

    async fn find(&self, key: &CallKey, intent: Option<&Value>) -> Result<Option<Job>> {
        self.send_read("find", self.sim.find(key, intent)).await
    }

    async fn observe(&self, job: &Job) -> Result<JobStatus> {
        self.send_read("observe", self.sim.observe(job)).await
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.send_change(("cancel", RequestKind::Remove), None, self.sim.cancel(job)).await
    }

    fn backups(&self) -> Result<&dyn Backups> {
        self.sim.backups().map(|_| self as &dyn Backups)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        self.sim.branches().map(|_| self as &dyn Branches)
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(self)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(self)
    }

    fn schedules(&self) -> Result<&dyn Schedules> {
        self.sim.schedules().map(|_| self as &dyn Schedules)
    }

    fn replicas(&self) -> Result<&dyn Replicas> {
        self.sim.replicas().map(|_| self as &dyn Replicas)
    }

    fn settings(&self) -> Result<&dyn Settings> {
        self.sim.settings().map(|_| self as &dyn Settings)
    }

    fn network(&self) -> Result<&dyn Network> {
        self.sim.network().map(|_| self as &dyn Network)
    }

    fn lifecycle(&self) -> Result<&dyn Lifecycle> {
        self.sim.lifecycle().map(|_| self as &dyn Lifecycle)
    }

    fn raw(&self) -> Result<&dyn Raw> {
        self.sim.raw().map(|_| self as &dyn Raw)
    }
}

#[async_trait]
impl Backups for FaultySim {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.send_read("list", Backups::list(&self.sim)).await
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        self.send_read("get", Backups::get(&self.sim, id)).await
    }

    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job> {
        self.send_change(("create", RequestKind::Change), Some(key), Backups::create(&self.sim, request, key))
            .await
    }

    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion> {
        self.send_read("plan", self.sim.plan_delete(id)).await
    }

    async fn delete(&self, plan: &BackupDeletion, key: &CallKey) -> Result<()> {
        self.send_change(("delete", RequestKind::Remove), Some(key), Backups::delete(&self.sim, plan, key))
            .await
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        self.send_read("verify", self.sim.verify(id)).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        self.send_change(("restore", RequestKind::Change), Some(key), self.sim.restore(request, key, intent))
            .await
    }

    async fn window(&self) -> Result<RecoveryWindow> {
        self.send_read("window", self.sim.window()).await
    }

    async fn events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
        self.send_read("events", self.sim.events(query)).await
    }

    async fn mark(&self, name: &str, key: &CallKey) -> Result<RestorePoint> {
        self.send_change(("mark", RequestKind::Change), Some(key), self.sim.mark(name, key)).await
    }

    async fn find_mark(&self, name: &str, key: &CallKey) -> Result<Option<RestorePoint>> {
        self.send_read("find", self.sim.find_mark(name, key)).await
    }
}

#[async_trait]
impl Branches for FaultySim {
    async fn list(&self) -> Result<Vec<Branch>> {
        self.send_read("list", Branches::list(&self.sim)).await
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        self.send_read("get", Branches::get(&self.sim, name)).await
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let branch = self.send_read("open", self.sim.open_branch(name)).await?;
        Ok(Arc::new(Self { sim: branch, ..self.clone() }))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        self.send_change(("delete", RequestKind::Remove), None, Branches::delete(&self.sim, name, id)).await
    }

    async fn reset(&self, branch: &Branch, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        self.send_change(("reset", RequestKind::Change), Some(key), self.sim.reset(branch, key, intent)).await
    }

    async fn promote(&self, branch: &Branch, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        self.send_change(("promote", RequestKind::Change), Some(key), self.sim.promote(branch, key, intent))
            .await
    }
}

#[async_trait]
impl Schedules for FaultySim {
    async fn list(&self) -> Result<Vec<Schedule>> {
        self.send_read("list", Schedules::list(&self.sim)).await
    }

    async fn create(&self, request: &ScheduleRequest, key: &CallKey) -> Result<Schedule> {
        self.send_change(
            ("create", RequestKind::Change),
            Some(key),
            Schedules::create(&self.sim, request, key),
        )
        .await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.send_change(("delete", RequestKind::Remove), None, Schedules::delete(&self.sim, id)).await
    }
}

#[async_trait]
impl Replicas for FaultySim {
    async fn list(&self) -> Result<Vec<Replica>> {
        self.send_read("list", Replicas::list(&self.sim)).await
    }

    async fn create(&self, request: &ReplicaRequest, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        let create = Replicas::create(&self.sim, request, key, intent);
        self.send_change(("create", RequestKind::Change), Some(key), create).await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.send_change(("delete", RequestKind::Remove), None, Replicas::delete(&self.sim, id)).await
    }
}

#[async_trait]
impl Settings for FaultySim {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        self.send_read("get", Settings::get(&self.sim, names)).await
    }

    async fn set(&self, values: &Map<String, Value>, restart: bool) -> Result<Vec<String>> {
        self.send_change(("set", RequestKind::Change), None, self.sim.set(values, restart)).await
    }
}

#[async_trait]
impl Network for FaultySim {
    async fn allowed(&self) -> Result<NetworkRestrictions> {
        self.send_read("allowed", self.sim.allowed()).await
    }

    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions> {
        self.send_change(("allow", RequestKind::Change), None, self.sim.allow(add, remove)).await
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        self.send_read("bans", self.sim.bans()).await
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        self.send_change(("unban", RequestKind::Remove), None, self.sim.unban(addresses)).await
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        self.send_read("ssl", self.sim.ssl()).await
    }

    async fn enforce_ssl(&self, enforced: bool) -> Result<SslEnforcement> {
        self.send_change(("enforce", RequestKind::Change), None, self.sim.enforce_ssl(enforced)).await
    }
}

#[async_trait]
impl Lifecycle for FaultySim {
    async fn ready(&self) -> Result<JobStatus> {
        self.send_read("ready", self.sim.ready()).await
    }

    async fn pause(&self, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        self.send_change(("pause", RequestKind::Change), Some(key), Lifecycle::pause(&self.sim, key, intent))
            .await
    }

    async fn resume(&self, key: &CallKey, intent: &dyn Accept) -> Result<Job> {
        self.send_change(("resume", RequestKind::Change), Some(key), self.sim.resume(key, intent)).await
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        self.send_read("addons", self.sim.addons()).await
    }
}

#[async_trait]
impl Raw for FaultySim {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let ask = self.sim.ask(method, path, body);
        if method == "GET" {
            return self.send_read("ask", ask).await;
        }
        self.send_change(("ask", RequestKind::Change), None, ask).await
    }
}

#[async_trait]
impl Sql for FaultySim {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        self.send_read("query", self.sim.query(sql, timeout)).await
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        let execute = self.sim.execute(sql, timeout, key, accepted);
        self.send_change(("execute", RequestKind::Change), Some(key), execute).await
    }

    async fn settle(&self, key: &CallKey, accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        self.send_read("settle", self.sim.settle(key, accepted)).await
    }

    async fn health(&self) -> Result<Health> {
        self.send_read("health", self.sim.health()).await
    }
}

#[async_trait]
impl Security for FaultySim {
    async fn policies(&self) -> Result<Vec<Policy>> {
        self.send_read("policies", self.sim.policies()).await
    }

    async fn audit(&self) -> Result<AuditReport> {
        self.send_read("audit", self.sim.audit()).await
    }
}
