//! The platform: its projects, and what it keeps of them besides the worlds.

use super::{
    actions::Run,
    branches::Row,
    door::Counts,
    faults::Faults,
    ledger::Ledger,
    options::Options,
    project::{Project, Source},
    reference,
};
use crate::{
    base::{
        clock::{Clock, Machine},
        moment::{Moment, Span},
    },
    provider::{Code, Error, Result, postgres::stand_in, sim::Template},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The name of the one organization, as it is in an address.
pub(super) const ORGANIZATION: &str = "redrill-practice";
/// What takes time in a world, and how long when it does not say.
const DURATIONS: &[(&str, &str)] = &[
    ("backup_duration", "2m"),
    ("restore_duration", "2m"),
    ("replica_duration", "5m"),
    ("pause_duration", "1m"),
    ("resume_duration", "5m"),
    ("apply_duration", "10s"),
];
/// Where everything is.
pub(super) const REGION: &str = "eu-central-1";

/// The platform.
pub(super) struct Platform {
    /// What it was started with.
    pub(super) options: Options,
    /// What took effect.
    pub(super) ledger: Ledger,
    /// What goes wrong.
    pub(super) faults: Faults,
    /// How often it was asked.
    pub(super) counts: Counts,
    projects: Mutex<BTreeMap<String, Arc<Project>>>,
    /// The order in which projects were made.
    order: Vec<String>,
    /// Every branch that there is, oldest first.
    branches: Mutex<Vec<Row>>,
    /// Every workflow that was begun, oldest first.
    runs: Mutex<Vec<Run>>,
    numbers: AtomicU64,
    engine: String,
}

impl Platform {
    /// Returns a platform whose projects begin in the worlds of `options`.
    ///
    /// # Errors
    /// What a world lacks.
    pub(super) fn new(options: Options) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(Machine);
        let mut templates = Vec::new();
        for world in &options.worlds {
            let text = hurried(&world.text, options.speed)?;
            let id = reference::letters(&format!("{} {text}", world.name));
            let template = Template::of_text(&world.name, &text, &id, Arc::clone(&clock))?;
            templates.push((world.name.clone(), Arc::new(template)));
        }
        if templates.is_empty() {
            return Err(Error::new(Code::Invalid, "there is no world").hint("give at least one"));
        }
        let mut projects = BTreeMap::new();
        let mut order = Vec::new();
        for number in 0..options.projects.max(templates.len()) {
            let (world, template) = &templates[number % templates.len()];
            let copy = number / templates.len();
            let name = if copy == 0 { world.clone() } else { format!("{world}-{}", copy + 1) };
            let reference = reference::letters(&format!("{name} {}", template.id()));
            let source = Source::Template(Arc::clone(template));
            let project = Project::new(reference.clone(), name, None, clock.now(), source);
            order.push(reference.clone());
            projects.insert(reference, Arc::new(project));
        }
        Ok(Self {
            ledger: Ledger::default(),
            faults: Faults::of(&options.faults),
            counts: Counts::default(),
            projects: Mutex::new(projects),
            order,
            branches: Mutex::default(),
            runs: Mutex::default(),
            numbers: AtomicU64::new(1),
            engine: if options.postgres { stand_in::major().ok() } else { None }
                .unwrap_or_else(|| "17".into()),
            options,
        })
    }

    /// Returns the present moment.
    #[expect(clippy::unused_self, reason = "it is the platform's time")]
    pub(super) fn now(&self) -> Moment {
        Machine.now()
    }

    /// Returns the version of the databases, as the platform writes it.
    pub(super) fn version(&self) -> String {
        format!("{}.4.1.054", self.engine())
    }

    /// Returns the major version of the databases: of the real ones, where there are any.
    pub(super) fn engine(&self) -> &str {
        &self.engine
    }

    /// Returns how long here takes what takes `span` on the real platform.
    pub(super) fn takes(&self, span: Span) -> Span {
        shortened(span, self.options.speed)
    }

    /// Returns a number that nobody has got yet.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Returns the projects that are no branches, oldest first.
    pub(super) fn roots(&self) -> Vec<Arc<Project>> {
        let projects = self.projects();
        self.order.iter().filter_map(|reference| projects.get(reference).cloned()).collect()
    }

    /// Returns every project: the roots, and then the branches by their letters.
    pub(super) fn all(&self) -> Vec<Arc<Project>> {
        let branches = self.projects().values().filter(|p| p.is_branch()).cloned().collect::<Vec<_>>();
        self.roots().into_iter().chain(branches).collect()
    }

    /// Returns a project by its letters.
    pub(super) fn project(&self, reference: &str) -> Option<Arc<Project>> {
        self.projects().get(reference).cloned()
    }

    /// Adds a project, in the place of another with the same letters.
    pub(super) fn put(&self, project: Project) {
        let before = self.projects().insert(project.reference.clone(), Arc::new(project));
        drop(before);
    }

    /// Removes a project.
    pub(super) fn remove(&self, reference: &str) {
        let gone = self.projects().remove(reference);
        drop(gone);
    }

    /// Returns the branches.
    pub(super) fn branches(&self) -> MutexGuard<'_, Vec<Row>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the workflows.
    pub(super) fn runs(&self) -> MutexGuard<'_, Vec<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of everything.
    pub(super) fn close(&self) {
        let gone = std::mem::take(&mut *self.projects());
        drop(gone);
    }

    fn projects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Project>>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a world in which what takes time takes less.
fn hurried(text: &str, speed: u32) -> Result<String> {
    // Tried as it is first, so that what is wrong is said of the lines that were written.
    let Ok(mut world) = text.parse::<toml::Table>() else { return Ok(text.into()) };
    if speed <= 1 {
        return Ok(text.into());
    }
    for (name, preset) in DURATIONS {
        let written = world.get(*name).and_then(|v| v.as_str()).unwrap_or(preset);
        let Ok(span) = Span::parse(written) else { return Ok(text.into()) };
        world.insert((*name).into(), shortened(span, speed).to_string().into());
    }
    toml::to_string(&world).map_err(|e| Error::new(Code::Internal, format!("a world cannot be written: {e}")))
}

fn shortened(span: Span, speed: u32) -> Span {
    let speed = i32::try_from(speed.max(1)).unwrap_or(i32::MAX);
    Span(span.0 / speed)
}
