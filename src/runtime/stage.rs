//! A script runner: one engine that runs one runbook again and again, on the calling thread.
//!
//! A run here is like any other (the same calls, records and ends), without a thread, a signal handler or a
//! git state of its own. A panic leaves it as a kill would; the next run starts afresh.

use super::{
    Failure, Refusal, RunObserver, RunResult, Runbook, VERSION, check, drive, engine, fault,
    list_named_targets,
    live::{RunContext, lock_unpoisoned},
    permit, to_refusal,
    values::to_dynamic,
};
use crate::{
    config::Config,
    journal::{self, Holder, Journal, Lease, NewRun},
    provider::Fleet,
};
use rhai::{CallFnOptions, Dynamic, Engine, Scope};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The function of a runbook that says what must hold after it, whatever went wrong.
pub(super) const INVARIANT_FN: &str = "invariant";

/// One engine for many runs of one runbook.
pub struct ScriptRunner<'a> {
    runbook: &'a Runbook,
    params: Value,
    engine: Engine,
    tokio: tokio::runtime::Runtime,
}

/// The fleet, journal and observer of a run.
pub struct RunResources {
    pub fleet: Arc<Fleet>,
    pub journal: Arc<Journal>,
    pub watch: Arc<dyn RunObserver>,
}

/// A process died; its run can be taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessKilled;

impl<'a> ScriptRunner<'a> {
    /// The stack of a thread that a stage is on: nested calls to the limits of the language fit with room to spare.
    pub const STACK_BYTES: usize = engine::STACK_BYTES;

    /// Returns the stage of a runbook that may run with these parameters. It belongs on a thread with a large stack.
    ///
    /// # Errors
    /// When the machine gives nothing to wait with.
    pub fn new(runbook: &'a Runbook, params: Value) -> io::Result<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runbook, params, engine: engine::build_engine(), tokio })
    }

    /// Checks a runbook and its parameters as a run would, and returns the parameters.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit_runbook(
        runbook: &Runbook,
        given: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Value, Refusal> {
        let params = runbook.resolve_params(given, config)?;
        check::find_blocking(&check::check_runbook(runbook))
            .map_or(Ok(params), |finding| Err(to_refusal(finding)))
    }

    /// Returns the targets that the runbook and its parameters name.
    pub fn list_targets(runbook: &Runbook, params: &Value) -> Vec<String> {
        list_named_targets(runbook, params)
    }

    /// Runs the runbook under the id `run` to its end, to where it stops, or until somebody dies in it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn start_run(
        &mut self,
        scene: &RunResources,
        run: &str,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        let leases = catch_unwind(AssertUnwindSafe(|| self.find_leases(scene)));
        let leases = match leases {
            Ok(leases) => leases?,
            Err(_) => return Ok(Err(ProcessKilled)),
        };
        let new = NewRun {
            runbook: self.runbook.path.clone(),
            title: self.runbook.header.title.clone(),
            params: self.params.clone(),
            sources: self.runbook.sources(),
            git: None,
            version: VERSION.into(),
            leases,
        };
        Ok(self.run_until_killed(scene, || scene.journal.create_run_as(run, &new))?)
    }

    fn find_leases(&self, scene: &RunResources) -> Result<Vec<Lease>, Refusal> {
        let mut leases = Vec::new();
        for target in self.runbook.targets_in_params(&self.params) {
            let identity =
                self.tokio.block_on(async { scene.fleet.open_target(&target)?.identity().await })?;
            leases.extend(permit::lease_for_target(&target, &identity, &self.runbook.header.needs));
        }
        Ok(leases)
    }

    /// Takes a run up again.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn resume_run(
        &mut self,
        scene: &RunResources,
        run: &str,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        Ok(self.run_until_killed(scene, || {
            let run = scene.journal.acquire_run(run)?;
            let leases = permit::leases_for_run(&run, &self.runbook.header.needs);
            scene.journal.acquire_leases(&leases, run.id(), &Holder::this_process())?;
            run.record_resume(VERSION, None).map(|()| run)
        })?)
    }

    /// Runs the runbook over a run, until it ends or stops, or somebody dies in it.
    fn run_until_killed(
        &mut self,
        scene: &RunResources,
        run: impl FnOnce() -> Result<journal::Run, journal::Error>,
    ) -> Result<Result<RunResult, ProcessKilled>, journal::Error> {
        let Ok(run) = catch_unwind(AssertUnwindSafe(run)) else { return Ok(Err(ProcessKilled)) };
        // One fork at a time: the result must not depend on the timing of threads.
        let place = (Arc::clone(&scene.fleet), self.tokio.handle().clone(), 1);
        let rights = Some(self.runbook.header.needs.clone());
        // Every protected target is confirmed: they are simulated copies.
        let confirmed: BTreeSet<String> = scene.fleet.target_configs().map(|t| t.name.clone()).collect();
        let (journal, watch) = (Arc::clone(&scene.journal), Arc::clone(&scene.watch));
        let live = RunContext::with_fleet(place, journal, run?, rights, watch, confirmed, false);
        let played = catch_unwind(AssertUnwindSafe(|| {
            drive::evaluate_with_engine(&mut self.engine, &live, self.runbook, &self.params)
        }));
        // What is still deferred knows the run, and the run it; so does the engine.
        lock_unpoisoned(&live.deferred).clear();
        self.engine.set_default_tag(Dynamic::UNIT);
        Ok(played.map_err(|_| ProcessKilled))
    }

    /// Returns whether the runbook has an `invariant(world)` function.
    pub fn has_invariant(&self) -> bool {
        self.runbook.ast.iter_functions().any(|f| f.name == INVARIANT_FN && f.params.len() == 1)
    }

    /// Asks the runbook's own `invariant(world)`, which neither throws nor returns `false` when all is well.
    ///
    /// # Errors
    /// What it threw.
    pub fn check_invariant(&mut self, world: &Value) -> Result<(), Failure> {
        let options = CallFnOptions::new().eval_ast(false).rewind_scope(true);
        let mut scope = Scope::new();
        self.engine.on_progress(|_| None);
        let asked = self.engine.call_fn_with_options::<Dynamic>(
            options,
            &mut scope,
            &self.runbook.ast,
            INVARIANT_FN,
            (to_dynamic(world),),
        );
        match asked {
            Ok(answer) if answer.as_bool() == Ok(false) => {
                let said = "`invariant` returned false";
                Err(Failure {
                    fault: fault::runtime_error(fault::codes::ENSURE, said, None, None),
                    place: None,
                })
            }
            Ok(_) => Ok(()),
            Err(e) => Err(drive::to_failure(self.runbook, &e)),
        }
    }
}
