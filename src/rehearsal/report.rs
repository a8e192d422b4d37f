//! What a rehearsal came to: a matrix for people, lines of JSON for programs.

use super::{
    invariants::Breach,
    plan::{Call, DEATHS, FAILURES, Plan, cells},
    play::Played,
};
use crate::{base::ink::Ink, journal::Status, runtime::Runbook};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a scenario came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Converged,
    StoppedSafely,
    Violated,
}

/// What a scenario came to, and why.
#[derive(Debug, Clone)]
pub struct Verdict {
    grade: Grade,
    /// Where the run stands; nothing for one that was refused.
    pub status: Option<&'static str>,
    /// What went wrong, in order.
    pub story: Vec<String>,
    /// What was broken.
    pub breaches: Vec<Breach>,
}

/// A scenario and what it came to.
pub struct Scene<'a> {
    /// What names it.
    pub id: &'a str,
    /// What it came to.
    pub verdict: &'a Verdict,
}

/// What a rehearsal came to.
pub struct Report {
    runbook: String,
    title: String,
    plan: Plan,
    verdicts: Vec<Verdict>,
}

impl Verdict {
    pub(super) fn of(undisturbed: &Played, played: &Played, breaches: Vec<Breach>) -> Self {
        let as_undisturbed = played.status().is_some() && played.status() == undisturbed.status();
        let grade = match (breaches.is_empty(), as_undisturbed) {
            (false, _) => Grade::Violated,
            (true, true) => Grade::Converged,
            (true, false) => Grade::StoppedSafely,
        };
        Self { grade, status: played.status().map(Status::as_str), story: played.story.clone(), breaches }
    }

    /// Returns the word for it.
    pub fn word(&self) -> &'static str {
        match self.grade {
            Grade::Converged => "converged",
            Grade::StoppedSafely => "stopped_safely",
            Grade::Violated => "violated",
        }
    }
}

impl Grade {
    fn mark(self, ink: Ink) -> String {
        match self {
            Grade::Converged => ink.green("✓"),
            Grade::StoppedSafely => ink.yellow("s"),
            Grade::Violated => ink.red("✗"),
        }
    }
}

impl Report {
    pub(super) fn new(runbook: &Runbook, plan: Plan, verdicts: Vec<Verdict>) -> Self {
        Self { runbook: runbook.path.clone(), title: runbook.header.title.clone(), plan, verdicts }
    }

    /// Returns every scenario, in order.
    pub fn scenes(&self) -> impl Iterator<Item = Scene<'_>> {
        let scenarios = self.plan.scenarios.iter().zip(&self.verdicts);
        scenarios.map(|(scenario, verdict)| Scene { id: &scenario.id, verdict })
    }

    /// Returns how many scenarios violated something.
    pub fn violations(&self) -> usize {
        self.count(Grade::Violated)
    }

    fn count(&self, grade: Grade) -> usize {
        self.verdicts.iter().filter(|v| v.grade == grade).count()
    }

    /// Returns the lines of JSON; `replay` makes the command that repeats a scenario.
    pub fn lines(&self, replay: &dyn Fn(&str) -> String) -> Vec<String> {
        let scene = |scene: Scene<'_>| {
            let verdict = scene.verdict;
            json!({
                "event": "rehearsal.scenario", "scenario": scene.id, "verdict": verdict.word(),
                "status": verdict.status, "faults": verdict.story, "breaches": verdict.breaches, "replay": replay(scene.id),
            })
        };
        let last = json!({
            "event": "rehearsal.finished", "runbook": self.runbook, "scenarios": self.verdicts.len(),
            "converged": self.count(Grade::Converged), "stopped_safely": self.count(Grade::StoppedSafely),
            "violations": self.violations(),
        });
        self.scenes().map(scene).chain([last]).map(|line: Value| line.to_string()).collect()
    }

    /// Returns the text for people; `replay` makes the command that repeats a scenario.
    pub fn text(&self, ink: Ink, replay: &dyn Fn(&str) -> String) -> String {
        let mut lines = vec![format!("{}  {}", ink.bold(&self.title), ink.dim(&self.runbook)), String::new()];
        let cells = cells(&self.plan.scenarios, |at| self.verdicts[at].grade);
        if !cells.is_empty() {
            lines.extend(self.plan.calls.iter().enumerate().map(|(number, call)| named(number, call, ink)));
            lines.push(String::new());
            lines.extend(self.matrix(&cells, ink));
            lines.push(String::new());
        }
        lines.extend(self.seeds(ink));
        for scene in self.scenes().filter(|s| s.verdict.grade == Grade::Violated) {
            lines.push(format!("{} {}", ink.red("✗"), ink.bold(scene.id)));
            lines.extend(scene.verdict.story.iter().map(|told| ink.dim(&format!("    {told}"))));
            let breaches = scene.verdict.breaches.iter();
            lines.extend(breaches.map(|b| format!("    {}: {}", b.invariant, b.what)));
            lines.push(format!("    {}", replay(scene.id)));
        }
        lines.push(format!(
            "{} scenarios: {} {} converged, {} {} stopped safely, {} {} violated",
            self.verdicts.len(),
            self.count(Grade::Converged),
            Grade::Converged.mark(ink),
            self.count(Grade::StoppedSafely),
            Grade::StoppedSafely.mark(ink),
            self.violations(),
            Grade::Violated.mark(ink),
        ));
        lines.join("\n")
    }

    /// Returns faults by calls; a cell is the worst of its scenarios.
    fn matrix(&self, cells: &BTreeMap<(usize, &'static str), Grade>, ink: Ink) -> Vec<String> {
        let numbers: Vec<String> = (0..self.plan.calls.len()).map(|n| format!("{n:>4}")).collect();
        let mut lines = vec![ink.dim(&format!("{:<24}{}", "", numbers.concat()))];
        let deaths = DEATHS.iter().map(|death| ("killed", *death));
        let failures = FAILURES.iter().map(|(failure, ..)| ("request", *failure));
        for (kind, fault) in deaths.chain(failures) {
            let cell = |n: usize| cells.get(&(n, fault)).map_or(ink.dim("·"), |grade| grade.mark(ink));
            if cells.keys().any(|(_, there)| *there == fault) {
                let row: Vec<String> =
                    (0..self.plan.calls.len()).map(|n| format!("   {}", cell(n))).collect();
                lines.push(format!("{:<24}{}", format!("{kind} {}", fault.replace('-', " ")), row.concat()));
            }
        }
        lines
    }

    /// Returns what the schedules of several faults came to, a mark each.
    fn seeds(&self, ink: Ink) -> Vec<String> {
        let marks: Vec<String> = self
            .scenes()
            .filter(|scene| scene.id.starts_with("seed:"))
            .map(|scene| scene.verdict.grade.mark(ink))
            .collect();
        let mut lines: Vec<String> = marks.chunks(64).map(<[String]>::concat).collect();
        if !lines.is_empty() {
            lines.insert(0, "several faults, a seed each".into());
            lines.push(String::new());
        }
        lines
    }
}

fn named(number: usize, call: &Call, ink: Ink) -> String {
    let path = call.name.rsplit_once('/').map_or("", |(path, _)| path).trim_start_matches('/');
    format!("{number:>4}  {:<24}{}", call.op, ink.dim(path)).trim_end().to_owned()
}
