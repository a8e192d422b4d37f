//! An embedded, simulated platform.
//!
//! A target is a world: a database whose content is a history of statements, with backups, branches and a clock of its
//! own that runs with the wall clock and is set forward instead of waited for. A world lives in one file under the state
//! folder and is made, from a world file or the built-in one, when first used.

mod archive;
mod backups;
mod branches;
mod content;
mod functions;
mod furnish;
pub mod gate;
mod history;
mod jobs;
mod network;
mod parameters;
mod portrait;
mod power;
mod raw;
mod recovery;
mod replicas;
mod schedules;
mod security;
mod settings;
mod shelf;
mod sql;
mod statement;
mod store;
mod switches;
mod tables;
mod template;
#[cfg(test)]
mod tests;
mod world;
mod written;

pub use portrait::NormalizedWorld;
pub use store::EffectRow;
pub use tables::{Column, ForeignKey, Table};
pub use template::WorldTemplate;
pub use world::SANDBOX;

use super::{
    Backups, Branches, Code, Error, Lifecycle, Network, OpenContext, Provider, Raw, Replicas, Result,
    Schedules, Security, Sql,
    model::{Branch, CallKey, Identity, Job, JobStatus, Project},
};
use crate::{
    base::{clock::Clock, moment::Span, suggest},
    config::TargetConfig,
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use store::WorldStore;
use world::WorldSpec;

/// A simulated target, or a branch of one.
#[derive(Clone)]
pub struct Sim {
    target: String,
    protect: bool,
    door: Arc<LazyStore>,
    branch: Option<Branch>,
}

/// A world's store, opened or made at first use.
struct LazyStore {
    path: PathBuf,
    text: String,
    clock: Arc<dyn Clock>,
    store: Mutex<Option<Arc<WorldStore>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimConfig {
    world: Option<String>,
}

/// Opens a simulated target.
///
/// # Errors
/// What its settings or its world file lack.
pub fn open_target(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(Sim::open(opening)?))
}

/// Returns the file in which the world of a target lives.
pub fn world_file(state: &Path, target: &str) -> PathBuf {
    state.join("worlds").join(format!("{target}.db"))
}

impl Sim {
    /// Opens a simulated target; its world is made when first used.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn open(opening: &OpenContext<'_>) -> Result<Self> {
        let target = opening.target;
        demand_file_name(&target.name)?;
        let settings = parse_config(target)?;
        let text = load_world_text(&settings, opening.base)?;
        let path = world_file(opening.state, &target.name);
        let door = LazyStore { path, text, clock: Arc::clone(opening.clock), store: Mutex::default() };
        Ok(Self { target: target.name.clone(), protect: target.protect, door: Arc::new(door), branch: None })
    }

    /// Returns a target whose world lives in memory only, made now from `world` under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn in_memory(target: &str, world: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let store = WorldStore::in_memory(target, world, id, Arc::clone(&clock))?;
        let store = Mutex::new(Some(Arc::new(store)));
        let door = LazyStore { path: PathBuf::new(), text: String::new(), clock, store };
        Ok(Self { target: target.into(), protect: false, door: Arc::new(door), branch: None })
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
    /// Whatever the world says.
    pub fn has_effect(&self, key: &CallKey) -> Result<bool> {
        self.open_store()?.read_world(|p| Ok(p.find_effect(key)?.is_some()))
    }

    fn open_store(&self) -> Result<Arc<WorldStore>> {
        let mut open = self.door.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.as_ref() {
            return Ok(Arc::clone(store));
        }
        let clock = Arc::clone(&self.door.clock);
        let store = Arc::new(WorldStore::open(&self.door.path, &self.target, &self.door.text, clock)?);
        *open = Some(Arc::clone(&store));
        Ok(store)
    }

    fn with_branch(&self, branch: Branch) -> Self {
        Self { branch: Some(branch), ..self.clone() }
    }

    fn display_name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}", self.target, branch.name),
            None => self.target.clone(),
        }
    }
}

/// Refuses a target whose name cannot be a file's: its world is kept under it.
fn demand_file_name(name: &str) -> Result<()> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(Error::new(
            Code::Invalid,
            format!("the target name `{name}` cannot be the name of a world's file"),
        )
        .with_hint("use letters, digits, `-` and `_`"));
    }
    Ok(())
}

/// Reads the settings of a target.
fn parse_config(target: &TargetConfig) -> Result<SimConfig> {
    target.settings.clone().try_into().map_err(|e: toml::de::Error| {
        let error =
            Error::new(Code::Invalid, format!("the settings of target `{}`: {}", target.name, e.message()));
        match suggest::hint_for_unknown_field(e.message()) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("`world` is `sandbox` or the path of a world file"),
        }
    })
}

/// Returns the text of the world that the settings name, after checking it.
fn load_world_text(settings: &SimConfig, base: &Path) -> Result<String> {
    let Some(path) = settings.world.as_deref().filter(|w| *w != "sandbox") else { return Ok(SANDBOX.into()) };
    let text = fs::read_to_string(base.join(path)).map_err(|why| {
        Error::new(Code::Invalid, format!("the world file `{path}` cannot be read: {why}"))
            .with_hint("`world` is `sandbox` or the path of a world file, relative to `redrill.toml`")
    })?;
    WorldSpec::parse_and_check(&text, path)?;
    Ok(text)
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
            version: Some(sql::version_text()),
            identity: identity.id,
            protect: self.protect,
        })
    }

    async fn find(&self, key: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        let effect = self.open_store()?.read_world(|p| p.find_effect(key))?;
        effect
            .map(|e| match e.kind.as_str() {
                kind if JOB_EFFECTS.contains(&kind) => backups::from_json(e.answer),
                _ => Ok(Job { kind: e.kind, id: key.0.clone(), detail: Value::Null }),
            })
            .transpose()
    }

    async fn observe(&self, job: &Job) -> Result<JobStatus> {
        match self.open_store()?.read_world(|p| p.poll_job(job))? {
            JobStatus::Done(_) if [jobs::PAUSE, jobs::RESUME].contains(&job.kind.as_str()) => {
                Ok(JobStatus::Done(backups::to_json(self.project().await?)?))
            }
            observed => Ok(observed),
        }
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        let act = |p: &store::WorldTx<'_>| Ok(p.cancel_job(job)?.then(|| job.id.clone().into()));
        self.open_store()?.apply_effect_if_needed(None, "job.cancel", &job.id, act).map(drop)
    }

    async fn pause(&self, clock: &dyn Clock, span: Span) {
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

    fn settings(&self) -> Result<&dyn super::Settings> {
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

/// The effects whose answer is a job.
const JOB_EFFECTS: &[&str] = &[
    "backup.create",
    "restore.branch",
    "restore.in_place",
    "replica.create",
    "branch.reset",
    "branch.promote",
    "project.pause",
    "project.resume",
];

impl Sim {
    fn demand_no_branch(&self, reason: &str, nearest: &str) -> Result<()> {
        match &self.branch {
            None => Ok(()),
            Some(branch) => Err(Error::unsupported(format!("{reason}: `{}`", branch.name), nearest)),
        }
    }
}
