//! Runs one scenario: from the first record until the run has ended or stays stopped.

use super::{
    disturb::{FaultInjector, Visit},
    invariants::Violation,
    plan::FaultPlan,
    start_time,
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::Span,
        sqlite::DbPool,
    },
    config::Config,
    journal::{Journal, JournalEntry, Record, RecordObserver, RunStatus},
    ops::spec::Permission,
    provider::{
        Backups, Branches, Fleet, Provider, Replicas, Schedules,
        model::{Backup, Branch, Replica, Schedule},
        sim::{EffectRow, NormalizedWorld, Sim, WorldTemplate, faults::FaultySim},
    },
    runtime::{Refusal, RunObserver, RunResources, Runbook, ScriptRunner},
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The id of the run, in every scenario: a run that is killed and resumed is still the same one.
const RUN_ID: &str = "rehearse";
/// How often a run is resumed in all: more often than faults can be injected into it.
const MAX_RESUMES: u32 = 60;
/// How often a run is resumed that stopped by itself.
const MAX_RESUMES_AFTER_STOP: u32 = 3;
/// The pause between the death of a process and the resume.
const RESTART_DELAY: Span = Span::from_secs(60);

/// Runs the scenarios of one runbook, one after the other.
pub(super) struct ScenarioRunner<'a> {
    stage: ScriptRunner<'a>,
    runbook: &'a Runbook,
    templates: &'a [WorldTemplate],
    config: Arc<Config>,
    journals: Arc<DbPool>,
}

/// What came of a scenario.
pub(super) struct ScenarioResult {
    /// Every record that was kept.
    pub(super) entries: Vec<JournalEntry>,
    /// Why the journal is not what it was, if so.
    pub(super) broken: Option<String>,
    /// The world of each target.
    pub(super) worlds: Vec<WorldSnapshot>,
    /// What was asked for again although the world had done it.
    pub(super) asked_again: Vec<String>,
    /// What went wrong, in order.
    pub(super) story: Vec<String>,
    /// Why it was refused: before anything was done, or when it was to be resumed.
    pub(super) refused: Option<String>,
    /// How many leases are still there.
    pub(super) leases: usize,
    /// How many requests failed.
    pub(super) failed: u32,
    /// Whether the last process died, rather than seeing the run to where it is.
    pub(super) has_died_last: bool,
    /// Whether it was resumed as often as it may be and never came to rest.
    pub(super) is_restless: bool,
    /// Every point that was passed, where nothing went wrong.
    pub(super) score: Vec<Visit>,
}

/// A world, as it was left.
pub(super) struct WorldSnapshot {
    pub(super) target: String,
    pub(super) portrait: NormalizedWorld,
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
    pub(super) config: &'a Config,
}

impl<'a> ScenarioRunner<'a> {
    pub(super) fn new(
        runbook: &'a Runbook,
        params: Value,
        templates: &'a [WorldTemplate],
        config: Arc<Config>,
    ) -> Result<Self, Refusal> {
        let journals = Arc::default();
        Ok(Self { stage: ScriptRunner::new(runbook, params)?, runbook, templates, config, journals })
    }

    pub(super) fn runbook_rules(&self) -> RunbookRules<'_> {
        RunbookRules { needs: &self.runbook.header.needs, config: &self.config }
    }

    /// Plays a scenario.
    ///
    /// # Errors
    /// What keeps any scenario from being played.
    pub(super) fn run_scenario(&mut self, script: &FaultPlan) -> Result<ScenarioResult, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(start_time()));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let disturber = Arc::new(FaultInjector::new(script.clone()));
        let sims: Vec<Sim> =
            self.templates.iter().map(|t| t.copy_world(Arc::clone(&dyn_clock))).collect::<Result<_, _>>()?;
        let gated =
            |sim: &Sim| FaultySim::new(sim.clone(), Arc::clone(&disturber) as _, Arc::clone(&dyn_clock));
        let open = self.config.targets.keys().zip(&sims);
        let open: BTreeMap<String, Arc<dyn Provider>> =
            open.map(|(name, sim)| (name.clone(), Arc::new(gated(sim)) as Arc<dyn Provider>)).collect();
        let witness = Arc::clone(&disturber) as Arc<dyn RecordObserver>;
        let scene = RunResources {
            fleet: Arc::new(Fleet::with_open_targets(Arc::clone(&self.config), Arc::clone(&dyn_clock), open)),
            journal: Arc::new(Journal::open_in_memory(Arc::clone(&dyn_clock), witness, &self.journals)?),
            watch: Arc::clone(&disturber) as Arc<dyn RunObserver>,
        };
        let (refused, is_restless) = self.run_to_rest(&scene, &disturber, &clock);
        let entries = scene.journal.read_records(RUN_ID).unwrap_or_default();
        let (failed, has_died_last) = disturber.failures_and_death();
        Ok(ScenarioResult {
            broken: if entries.is_empty() {
                None
            } else {
                scene.journal.verify_run(RUN_ID, None).err().map(|e| e.to_string())
            },
            leases: scene.journal.list_leases(RUN_ID)?.len(),
            worlds: self
                .config
                .targets
                .keys()
                .zip(&sims)
                .map(|(name, sim)| snapshot_world(name, sim))
                .collect::<Result<_, _>>()?,
            story: disturber.injected_faults(),
            asked_again: disturber.repeated_requests(),
            score: disturber.take_points(),
            entries,
            refused,
            failed,
            has_died_last,
            is_restless,
        })
    }

    /// Runs the runbook, and resumes it until it stays where it is. Returns why it was refused, and whether it never
    /// came to rest.
    fn run_to_rest(
        &mut self,
        scene: &RunResources,
        disturber: &FaultInjector,
        clock: &VirtualClock,
    ) -> (Option<String>, bool) {
        let mut looks = 0;
        let mut ended = self.stage.start_run(scene, RUN_ID);
        for _ in 0..MAX_RESUMES {
            match ended {
                Err(refusal) => return (Some(refusal.to_string()), false),
                Ok(Ok(ended)) if ended.status.is_final() => return (None, false),
                Ok(Ok(_)) if looks == MAX_RESUMES_AFTER_STOP => return (None, false),
                Ok(Ok(_)) => looks += 1,
                Ok(Err(_)) => {}
            }
            let summary = scene.journal.summarize_run(RUN_ID);
            if summary.as_ref().is_ok_and(|run| run.status.is_final()) {
                return (None, false);
            }
            clock.advance_by(RESTART_DELAY);
            disturber.begin_process();
            ended = match summary {
                Ok(_) => self.stage.resume_run(scene, RUN_ID),
                // Killed before there was a run: whoever started it starts it again.
                Err(_) => self.stage.start_run(scene, RUN_ID),
            };
        }
        (None, true)
    }

    /// Asks the runbook's own invariant.
    pub(super) fn check_author_invariant(&mut self, played: &ScenarioResult) -> Option<Violation> {
        if !self.stage.has_invariant() {
            return None;
        }
        let failure = self.stage.check_invariant(&worlds_to_json(played)).err()?;
        let message = failure.fault["message"].as_str().unwrap_or_default().to_owned();
        Some(Violation { invariant: "author", what: message })
    }
}

impl ScenarioResult {
    /// Returns how the run ended or stopped; nothing for one that never was.
    pub(super) fn status(&self) -> Option<RunStatus> {
        self.entries.iter().rev().find_map(|entry| match &entry.record {
            Record::Finished { status, .. } | Record::Stopped { status, .. } => Some(*status),
            Record::Started { .. } | Record::Resumed { .. } => Some(RunStatus::Running),
            _ => None,
        })
    }

    /// Returns whether the run has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.status().is_some_and(RunStatus::is_final)
    }

    /// Returns what the run said that it left behind.
    pub(super) fn left_behind(&self) -> &[String] {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.record {
                Record::Finished { left_behind, .. } => Some(left_behind.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }
}

/// Takes a snapshot of a world, past the fault injector.
fn snapshot_world(target: &str, sim: &Sim) -> Result<WorldSnapshot, Refusal> {
    let at_once = "the simulator answers at once";
    let portrait = sim.normalized_world()?;
    let late = || std::io::Error::other(at_once);
    let branches = Branches::list(sim).now_or_never().ok_or_else(late)??;
    let backups = Backups::list(sim).now_or_never().ok_or_else(late)??;
    let schedules = Schedules::list(sim).now_or_never().ok_or_else(late)??;
    let replicas = Replicas::list(sim).now_or_never().ok_or_else(late)??;
    Ok(WorldSnapshot {
        target: target.into(),
        portrait,
        log: sim.effect_log()?,
        unfinished: sim.unfinished_jobs()?,
        branches,
        backups,
        schedules,
        replicas,
    })
}

/// Returns the final worlds as the runbook's own invariant sees them.
fn worlds_to_json(played: &ScenarioResult) -> Value {
    let of = |seen: &WorldSnapshot| {
        let effects: Vec<Value> = seen.log.iter().map(|e| json!({"kind": e.kind, "what": e.what})).collect();
        json!({
            "branches": seen.branches.iter().map(Branch::to_handle).map(|b| b[crate::base::value::BRANCH_TAG].clone()).collect::<Vec<_>>(),
            "backups": seen.backups.iter().map(Backup::to_handle).map(|b| b[crate::base::value::BACKUP_TAG].clone()).collect::<Vec<_>>(),
            "effects": effects,
            "database": seen.portrait.database,
            "schedules": seen.portrait.schedules,
            "replicas": seen.portrait.replicas,
            "settings": seen.portrait.settings,
            "ranges": seen.portrait.ranges,
            "bans": seen.portrait.bans,
            "switches": seen.portrait.switches,
        })
    };
    let targets: BTreeMap<&str, Value> = played.worlds.iter().map(|s| (s.target.as_str(), of(s))).collect();
    let all = |field: &str| -> Value {
        targets.values().flat_map(|t| t[field].as_array().into_iter().flatten().cloned()).collect()
    };
    json!({
        "status": played.status().map_or("refused", RunStatus::as_str),
        "left_behind": played.left_behind(),
        "branches": all("branches"),
        "backups": all("backups"),
        "effects": all("effects"),
        "targets": targets,
    })
}
