//! A simulated target, or a branch of one, as a provider.

use super::{
    config::{read_world_text, world_file_path},
    world::{EffectRow, WorldStart, WorldStore, WorldTx, from_micros, version_text},
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    provider::{
        Backups, Branches, Code, Error, Lifecycle, Network, OpenContext, Provider, Raw, Replicas, Result,
        Schedules, Security, Settings, Sql,
        model::{Branch, CallKey, EffectKind, Identity, Job, JobStatus, LandingLimit, Project},
    },
};
use async_trait::async_trait;
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// Returns until when a request of a kind may still take effect once nobody waits for its answer.
pub(in crate::provider) fn landing_limit_of_kind(_: EffectKind) -> LandingLimit {
    LandingLimit::Fenced("a request is one transaction of the process that asks, and is gone with it")
}

/// Opens a simulated target, as a provider.
///
/// # Errors
/// What its settings or its world file lack.
pub fn open_target(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(Sim::open(opening)?))
}

/// A simulated target, or a branch of one.
#[derive(Clone)]
pub struct Sim {
    pub(super) target: String,
    protect: bool,
    store: Arc<LazyStore>,
    /// The branch, where this is one.
    pub(super) branch: Option<Branch>,
}

/// A world's store, opened or made at first use.
struct LazyStore {
    path: PathBuf,
    /// The text that the world is made from.
    text: String,
    clock: Arc<dyn Clock>,
    open: Mutex<Option<Arc<WorldStore>>>,
}

impl LazyStore {
    fn open(&self, target: &str) -> Result<Arc<WorldStore>> {
        let mut open = lock_unpoisoned(&self.open);
        if let Some(store) = open.as_ref() {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(WorldStore::open(&self.path, target, &self.text, Arc::clone(&self.clock))?);
        *open = Some(Arc::clone(&store));
        Ok(store)
    }
}

impl Sim {
    /// Opens a simulated target; its world is made when first used.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn open(opening: &OpenContext<'_>) -> Result<Self> {
        let target = opening.target;
        let text = read_world_text(opening)?;
        let path = world_file_path(opening.state, &target.name);
        let store = LazyStore { path, text, clock: Arc::clone(opening.clock), open: Mutex::default() };
        Ok(Self {
            target: target.name.clone(),
            protect: target.protect,
            store: Arc::new(store),
            branch: None,
        })
    }

    /// Returns a target whose world lives in memory only, made now from `world` under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn in_memory(target: &str, world: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let beginning = WorldStart { anchor: clock.now(), statements: &[] };
        let store = WorldStore::in_memory(target, world, id, &beginning, Arc::clone(&clock))?;
        Ok(Self::with_store(target, false, store, clock))
    }

    /// Returns a target whose world is open.
    pub(super) fn with_store(target: &str, protect: bool, store: WorldStore, clock: Arc<dyn Clock>) -> Self {
        let open = Mutex::new(Some(Arc::new(store)));
        let store = LazyStore { path: PathBuf::new(), text: String::new(), clock, open };
        Self { target: target.into(), protect, store: Arc::new(store), branch: None }
    }

    /// Returns a branch of this target, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`] with the nearest name.
    #[expect(clippy::unused_async, reason = "a real platform would be asked here")]
    pub async fn open_branch(&self, name: &str) -> Result<Sim> {
        let branch = self.open_store()?.read_current_world(|tx| tx.find_branch(name))?;
        Ok(Self { branch: Some(branch), ..self.clone() })
    }

    /// Returns everything that took effect in the world, oldest first.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn effect_log(&self) -> Result<Vec<EffectRow>> {
        self.open_store()?.effect_log()
    }

    /// Returns whether anything took effect under a key.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn has_effect(&self, key: &CallKey) -> Result<bool> {
        self.open_store()?.read_current_world(|tx| Ok(tx.find_effect(key)?.is_some()))
    }

    /// Returns how many effects there were in the world.
    ///
    /// # Errors
    /// Whatever the world's file says.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    pub(super) fn count_effects(&self) -> Result<i64> {
        self.open_store()?.read_current_world(|tx| tx.count_effects())
    }

    /// Returns the time on the world's clock.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn world_time(&self) -> Result<Moment> {
        self.open_store()?.read_current_world(|tx| Ok(from_micros(tx.now)))
    }

    /// Returns the same target or branch in a copy of the world, in memory, which goes its own way from now on.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub(super) fn copy_world(&self) -> Result<Self> {
        let copy = self.open_store()?.copy_to_memory()?;
        let clock = Arc::clone(&self.store.clock);
        Ok(Self { branch: self.branch.clone(), ..Self::with_store(&self.target, self.protect, copy, clock) })
    }

    /// Returns this target or branch as it is in the world of another.
    pub(super) fn same_target_in_world_of(&self, other: &Self) -> Self {
        Self { store: Arc::clone(&other.store), ..self.clone() }
    }

    /// Returns the ids of the jobs that were accepted and are not over.
    ///
    /// # Errors
    /// Whatever the world's file says.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    pub fn unfinished_job_ids(&self) -> Result<Vec<String>> {
        self.open_store()?.read_current_world(|tx| tx.unfinished_job_ids())
    }

    /// Returns the store of the world.
    pub(super) fn open_store(&self) -> Result<Arc<WorldStore>> {
        self.store.open(&self.target)
    }

    /// Returns the timeline that answers queries of this target or branch now.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while none does.
    pub(super) fn answering_timeline(&self, tx: &WorldTx<'_>) -> Result<i64> {
        let Some(branch) = &self.branch else {
            tx.demand_powered_on(Code::Unavailable)?;
            tx.demand_not_being_replaced(Code::Unavailable)?;
            return Ok(tx.main_timeline()?.id);
        };
        let row = tx.demand_branch(&branch.id)?;
        if row.branch.status == "ready" {
            return Ok(row.line);
        }
        let message = format!("the branch `{}` is {}", branch.name, row.branch.status);
        Err(Error::new(Code::Unavailable, message).with_hint("wait for it"))
    }

    fn display_name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}", self.target, branch.name),
            None => self.target.clone(),
        }
    }

    fn demand_no_branch(&self, reason: &str, nearest: &str) -> Result<()> {
        match &self.branch {
            None => Ok(()),
            Some(branch) => Err(Error::unsupported(format!("{reason}: `{}`", branch.name), nearest)),
        }
    }
}

#[async_trait]
impl Provider for Sim {
    async fn identity(&self) -> Result<Identity> {
        let store = self.open_store()?;
        let id = match &self.branch {
            Some(branch) => format!("sim:{}:{}", store.id(), branch.id),
            None => format!("sim:{}", store.id()),
        };
        Ok(Identity {
            description: format!("{}, simulated, as `{}`", store.title(), self.display_name()),
            id,
        })
    }

    async fn project(&self) -> Result<Project> {
        let identity = self.identity().await?;
        Ok(Project {
            name: self.display_name(),
            provider: "sim".into(),
            status: self.health().await?.status,
            version: Some(version_text()),
            identity: identity.id,
            protect: self.protect,
        })
    }

    async fn find_job(&self, key: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        self.find_recorded_job(key)
    }

    async fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        JobStatus::treat_poll_error_as_failure(self.poll_recorded_job(job).await)
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.cancel_job(job)
    }

    fn landing_limit(&self, kind: EffectKind) -> LandingLimit {
        landing_limit_of_kind(kind)
    }

    fn simulated_clock_lead(&self) -> Result<Option<Span>> {
        self.open_store()?.clock_lead().map(Some)
    }

    fn raise_clock_lead(&self, lead: Span) -> Result<()> {
        self.open_store()?.raise_clock_lead(lead)
    }

    async fn let_time_pass(&self, clock: &dyn Clock, span: Span) {
        // If the world's clock cannot be set forward, wait for real.
        let passed = self.open_store().and_then(|store| store.advance_clock(span));
        if passed.is_err() {
            clock.sleep(span).await;
        }
    }

    fn backups(&self) -> Result<&dyn Backups> {
        self.demand_no_branch(
            "a branch has no backups of its own",
            "delete it and restore into a new branch",
        )?;
        Ok(self)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        self.demand_no_branch("a branch has no branches", "make another branch of the target")?;
        Ok(self)
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(self)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(self)
    }

    fn schedules(&self) -> Result<&dyn Schedules> {
        self.demand_no_branch("a branch has no backups of its own", "put the target on a schedule")?;
        Ok(self)
    }

    fn replicas(&self) -> Result<&dyn Replicas> {
        self.demand_no_branch("a branch has no replicas", "make another branch of the target")?;
        Ok(self)
    }

    fn settings(&self) -> Result<&dyn Settings> {
        self.demand_no_branch("a branch has the settings of its target", "ask the target")?;
        Ok(self)
    }

    fn network(&self) -> Result<&dyn Network> {
        self.demand_no_branch("a branch is cut off from the network by itself", "ask the target")?;
        Ok(self)
    }

    fn lifecycle(&self) -> Result<&dyn Lifecycle> {
        self.demand_no_branch("a branch is not switched on and off", "delete it, or ask the target")?;
        Ok(self)
    }

    fn raw(&self) -> Result<&dyn Raw> {
        self.demand_no_branch("a branch has no interface of its own", "ask the target")?;
        Ok(self)
    }
}
