//! A runbook × every fault → a verdict.
//!
//! The runbook runs once undisturbed against a copy of the simulated world. Everything that can go wrong in a run goes
//! wrong at one of the points that this run passes: before and after each record, and before and after each request.
//! For each of them there is a scenario, which runs in a copy of its own, is killed or has its request fail there, and
//! is resumed until it has ended, or has stopped and stays so. Nothing is random that does not come from a seed, and
//! time is a clock on which waiting takes none; so the same rehearsal gives the same bytes.
//!
//! A scenario **converged** when the run succeeded like the undisturbed one, **stopped safely** when it ended otherwise
//! or stopped, and in both cases kept every invariant (`invariants`). The first that it broke makes it **violated**.
//!
//! The state folder is never looked at: worlds, journals and clock are in memory.

mod disturb;
mod invariants;
mod plan;
mod play;
mod report;
#[cfg(test)]
mod tests;

pub use invariants::Violation;
pub use plan::FaultSelection;
pub use report::{RehearsalReport, ScenarioVerdict as Scenario, Verdict};

use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::Moment,
    },
    config::{Config, TargetConfig},
    provider::{self, OpenContext, sim::WorldTemplate},
    runtime::{Refusal, Runbook, RunbookError, ScriptRunner},
};
use plan::{FaultPlan, ScenarioSet};
use play::{ScenarioResult, ScenarioRunner};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The request to rehearse a runbook.
pub struct RehearsalRequest {
    pub runbook: Runbook,
    /// Its parameters, as they were typed.
    pub params: BTreeMap<String, String>,
    /// Which faults, each on its own.
    pub faults: FaultSelection,
    /// How many schedules of several faults.
    pub seeds: u64,
    /// The seed of the first of them.
    pub seed: u64,
    /// The id of the only scenario to run, if one is given.
    pub only: Option<String>,
}

/// Rehearses a runbook.
///
/// # Errors
/// [`Refusal`]: the runbook would be refused as well, or it wants a target that is not simulated.
pub fn rehearse_runbook(order: &RehearsalRequest, config: &Config) -> Result<RehearsalReport, Refusal> {
    let params = ScriptRunner::admit_runbook(&order.runbook, &order.params, config)?;
    require_simulated(&ScriptRunner::list_targets(&order.runbook, &params), config)?;
    let (templates, config) = make_worlds(config)?;
    let theatre = || ScenarioRunner::new(&order.runbook, params.clone(), &templates, Arc::clone(&config));
    let undisturbed = run_on_large_stack(|| theatre()?.run_scenario(&FaultPlan::Undisturbed))?;
    if let Some(why) = &undisturbed.refused {
        return Err(Refusal::Runbook(runbook_error(why.clone(), "run it first: `redrill run`")));
    }
    let plan = ScenarioSet::from_visits(&undisturbed.score, order)
        .map_err(|(what, hint)| Refusal::Runbook(runbook_error(what, hint)))?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Verdict)>> = Mutex::default();
    let work = || -> Result<(), Refusal> {
        let mut theatre = theatre()?;
        while let Some((at, scenario)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| plan.scenario_at(at))
        {
            let played = theatre.run_scenario(&scenario.script)?;
            let verdict = judge_scenario(&mut theatre, &undisturbed, &played);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, verdict));
        }
        Ok(())
    };
    run_on_every_core(work)?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(RehearsalReport::new(&order.runbook, plan, done.into_iter().map(|(_, verdict)| verdict).collect()))
}

fn judge_scenario(
    theatre: &mut ScenarioRunner<'_>,
    undisturbed: &ScenarioResult,
    played: &ScenarioResult,
) -> Verdict {
    let mut breaches = invariants::find_violations(&theatre.runbook_rules(), undisturbed, played);
    breaches.extend(theatre.check_author_invariant(played));
    Verdict::from_violations(undisturbed, played, breaches)
}

/// Refuses to rehearse on anything real.
fn require_simulated(targets: &[String], config: &Config) -> Result<(), Refusal> {
    let real = |name: &&String| config.targets.get(*name).is_some_and(|t| !is_simulated(t));
    match targets.iter().find(real) {
        None => Ok(()),
        Some(name) => Err(Refusal::Runbook(runbook_error(
            format!("the target `{name}` is real, and a rehearsal runs on simulated ones only"),
            "give the parameter a target whose provider is `sim`, such as `sandbox`",
        ))),
    }
}

fn is_simulated(target: &TargetConfig) -> bool {
    target.provider == "sim"
}

/// Makes the world of every simulated target, and returns the configuration that has no others.
fn make_worlds(config: &Config) -> Result<(Vec<WorldTemplate>, Arc<Config>), provider::Error> {
    let mut config = config.clone();
    config.targets.retain(|_, target| is_simulated(target));
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(start_time()));
    let make = |target: &TargetConfig| {
        let opening = OpenContext { target, base: &config.base, state: &config.state, clock: &clock };
        WorldTemplate::from_config(&opening, &format!("rehearsal-{}", target.name))
    };
    let templates = config.targets.values().map(make).collect::<Result<_, _>>()?;
    Ok((templates, Arc::new(config)))
}

/// Returns the time at which the clock of every scenario starts.
fn start_time() -> Moment {
    // 2026-01-01T00:00:00Z
    Moment(jiff::Timestamp::constant(1_767_225_600, 0))
}

fn runbook_error(message: String, hint: &str) -> RunbookError {
    RunbookError { message, hint: Some(hint.into()), place: None }
}

fn run_on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Refusal> + Send) -> Result<T, Refusal> {
    thread::scope(|threads| {
        let thread =
            thread::Builder::new().stack_size(ScriptRunner::STACK_BYTES).spawn_scoped(threads, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug in redrill ended the rehearsal").into()))
    })
}

fn run_on_every_core(work: impl Fn() -> Result<(), Refusal> + Sync) -> Result<(), Refusal> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|threads| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                thread::Builder::new().stack_size(ScriptRunner::STACK_BYTES).spawn_scoped(threads, &work)
            })
            .collect::<io::Result<_>>()?;
        let bug = || Err(io::Error::other("a bug in redrill ended the rehearsal").into());
        let done: Vec<Result<(), Refusal>> =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bug())).collect();
        done.into_iter().collect()
    })
}
