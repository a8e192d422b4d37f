//! A runtime over the sandbox, with a state folder on the disk that is measured.

use crate::Result;
use redrill::{
    config::{self, Locations, SANDBOX},
    provider::Provider,
    runtime::{Event, Refusal, ResumeRequest, RunObserver, RunResult, Runbook, Runtime, StartRequest},
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

const RUNBOOK_HEADER: &str = r#"const RUNBOOK = #{ title: "bench", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "db.read"] };
    let db = params.db;
"#;

/// Returns a folder that goes away again, in `REDRILL_BENCH_FOLDER` or on the disk of `/var/tmp`. It should lie in no
/// repository, and other users get to it.
pub(crate) fn make_folder() -> Result<TempDir> {
    let place = std::env::var_os("REDRILL_BENCH_FOLDER").unwrap_or_else(|| "/var/tmp".into());
    let folder = tempfile::Builder::new().prefix("rd-").tempdir_in(place)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A runtime with the sandbox, and its state folder.
pub(crate) struct BenchEnv {
    pub(crate) runtime: Runtime,
    state: TempDir,
}

impl BenchEnv {
    pub(crate) fn new() -> Result<BenchEnv> {
        let state = make_folder()?;
        let locations = Locations { config: None, state: Some(state.path().into()) };
        Ok(BenchEnv { runtime: Runtime::new(config::load_config(&locations)?)?, state })
    }

    /// Returns the state folder.
    pub(crate) fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// Returns the provider that the calls of a run go to.
    pub(crate) fn open_sandbox(&self) -> Result<Arc<dyn Provider>> {
        Ok(self.runtime.fleet.open_target(SANDBOX)?)
    }

    /// Runs a script under a header that allows it what it does.
    pub(crate) fn run_script(
        &self,
        script: &str,
        stamps: &Arc<CallTimes>,
    ) -> std::result::Result<RunResult, Refusal> {
        let runbook = Runbook::from_text("bench.rhai", format!("{RUNBOOK_HEADER}{script}"))?;
        let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        self.runtime.start_run(start, Arc::clone(stamps) as Arc<dyn RunObserver>)
    }

    /// Takes the last run up again. Returns when it was taken.
    pub(crate) fn resume_last_run(&self, stamps: &Arc<CallTimes>) -> Result<Instant> {
        let journal = Arc::new(self.runtime.open_journal()?);
        let id = journal.resolve_run_id("last")?;
        let (run, runbook) = Runtime::acquire_run(&journal, &id)?;
        let taken = Instant::now();
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        // An error where the stamps were told to die, as they were.
        drop(self.runtime.resume_run(journal, resume, Arc::clone(stamps) as Arc<dyn RunObserver>));
        Ok(taken)
    }
}

/// Keeps when calls began and when they were replayed. Dies as a kill does at the beginning of a call, if told.
#[derive(Default)]
pub(crate) struct CallTimes {
    /// The call, counted from 1, at whose beginning to die.
    die_at: Option<usize>,
    begun: Mutex<Vec<Instant>>,
    replayed: Mutex<Vec<Instant>>,
}

impl CallTimes {
    /// Returns stamps that die at the beginning of a call, counted from 1.
    pub(crate) fn killed_at(call: usize) -> Arc<CallTimes> {
        Arc::new(CallTimes { die_at: Some(call), ..CallTimes::default() })
    }

    /// Returns the beginnings of the calls.
    pub(crate) fn start_times(&self) -> Vec<Instant> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when the calls were replayed.
    pub(crate) fn replay_times(&self) -> Vec<Instant> {
        self.replayed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RunObserver for CallTimes {
    fn on_event(&self, event: &Event<'_>) {
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
