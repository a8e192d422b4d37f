//! A state folder of its own on the disk that everything is measured on, and a world over it.

use crate::Result;
use redrill::{
    config::{self, Locations, SANDBOX},
    provider::Provider,
    runtime::{Ended, Event, Refusal, Resume, Runbook, Start, Watch, World},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tempfile::TempDir;

const HEADER: &str = r#"const RUNBOOK = #{ title: "bench", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "db.read"] };
    let db = params.db;
"#;

/// Returns a folder that goes away again, in `REDRILL_BENCH_FOLDER` or on the disk of `/var/tmp`. It should lie in no
/// repository, and other users get to it.
pub(crate) fn folder() -> Result<TempDir> {
    let place = std::env::var_os("REDRILL_BENCH_FOLDER").unwrap_or_else(|| "/var/tmp".into());
    let folder = tempfile::Builder::new().prefix("fd-").tempdir_in(place)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A world with the sandbox in it.
pub(crate) struct Stage {
    pub(crate) world: World,
    state: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Result<Stage> {
        let state = folder()?;
        let locations = Locations { config: None, state: Some(state.path().into()) };
        Ok(Stage { world: World::new(config::load(&locations)?)?, state })
    }

    /// Returns the state folder.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// Returns the provider that the calls of a run go to.
    pub(crate) fn sandbox(&self) -> Result<Arc<dyn Provider>> {
        Ok(self.world.fleet.target(SANDBOX)?)
    }

    /// Runs a script under a header that allows it what it does.
    pub(crate) fn run(&self, script: &str, stamps: &Arc<Stamps>) -> std::result::Result<Ended, Refusal> {
        let runbook = Runbook::of_text("bench.rhai", format!("{HEADER}{script}"))?;
        let start = Start { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        self.world.start(start, Arc::clone(stamps) as Arc<dyn Watch>)
    }

    /// Takes the last run up again. Returns when it was taken.
    pub(crate) fn resume(&self, stamps: &Arc<Stamps>) -> Result<Instant> {
        let journal = Arc::new(self.world.journal()?);
        let id = journal.resolve("last")?;
        let (run, runbook, params) = World::take(&journal, &id)?;
        let taken = Instant::now();
        let resume = Resume { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
        // An error where the stamps were told to die, as they were.
        drop(self.world.resume(journal, resume, Arc::clone(stamps) as Arc<dyn Watch>));
        Ok(taken)
    }
}

/// Keeps when calls began and when they were replayed. Dies as a kill does at the beginning of a call, if told.
#[derive(Default)]
pub(crate) struct Stamps {
    /// The call, counted from 1, at whose beginning to die.
    die_at: Option<usize>,
    begun: Mutex<Vec<Instant>>,
    replayed: Mutex<Vec<Instant>>,
}

impl Stamps {
    /// Returns stamps that die at the beginning of a call, counted from 1.
    pub(crate) fn dying_at(call: usize) -> Arc<Stamps> {
        Arc::new(Stamps { die_at: Some(call), ..Stamps::default() })
    }

    /// Returns the beginnings of the calls.
    pub(crate) fn begun(&self) -> Vec<Instant> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when the calls were replayed.
    pub(crate) fn replayed(&self) -> Vec<Instant> {
        self.replayed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watch for Stamps {
    fn event(&self, event: &Event<'_>) {
        let stamps = match event {
            Event::CallStarted { .. } => &self.begun,
            Event::CallReplayed { .. } => &self.replayed,
            _ => return,
        };
        let mut stamps = stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.push(Instant::now());
        if matches!(event, Event::CallStarted { .. }) && Some(stamps.len()) == self.die_at {
            drop(stamps);
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
}
