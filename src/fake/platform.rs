//! The platform: its projects, branches and workflows, and its ledger.

use super::{
    branch::BranchRow,
    faults::FaultRules,
    ledger::Ledger,
    options::ServerOptions,
    profile::PlatformProfile,
    project::{Project, WorldSource},
    rate_limit::RateLimiter,
    seeded_id,
    stale_reads::StaleReads,
    workflow::Workflow,
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::clock::SystemClock,
    provider::{Code, Error, Result, sim::WorldTemplate},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The state of the platform, shared by all requests.
pub(super) struct Platform {
    pub(super) profile: Arc<PlatformProfile>,
    pub(super) ledger: Ledger,
    pub(super) faults: FaultRules,
    pub(super) stale_reads: StaleReads,
    pub(super) limiter: RateLimiter,
    projects: Mutex<BTreeMap<String, Arc<Project>>>,
    /// The references of the root projects, oldest first.
    order: Vec<String>,
    /// The branches, oldest first.
    branches: Mutex<Vec<BranchRow>>,
    /// The workflows, oldest first.
    workflows: Mutex<Vec<Workflow>>,
    numbers: AtomicU64,
}

impl Platform {
    /// Creates a platform whose projects start as copies of the worlds in `options`.
    ///
    /// # Errors
    /// A world that cannot be read, or none at all.
    pub(super) fn new(options: ServerOptions) -> Result<Self> {
        let profile = Arc::new(PlatformProfile::new(options));
        let projects = create_projects(&profile)?;
        Ok(Self {
            ledger: Ledger::default(),
            faults: FaultRules::from_rules(&profile.options.faults),
            stale_reads: StaleReads::default(),
            limiter: RateLimiter::default(),
            order: projects.iter().map(|project| project.reference.clone()).collect(),
            projects: Mutex::new(projects.into_iter().map(|p| (p.reference.clone(), Arc::new(p))).collect()),
            branches: Mutex::default(),
            workflows: Mutex::default(),
            numbers: AtomicU64::new(1),
            profile,
        })
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
        lock_unpoisoned(&self.branches)
    }

    /// Locks the list of workflows.
    pub(super) fn lock_workflows(&self) -> MutexGuard<'_, Vec<Workflow>> {
        lock_unpoisoned(&self.workflows)
    }

    /// Drops every project, and so every cluster behind one.
    pub(super) fn drop_projects(&self) {
        let gone = std::mem::take(&mut *self.lock_projects());
        drop(gone);
    }

    fn lock_projects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Project>>> {
        lock_unpoisoned(&self.projects)
    }
}

/// Creates the root projects; they take the worlds in turn.
fn create_projects(profile: &Arc<PlatformProfile>) -> Result<Vec<Project>> {
    let templates = read_templates(profile)?;
    let count = profile.options.projects.max(templates.len());
    let projects = templates.iter().cycle().take(count).enumerate().map(|(number, (world, template))| {
        let copy = number / templates.len();
        let name = if copy == 0 { world.clone() } else { format!("{world}-{}", copy + 1) };
        let reference = seeded_id::derive_letters(&format!("{name} {}", template.id()));
        let source = WorldSource::Template(Arc::clone(template));
        Project::new(Arc::clone(profile), reference, name, None, profile.now(), source)
    });
    Ok(projects.collect())
}

/// Reads the world files, each with its name.
fn read_templates(profile: &PlatformProfile) -> Result<Vec<(String, Arc<WorldTemplate>)>> {
    let mut templates = Vec::new();
    for world in &profile.options.worlds {
        let text = profile.shorten_durations(&world.text)?;
        let id = seeded_id::derive_letters(&format!("{} {text}", world.name));
        let template = WorldTemplate::from_text(&world.name, &text, &id, Arc::new(SystemClock))?;
        templates.push((world.name.clone(), Arc::new(template)));
    }
    if templates.is_empty() {
        return Err(Error::new(Code::Invalid, "there is no world").with_hint("give at least one"));
    }
    Ok(templates)
}
