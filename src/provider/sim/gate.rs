//! A simulated target behind a gate: whoever keeps it hears of every request, and says what becomes of it.
//!
//! So an API fails without the world being any the wiser: a request that is turned away never reaches it, and one whose
//! answer is lost has taken effect in it.

use super::Sim;
use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Accept, Backups, Branches, Code, Error, Lifecycle, Network, Provider, Raw, Replicas, Result,
        Schedules, Security, Settings, Sql,
        model::{
            Addon, Allowed, AuditReport, Backup, BackupRequest, Ban, Branch, Deleted, Event, EventQuery,
            Health, Identity, Job, Key, Mark, Observed, Policy, Project, Replica, ReplicaRequest,
            RestoreRequest, Rows, Schedule, ScheduleRequest, Setting, SqlOutcome, Ssl, Verification, Window,
        },
    },
};
use async_trait::async_trait;
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::{net::IpAddr, sync::Arc};

/// How long a request that only looks is waited for when no answer comes.
const PATIENCE: Span = Span::seconds(30);

/// What a request does when it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Looks.
    Looks,
    /// Makes or changes something: asked twice, a platform without keys does it twice.
    Makes,
    /// Removes something by its own id: asked twice, it is gone all the same.
    Removes,
}

/// A request on its way to the world.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is asked: `restore`, `observe`.
    pub name: &'static str,
    /// What it would do.
    pub kind: Kind,
    /// The key of the call that asks, where it is sent.
    pub key: Option<&'a Key>,
    /// Whether the world has done already what this key asks for.
    pub is_done: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is served.
    Served,
    /// It is turned away: not allowed.
    Refused,
    /// It is turned away: too many.
    Throttled,
    /// It is answered with an error of the server, which did nothing.
    Failed,
    /// It is served, and the answer takes so long.
    Late(Span),
    /// It never arrives, and no answer comes.
    Lost,
    /// It is served, and no answer comes.
    Unanswered,
}

/// Whoever keeps the gate.
pub trait Keeper: Send + Sync {
    /// Says what becomes of a request.
    fn fate(&self, request: &Request<'_>) -> Fate;
    /// Hears that the world has served a request. Nobody else knows yet.
    fn served(&self, request: &Request<'_>);
}

/// A simulated target, or a branch of one, behind a gate.
#[derive(Clone)]
pub struct Gated {
    sim: Sim,
    keeper: Arc<dyn Keeper>,
    clock: Arc<dyn Clock>,
}

impl Gated {
    /// Puts a target behind a gate. Waiting for it is waiting on `clock`.
    pub fn new(sim: Sim, keeper: Arc<dyn Keeper>, clock: Arc<dyn Clock>) -> Self {
        Self { sim, keeper, clock }
    }

    async fn look<T>(&self, name: &'static str, ask: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass(&Request { name, kind: Kind::Looks, key: None, is_done: false }, ask).await
    }

    async fn act<T>(
        &self,
        (name, kind): (&'static str, Kind),
        key: Option<&Key>,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let is_done = key.map(|key| self.sim.has_done(key)).transpose()?.unwrap_or(false);
        self.pass(&Request { name, kind, key, is_done }, ask).await
    }

    async fn pass<T>(&self, request: &Request<'_>, ask: impl Future<Output = Result<T>>) -> Result<T> {
        let name = request.name;
        let turned_away = |code, why: &str| Err(Error::new(code, format!("`{name}` was turned away: {why}")));
        let fate = self.keeper.fate(request);
        match fate {
            Fate::Refused => return turned_away(Code::Denied, "not allowed"),
            Fate::Throttled => return turned_away(Code::Throttled, "too many requests"),
            Fate::Failed => return turned_away(Code::Unavailable, "the server has an error of its own"),
            Fate::Lost => return self.no_answer(request).await,
            Fate::Served | Fate::Late(_) | Fate::Unanswered => {}
        }
        let answer = ask.await?;
        self.keeper.served(request);
        match fate {
            Fate::Unanswered => return self.no_answer(request).await,
            Fate::Late(span) => self.clock.sleep(span).await,
            _ => {}
        }
        Ok(answer)
    }

    /// What only looks is given up after a while, and nothing has changed; of anything else nobody knows.
    async fn no_answer<T>(&self, request: &Request<'_>) -> Result<T> {
        let message = format!("`{}` was sent, and no answer came", request.name);
        self.clock.sleep(PATIENCE).await;
        Err(match request.kind {
            Kind::Looks => Error::new(Code::Timeout, message),
            Kind::Makes | Kind::Removes => Error::new(Code::Unknown, message),
        })
    }
}

#[async_trait]
impl Provider for Gated {
    async fn identity(&self) -> Result<Identity> {
        self.look("identity", self.sim.identity()).await
    }

    async fn project(&self) -> Result<Project> {
        self.look("project", self.sim.project()).await
    }

    async fn find(&self, key: &Key, intent: Option<&Value>) -> Result<Option<Job>> {
        self.look("find", self.sim.find(key, intent)).await
    }

    async fn observe(&self, job: &Job) -> Result<Observed> {
        self.look("observe", self.sim.observe(job)).await
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.act(("cancel", Kind::Removes), None, self.sim.cancel(job)).await
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
impl Backups for Gated {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.look("list", Backups::list(&self.sim)).await
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        self.look("get", Backups::get(&self.sim, id)).await
    }

    async fn create(&self, request: &BackupRequest, key: &Key) -> Result<Job> {
        self.act(("create", Kind::Makes), Some(key), Backups::create(&self.sim, request, key)).await
    }

    async fn plan_delete(&self, id: &str) -> Result<Deleted> {
        self.look("plan", self.sim.plan_delete(id)).await
    }

    async fn delete(&self, plan: &Deleted, key: &Key) -> Result<()> {
        self.act(("delete", Kind::Removes), Some(key), Backups::delete(&self.sim, plan, key)).await
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        self.look("verify", self.sim.verify(id)).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.act(("restore", Kind::Makes), Some(key), self.sim.restore(request, key, intent)).await
    }

    async fn window(&self) -> Result<Window> {
        self.look("window", self.sim.window()).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>> {
        self.look("events", self.sim.events(query)).await
    }

    async fn mark(&self, name: &str, key: &Key) -> Result<Mark> {
        self.act(("mark", Kind::Makes), Some(key), self.sim.mark(name, key)).await
    }

    async fn find_mark(&self, name: &str, key: &Key) -> Result<Option<Mark>> {
        self.look("find", self.sim.find_mark(name, key)).await
    }
}

#[async_trait]
impl Branches for Gated {
    async fn list(&self) -> Result<Vec<Branch>> {
        self.look("list", Branches::list(&self.sim)).await
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        self.look("get", Branches::get(&self.sim, name)).await
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let branch = self.look("open", self.sim.opened(name)).await?;
        Ok(Arc::new(Self { sim: branch, ..self.clone() }))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        self.act(("delete", Kind::Removes), None, Branches::delete(&self.sim, name, id)).await
    }

    async fn reset(&self, branch: &Branch, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.act(("reset", Kind::Makes), Some(key), self.sim.reset(branch, key, intent)).await
    }

    async fn promote(&self, branch: &Branch, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.act(("promote", Kind::Makes), Some(key), self.sim.promote(branch, key, intent)).await
    }
}

#[async_trait]
impl Schedules for Gated {
    async fn list(&self) -> Result<Vec<Schedule>> {
        self.look("list", Schedules::list(&self.sim)).await
    }

    async fn create(&self, request: &ScheduleRequest, key: &Key) -> Result<Schedule> {
        self.act(("create", Kind::Makes), Some(key), Schedules::create(&self.sim, request, key)).await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.act(("delete", Kind::Removes), None, Schedules::delete(&self.sim, id)).await
    }
}

#[async_trait]
impl Replicas for Gated {
    async fn list(&self) -> Result<Vec<Replica>> {
        self.look("list", Replicas::list(&self.sim)).await
    }

    async fn create(&self, request: &ReplicaRequest, key: &Key, intent: &dyn Accept) -> Result<Job> {
        let create = Replicas::create(&self.sim, request, key, intent);
        self.act(("create", Kind::Makes), Some(key), create).await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.act(("delete", Kind::Removes), None, Replicas::delete(&self.sim, id)).await
    }
}

#[async_trait]
impl Settings for Gated {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        self.look("get", Settings::get(&self.sim, names)).await
    }

    async fn set(&self, values: &Map<String, Value>, restart: bool) -> Result<Vec<String>> {
        self.act(("set", Kind::Makes), None, self.sim.set(values, restart)).await
    }
}

#[async_trait]
impl Network for Gated {
    async fn allowed(&self) -> Result<Allowed> {
        self.look("allowed", self.sim.allowed()).await
    }

    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<Allowed> {
        self.act(("allow", Kind::Makes), None, self.sim.allow(add, remove)).await
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        self.look("bans", self.sim.bans()).await
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        self.act(("unban", Kind::Removes), None, self.sim.unban(addresses)).await
    }

    async fn ssl(&self) -> Result<Ssl> {
        self.look("ssl", self.sim.ssl()).await
    }

    async fn enforce_ssl(&self, enforced: bool) -> Result<Ssl> {
        self.act(("enforce", Kind::Makes), None, self.sim.enforce_ssl(enforced)).await
    }
}

#[async_trait]
impl Lifecycle for Gated {
    async fn ready(&self) -> Result<Observed> {
        self.look("ready", self.sim.ready()).await
    }

    async fn pause(&self, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.act(("pause", Kind::Makes), Some(key), Lifecycle::pause(&self.sim, key, intent)).await
    }

    async fn resume(&self, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.act(("resume", Kind::Makes), Some(key), self.sim.resume(key, intent)).await
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        self.look("addons", self.sim.addons()).await
    }
}

#[async_trait]
impl Raw for Gated {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let ask = self.sim.ask(method, path, body);
        if method == "GET" {
            return self.look("ask", ask).await;
        }
        self.act(("ask", Kind::Makes), None, ask).await
    }
}

#[async_trait]
impl Sql for Gated {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        self.look("query", self.sim.query(sql, timeout)).await
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &Key,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        let execute = self.sim.execute(sql, timeout, key, accepted);
        self.act(("execute", Kind::Makes), Some(key), execute).await
    }

    async fn settle(&self, key: &Key, accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        self.look("settle", self.sim.settle(key, accepted)).await
    }

    async fn health(&self) -> Result<Health> {
        self.look("health", self.sim.health()).await
    }
}

#[async_trait]
impl Security for Gated {
    async fn policies(&self) -> Result<Vec<Policy>> {
        self.look("policies", self.sim.policies()).await
    }

    async fn audit(&self) -> Result<AuditReport> {
        self.look("audit", self.sim.audit()).await
    }
}
