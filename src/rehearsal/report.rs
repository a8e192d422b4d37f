//! What a rehearsal came to: a matrix for people, lines of JSON for programs.

use super::{
    invariants::Violation,
    plan::{CRASH_KINDS, REQUEST_FAULTS, RehearsedCall, ScenarioSet, worst_by_cell},
    play::ScenarioResult,
};
use crate::{base::painter::Painter, journal::RunStatus, runtime::Runbook};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    /// Where the run stands; nothing for one that was refused.
    pub status: Option<&'static str>,
    /// What went wrong, in order.
    pub story: Vec<String>,
    pub breaches: Vec<Violation>,
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
    plan: ScenarioSet,
    verdicts: Vec<Verdict>,
}

impl Verdict {
    pub(super) fn from_violations(
        undisturbed: &ScenarioResult,
        played: &ScenarioResult,
        breaches: Vec<Violation>,
    ) -> Self {
        let as_undisturbed = played.status().is_some() && played.status() == undisturbed.status();
        let grade = match (breaches.is_empty(), as_undisturbed) {
            (false, _) => Grade::Violated,
            (true, true) => Grade::Converged,
            (true, false) => Grade::StoppedSafely,
        };
        Self { grade, status: played.status().map(RunStatus::as_str), story: played.story.clone(), breaches }
    }

    /// Returns the word for it.
    pub fn as_str(&self) -> &'static str {
        match self.grade {
            Grade::Converged => "converged",
            Grade::StoppedSafely => "stopped_safely",
            Grade::Violated => "violated",
        }
    }
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
    pub(super) fn new(runbook: &Runbook, plan: ScenarioSet, verdicts: Vec<Verdict>) -> Self {
        Self { runbook: runbook.path.clone(), title: runbook.header.title.clone(), plan, verdicts }
    }

    /// Returns every scenario, in order.
    pub fn scenario_verdicts(&self) -> impl Iterator<Item = ScenarioVerdict<'_>> {
        let scenarios = self.plan.scenarios.iter().zip(&self.verdicts);
        scenarios.map(|(scenario, verdict)| ScenarioVerdict { id: &scenario.id, verdict })
    }

    /// Returns how many scenarios violated something.
    pub fn count_violated(&self) -> usize {
        self.count_grade(Grade::Violated)
    }

    fn count_grade(&self, grade: Grade) -> usize {
        self.verdicts.iter().filter(|v| v.grade == grade).count()
    }

    /// Returns the lines of JSON; `replay` makes the command that repeats a scenario.
    pub fn to_json_lines(&self, replay: &dyn Fn(&str) -> String) -> Vec<String> {
        let scene = |scene: ScenarioVerdict<'_>| {
            let verdict = scene.verdict;
            json!({
                "event": "rehearsal.scenario", "scenario": scene.id, "verdict": verdict.as_str(),
                "status": verdict.status, "faults": verdict.story, "breaches": verdict.breaches, "replay": replay(scene.id),
            })
        };
        let last = json!({
            "event": "rehearsal.finished", "runbook": self.runbook, "scenarios": self.verdicts.len(),
            "converged": self.count_grade(Grade::Converged), "stopped_safely": self.count_grade(Grade::StoppedSafely),
            "violations": self.count_violated(),
        });
        self.scenario_verdicts().map(scene).chain([last]).map(|line: Value| line.to_string()).collect()
    }

    /// Returns the text for people; `replay` makes the command that repeats a scenario.
    pub fn render_text(&self, ink: Painter, replay: &dyn Fn(&str) -> String) -> String {
        let mut lines = vec![format!("{}  {}", ink.bold(&self.title), ink.dim(&self.runbook)), String::new()];
        let cells = worst_by_cell(&self.plan.scenarios, |at| self.verdicts[at].grade);
        if !cells.is_empty() {
            lines.extend(
                self.plan.calls.iter().enumerate().map(|(number, call)| render_call_row(number, call, ink)),
            );
            lines.push(String::new());
            lines.extend(self.render_matrix(&cells, ink));
            lines.push(String::new());
        }
        lines.extend(self.render_seeds(ink));
        for scene in self.scenario_verdicts().filter(|s| s.verdict.grade == Grade::Violated) {
            lines.push(format!("{} {}", ink.red("✗"), ink.bold(scene.id)));
            lines.extend(scene.verdict.story.iter().map(|told| ink.dim(&format!("    {told}"))));
            let breaches = scene.verdict.breaches.iter();
            lines.extend(breaches.map(|b| format!("    {}: {}", b.invariant, b.what)));
            lines.push(format!("    {}", replay(scene.id)));
        }
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

    /// Returns faults by calls; a cell is the worst of its scenarios.
    fn render_matrix(&self, cells: &BTreeMap<(usize, &'static str), Grade>, ink: Painter) -> Vec<String> {
        let numbers: Vec<String> = (0..self.plan.calls.len()).map(|n| format!("{n:>4}")).collect();
        let mut lines = vec![ink.dim(&format!("{:<24}{}", "", numbers.concat()))];
        let deaths = CRASH_KINDS.iter().map(|death| ("killed", *death));
        let failures = REQUEST_FAULTS.iter().map(|(failure, ..)| ("request", *failure));
        for (kind, fault) in deaths.chain(failures) {
            let cell =
                |n: usize| cells.get(&(n, fault)).map_or(ink.dim("·"), |grade| grade.render_mark(ink));
            if cells.keys().any(|(_, there)| *there == fault) {
                let row: Vec<String> =
                    (0..self.plan.calls.len()).map(|n| format!("   {}", cell(n))).collect();
                lines.push(format!("{:<24}{}", format!("{kind} {}", fault.replace('-', " ")), row.concat()));
            }
        }
        lines
    }

    /// Returns what the schedules of several faults came to, a mark each.
    fn render_seeds(&self, ink: Painter) -> Vec<String> {
        let marks: Vec<String> = self
            .scenario_verdicts()
            .filter(|scene| scene.id.starts_with("seed:"))
            .map(|scene| scene.verdict.grade.render_mark(ink))
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
