//! One scenario while it is played: its worlds, its clock, its journal, and what is done to them between two processes.

use super::{
    edited_runbook::EditedRunbook,
    fault_injector::{FaultInjector, MAX_FAULTY_PROCESSES, PERSON},
    fault_plan::FaultPlan,
    limits::ProcessLimits,
    operators::{OperatorAct, TrueDecision},
    points::{Fault, FaultFamily},
    scenario_result::ScenarioResult,
    stage::Stage,
    world_snapshot::{WorldSnapshot, late_answer_error},
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::Span,
        sqlite::DbPool,
    },
    journal::{self, Journal, RecordObserver, RunFold},
    provider::{
        Fleet, Provider,
        sim::{
            COLLEAGUE_KINDS, Sim,
            faults::{FaultySim, LANDING_BOUND},
        },
    },
    runtime::{
        DecidableCall, DecisionRefusal, OpenApproval, ProcessKilled, Refusal, RunObserver, RunResources,
        StopRequester,
    },
};
use futures_util::FutureExt as _;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The id of the run, in every scenario: a run that is killed and resumed is still the same one.
pub(super) const RUN_ID: &str = "rehearse";
/// The pause between the death of a process and the resume.
const RESTART_DELAY: Span = Span::from_secs(60);
/// The same in every other schedule of several faults: what the dead process sent may land after the resume.
const QUICK_RESTART_DELAY: Span = Span::from_secs(5);

/// One scenario while it is played.
pub(super) struct RunningScenario<'a> {
    plan: &'a FaultPlan,
    stage: &'a Stage,
    pub(super) resources: RunResources,
    injector: Arc<FaultInjector>,
    pub(super) clock: Arc<VirtualClock>,
    /// The worlds, past the fault injector.
    sims: Vec<Sim>,
    /// The same worlds, behind it.
    faulty: Vec<FaultySim>,
    /// How many records were kept at the end of each process, where they are counted.
    pub(super) kept_records: Vec<usize>,
    /// What was done before which process, numbered from 0.
    pub(super) acts: Vec<(usize, OperatorAct)>,
    /// Whether the run is being abandoned.
    pub(super) is_given_up: bool,
    /// The edited text, once it was typed.
    pub(super) edited: Option<Arc<EditedRunbook>>,
    /// What took effect although the edited text did not match.
    pub(super) effects_of_mismatch: Vec<String>,
}

/// Where a run came to rest.
#[derive(Default)]
pub(super) struct RunAtRest {
    /// Why it was refused.
    pub(super) refused: Option<String>,
    /// Whether it never came to rest.
    pub(super) is_restless: bool,
}

impl<'a> RunningScenario<'a> {
    /// Sets a scenario up: copies of the worlds, behind the faults of a plan.
    pub(super) fn set_up(
        stage: &'a Stage,
        plan: &'a FaultPlan,
        limits: ProcessLimits,
        journals: &Arc<DbPool>,
    ) -> Result<Self, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(stage.now));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let world_clock = Arc::new(clock.without_wall_clock_shift()) as Arc<dyn Clock>;
        let stop_requester = Arc::<StopRequester>::default();
        let injector =
            FaultInjector::new(plan.clone(), limits, Arc::clone(&clock), Arc::clone(&stop_requester));
        let injector = Arc::new(injector);
        let copies = stage.templates.iter().map(|t| t.copy_world(Arc::clone(&world_clock)));
        let sims: Vec<Sim> = copies.collect::<Result<_, _>>()?;
        let to_faulty =
            |sim: &Sim| FaultySim::new(sim.clone(), Arc::clone(&injector) as _, Arc::clone(&world_clock));
        let faulty: Vec<FaultySim> = sims.iter().map(to_faulty).collect();
        let config = &stage.config;
        let names = config.targets.keys().zip(&faulty);
        let open: BTreeMap<String, Arc<dyn Provider>> =
            names.map(|(name, sim)| (name.clone(), Arc::new(sim.clone()) as Arc<dyn Provider>)).collect();
        let observer = Arc::clone(&injector) as Arc<dyn RecordObserver>;
        let resources = RunResources {
            fleet: Arc::new(Fleet::with_open_targets(Arc::clone(config), Arc::clone(&dyn_clock), open)),
            journal: Arc::new(Journal::open_in_memory(Arc::clone(&dyn_clock), observer, journals)?),
            watch: Arc::clone(&injector) as Arc<dyn RunObserver>,
            stop_requester,
        };
        Ok(Self {
            plan,
            stage,
            resources,
            injector,
            clock,
            sims,
            faulty,
            kept_records: Vec::new(),
            acts: Vec::new(),
            is_given_up: false,
            edited: None,
            effects_of_mismatch: Vec::new(),
        })
    }

    /// Lets time pass until the next process, and begins it.
    pub(super) fn begin_process(&self) {
        self.clock.advance_by(restart_delay(self.plan));
        self.injector.begin_process();
    }

    /// Returns whether a process met a limit, so that the run is not taken up again.
    pub(super) fn has_met_limit(&self) -> bool {
        self.injector.limit_met().is_some()
    }

    /// Returns what came of it, once everything has landed that was still on its way.
    pub(super) fn into_result(self, rest: RunAtRest) -> Result<ScenarioResult, Refusal> {
        let Self { plan, stage, resources, injector, edited, .. } = self;
        let reordered = match plan {
            FaultPlan::Reordered(forks) => Some(forks.clone()),
            _ => None,
        };
        let RunAtRest { refused, is_restless } = rest;
        let entries = resources.journal.read_records(RUN_ID).unwrap_or_default();
        let fold = RunFold::fold_until_illegal(&entries).0;
        let (failed, has_died_last) = injector.failures_and_death();
        let leases = resources.journal.list_leases(RUN_ID)?.len();
        land_everything(&self.faulty, &self.clock)?;
        let worlds = stage.config.targets.keys().zip(&self.sims);
        Ok(ScenarioResult {
            broken: if entries.is_empty() {
                None
            } else {
                resources.journal.verify_run(RUN_ID, None).err().map(|e| e.to_string())
            },
            leases,
            worlds: worlds
                .map(|(name, sim)| WorldSnapshot::from_world(name, sim))
                .collect::<Result<_, _>>()?,
            faults: injector.injected_faults(),
            reordered,
            acts: self.acts,
            edited: edited.filter(|_| fold.source_edition() > 0),
            effects_of_mismatch: self.effects_of_mismatch,
            kept_records: self.kept_records,
            repeated_requests: injector.repeated_requests(),
            calls_with_keyless_effects: injector.calls_with_keyless_effects(),
            premature_ends: injector.calls_ended_before_effect(),
            visits: injector.take_visits(),
            limit_met: injector.limit_met(),
            failed_clean_up: injector.take_failed_clean_up(),
            fold,
            entries,
            refused,
            failed,
            has_died_last,
            is_restless,
        })
    }

    /// Returns what is done before a process, if anything is.
    pub(super) fn operator_act_before_process(&self, process: u32) -> Option<OperatorAct> {
        match self.plan {
            FaultPlan::Operated(.., act) => (process == 1).then(|| act.clone()),
            FaultPlan::Seed(seed, families, edited)
                if families.has(FaultFamily::Operators) && process < MAX_FAULTY_PROCESSES =>
            {
                OperatorAct::draw(*seed, process, edited.as_ref())
            }
            _ => None,
        }
    }

    /// Returns the edited text, where it is the one by which the run goes.
    pub(super) fn edited_runbook_in_force(&self) -> Result<Option<Arc<EditedRunbook>>, Refusal> {
        self.edited_where(|fold| fold.source_edition() > 0)
    }

    /// Returns the edited text, where it is the one by which the run is given up.
    pub(super) fn edited_to_give_up(&self) -> Result<Option<Arc<EditedRunbook>>, Refusal> {
        self.edited_where(|fold| fold.edition_to_give_up() > 0)
    }

    fn edited_where(&self, holds: impl Fn(&RunFold) -> bool) -> Result<Option<Arc<EditedRunbook>>, Refusal> {
        let Some(edited) = &self.edited else { return Ok(None) };
        let entries = self.resources.journal.read_records(RUN_ID)?;
        Ok(holds(&RunFold::fold_until_illegal(&entries).0).then(|| Arc::clone(edited)))
    }

    /// Returns how many effects each world has had.
    pub(super) fn count_effects(&self) -> Result<Vec<usize>, Refusal> {
        self.sims.iter().map(|sim| Ok(sim.effect_log()?.len())).collect()
    }

    /// Returns what each world has had since it was counted, but for what was on its way, or is a colleague's.
    pub(super) fn list_effects_since(&self, before: &[usize]) -> Result<Vec<String>, Refusal> {
        if self.injector.injected_faults().iter().any(|struck| struck.fault.makes_answer_untrue()) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (sim, before) in self.sims.iter().zip(before) {
            let since = sim.effect_log()?.into_iter().skip(*before);
            let own = since.filter(|effect| !effect.kind.starts_with(COLLEAGUE_KINDS));
            found.extend(own.map(|effect| format!("`{}` of `{}`", effect.kind, effect.what)));
        }
        Ok(found)
    }

    /// Decides, as a person, about what the run waits for; nothing where it waits for nothing. The process that records
    /// that may die, too.
    pub(super) fn decide_gate(&self, approves: bool) -> Result<Result<(), ProcessKilled>, Refusal> {
        let decide = || -> Result<(), journal::Error> {
            let run = self.resources.journal.acquire_run(RUN_ID)?;
            for approval in OpenApproval::list_open_approvals(&run.copy_fold())? {
                approval.record_decision(&run, approves, PERSON)?;
            }
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(decided) => Ok(Ok(decided?)),
            Err(_) => Ok(Err(ProcessKilled)),
        }
    }

    /// Decides, as a person, about the call at which the run stopped, and returns whether there is one. The process that records
    /// that may die, too.
    pub(super) fn decide_call(
        &self,
        decision: &TrueDecision,
    ) -> Result<Result<bool, ProcessKilled>, Refusal> {
        let journal = &self.resources.journal;
        let decide = || match DecidableCall::acquire(journal, RUN_ID, "", true) {
            Ok(call) => {
                call.record_decision(journal, &decision.to_decision(), PERSON.into())?;
                Ok(true)
            }
            Err(DecisionRefusal::Journal(error)) => Err(error),
            Err(_) => Ok(false),
        };
        match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(decided) => Ok(Ok(decided?)),
            Err(_) => Ok(Err(ProcessKilled)),
        }
    }
}

/// Returns the pause between the death of a process and the resume.
fn restart_delay(plan: &FaultPlan) -> Span {
    match plan {
        FaultPlan::Seed(seed, ..) if seed % 2 == 1 => QUICK_RESTART_DELAY,
        // Whoever takes a run over goes on with it at once.
        FaultPlan::One(_, Fault::TakeOver(_)) => QUICK_RESTART_DELAY,
        _ => RESTART_DELAY,
    }
}

/// Lets everything land that was sent and has not yet: what comes after the run's end is seen by the invariants.
fn land_everything(worlds: &[FaultySim], clock: &VirtualClock) -> Result<(), Refusal> {
    if !worlds.iter().any(FaultySim::has_pending_requests) {
        return Ok(());
    }
    clock.advance_by(LANDING_BOUND);
    for world in worlds {
        world.land_due().now_or_never().ok_or_else(late_answer_error)??;
    }
    Ok(())
}
