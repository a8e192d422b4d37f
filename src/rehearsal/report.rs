//! What a rehearsal came to: a matrix for people, lines of JSON for programs.

use super::{
    fault_plan::ReorderedForks,
    forks::{LAST_FIRST, ONE_LAST},
    invariants::Violation,
    operators::{ACTS_AFTER_DEATH, OTHER_ACTS},
    rehearsed_calls::RehearsedCall,
    scenario_result::ScenarioResult,
    scenarios::{CRASH_KINDS, REQUEST_FAULTS, ScenarioSet, worst_by_cell},
    stage::RehearsalTime,
    story::Story,
};
use crate::{base::painter::Painter, journal::RunStatus, runtime::Runbook};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The grade of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Converged,
    StoppedSafely,
    Violated,
}

/// The verdict on a scenario, with its faults and violations.
#[derive(Debug, Clone)]
pub struct Verdict {
    grade: Grade,
    /// Where the run stands; nothing for a run that was refused.
    pub status: Option<&'static str>,
    /// The faults that struck, in order.
    pub faults: Vec<String>,
    pub violations: Vec<Violation>,
}

/// A scenario's id and its verdict.
pub struct ScenarioVerdict<'a> {
    pub id: &'a str,
    /// What it came to.
    pub verdict: &'a Verdict,
}

/// What a rehearsal came to.
pub struct RehearsalReport {
    runbook: String,
    title: String,
    time: RehearsalTime,
    set: ScenarioSet,
    verdicts: Vec<Verdict>,
    /// The story of the only scenario, where one was selected.
    pub story: Option<Story>,
}

impl Verdict {
    pub(super) fn from_violations(
        undisturbed: &ScenarioResult,
        result: &ScenarioResult,
        violations: Vec<Violation>,
    ) -> Self {
        let as_undisturbed = result.status().is_some() && result.status() == undisturbed.status();
        let grade = match (violations.is_empty(), as_undisturbed) {
            (false, _) => Grade::Violated,
            (true, true) => Grade::Converged,
            (true, false) => Grade::StoppedSafely,
        };
        Self {
            grade,
            status: result.status().map(RunStatus::as_str),
            faults: describe_faults(result),
            violations,
        }
    }

    /// Returns the verdict as one word.
    pub fn as_str(&self) -> &'static str {
        match self.grade {
            Grade::Converged => "converged",
            Grade::StoppedSafely => "stopped_safely",
            Grade::Violated => "violated",
        }
    }
}

/// Returns in which order branches went, what went wrong and what was done about it, in order.
fn describe_faults(result: &ScenarioResult) -> Vec<String> {
    let faults = result.faults.iter().map(|fault| (2 * fault.process + 1, fault.describe()));
    let acts = result.acts.iter().map(|(process, act)| (2 * process, act.describe()));
    let mut all: Vec<(usize, String)> = faults.chain(acts).collect();
    all.sort_by_key(|(at, _)| *at);
    let order = result.reordered.as_ref().map(ReorderedForks::describe);
    order.into_iter().chain(all.into_iter().map(|(_, what)| what)).collect()
}

impl Grade {
    fn render_mark(self, ink: Painter) -> String {
        match self {
            Grade::Converged => ink.green("✓"),
            Grade::StoppedSafely => ink.yellow("s"),
            Grade::Violated => ink.red("✗"),
        }
    }
}

impl RehearsalReport {
    pub(super) fn new(
        runbook: &Runbook,
        time: RehearsalTime,
        set: ScenarioSet,
        verdicts: Vec<Verdict>,
        story: Option<Story>,
    ) -> Self {
        let (runbook, title) = (runbook.path.clone(), runbook.header.title.clone());
        Self { runbook, title, time, set, verdicts, story }
    }

    /// Returns every scenario, in order.
    pub fn scenario_verdicts(&self) -> impl Iterator<Item = ScenarioVerdict<'_>> {
        let scenarios = self.set.scenarios.iter().zip(&self.verdicts);
        scenarios.map(|(scenario, verdict)| ScenarioVerdict { id: &scenario.id, verdict })
    }

    /// Returns how many scenarios violated something.
    pub fn count_violated(&self) -> usize {
        self.count_grade(Grade::Violated)
    }

    fn count_grade(&self, grade: Grade) -> usize {
        self.verdicts.iter().filter(|v| v.grade == grade).count()
    }

    /// Returns the event of every scenario; `replay` makes the command that repeats one.
    pub fn scenario_events(&self, replay: &dyn Fn(&str) -> String) -> Vec<Value> {
        let to_json = |scenario: ScenarioVerdict<'_>| {
            let verdict = scenario.verdict;
            json!({
                "event": "rehearsal.scenario", "scenario": scenario.id, "verdict": verdict.as_str(),
                "status": verdict.status, "faults": verdict.faults, "breaches": verdict.violations, "replay": replay(scenario.id),
            })
        };
        self.scenario_verdicts().map(to_json).collect()
    }

    /// Returns the last event: how many scenarios came to what.
    pub fn finished_event(&self) -> Value {
        json!({
            "event": "rehearsal.finished", "runbook": self.runbook, "scenarios": self.verdicts.len(),
            "converged": self.count_grade(Grade::Converged), "stopped_safely": self.count_grade(Grade::StoppedSafely),
            "violations": self.count_violated(), "now": self.time.now.to_string(),
        })
    }

    /// Returns the text for people; `replay` makes the command that repeats a scenario.
    pub fn render_text(&self, ink: Painter, replay: &dyn Fn(&str) -> String) -> String {
        let mut lines = vec![format!("{}  {}", ink.bold(&self.title), ink.dim(&self.runbook))];
        lines.extend(self.render_time().map(|line| ink.dim(&line)));
        lines.push(String::new());
        let cells = worst_by_cell(&self.set.scenarios, |at| self.verdicts[at].grade);
        if !cells.is_empty() {
            lines.extend(
                self.set.calls.iter().enumerate().map(|(number, call)| render_call_row(number, call, ink)),
            );
            lines.push(String::new());
            lines.extend(self.render_matrix(&cells, ink));
            lines.push(String::new());
        }
        lines.extend(self.render_seed_results(ink));
        for scenario in self.scenario_verdicts().filter(|s| s.verdict.grade == Grade::Violated) {
            lines.push(format!("{} {}", ink.red("✗"), ink.bold(scenario.id)));
            lines.extend(scenario.verdict.faults.iter().map(|fault| ink.dim(&format!("    {fault}"))));
            let violations = scenario.verdict.violations.iter();
            lines.extend(violations.map(|v| format!("    {}: {}", v.invariant, v.what)));
            lines.push(format!("    {}", replay(scenario.id)));
        }
        lines.extend(self.list_hints().iter().map(|hint| format!("{} {hint}", ink.bold("hint:"))));
        lines.push(format!(
            "{} scenarios: {} {} converged, {} {} stopped safely, {} {} violated",
            self.verdicts.len(),
            self.count_grade(Grade::Converged),
            Grade::Converged.render_mark(ink),
            self.count_grade(Grade::StoppedSafely),
            Grade::StoppedSafely.render_mark(ink),
            self.count_violated(),
            Grade::Violated.render_mark(ink),
        ));
        lines.join("\n")
    }

    /// Returns in which time the rehearsal lives, where that matters to a parameter.
    fn render_time(&self) -> Option<String> {
        let RehearsalTime { now, has_time_param, relative } = &self.time;
        let resolved = relative.iter().map(|p| format!("; {} {} ({})", p.name, p.moment, p.given));
        has_time_param.then(|| format!("the rehearsal's now is {now}{}", resolved.collect::<String>()))
    }

    /// Returns what to do about what was found, each once however many scenarios found it.
    fn list_hints(&self) -> BTreeSet<&str> {
        let violations = self.verdicts.iter().flat_map(|verdict| &verdict.violations);
        violations.filter_map(|violation| violation.hint.as_deref()).collect()
    }

    /// Returns faults by calls; a cell is the worst of its scenarios.
    fn render_matrix(&self, cells: &BTreeMap<(usize, &'static str), Grade>, ink: Painter) -> Vec<String> {
        let numbers: Vec<String> = (0..self.set.calls.len()).map(|n| format!("{n:>4}")).collect();
        let mut lines = vec![ink.dim(&format!("{:<24}{}", "", numbers.concat()))];
        let crashes = CRASH_KINDS.iter().map(|crash| ("killed", *crash));
        let failures = REQUEST_FAULTS.iter().map(|(failure, _)| ("request", *failure));
        let acts = ACTS_AFTER_DEATH.iter().map(|(act, _)| *act).chain(OTHER_ACTS.iter().copied());
        let acts = acts.map(|act| ("operator", act));
        let orders = [LAST_FIRST, ONE_LAST].map(|order| ("branches", order));
        for (kind, fault) in crashes.chain(failures).chain(acts).chain(orders) {
            let cell =
                |n: usize| cells.get(&(n, fault)).map_or(ink.dim("·"), |grade| grade.render_mark(ink));
            if cells.keys().any(|(_, there)| *there == fault) {
                let row: Vec<String> = (0..self.set.calls.len()).map(|n| format!("   {}", cell(n))).collect();
                lines.push(format!("{:<24}{}", format!("{kind} {}", fault.replace('-', " ")), row.concat()));
            }
        }
        lines
    }

    /// Returns what the schedules of several faults came to, a mark each.
    fn render_seed_results(&self, ink: Painter) -> Vec<String> {
        let marks: Vec<String> = self
            .scenario_verdicts()
            .filter(|scenario| scenario.id.starts_with("seed:"))
            .map(|scenario| scenario.verdict.grade.render_mark(ink))
            .collect();
        let mut lines: Vec<String> = marks.chunks(64).map(<[String]>::concat).collect();
        if !lines.is_empty() {
            lines.insert(0, "several faults, a seed each".into());
            lines.push(String::new());
        }
        lines
    }
}

fn render_call_row(number: usize, call: &RehearsedCall, ink: Painter) -> String {
    let path = call.name.rsplit_once('/').map_or("", |(path, _)| path).trim_start_matches('/');
    format!("{number:>4}  {:<24}{}", call.op, ink.dim(path)).trim_end().to_owned()
}
