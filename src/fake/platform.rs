//! The platform: its projects, branches and workflows, and its ledger.

use super::{
    actions::Workflow,
    branches::BranchRow,
    door::RateLimiter,
    faults::FaultRules,
    ledger::Ledger,
    options::ServerOptions,
    project::{Project, WorldSource},
    reference,
};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        moment::{Moment, Span},
    },
    provider::{Code, Error, Result, postgres::platform_cluster, sim::WorldTemplate},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The slug of the only organization.
pub(super) const ORGANIZATION: &str = "redrill-practice";
/// The durations that a world file may set, each with its default.
const WORLD_DURATIONS: &[(&str, &str)] = &[
    ("backup_duration", "2m"),
    ("restore_duration", "2m"),
    ("replica_duration", "5m"),
    ("pause_duration", "1m"),
    ("resume_duration", "5m"),
    ("apply_duration", "10s"),
];
/// The region of every project.
pub(super) const REGION: &str = "eu-central-1";

/// The state of the platform, shared by all requests.
pub(super) struct Platform {
    pub(super) options: ServerOptions,
    pub(super) ledger: Ledger,
    pub(super) faults: FaultRules,
    pub(super) counts: RateLimiter,
    projects: Mutex<BTreeMap<String, Arc<Project>>>,
    /// The references of the root projects, oldest first.
    order: Vec<String>,
    /// The branches, oldest first.
    branches: Mutex<Vec<BranchRow>>,
    /// The workflows, oldest first.
    runs: Mutex<Vec<Workflow>>,
    numbers: AtomicU64,
    engine: String,
}

impl Platform {
    /// Creates a platform whose projects start as copies of the worlds in `options`.
    ///
    /// # Errors
    /// A world that cannot be read, or none at all.
    pub(super) fn new(options: ServerOptions) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut templates = Vec::new();
        for world in &options.worlds {
            let text = shorten_durations(&world.text, options.speed)?;
            let id = reference::derive_letters(&format!("{} {text}", world.name));
            let template = WorldTemplate::from_text(&world.name, &text, &id, Arc::clone(&clock))?;
            templates.push((world.name.clone(), Arc::new(template)));
        }
        if templates.is_empty() {
            return Err(Error::new(Code::Invalid, "there is no world").with_hint("give at least one"));
        }
        let mut projects = BTreeMap::new();
        let mut order = Vec::new();
        for number in 0..options.projects.max(templates.len()) {
            let (world, template) = &templates[number % templates.len()];
            let copy = number / templates.len();
            let name = if copy == 0 { world.clone() } else { format!("{world}-{}", copy + 1) };
            let reference = reference::derive_letters(&format!("{name} {}", template.id()));
            let source = WorldSource::Template(Arc::clone(template));
            let project = Project::new(reference.clone(), name, None, clock.now(), source);
            order.push(reference.clone());
            projects.insert(reference, Arc::new(project));
        }
        Ok(Self {
            ledger: Ledger::default(),
            faults: FaultRules::from_rules(&options.faults),
            counts: RateLimiter::default(),
            projects: Mutex::new(projects),
            order,
            branches: Mutex::default(),
            runs: Mutex::default(),
            numbers: AtomicU64::new(1),
            engine: if options.postgres { platform_cluster::installed_major_version().ok() } else { None }
                .unwrap_or_else(|| "17".into()),
            options,
        })
    }

    /// Returns the current time.
    #[expect(clippy::unused_self, reason = "it is the platform's time")]
    pub(super) fn now(&self) -> Moment {
        SystemClock.now()
    }

    /// Returns the PostgreSQL version in the platform's notation, such as `17.4.1.054`.
    pub(super) fn postgres_version(&self) -> String {
        format!("{}.4.1.054", self.postgres_engine())
    }

    /// Returns the PostgreSQL major version: that of the installed one where `--postgres` is on.
    pub(super) fn postgres_engine(&self) -> &str {
        &self.engine
    }

    /// Returns `span` of the real platform, shortened by the server's speed.
    pub(super) fn scale_span(&self, span: Span) -> Span {
        divide_span(span, self.options.speed)
    }

    /// Returns a number that was never returned before.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Returns the projects that are not branches, oldest first.
    pub(super) fn root_projects(&self) -> Vec<Arc<Project>> {
        let projects = self.lock_projects();
        self.order.iter().filter_map(|reference| projects.get(reference).cloned()).collect()
    }

    /// Returns every project: the root projects, then the branches in order of their references.
    pub(super) fn all_projects(&self) -> Vec<Arc<Project>> {
        let branches = self.lock_projects().values().filter(|p| p.is_branch()).cloned().collect::<Vec<_>>();
        self.root_projects().into_iter().chain(branches).collect()
    }

    /// Returns a project by its reference.
    pub(super) fn find_project(&self, reference: &str) -> Option<Arc<Project>> {
        self.lock_projects().get(reference).cloned()
    }

    /// Adds a project; it replaces one with the same reference.
    pub(super) fn insert_project(&self, project: Project) {
        let before = self.lock_projects().insert(project.reference.clone(), Arc::new(project));
        drop(before);
    }

    /// Removes a project.
    pub(super) fn remove_project(&self, reference: &str) {
        let gone = self.lock_projects().remove(reference);
        drop(gone);
    }

    /// Locks the list of branches.
    pub(super) fn lock_branches(&self) -> MutexGuard<'_, Vec<BranchRow>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the list of workflows.
    pub(super) fn lock_workflows(&self) -> MutexGuard<'_, Vec<Workflow>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops every project, and so every cluster behind one.
    pub(super) fn drop_projects(&self) {
        let gone = std::mem::take(&mut *self.lock_projects());
        drop(gone);
    }

    fn lock_projects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Project>>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the text of a world file with its durations divided by `speed`.
fn shorten_durations(text: &str, speed: u32) -> Result<String> {
    // A file that does not parse stays as written, so that the error names its own lines.
    let Ok(mut world) = text.parse::<toml::Table>() else { return Ok(text.into()) };
    if speed <= 1 {
        return Ok(text.into());
    }
    for (name, preset) in WORLD_DURATIONS {
        let written = world.get(*name).and_then(|v| v.as_str()).unwrap_or(preset);
        let Ok(span) = Span::parse(written) else { return Ok(text.into()) };
        world.insert((*name).into(), divide_span(span, speed).to_string().into());
    }
    toml::to_string(&world).map_err(|e| Error::new(Code::Internal, format!("a world cannot be written: {e}")))
}

fn divide_span(span: Span, speed: u32) -> Span {
    let speed = i32::try_from(speed.max(1)).unwrap_or(i32::MAX);
    Span(span.0 / speed)
}
