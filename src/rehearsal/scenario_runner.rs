//! Runs one scenario: from the first record until the run has ended or stays stopped.

use super::{
    edited_runbook::EditedRunbook,
    fault_injector::{FaultInjector, MAX_FAULTY_PROCESSES, PERSON},
    fault_plan::FaultPlan,
    operators::{EditAct, OperatorAct, TrueDecision},
    points::{Fault, FaultFamily, InjectedFault, Visit},
    stage::Stage,
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::Span,
        sqlite::DbPool,
    },
    config::Config,
    journal::{self, Journal, JournalEntry, RecordObserver, RunFold, RunStatus},
    ops::spec::Permission,
    provider::{
        Backups, Branches, Fleet, Provider, Replicas, Schedules,
        model::{Backup, Branch, Replica, Schedule},
        sim::{
            COLLEAGUE_KINDS, EffectRow, NormalizedWorld, Sim, WorldFacts, WorldTemplate,
            faults::{FaultySim, LANDING_BOUND},
        },
    },
    runtime::{
        DecidableCall, DecisionRefusal, OpenApproval, ProcessKilled, Refusal, RemainderRule, RunObserver,
        RunResources, RunResult, Runbook, ScriptRunner, StopReason, StopRequester, end_as_abandoned,
    },
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The id of the run, in every scenario: a run that is killed and resumed is still the same one.
const RUN_ID: &str = "rehearse";
/// How often a run is resumed in all: more often than faults can be injected into it.
const MAX_RESUMES: u32 = 60;
/// How often a run is resumed that stopped by itself.
const MAX_RESUMES_AFTER_STOP: u32 = 3;
/// The pause between the death of a process and the resume.
const RESTART_DELAY: Span = Span::from_secs(60);
/// The same in every other schedule of several faults: what the dead process sent may land after the resume.
const QUICK_RESTART_DELAY: Span = Span::from_secs(5);

/// Runs the scenarios of one runbook, one after the other.
pub(super) struct ScenarioRunner<'a> {
    script_runner: ScriptRunner<'a>,
    runbook: &'a Runbook,
    stage: &'a Stage,
    /// The worlds in which every scenario begins.
    beginning: Vec<WorldSnapshot>,
    journals: Arc<DbPool>,
    /// Whether it counts the records that each process leaves, for a story.
    pub(super) counts_records: bool,
}

/// One scenario while it is played.
struct Scene<'a> {
    plan: &'a FaultPlan,
    resources: RunResources,
    injector: &'a FaultInjector,
    clock: &'a VirtualClock,
    /// The worlds, past the fault injector.
    sims: &'a [Sim],
    /// How many records were kept at the end of each process, where they are counted.
    kept_records: Vec<usize>,
    /// What was done before which process, numbered from 0.
    acts: Vec<(usize, OperatorAct)>,
    /// Whether the run is being abandoned.
    is_given_up: bool,
    /// The edited text, once it was typed.
    edited: Option<Arc<EditedRunbook>>,
    /// What took effect although the edited text did not match.
    effects_of_mismatch: Vec<String>,
}

/// Where a run came to rest.
#[derive(Default)]
struct Rest {
    /// Why it was refused.
    refused: Option<String>,
    /// Whether it never came to rest.
    is_restless: bool,
}

/// What came of a scenario.
pub(super) struct ScenarioResult {
    /// Every record that was kept.
    pub(super) entries: Vec<JournalEntry>,
    /// What the records come to.
    pub(super) fold: RunFold,
    /// Why the journal is not what it was, if so.
    pub(super) broken: Option<String>,
    /// The world of each target.
    pub(super) worlds: Vec<WorldSnapshot>,
    /// What was asked for again although the world had done it.
    pub(super) repeated_requests: Vec<String>,
    /// The calls whose requests without a key changed the world.
    pub(super) calls_with_keyless_effects: BTreeSet<String>,
    /// The calls that ended well before a request of theirs changed the world.
    pub(super) premature_ends: BTreeSet<String>,
    /// The faults that struck, in order.
    pub(super) faults: Vec<InjectedFault>,
    /// What operators did and what became of the clock, before which process, numbered from 0.
    pub(super) acts: Vec<(usize, OperatorAct)>,
    /// The edited text by which the run went in the end, where it was edited and matched what was recorded.
    pub(super) edited: Option<Arc<EditedRunbook>>,
    /// What took effect although an edited text did not match what was recorded.
    pub(super) effects_of_mismatch: Vec<String>,
    /// How many records were kept at the end of each process, where they are counted.
    pub(super) kept_records: Vec<usize>,
    /// Why it was refused: before anything was done, or when it was to be resumed.
    pub(super) refused: Option<String>,
    /// How many leases are still there.
    pub(super) leases: usize,
    /// How many requests failed, but for those of a process that was taken over or got no answer any more.
    pub(super) failed: u32,
    /// Whether the last process died, rather than seeing the run to where it is.
    pub(super) has_died_last: bool,
    /// Whether it was resumed as often as it may be and never came to rest.
    pub(super) is_restless: bool,
    /// Every visit to a point, where nothing went wrong.
    pub(super) visits: Vec<Visit>,
}

/// A world, as it was left.
pub(super) struct WorldSnapshot {
    pub(super) target: String,
    pub(super) normalized: NormalizedWorld,
    pub(super) log: Vec<EffectRow>,
    pub(super) unfinished: Vec<String>,
    pub(super) branches: Vec<Branch>,
    pub(super) backups: Vec<Backup>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) replicas: Vec<Replica>,
}

/// What the runbook and its targets say that the invariants need.
pub(super) struct RunbookRules<'a> {
    pub(super) needs: &'a [Permission],
    pub(super) leaves: &'a [RemainderRule],
    /// The world of each target, before the run.
    pub(super) beginning: &'a [WorldSnapshot],
    pub(super) config: &'a Config,
}

impl<'a> ScenarioRunner<'a> {
    pub(super) fn new(runbook: &'a Runbook, params: Value, stage: &'a Stage) -> Result<Self, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(stage.now)) as Arc<dyn Clock>;
        let snapshot = |(name, template): (&String, &WorldTemplate)| {
            snapshot_world(name, &template.copy_world(Arc::clone(&clock))?)
        };
        let worlds = stage.config.targets.keys().zip(&stage.templates);
        Ok(Self {
            script_runner: ScriptRunner::new(runbook, params)?,
            runbook,
            stage,
            beginning: worlds.map(snapshot).collect::<Result<_, _>>()?,
            journals: Arc::default(),
            counts_records: false,
        })
    }

    /// Returns the runner of another runbook on the same stage.
    pub(super) fn for_runbook<'r>(&self, runbook: &'r Runbook) -> Result<ScenarioRunner<'r>, Refusal>
    where
        'a: 'r,
    {
        ScenarioRunner::new(runbook, self.stage.params.clone(), self.stage)
    }

    pub(super) fn runbook_rules(&self) -> RunbookRules<'_> {
        let header = &self.runbook.header;
        RunbookRules {
            needs: &header.needs,
            leaves: &header.leaves,
            beginning: &self.beginning,
            config: &self.stage.config,
        }
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// What keeps any scenario from being run.
    pub(super) fn run_scenario(&mut self, plan: &FaultPlan) -> Result<ScenarioResult, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(self.stage.now));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let world_clock = Arc::new(clock.real_time_clock()) as Arc<dyn Clock>;
        let stop_requester = Arc::<StopRequester>::default();
        let injector =
            Arc::new(FaultInjector::new(plan.clone(), Arc::clone(&clock), Arc::clone(&stop_requester)));
        let sims: Vec<Sim> = self
            .stage
            .templates
            .iter()
            .map(|t| t.copy_world(Arc::clone(&world_clock)))
            .collect::<Result<_, _>>()?;
        let to_faulty =
            |sim: &Sim| FaultySim::new(sim.clone(), Arc::clone(&injector) as _, Arc::clone(&world_clock));
        let faulty: Vec<FaultySim> = sims.iter().map(to_faulty).collect();
        let config = &self.stage.config;
        let names = config.targets.keys().zip(&faulty);
        let open: BTreeMap<String, Arc<dyn Provider>> =
            names.map(|(name, sim)| (name.clone(), Arc::new(sim.clone()) as Arc<dyn Provider>)).collect();
        let observer = Arc::clone(&injector) as Arc<dyn RecordObserver>;
        let resources = RunResources {
            fleet: Arc::new(Fleet::with_open_targets(Arc::clone(config), Arc::clone(&dyn_clock), open)),
            journal: Arc::new(Journal::open_in_memory(Arc::clone(&dyn_clock), observer, &self.journals)?),
            watch: Arc::clone(&injector) as Arc<dyn RunObserver>,
            stop_requester,
        };
        let mut scene = Scene {
            plan,
            resources,
            injector: &injector,
            clock: &clock,
            sims: &sims,
            kept_records: Vec::new(),
            acts: Vec::new(),
            is_given_up: false,
            edited: None,
            effects_of_mismatch: Vec::new(),
        };
        let Rest { refused, is_restless } = self.run_to_rest(&mut scene);
        let Scene { resources, kept_records, acts, edited, effects_of_mismatch, .. } = scene;
        let entries = resources.journal.read_records(RUN_ID).unwrap_or_default();
        let fold = RunFold::from_entries(&entries).0;
        let (failed, has_died_last) = injector.failures_and_death();
        let leases = resources.journal.list_leases(RUN_ID)?.len();
        land_everything(&faulty, &clock)?;
        Ok(ScenarioResult {
            broken: if entries.is_empty() {
                None
            } else {
                resources.journal.verify_run(RUN_ID, None).err().map(|e| e.to_string())
            },
            leases,
            worlds: config
                .targets
                .keys()
                .zip(&sims)
                .map(|(name, sim)| snapshot_world(name, sim))
                .collect::<Result<_, _>>()?,
            faults: injector.injected_faults(),
            acts,
            edited: edited.filter(|_| fold.source_edition() > 0),
            effects_of_mismatch,
            kept_records,
            repeated_requests: injector.repeated_requests(),
            calls_with_keyless_effects: injector.calls_with_keyless_effects(),
            premature_ends: injector.calls_ended_before_effect(),
            visits: injector.take_visits(),
            fold,
            entries,
            refused,
            failed,
            has_died_last,
            is_restless,
        })
    }

    /// Runs the runbook, and takes it up until it stays where it is.
    fn run_to_rest(&mut self, scene: &mut Scene<'_>) -> Rest {
        let mut stops = 0;
        let mut ended = self.script_runner.start_run(&scene.resources, RUN_ID);
        for process in 1..=MAX_RESUMES {
            if self.counts_records {
                let records = scene.resources.journal.read_records(RUN_ID);
                scene.kept_records.push(records.map_or(0, |records| records.len()));
            }
            match ended {
                Err(refusal) => return Rest { refused: Some(refusal.to_string()), ..Rest::default() },
                Ok(Ok(ended)) if ended.status.is_final() => return Rest::default(),
                // Whoever took it over goes on.
                Ok(Ok(ended)) if ended.status == RunStatus::Interrupted => {}
                Ok(Ok(_)) if stops == MAX_RESUMES_AFTER_STOP => return Rest::default(),
                Ok(Ok(_)) => stops += 1,
                Ok(Err(_)) => {}
            }
            let status = scene.resources.journal.summarize_run(RUN_ID).ok().map(|run| run.status);
            if status.is_some_and(RunStatus::is_final) {
                return Rest::default();
            }
            scene.clock.advance_by(restart_delay(scene.plan));
            scene.injector.begin_process();
            ended = match status {
                Some(status) => self.take_up_run(scene, process, status),
                // Killed before there was a run: whoever started it starts it again.
                None => self.script_runner.start_run(&scene.resources, RUN_ID),
            };
        }
        Rest { is_restless: true, ..Rest::default() }
    }

    /// Takes a run up that stands still: resumes it, unless an operator does something else.
    fn take_up_run(
        &mut self,
        scene: &mut Scene<'_>,
        process: u32,
        status: RunStatus,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        if let Some(act) = scene.next_act(process) {
            act.move_clock(scene.clock);
            match &act {
                OperatorAct::Abandon => scene.is_given_up = true,
                OperatorAct::Decide(decision) if status == RunStatus::Undecided => {
                    scene.decide_call(decision)?;
                }
                OperatorAct::ApproveLate | OperatorAct::RejectLate => {
                    let approves = matches!(act, OperatorAct::ApproveLate);
                    let decided = scene.decide_gate(approves)?;
                    if let Err(killed) = decided {
                        scene.acts.push((process as usize, act));
                        return Ok(Err(killed));
                    }
                }
                OperatorAct::Edit(edit) => {
                    let edit = edit.clone();
                    scene.acts.push((process as usize, act));
                    return self.resume_edited(scene, &edit);
                }
                OperatorAct::Leave => {
                    let left =
                        catch_unwind(AssertUnwindSafe(|| end_as_abandoned(&scene.resources.journal, RUN_ID)));
                    scene.acts.push((process as usize, act));
                    // It has ended, or the process died: either way the next look tells.
                    return left.map_or(Ok(Err(ProcessKilled)), |left| Ok(left.map(|_| Err(ProcessKilled))?));
                }
                _ => {}
            }
            scene.acts.push((process as usize, act));
        }
        let edited = scene.edited_in_force()?;
        let runbook = edited.as_ref().map_or(self.runbook, |edited| &edited.runbook);
        if scene.is_given_up {
            return self.script_runner.abandon_run(&scene.resources, RUN_ID, runbook);
        }
        if edited.is_some() {
            return self.resume_with_edit(scene, runbook);
        }
        self.script_runner.resume_run(&scene.resources, RUN_ID, runbook)
    }

    /// Resumes a run with an edited text, and looks whether one that does not match does anything.
    fn resume_with_edit(
        &mut self,
        scene: &mut Scene<'_>,
        edited: &Runbook,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        let before = scene.count_effects()?;
        let resumed = self.script_runner.resume_run(&scene.resources, RUN_ID, edited)?;
        if is_mismatch(&resumed) {
            scene.effects_of_mismatch.extend(scene.list_effects_since(&before)?);
            // The last line says so: the text that counts does not match, and a resume would meet the same.
            scene.is_given_up |= scene.edited_in_force()?.is_some();
        }
        Ok(resumed)
    }

    /// Resumes a run with the text that an operator has edited.
    fn resume_edited(
        &mut self,
        scene: &mut Scene<'_>,
        edit: &EditAct,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        if edit.approves
            && let Err(killed) = scene.decide_gate(true)?
        {
            return Ok(Err(killed));
        }
        scene.edited = Some(Arc::clone(&edit.edited));
        let resumed = match self.resume_with_edit(scene, &edit.edited.runbook) {
            // Nothing was done: a run that is ending takes no edit.
            Err(Refusal::Runbook(_)) => Err(ProcessKilled),
            resumed => resumed?,
        };
        scene.is_given_up |= edit.gives_up && scene.edited_in_force()?.is_none();
        Ok(resumed)
    }

    /// Returns what the runbook's own `invariant(world)` has against a result.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) fn check_author_invariant(
        &mut self,
        result: &ScenarioResult,
    ) -> Result<Option<String>, Refusal> {
        if !self.script_runner.has_invariant() {
            return Ok(None);
        }
        let held = self.script_runner.check_invariant(&worlds_to_json(result))?;
        Ok(held.err().map(|failure| failure.fault.message))
    }
}

impl Scene<'_> {
    /// Returns what is done before a process, if anything is.
    fn next_act(&self, process: u32) -> Option<OperatorAct> {
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
    fn edited_in_force(&self) -> Result<Option<Arc<EditedRunbook>>, Refusal> {
        let Some(edited) = &self.edited else { return Ok(None) };
        let entries = self.resources.journal.read_records(RUN_ID)?;
        let is_in_force = RunFold::from_entries(&entries).0.source_edition() > 0;
        Ok(is_in_force.then(|| Arc::clone(edited)))
    }

    /// Returns how many effects each world has had.
    fn count_effects(&self) -> Result<Vec<usize>, Refusal> {
        self.sims.iter().map(|sim| Ok(sim.effect_log()?.len())).collect()
    }

    /// Returns what each world has had since it was counted, but for what was on its way, or is a colleague's.
    fn list_effects_since(&self, before: &[usize]) -> Result<Vec<String>, Refusal> {
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
    fn decide_gate(&self, approves: bool) -> Result<Result<(), ProcessKilled>, Refusal> {
        let decide = || -> Result<(), journal::Error> {
            let run = self.resources.journal.acquire_run(RUN_ID)?;
            for approval in OpenApproval::list_in_run(&run)? {
                approval.record_decision(&run, approves, PERSON)?;
            }
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(decided) => Ok(Ok(decided?)),
            Err(_) => Ok(Err(ProcessKilled)),
        }
    }

    /// Decides, as a person, about the call at which the run stopped.
    fn decide_call(&self, decision: &TrueDecision) -> Result<(), Refusal> {
        let journal = &self.resources.journal;
        match DecidableCall::acquire(journal, RUN_ID, "", true) {
            Ok(call) => Ok(call.record_decision(&decision.to_decision(), "the rehearsal".into())?),
            Err(DecisionRefusal::Journal(error)) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }
}

impl ScenarioResult {
    /// Returns where the run stands; nothing for one that never was.
    pub(super) fn status(&self) -> Option<RunStatus> {
        self.fold.status()
    }

    /// Returns whether the run has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.status().is_some_and(RunStatus::is_final)
    }

    /// Returns whether somebody rejected what a gate asked for.
    pub(super) fn is_rejected(&self) -> bool {
        self.faults.iter().any(|struck| matches!(struck.fault, Fault::Rejection))
            || self.acts.iter().any(|(_, act)| matches!(act, OperatorAct::RejectLate))
    }

    /// Returns whether an operator, or the clock, may have made the run end otherwise.
    pub(super) fn is_ended_by_operator(&self) -> bool {
        self.acts.iter().any(|(_, act)| act.may_change_end())
    }
}

/// Returns whether a process stopped because its text does not match what was recorded.
fn is_mismatch(ended: &Result<RunResult, ProcessKilled>) -> bool {
    matches!(ended, Ok(RunResult { stop: Some(StopReason::Mismatch { .. }), .. }))
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
    if !worlds.iter().any(FaultySim::has_pending) {
        return Ok(());
    }
    clock.advance_by(LANDING_BOUND);
    for world in worlds {
        world.land_due().now_or_never().ok_or_else(late_answer_error)??;
    }
    Ok(())
}

/// Returns the error of a request that the simulator did not answer at once.
fn late_answer_error() -> io::Error {
    io::Error::other("the simulator answers at once")
}

/// Takes a snapshot of a world, past the fault injector.
fn snapshot_world(target: &str, sim: &Sim) -> Result<WorldSnapshot, Refusal> {
    let normalized = sim.normalized_world()?;
    let branches = Branches::list(sim).now_or_never().ok_or_else(late_answer_error)??;
    let backups = Backups::list(sim).now_or_never().ok_or_else(late_answer_error)??;
    let schedules = Schedules::list(sim).now_or_never().ok_or_else(late_answer_error)??;
    let replicas = Replicas::list(sim).now_or_never().ok_or_else(late_answer_error)??;
    Ok(WorldSnapshot {
        target: target.into(),
        normalized,
        log: sim.effect_log()?,
        unfinished: sim.unfinished_jobs()?,
        branches,
        backups,
        schedules,
        replicas,
    })
}

/// Returns the final worlds as the runbook's own invariant sees them.
fn worlds_to_json(result: &ScenarioResult) -> Value {
    let of = |world: &WorldSnapshot| {
        let WorldSnapshot { normalized, log, branches, backups, .. } = world;
        WorldFacts { normalized, log, branches, backups }.to_json()
    };
    let targets: BTreeMap<&str, Value> = result.worlds.iter().map(|s| (s.target.as_str(), of(s))).collect();
    let all = |field: &str| -> Value {
        targets.values().flat_map(|t| t[field].as_array().into_iter().flatten().cloned()).collect()
    };
    json!({
        "status": result.status().map_or("refused", RunStatus::as_str),
        "left_behind": result.fold.left_behind(),
        "branches": all("branches"),
        "backups": all("backups"),
        "effects": all("effects"),
        "targets": targets,
    })
}
