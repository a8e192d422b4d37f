//! Runs one scenario: from the first record until the run has ended or stays stopped.

use super::{
    fault_plan::FaultPlan,
    limits::ProcessLimits,
    operators::{EditAct, OperatorAct, TrueDecision},
    points::{Fault, Point, PointKind, Visit},
    runbook_rules::RunbookRules,
    scenario_result::ScenarioResult,
    scene::{RUN_ID, RunAtRest, RunningScenario},
    stage::Stage,
    undone::KnownCleanUps,
    world_snapshot::{WorldSnapshot, worlds_to_json},
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        sqlite::DbPool,
    },
    journal::RunStatus,
    ops::{self, spec::Effect},
    provider::sim::WorldTemplate,
    runtime::{
        CLEAN_UP_PATH, ProcessKilled, Refusal, RunResult, Runbook, ScriptRunner, StopReason, end_as_abandoned,
    },
};
use serde_json::Value;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// How often a run is resumed in all: more often than faults can be injected into it.
const MAX_RESUMES: u32 = 60;
/// How often a run is resumed that stopped by itself.
const MAX_RESUMES_AFTER_STOP: u32 = 3;
/// The most ends of a run that are looked at to know what its clean-up undoes.
const MAX_CLEAN_UPS_LOOKED_AT: usize = 32;

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
    /// What one process may do at most.
    pub(super) limits: ProcessLimits,
    /// What the clean-up of the runbook undoes, once that was learnt.
    clean_ups: KnownCleanUps,
    knows_clean_ups: bool,
}

impl<'a> ScenarioRunner<'a> {
    pub(super) fn new(runbook: &'a Runbook, params: Value, stage: &'a Stage) -> Result<Self, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(stage.now)) as Arc<dyn Clock>;
        let snapshot = |(name, template): (&String, &WorldTemplate)| {
            WorldSnapshot::from_world(name, &template.copy_world(Arc::clone(&clock))?)
        };
        let worlds = stage.config.targets.keys().zip(&stage.templates);
        Ok(Self {
            script_runner: ScriptRunner::new(runbook, params)?,
            runbook,
            stage,
            beginning: worlds.map(snapshot).collect::<Result<_, _>>()?,
            journals: Arc::default(),
            counts_records: false,
            limits: ProcessLimits::USUAL,
            clean_ups: KnownCleanUps::default(),
            knows_clean_ups: false,
        })
    }

    /// Returns the runner of another runbook on the same stage.
    pub(super) fn for_runbook<'r>(&self, runbook: &'r Runbook) -> Result<ScenarioRunner<'r>, Refusal>
    where
        'a: 'r,
    {
        let mut runner = ScenarioRunner::new(runbook, self.stage.params.clone(), self.stage)?;
        runner.limits = self.limits;
        Ok(runner)
    }

    pub(super) fn runbook_rules(&self) -> RunbookRules<'_> {
        let header = &self.runbook.header;
        RunbookRules {
            needs: &header.needs,
            leaves: &header.leaves,
            beginning: &self.beginning,
            config: &self.stage.config,
            clean_ups: &self.clean_ups,
        }
    }

    /// Learns what the clean-up of the runbook undoes, once: the run is given up behind each effect and at its end, where
    /// nothing fails and all clean-up is done. `visits` are those of the undisturbed run.
    ///
    /// # Errors
    /// What keeps any scenario from being run.
    pub(super) fn learn_clean_ups(&mut self, visits: &[Visit]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.knows_clean_ups, true) {
            return Ok(());
        }
        for point in list_points_to_abandon_at(visits) {
            let plan = FaultPlan::Operated(point, Fault::Crash, OperatorAct::Abandon);
            let result = self.run_scenario(&plan)?;
            self.clean_ups.add_undone_by_clean_up(&result);
        }
        Ok(())
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// What keeps any scenario from being run.
    pub(super) fn run_scenario(&mut self, plan: &FaultPlan) -> Result<ScenarioResult, Refusal> {
        let mut scene = RunningScenario::set_up(self.stage, plan, self.limits, &self.journals)?;
        let rest = self.run_to_rest(&mut scene);
        scene.into_result(rest)
    }

    /// Runs the runbook, and takes it up until it stays where it is.
    fn run_to_rest(&mut self, scene: &mut RunningScenario<'_>) -> RunAtRest {
        let mut stops = 0;
        let mut ended = self.script_runner.start_run(&scene.resources, RUN_ID);
        for process in 1..=MAX_RESUMES {
            if self.counts_records {
                let records = scene.resources.journal.read_records(RUN_ID);
                scene.kept_records.push(records.map_or(0, |records| records.len()));
            }
            if scene.has_met_limit() {
                return RunAtRest::default();
            }
            match ended {
                Err(refusal) => {
                    return RunAtRest { refused: Some(refusal.to_string()), ..RunAtRest::default() };
                }
                Ok(Ok(ended)) if ended.status.is_final() => return RunAtRest::default(),
                // Whoever took it over goes on.
                Ok(Ok(ended)) if ended.status == RunStatus::Interrupted => {}
                Ok(Ok(_)) if stops == MAX_RESUMES_AFTER_STOP => return RunAtRest::default(),
                Ok(Ok(_)) => stops += 1,
                Ok(Err(_)) => {}
            }
            let status = scene.resources.journal.summarize_run(RUN_ID).ok().map(|run| run.status);
            if status.is_some_and(RunStatus::is_final) {
                return RunAtRest::default();
            }
            scene.begin_process();
            ended = match status {
                Some(status) => self.resume_or_apply_operator_act(scene, process, status),
                // Killed before there was a run: whoever started it starts it again.
                None => self.script_runner.start_run(&scene.resources, RUN_ID),
            };
        }
        RunAtRest { is_restless: true, ..RunAtRest::default() }
    }

    /// Takes a run up that stands still: resumes it, unless an operator does something else.
    fn resume_or_apply_operator_act(
        &mut self,
        scene: &mut RunningScenario<'_>,
        process: u32,
        status: RunStatus,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        if let Some(act) = scene.operator_act_before_process(process) {
            act.move_clock(&scene.clock);
            match &act {
                OperatorAct::Abandon => scene.is_given_up = true,
                OperatorAct::Decide(decision)
                    if matches!(status, RunStatus::Undecided | RunStatus::Waiting) =>
                {
                    if let Err(killed) = scene.decide_call(decision)? {
                        scene.acts.push((process as usize, act));
                        return Ok(Err(killed));
                    }
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
        } else if status == RunStatus::Waiting {
            // Whoever holds a call decides in the end, whatever came of the edit meanwhile.
            match scene.decide_call(&TrueDecision::Redo)? {
                Ok(true) => scene.acts.push((process as usize, OperatorAct::Decide(TrueDecision::Redo))),
                Ok(false) => {}
                Err(killed) => return Ok(Err(killed)),
            }
        }
        if scene.is_given_up {
            let edited = scene.edited_to_give_up()?;
            let runbook = edited.as_ref().map_or(self.runbook, |edited| &edited.runbook);
            return self.script_runner.abandon_run(&scene.resources, RUN_ID, runbook);
        }
        match scene.edited_runbook_in_force()? {
            Some(edited) => self.resume_with_edit(scene, &edited.runbook),
            None => self.script_runner.resume_run(&scene.resources, RUN_ID, self.runbook),
        }
    }

    /// Resumes a run with an edited text, and looks whether one that does not match does anything.
    fn resume_with_edit(
        &mut self,
        scene: &mut RunningScenario<'_>,
        edited: &Runbook,
    ) -> Result<Result<RunResult, ProcessKilled>, Refusal> {
        let before = scene.count_effects()?;
        let resumed = self.script_runner.resume_run(&scene.resources, RUN_ID, edited)?;
        let Ok(RunResult { stop: Some(stop), .. }) = &resumed else { return Ok(resumed) };
        match stop {
            StopReason::Mismatch { .. } => {
                scene.effects_of_mismatch.extend(scene.list_effects_since(&before)?);
            }
            // What had begun before the edit was taken up before anybody was asked.
            StopReason::EditRejected { .. } => {}
            _ => return Ok(resumed),
        }
        // The last line says so: the text that counts does not match, or is rejected, and a resume would meet the same.
        scene.is_given_up |= scene.edited_runbook_in_force()?.is_some();
        Ok(resumed)
    }

    /// Resumes a run with the text that an operator has edited.
    fn resume_edited(
        &mut self,
        scene: &mut RunningScenario<'_>,
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
        scene.is_given_up |= edit.gives_up && scene.edited_runbook_in_force()?.is_none();
        Ok(resumed)
    }

    /// Returns what the runbook's own `invariant(world)` has against a result.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) fn find_author_violation(
        &mut self,
        result: &ScenarioResult,
    ) -> Result<Option<String>, Refusal> {
        if !self.script_runner.has_invariant() {
            return Ok(None);
        }
        let status = result.status().map_or("refused", RunStatus::as_str);
        let worlds = worlds_to_json(&result.worlds, status, result.fold.left_behind());
        let held = self.script_runner.check_invariant(&worlds)?;
        Ok(held.err().map(|failure| failure.fault.message))
    }
}

/// Returns the points at which a run is given up to see what its clean-up undoes: behind its effects, of many only some,
/// and where the script is over.
fn list_points_to_abandon_at(visits: &[Visit]) -> Vec<Point> {
    let is_effect =
        |op: &str| ops::find_operation(op).is_some_and(|operation| operation.effect != Effect::Read);
    let is_effect_done = |visit: &&Visit| {
        let Visit { point, op, .. } = visit;
        point.at == PointKind::Added("end")
            && point.nth == 0
            && !point.call.starts_with(CLEAN_UP_PATH)
            && op.as_deref().is_some_and(is_effect)
    };
    let effects: Vec<&Visit> = visits.iter().filter(is_effect_done).collect();
    let apart = effects.len().div_ceil(MAX_CLEAN_UPS_LOOKED_AT).max(1);
    let over = Point { call: String::new(), at: PointKind::Adding("ending"), nth: 0 };
    let behind_effects = effects.into_iter().step_by(apart).map(|visit| visit.point.clone());
    behind_effects.chain([over]).collect()
}
