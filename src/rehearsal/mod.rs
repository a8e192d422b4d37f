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

pub use invariants::Breach;
pub use plan::Faults;
pub use report::{Report, Scene as Scenario, Verdict};

use crate::{
    base::{
        clock::{Clock, Virtual},
        moment::Moment,
    },
    config::{Config, Target},
    provider::{self, fleet::Opening, sim::Template},
    runtime::{Refusal, Runbook, Stage, runbook},
};
use plan::{Plan, Script};
use play::{Played, Theatre};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What is rehearsed, and how much of it.
pub struct Order {
    /// The runbook.
    pub runbook: Runbook,
    /// Its parameters, as they were typed.
    pub params: BTreeMap<String, String>,
    /// Which faults, each on its own.
    pub faults: Faults,
    /// How many schedules of several faults.
    pub seeds: u64,
    /// The seed of the first of them.
    pub seed: u64,
    /// The one scenario that is wanted, where one is.
    pub only: Option<String>,
}

/// Rehearses a runbook.
///
/// # Errors
/// [`Refusal`]: the runbook would be refused as well, or it wants a target that is not simulated.
pub fn rehearse(order: &Order, config: &Config) -> Result<Report, Refusal> {
    let params = Stage::admit(&order.runbook, &order.params, config)?;
    demand_simulated(&Stage::targets(&order.runbook, &params), config)?;
    let (templates, config) = worlds(config)?;
    let theatre = || Theatre::new(&order.runbook, params.clone(), &templates, Arc::clone(&config));
    let undisturbed = on_a_large_stack(|| theatre()?.play(&Script::Undisturbed))?;
    if let Some(why) = &undisturbed.refused {
        return Err(Refusal::Runbook(error(why.clone(), "run it first: `redrill run`")));
    }
    let plan =
        Plan::of(&undisturbed.score, order).map_err(|(what, hint)| Refusal::Runbook(error(what, hint)))?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Verdict)>> = Mutex::default();
    let work = || -> Result<(), Refusal> {
        let mut theatre = theatre()?;
        while let Some((at, scenario)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| plan.at(at))
        {
            let played = theatre.play(&scenario.script)?;
            let verdict = judge(&mut theatre, &undisturbed, &played);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, verdict));
        }
        Ok(())
    };
    on_every_core(work)?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(Report::new(&order.runbook, plan, done.into_iter().map(|(_, verdict)| verdict).collect()))
}

fn judge(theatre: &mut Theatre<'_>, undisturbed: &Played, played: &Played) -> Verdict {
    let mut breaches = invariants::broken(&theatre.rules(), undisturbed, played);
    breaches.extend(theatre.authors_own(played));
    Verdict::of(undisturbed, played, breaches)
}

/// Refuses to rehearse on anything real.
fn demand_simulated(targets: &[String], config: &Config) -> Result<(), Refusal> {
    let real = |name: &&String| config.targets.get(*name).is_some_and(|t| !is_simulated(t));
    match targets.iter().find(real) {
        None => Ok(()),
        Some(name) => Err(Refusal::Runbook(error(
            format!("the target `{name}` is real, and a rehearsal runs on simulated ones only"),
            "give the parameter a target whose provider is `sim`, such as `sandbox`",
        ))),
    }
}

fn is_simulated(target: &Target) -> bool {
    target.provider == "sim"
}

/// Makes the world of every simulated target, and returns the configuration that has no others.
fn worlds(config: &Config) -> Result<(Vec<Template>, Arc<Config>), provider::Error> {
    let mut config = config.clone();
    config.targets.retain(|_, target| is_simulated(target));
    let clock: Arc<dyn Clock> = Arc::new(Virtual::at(beginning()));
    let make = |target: &Target| {
        let opening = Opening { target, base: &config.base, state: &config.state, clock: &clock };
        Template::make(&opening, &format!("rehearsal-{}", target.name))
    };
    let templates = config.targets.values().map(make).collect::<Result<_, _>>()?;
    Ok((templates, Arc::new(config)))
}

/// Returns when every rehearsal begins.
fn beginning() -> Moment {
    // 2026-01-01T00:00:00Z
    Moment(jiff::Timestamp::constant(1_767_225_600, 0))
}

fn error(message: String, hint: &str) -> runbook::Error {
    runbook::Error { message, hint: Some(hint.into()), place: None }
}

fn on_a_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Refusal> + Send) -> Result<T, Refusal> {
    thread::scope(|threads| {
        let thread = thread::Builder::new().stack_size(Stage::STACK_BYTES).spawn_scoped(threads, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug in redrill ended the rehearsal").into()))
    })
}

fn on_every_core(work: impl Fn() -> Result<(), Refusal> + Sync) -> Result<(), Refusal> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|threads| {
        let threads: Vec<_> = (0..cores)
            .map(|_| thread::Builder::new().stack_size(Stage::STACK_BYTES).spawn_scoped(threads, &work))
            .collect::<io::Result<_>>()?;
        let bug = || Err(io::Error::other("a bug in redrill ended the rehearsal").into());
        let done: Vec<Result<(), Refusal>> =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bug())).collect();
        done.into_iter().collect()
    })
}
