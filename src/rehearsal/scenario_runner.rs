//! Runs one scenario: from the first record until the run has ended or stays stopped.

use super::{
    fault_injector::FaultInjector,
    points::{FaultPlan, InjectedFault, Visit},
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::{Moment, Span},
        sqlite::DbPool,
    },
    config::Config,
    journal::{Journal, JournalEntry, RecordObserver, RunFold, RunStatus},
    ops::spec::Permission,
    provider::{
        Backups, Branches, Fleet, Provider, Replicas, Schedules,
        model::{Backup, Branch, Replica, Schedule},
        sim::{
            EffectRow, NormalizedWorld, Sim, WorldTemplate,
            faults::{FaultySim, LANDING_BOUND},
        },
    },
    runtime::{Refusal, RunObserver, RunResources, Runbook, ScriptRunner},
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
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
    templates: &'a [WorldTemplate],
    config: Arc<Config>,
    journals: Arc<DbPool>,
    /// Whether it counts the records that each process leaves, for a story.
    pub(super) counts_records: bool,
}

/// How long it takes until a process is there again.
struct Restart<'a> {
    clock: &'a VirtualClock,
    delay: Span,
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
    /// How many records were kept at the end of each process, where they are counted.
    pub(super) kept_records: Vec<usize>,
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
        Ok(Self {
            script_runner: ScriptRunner::new(runbook, params)?,
            runbook,
            templates,
            config,
            journals,
            counts_records: false,
        })
    }

    pub(super) fn runbook_rules(&self) -> RunbookRules<'_> {
        RunbookRules { needs: &self.runbook.header.needs, config: &self.config }
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// What keeps any scenario from being run.
    pub(super) fn run_scenario(&mut self, plan: &FaultPlan) -> Result<ScenarioResult, Refusal> {
        let clock = Arc::new(VirtualClock::starting_at(start_time()));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let injector = Arc::new(FaultInjector::new(plan.clone(), Arc::clone(&dyn_clock)));
        let sims: Vec<Sim> =
            self.templates.iter().map(|t| t.copy_world(Arc::clone(&dyn_clock))).collect::<Result<_, _>>()?;
        let to_faulty =
            |sim: &Sim| FaultySim::new(sim.clone(), Arc::clone(&injector) as _, Arc::clone(&dyn_clock));
        let faulty: Vec<FaultySim> = sims.iter().map(to_faulty).collect();
        let names = self.config.targets.keys().zip(&faulty);
        let open: BTreeMap<String, Arc<dyn Provider>> =
            names.map(|(name, sim)| (name.clone(), Arc::new(sim.clone()) as Arc<dyn Provider>)).collect();
        let observer = Arc::clone(&injector) as Arc<dyn RecordObserver>;
        let resources = RunResources {
            fleet: Arc::new(Fleet::with_open_targets(Arc::clone(&self.config), Arc::clone(&dyn_clock), open)),
            journal: Arc::new(Journal::open_in_memory(Arc::clone(&dyn_clock), observer, &self.journals)?),
            watch: Arc::clone(&injector) as Arc<dyn RunObserver>,
        };
        let mut kept_records = Vec::new();
        let restart = Restart { clock: &clock, delay: restart_delay(plan) };
        let (refused, is_restless) = self.run_to_rest(&resources, &injector, &restart, &mut kept_records);
        let entries = resources.journal.read_records(RUN_ID).unwrap_or_default();
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
            worlds: self
                .config
                .targets
                .keys()
                .zip(&sims)
                .map(|(name, sim)| snapshot_world(name, sim))
                .collect::<Result<_, _>>()?,
            faults: injector.injected_faults(),
            kept_records,
            repeated_requests: injector.repeated_requests(),
            calls_with_keyless_effects: injector.calls_with_keyless_effects(),
            premature_ends: injector.premature_ends(),
            visits: injector.take_visits(),
            fold: RunFold::from_entries(&entries).0,
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
        resources: &RunResources,
        injector: &FaultInjector,
        restart: &Restart<'_>,
        kept_records: &mut Vec<usize>,
    ) -> (Option<String>, bool) {
        let mut stops = 0;
        let mut ended = self.script_runner.start_run(resources, RUN_ID);
        for _ in 0..MAX_RESUMES {
            if self.counts_records {
                kept_records.push(resources.journal.read_records(RUN_ID).map_or(0, |records| records.len()));
            }
            match ended {
                Err(refusal) => return (Some(refusal.to_string()), false),
                Ok(Ok(ended)) if ended.status.is_final() => return (None, false),
                Ok(Ok(_)) if stops == MAX_RESUMES_AFTER_STOP => return (None, false),
                Ok(Ok(_)) => stops += 1,
                Ok(Err(_)) => {}
            }
            let summary = resources.journal.summarize_run(RUN_ID);
            if summary.as_ref().is_ok_and(|run| run.status.is_final()) {
                return (None, false);
            }
            restart.clock.advance_by(restart.delay);
            injector.begin_process();
            ended = match summary {
                Ok(_) => self.script_runner.resume_run(resources, RUN_ID),
                // Killed before there was a run: whoever started it starts it again.
                Err(_) => self.script_runner.start_run(resources, RUN_ID),
            };
        }
        (None, true)
    }

    /// Returns what the runbook's own `invariant(world)` has against a result.
    pub(super) fn check_author_invariant(&mut self, result: &ScenarioResult) -> Option<String> {
        if !self.script_runner.has_invariant() {
            return None;
        }
        let failure = self.script_runner.check_invariant(&worlds_to_json(result)).err()?;
        Some(failure.fault.message)
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
}

/// Returns the time at which the clock of every scenario starts.
pub(super) fn start_time() -> Moment {
    // 2026-01-01T00:00:00Z
    Moment(jiff::Timestamp::constant(1_767_225_600, 0))
}

/// Returns the pause between the death of a process and the resume.
fn restart_delay(plan: &FaultPlan) -> Span {
    match plan {
        FaultPlan::Seed(seed, _) if seed % 2 == 1 => QUICK_RESTART_DELAY,
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
        world.land_due().now_or_never().ok_or_else(not_at_once)??;
    }
    Ok(())
}

/// Returns the error of a request that the simulator did not answer at once.
fn not_at_once() -> io::Error {
    io::Error::other("the simulator answers at once")
}

/// Takes a snapshot of a world, past the fault injector.
fn snapshot_world(target: &str, sim: &Sim) -> Result<WorldSnapshot, Refusal> {
    let normalized = sim.normalized_world()?;
    let branches = Branches::list(sim).now_or_never().ok_or_else(not_at_once)??;
    let backups = Backups::list(sim).now_or_never().ok_or_else(not_at_once)??;
    let schedules = Schedules::list(sim).now_or_never().ok_or_else(not_at_once)??;
    let replicas = Replicas::list(sim).now_or_never().ok_or_else(not_at_once)??;
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
        let effects: Vec<Value> = world.log.iter().map(|e| json!({"kind": e.kind, "what": e.what})).collect();
        json!({
            "branches": world.branches.iter().map(Branch::to_handle).map(|b| b[crate::base::value::BRANCH_TAG].clone()).collect::<Vec<_>>(),
            "backups": world.backups.iter().map(Backup::to_handle).map(|b| b[crate::base::value::BACKUP_TAG].clone()).collect::<Vec<_>>(),
            "effects": effects,
            "database": world.normalized.database,
            "schedules": world.normalized.schedules,
            "replicas": world.normalized.replicas,
            "settings": world.normalized.settings,
            "ranges": world.normalized.ranges,
            "bans": world.normalized.bans,
            "switches": world.normalized.switches,
        })
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
