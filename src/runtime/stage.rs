//! A stage: one engine, on which one runbook is run again and again, on the thread that asks.
//!
//! A run here is what it is anywhere else (the same calls, records and ends), without a thread, a signal handler or a
//! repository of its own. A panic leaves it as a kill leaves a process; the next run begins from nothing.

use super::{
    Ended, Failure, Refusal, Runbook, VERSION, Watch, check, drive, engine, fault,
    live::{Live, lock},
    permit, refused, targets,
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
pub(super) const INVARIANT: &str = "invariant";

/// One engine for many runs of one runbook.
pub struct Stage<'a> {
    runbook: &'a Runbook,
    params: Value,
    engine: Engine,
    tokio: tokio::runtime::Runtime,
}

/// What a run works with.
pub struct Scene {
    /// The targets.
    pub fleet: Arc<Fleet>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// Whoever looks.
    pub watch: Arc<dyn Watch>,
}

/// A process died; its run can be taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed;

impl<'a> Stage<'a> {
    /// The stack of a thread that a stage is on: nested calls to the limits of the language fit with room to spare.
    pub const STACK_BYTES: usize = engine::STACK_BYTES;

    /// Returns the stage of a runbook that may run with these parameters. It belongs on a thread with a large stack.
    ///
    /// # Errors
    /// When the machine gives nothing to wait with.
    pub fn new(runbook: &'a Runbook, params: Value) -> io::Result<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runbook, params, engine: engine::build(), tokio })
    }

    /// Checks a runbook and its parameters as a run would, and returns the parameters.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit(
        runbook: &Runbook,
        given: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Value, Refusal> {
        let params = runbook.params(given, config)?;
        check::refuses(&check::check(runbook)).map_or(Ok(params), |finding| Err(refused(finding)))
    }

    /// Returns the targets that the runbook and its parameters name.
    pub fn targets(runbook: &Runbook, params: &Value) -> Vec<String> {
        targets(runbook, params)
    }

    /// Runs the runbook under the id `run` to its end, to where it stops, or until somebody dies in it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn start(&mut self, scene: &Scene, run: &str) -> Result<Result<Ended, Killed>, Refusal> {
        let leases = catch_unwind(AssertUnwindSafe(|| self.leases(scene)));
        let leases = match leases {
            Ok(leases) => leases?,
            Err(_) => return Ok(Err(Killed)),
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
        Ok(self.play(scene, || scene.journal.create_as(run, &new))?)
    }

    fn leases(&self, scene: &Scene) -> Result<Vec<Lease>, Refusal> {
        let mut leases = Vec::new();
        for target in self.runbook.targets_given(&self.params) {
            let identity = self.tokio.block_on(async { scene.fleet.target(&target)?.identity().await })?;
            leases.extend(permit::lease(&target, &identity, &self.runbook.header.needs));
        }
        Ok(leases)
    }

    /// Takes a run up again.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn resume(&mut self, scene: &Scene, run: &str) -> Result<Result<Ended, Killed>, Refusal> {
        Ok(self.play(scene, || {
            let run = scene.journal.take(run)?;
            let leases = permit::leases(&run, &self.runbook.header.needs);
            scene.journal.lease(&leases, run.id(), &Holder::this_process())?;
            run.resume(VERSION, None).map(|()| run)
        })?)
    }

    /// Runs the runbook over a run, until it ends or stops, or somebody dies in it.
    fn play(
        &mut self,
        scene: &Scene,
        run: impl FnOnce() -> Result<journal::Run, journal::Error>,
    ) -> Result<Result<Ended, Killed>, journal::Error> {
        let Ok(run) = catch_unwind(AssertUnwindSafe(run)) else { return Ok(Err(Killed)) };
        // One branch at a time: what happens must not depend on the timing of threads.
        let place = (Arc::clone(&scene.fleet), self.tokio.handle().clone(), 1);
        let rights = Some(self.runbook.header.needs.clone());
        // Whoever rehearses has typed the names of the protected targets: they are copies.
        let confirmed: BTreeSet<String> = scene.fleet.targets().map(|t| t.name.clone()).collect();
        let (journal, watch) = (Arc::clone(&scene.journal), Arc::clone(&scene.watch));
        let live = Live::over(place, journal, run?, rights, watch, confirmed, false);
        let played = catch_unwind(AssertUnwindSafe(|| {
            drive::evaluate_with(&mut self.engine, &live, self.runbook, &self.params)
        }));
        // What is still deferred knows the run, and the run it; so does the engine.
        lock(&live.deferred).clear();
        self.engine.set_default_tag(Dynamic::UNIT);
        Ok(played.map_err(|_| Killed))
    }

    /// Returns whether the runbook says itself what must hold after it.
    pub fn has_invariant(&self) -> bool {
        self.runbook.ast.iter_functions().any(|f| f.name == INVARIANT && f.params.len() == 1)
    }

    /// Asks the runbook's own `invariant(world)`, which neither throws nor returns `false` when all is well.
    ///
    /// # Errors
    /// What it threw.
    pub fn invariant(&mut self, world: &Value) -> Result<(), Failure> {
        let options = CallFnOptions::new().eval_ast(false).rewind_scope(true);
        let mut scope = Scope::new();
        self.engine.on_progress(|_| None);
        let asked = self.engine.call_fn_with_options::<Dynamic>(
            options,
            &mut scope,
            &self.runbook.ast,
            INVARIANT,
            (to_dynamic(world),),
        );
        match asked {
            Ok(answer) if answer.as_bool() == Ok(false) => {
                let said = "`invariant` returned false";
                Err(Failure { fault: fault::of_runtime(fault::codes::ENSURE, said, None, None), place: None })
            }
            Ok(_) => Ok(()),
            Err(e) => Err(drive::failure(self.runbook, &e)),
        }
    }
}
