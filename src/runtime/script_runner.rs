//! A script runner: one engine that runs one runbook again and again, on the calling thread.
//!
//! Such a run is like any other (the same calls, records and ends), without a thread, a signal handler or a
//! git state of its own. A panic leaves it as a kill would; the next run starts afresh.

use super::{
    VERSION,
    check::{list_named_targets, require_runnable},
    end_run::RunResult,
    engine, evaluate, limits,
    observer::RunObserver,
    permit,
    prelude::{PreludeError, call_runbook_function_within_limits},
    refusal::Refusal,
    run_clock::RunClock,
    run_context::{RunContext, RunSetup},
    runbook::{INVARIANT_FN, ResolvedParams, Runbook},
    runbook_error::RunbookError,
    runs::admit_and_compare_text,
    script_error::codes,
    stop::StopReason,
    values::to_dynamic,
};
use crate::{
    base::{lock::lock_unpoisoned, moment::Moment},
    config::Config,
    journal::{self, EditedSources, Failure, Holder, Journal, Lease, NewRun, ScriptError},
    provider::{self, Fleet},
};
use rhai::{Dynamic, Engine};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Weak},
};

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
    /// Through which the process is asked to stop.
    pub stop_requester: Arc<StopRequester>,
}

/// Asks the process that is at a run to stop, as another process does that takes the run over.
#[derive(Default)]
pub struct StopRequester(Mutex<Weak<RunContext>>);

impl StopRequester {
    /// Asks, and lets the process see it now instead of when it looks next. Without a process nothing is asked.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn request_stop(&self, by: &str) -> Result<(), journal::Error> {
        let Some(context) = lock_unpoisoned(&self.0).upgrade() else { return Ok(()) };
        context.journal.request_stop(context.run.id(), by)?;
        evaluate::stop_if_requested(&context);
        Ok(())
    }

    /// Stops the process that is at a run because it met a limit, which the script cannot catch. Without a process nothing
    /// is stopped.
    pub fn stop_at_limit(&self, message: String) {
        let Some(context) = lock_unpoisoned(&self.0).upgrade() else { return };
        let hint = "look for a loop that does not end".to_owned();
        drop(context.stopper.stop_run(StopReason::Refused { message, hint }));
    }
}

/// The process died, as an observer pretends; its run can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessKilled;

impl<'a> ScriptRunner<'a> {
    /// The stack of a thread that has a runner: calls nested to the limits of the language fit with room to spare.
    pub const STACK_BYTES: usize = limits::STACK_BYTES;

    /// Creates the runner of a runbook with parameters that were admitted. It belongs on a thread with a large stack.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(runbook: &'a Runbook, params: Value) -> io::Result<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runbook, params, engine: engine::build_engine(), tokio })
    }

    /// Checks a runbook and its parameters as a run would that begins at `now`, and returns the parameters.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_and_resolve_params(
        runbook: &Runbook,
        given: &BTreeMap<String, String>,
        config: &Config,
        now: Moment,
    ) -> Result<ResolvedParams, Refusal> {
        require_runnable(runbook)?;
        runbook.resolve_params(given, config, &|_| Ok(now))
    }

    /// Refuses a runbook that a run would refuse, whatever its parameters are.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn require_runnable(runbook: &Runbook) -> Result<(), Refusal> {
        require_runnable(runbook)
    }

    /// Returns the targets that the runbook and its parameters name.
    pub fn list_targets(runbook: &Runbook, params: &Value) -> Vec<String> {
        list_named_targets(runbook, params)
    }

    /// Runs the runbook under the id `run` to its end, to where it stops, or to where the process dies.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn start_run(
        &mut self,
        resources: &RunResources,
        run: &str,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        let leases = catch_unwind(AssertUnwindSafe(|| self.list_needed_leases(resources)));
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
        let runbook = self.runbook;
        self.run_until_killed(resources, runbook, false, || {
            Ok(resources.journal.create_run_with_id(run, &new)?)
        })
    }

    fn list_needed_leases(&self, resources: &RunResources) -> provider::Result<Vec<Lease>> {
        let targets = self.runbook.targets_in_params(&self.params);
        let needs = &self.runbook.header.needs;
        self.tokio.block_on(permit::list_leases_needed_on_targets(&resources.fleet, &targets, needs))
    }

    /// Resumes a run with a text of its runbook. One that has changed is recorded as edited; what was recorded must match
    /// it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn resume_run(
        &mut self,
        resources: &RunResources,
        run: &str,
        runbook: &Runbook,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        self.run_until_killed(resources, runbook, false, || {
            let run = resources.journal.acquire_run(run)?;
            let is_edited = admit_and_compare_text(&resources.journal, run.id(), &run.copy_fold(), runbook)?;
            let leases = permit::list_leases_needed_by_run(&run, &runbook.header.needs)?;
            resources.journal.acquire_leases(&leases, run.id(), &Holder::this_process())?;
            run.record_resume(
                VERSION,
                is_edited.then(|| EditedSources { sources: runbook.sources(), params: Map::new() }),
            )?;
            Ok(run)
        })
    }

    /// Abandons a run with the text of [`journal::Run::edition_to_give_up`]: begun calls are resolved, nothing new
    /// begins, then it cleans up.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn abandon_run(
        &mut self,
        resources: &RunResources,
        run: &str,
        runbook: &Runbook,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        self.run_until_killed(resources, runbook, true, || {
            let run = resources.journal.acquire_run(run)?;
            run.record_giving_up(VERSION)?;
            Ok(run)
        })
    }

    /// Runs a runbook over a run, until it ends or stops, or the process dies.
    fn run_until_killed(
        &mut self,
        resources: &RunResources,
        runbook: &Runbook,
        is_abandoning: bool,
        run: impl FnOnce() -> Result<journal::Run, Refusal>,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        let Ok(run) = catch_unwind(AssertUnwindSafe(run)) else { return Ok(Err(ProcessKilled)) };
        let context = RunContext::new(RunSetup {
            fleet: Arc::clone(&resources.fleet),
            clock: RunClock::for_rehearsal(Arc::clone(resources.fleet.clock())),
            tokio: self.tokio.handle().clone(),
            // The result must not depend on the timing of threads.
            fork_limit: 1,
            journal: Arc::clone(&resources.journal),
            run: run?,
            rights: Some(runbook.header.needs.clone()),
            observer: Arc::clone(&resources.watch),
            targets: list_named_targets(self.runbook, &self.params),
            targets_in_params: self.runbook.targets_in_params(&self.params),
            // The targets are simulated copies.
            confirmed: resources.fleet.target_configs().map(|t| t.name.clone()).collect(),
            is_abandoning,
        });
        *lock_unpoisoned(&resources.stop_requester.0) = Arc::downgrade(&context);
        let driven = catch_unwind(AssertUnwindSafe(|| {
            evaluate::evaluate_with_engine(&mut self.engine, &context, runbook, &self.params)
        }));
        // Deferred clean-up and the run refer to each other, and the engine refers to the run; both are freed here.
        lock_unpoisoned(&context.deferred).clear();
        self.engine.set_default_tag(Dynamic::UNIT);
        Ok(driven.map_err(|_| ProcessKilled))
    }

    /// Returns whether the runbook has an `invariant(world)` function.
    pub fn has_invariant(&self) -> bool {
        self.runbook.ast.iter_functions().any(|f| f.name == INVARIANT_FN && f.params.len() == 1)
    }

    /// Asks the runbook's own `invariant(world)`, which neither throws nor returns `false` when all is well.
    ///
    /// # Errors
    /// It does not end, so that nothing can be judged.
    pub fn check_invariant(&mut self, world: &Value) -> Result<Result<(), Box<Failure>>, Refusal> {
        let answer = call_runbook_function_within_limits(
            &mut self.engine,
            self.runbook,
            INVARIANT_FN,
            (to_dynamic(world),),
        );
        match answer {
            Ok(holds) if holds.as_bool() == Ok(false) => {
                let said = "`invariant` returned false";
                Ok(Err(Box::new(Failure { fault: ScriptError::new(codes::ENSURE, said), place: None })))
            }
            Ok(_) => Ok(Ok(())),
            Err(PreludeError::Failed(failure)) => Ok(Err(failure)),
            Err(PreludeError::Endless) => Err(RunbookError::new("the invariant did not end")
                .with_hint("`fn invariant(world)` looks at what it is given, and returns; nothing was judged")
                .into()),
        }
    }
}
