//! A runbook × every fault → a verdict.
//!
//! The runbook runs once undisturbed against a copy of the simulated world. Everything that can go wrong in a run goes
//! wrong at one of the points that this run visits: before and after each record, and before and after each request.
//! For each of them there is a scenario. It runs in a copy of its own, is killed or has its request fail there, and is
//! resumed until it has ended, or has stopped and stays so; what was sent and is still to land lands before the world is
//! looked at. Nothing is random that does not come from a seed, and
//! waiting takes no time on its clock; so the same rehearsal gives the same bytes.
//!
//! A run that stands still is taken up as operators do it, also with a text that was edited meanwhile: what goes on with
//! that is held to the undisturbed run of the edited text, or to that of the text before where the edit only moved what had
//! been done.
//!
//! A scenario **converged** when the run succeeded like the undisturbed one, **stopped safely** when it ended otherwise
//! or stopped, and in both cases kept every invariant (`invariants`). One broken invariant makes it **violated**.
//!
//! A run that does not come to an end is stopped where a process has done more than any should (`limits`).
//!
//! The state folder is never looked at: worlds, journals and clock are in memory.

mod clean_up;
mod colleague;
mod draws;
mod edited;
mod edited_runbook;
mod fault_injector;
mod fault_plan;
mod forks;
mod guard;
mod invariants;
mod lags;
mod left_over;
mod limits;
mod operators;
mod points;
mod rehearsed_calls;
mod remainders;
mod report;
mod rights;
mod runbook_rules;
mod scenario;
mod scenario_result;
mod scenario_runner;
mod scenarios;
mod scene;
mod stage;
mod story;
#[cfg(test)]
mod tests;
mod text_edits;
mod told;
mod undone;
mod world_diff;
mod world_snapshot;

pub use invariants::Violation;
pub use left_over::LeftOver;
pub use points::{FaultFamily, FaultSelection};
pub use report::{RehearsalReport, ScenarioVerdict, Verdict};
pub use scenarios::{DEFAULT_FAULTS, RehearsalRequest};
pub use stage::Stage;
pub use story::{ProcessEnd, Story, StoryEvent};
pub use world_diff::WorldDifference;

use crate::base::lock::{into_unpoisoned, lock_unpoisoned};
use crate::{
    config::Config,
    runtime::{Refusal, RunbookError, ScriptRunner, names_missed_clean_up},
};
use edited::check_edited_run;
use edited_runbook::{EditedRunbook, list_possible_edits};
use fault_plan::FaultPlan;
use invariants::{CLEAN_UP_WORKS, LEFT_OVER};
use scenario_result::ScenarioResult;
use scenario_runner::ScenarioRunner;
use scenarios::ScenarioSet;
use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Rehearses a runbook.
///
/// # Errors
/// [`Refusal`]: the runbook would be refused as well, or it wants a target that is not simulated.
pub fn rehearse_runbook(request: &RehearsalRequest, config: &Config) -> Result<RehearsalReport, Refusal> {
    let stage = Stage::prepare(&request.runbook, &request.params, config)?;
    let make_runner = || ScenarioRunner::new(&request.runbook, stage.params.clone(), &stage);
    let undisturbed = run_on_large_stack(|| make_runner()?.run_scenario(&FaultPlan::Undisturbed))?;
    if let Some(why) = &undisturbed.refused {
        return Err(Refusal::Runbook(runbook_error(why.clone(), "run it first: `redrill run`")));
    }
    if let Some(limit) = undisturbed.limit_met {
        // Every other scenario would meet it as well.
        let verdict =
            Verdict::from_violations(&undisturbed, &undisturbed, vec![Violation::from_limit(limit)]);
        let set = ScenarioSet::of_undisturbed();
        return Ok(RehearsalReport::new(&request.runbook, stage.time, set, vec![verdict], None));
    }
    let edits = if may_want_edits(request) { list_possible_edits(&request.runbook) } else { Vec::new() };
    let set = ScenarioSet::from_visits(&undisturbed.visits, &edits, request)
        .map_err(|(what, hint)| Refusal::Runbook(runbook_error(what, hint)))?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Verdict)>> = Mutex::default();
    let story: Mutex<Option<Story>> = Mutex::default();
    let work = || -> Result<(), Refusal> {
        let mut runner = make_runner()?;
        runner.counts_records = request.only.is_some();
        while let Some((at, scenario)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| set.scenario_at(at))
        {
            let result = runner.run_scenario(&scenario.plan)?;
            let verdict = judge_scenario(&mut runner, &undisturbed, &result)?;
            lock_unpoisoned(&done).push((at, verdict));
            if request.only.is_some() {
                let told = Story::from_result(&scenario.id, stage.now, &undisturbed, result);
                *lock_unpoisoned(&story) = Some(told);
            }
        }
        Ok(())
    };
    run_on_every_core(work)?;
    let mut done = into_unpoisoned(done);
    done.sort_by_key(|(at, _)| *at);
    let verdicts = done.into_iter().map(|(_, verdict)| verdict).collect();
    let story = into_unpoisoned(story);
    Ok(RehearsalReport::new(&request.runbook, stage.time, set, verdicts, story))
}

/// Returns whether a scenario may be wanted in which the text is edited.
fn may_want_edits(request: &RehearsalRequest) -> bool {
    match &request.only {
        Some(only) => ["operator:", "seed:"].iter().any(|kind| only.starts_with(kind)),
        None => request.faults.has(FaultFamily::Operators),
    }
}

fn judge_scenario(
    runner: &mut ScenarioRunner<'_>,
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Result<Verdict, Refusal> {
    let violations = if let Some(edited) = &result.edited {
        find_violations_of_edited(runner, edited, undisturbed, result)?
    } else {
        if result.fold.left_behind().iter().any(|left| names_missed_clean_up(left)) {
            runner.learn_clean_ups(&undisturbed.visits)?;
        }
        let mut violations = find_violations_of_text(runner, undisturbed, result)?;
        violations.extend(check_edited_run(&[undisturbed], result));
        violations
    };
    Ok(Verdict::from_violations(undisturbed, result, violations))
}

/// Returns what was broken, by the invariants and by the runbook's own.
fn find_violations_of_text(
    runner: &mut ScenarioRunner<'_>,
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Result<Vec<Violation>, Refusal> {
    let mut violations = invariants::find_violations(&runner.runbook_rules(), undisturbed, result);
    if result.limit_met.is_some() {
        return Ok(violations);
    }
    let found = runner.find_author_violation(result)?;
    violations.extend(found.map(|what| Violation::new("author", what)));
    Ok(violations)
}

/// The invariants that judge a text. An edited text may undo less than its author meant when something fails, and what
/// is known of its clean-up depends on which scenarios were judged before.
const PROMISES_OF_TEXT: [&str; 3] = [LEFT_OVER, CLEAN_UP_WORKS, "author"];

/// Returns what was broken in a scenario in which the run went on with an edited text. It is held to the undisturbed run of
/// that text; or to that of the text before, in whose order was done what the edit only moves.
fn find_violations_of_edited(
    runner: &mut ScenarioRunner<'_>,
    edited: &EditedRunbook,
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Result<Vec<Violation>, Refusal> {
    let mut own_runner = runner.for_runbook(&edited.runbook)?;
    let own = own_runner.run_scenario(&FaultPlan::Undisturbed)?;
    let mut violations = find_new_violations(&mut own_runner, &own, result)?;
    if !violations.is_empty() && find_new_violations(runner, undisturbed, result)?.is_empty() {
        violations.clear();
    }
    violations.extend(check_edited_run(&[undisturbed, &own], result));
    Ok(violations)
}

/// Returns what was broken, without what the text breaks by itself and without [`PROMISES_OF_TEXT`].
fn find_new_violations(
    runner: &mut ScenarioRunner<'_>,
    undisturbed: &ScenarioResult,
    result: &ScenarioResult,
) -> Result<Vec<Violation>, Refusal> {
    let by_text = find_violations_of_text(runner, undisturbed, undisturbed)?;
    let mut violations = find_violations_of_text(runner, undisturbed, result)?;
    violations.retain(|violation| {
        let is_of_text = PROMISES_OF_TEXT.contains(&violation.invariant);
        !is_of_text && by_text.iter().all(|text| text.invariant != violation.invariant)
    });
    Ok(violations)
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
